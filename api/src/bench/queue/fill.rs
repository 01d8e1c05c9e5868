//! Messages that are put into a topic before the clock starts: as many as wanted, all alike.

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{Failure, consumer::done};
use crate::{
    bench::connection::{Connection, Target},
    cli::CliError,
};

/// Messages of one publish.
const BATCH: u64 = 1_000;

/// Publishes under way at once.
const CONNECTIONS: u64 = 8;

/// Publishes `messages` messages with values of `value_bytes`, all to partition 0 and in `group` if one is given.
pub(super) async fn fill(
    target: &Target,
    messages: u64,
    value_bytes: usize,
    group: Option<&str>,
) -> Result<(), CliError> {
    let batches = messages.div_ceil(BATCH);
    let full = body(BATCH, value_bytes, group);
    let last = body(messages - BATCH * batches.saturating_sub(1), value_bytes, group);
    let publisher = |number: u64| {
        let (target, full, last) = (target.clone(), full.clone(), last.clone());
        let mut connection = Connection::new(target.clone());
        async move {
            for batch in (number..batches).step_by(CONNECTIONS as usize) {
                let body = if batch + 1 == batches { &last } else { &full };
                publish(&mut connection, &target, body).await?;
            }
            Ok::<_, Failure>(())
        }
    };
    let mut publishers = stream::iter((0..CONNECTIONS).map(publisher)).buffer_unordered(CONNECTIONS as usize);
    while let Some(ended) = publishers.next().await {
        ended?;
    }
    Ok(())
}

/// Publishes a body. A refusal that asks to wait is obeyed.
pub(super) async fn publish(connection: &mut Connection, target: &Target, body: &Bytes) -> Result<(), Failure> {
    loop {
        let request = target.publish("application/json", body.clone());
        match done(connection.exchange(request).await) {
            Err(Failure { wait: wait @ Some(_), .. }) => crate::bench::window::pause(wait).await,
            result => return result.map(drop),
        }
    }
}

/// A publish of `messages` messages that are alike.
pub(super) fn body(messages: u64, value_bytes: usize, group: Option<&str>) -> Bytes {
    let group = group.map_or(String::new(), |group| format!(",\"group\":\"{group}\",\"partition\":0"));
    let message = format!("{{\"value\":\"{}\"{group}}}", "m".repeat(value_bytes));
    let messages = vec![message; messages as usize].join(",");
    Bytes::from(format!("{{\"messages\":[{messages}]}}"))
}
