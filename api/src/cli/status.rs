//! `brigade status`.

use serde_json::{Value, json};

use super::{
    CliError, Context,
    output::{print_json, print_line, print_table, table},
};

/// Runs `brigade status`. A server that is not ready is an error after everything it says was shown.
pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let ready = context.client.ready().await;
    if let Err(error) = &ready
        && error.status().is_none()
    {
        return Ok(ready?);
    }
    let cluster = context.client.cluster().await?;
    if context.json() {
        let reason = ready.as_ref().err().map(ToString::to_string);
        print_json(&json!({"ready": ready.is_ok(), "reason": reason, "cluster": cluster}))?;
        return Ok(ready?);
    }
    print_line(format_args!(
        "server {}: {}",
        context.client.base(),
        if ready.is_ok() { "ready" } else { "not ready" }
    ))?;
    for name in ["cluster_id", "node", "version", "regions"] {
        if let Some(value) = cluster.get(name) {
            print_line(format_args!("{name}: {}", text(value)))?;
        }
    }
    let mut rows = table(&["shard", "state", "ballot", "sequence", "committed"], &[0, 3, 4]);
    for shard in cluster.get("shards").and_then(Value::as_array).into_iter().flatten() {
        rows.add_row(
            ["shard", "state", "ballot", "sequence", "committed"]
                .map(|name| shard.get(name).map(text).unwrap_or_default()),
        );
    }
    print_table(&rows)?;
    Ok(ready?)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
