//! A subscription for people and for programs.

use serde_json::Value;

use crate::{
    cli::{
        CliError, Context,
        output::{count, print_json, print_line, print_table, table},
        units::shown_time,
    },
    client::Subscription,
};

/// Prints a subscription.
pub(super) fn show(context: &Context, subscription: &Subscription) -> Result<(), CliError> {
    if context.json() {
        return print_json(subscription);
    }
    let Subscription { name, kind, lag, .. } = subscription;
    let number = |number: Option<u64>| count(number.unwrap_or(0));
    match &subscription.settings {
        None => print_line(format_args!("{kind} {name}: lag {}", count(*lag)))?,
        Some(settings) => {
            print_line(format_args!(
                "{kind} {name}: lag {}, in flight {}, delayed {}, held {}, dead letters {}",
                count(*lag),
                number(subscription.in_flight),
                number(subscription.delayed),
                number(subscription.held),
                number(subscription.dead_letters),
            ))?;
            for (name, value) in settings {
                for line in lines(name, value) {
                    print_line(line)?;
                }
            }
        }
    }
    let mut rows = if subscription.settings.is_some() {
        table(&["partition", "floor", "high watermark", "unsettled"], &[0, 1, 2, 3])
    } else {
        table(&["partition", "offset", "high watermark", "lag"], &[0, 1, 2, 3])
    };
    for at in &subscription.partitions {
        rows.add_row([u64::from(at.partition), at.floor, at.high_watermark, at.unsettled].map(count));
    }
    for at in &subscription.positions {
        rows.add_row([u64::from(at.partition), at.offset, at.high_watermark, at.lag].map(count));
    }
    print_table(&rows)
}

/// A setting, and those within it.
fn lines(name: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(field, value)| lines(&format!("{name}.{field}"), value)).collect()
        }
        Value::Null => vec![format!("  {name}: none")],
        Value::String(text) => vec![format!("  {name}: {text}")],
        Value::Number(number) if name.ends_with("_ms") => {
            let shown = number.as_u64().map(|ms| format!(" ({})", shown_time(ms))).unwrap_or_default();
            vec![format!("  {name}: {number}{shown}")]
        }
        value => vec![format!("  {name}: {value}")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_lines() {
        assert_eq!(lines("filter", &json!(null)), ["  filter: none"]);
        assert_eq!(lines("retry_delay_ms", &json!(90_000)), ["  retry_delay_ms: 90000 (1m30s)"]);
        let push = json!({"url": "http://h", "max_in_flight": 3});
        assert_eq!(lines("push", &push), ["  push.max_in_flight: 3", "  push.url: http://h"]);
    }
}
