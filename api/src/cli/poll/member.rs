//! Polling as a member: which partitions are read is up to the server.

use std::{io::Write, time::Duration};

use super::{FOLLOW_WAIT_MS, POLL_BYTES, PollArgs};
use crate::{
    cli::{CliError, Context, print::Printer},
    client::{Member, PollRequest, RetryPolicy, is_fenced},
};

/// Joins, prints and commits what is assigned, and leaves.
pub(super) async fn run<W: Write>(
    context: &Context,
    args: &PollArgs,
    name: &str,
    policy: &RetryPolicy,
    printer: &mut Printer<W>,
) -> Result<(), CliError> {
    let (client, session) = (&context.client, Duration::from_millis(args.session_ms));
    let join = || Member::join(client.clone(), &args.topic, &args.subscription, name, session);
    let (member, _) = client.retry(policy, join).await?;
    let received = tokio::select! {
        biased;
        received = receive(context, args, &member, policy, printer) => received,
        // What is printed and not committed is printed again by whoever is next.
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    // Whether or not this arrives, its partitions go to others: at the end of its session at the latest.
    let left = member.leave().await.map_err(CliError::from);
    received.and(left)
}

async fn receive<W: Write>(
    context: &Context,
    args: &PollArgs,
    member: &Member,
    policy: &RetryPolicy,
    printer: &mut Printer<W>,
) -> Result<(), CliError> {
    let client = &context.client;
    let mut remaining = args.max.unwrap_or(u64::MAX);
    let mut wait_ms = if args.follow { FOLLOW_WAIT_MS } else { args.wait_ms };
    while remaining > 0 {
        member.release();
        member.told(Duration::ZERO).await?;
        if member.reads().is_empty() {
            if !args.follow && !member.is_settling() {
                break;
            }
            member.told(Duration::from_millis(args.session_ms)).await?;
            continue;
        }
        let max_messages = args.batch.min(remaining);
        let request = PollRequest { max_messages, max_bytes: POLL_BYTES, wait_ms, positions: Vec::new(), member: None };
        let polled = match client.retry(policy, || member.poll(&request)).await {
            Err(error) if is_fenced(&error) => continue,
            polled => polled?.0,
        };
        if polled.messages.is_empty() && !args.follow && !member.is_settling() {
            break;
        }
        for message in &polled.messages {
            printer.message(message.get().as_bytes())?;
        }
        printer.flush()?;
        remaining = remaining.saturating_sub(polled.messages.len() as u64);
        if !polled.positions.is_empty() {
            let (committed, _) = client.retry(policy, || member.commit(&polled.positions)).await?;
            for lost in polled.positions.iter().filter(|position| !committed.contains(position)) {
                eprintln!("partition {} went to another member, which receives it again", lost.partition);
            }
        }
        if !args.follow {
            wait_ms = 0;
        }
    }
    Ok(())
}
