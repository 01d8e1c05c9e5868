//! The sending side of a publish: several requests in flight, each repeated under its sequence until it is acknowledged.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use super::{PublishArgs, encode::Request};
use crate::{
    cli::{
        CliError, Context,
        output::{bytes, count, print_json, print_line, print_table, table},
        progress::Progress,
    },
    client::{Client, ClientError, ContentType, Payload, Position, PublishIdentity, Published, RetryPolicy},
};

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Summary {
    messages: u64,
    bytes: u64,
    requests: u64,
    retries: u64,
    seconds: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    /// Where each message went, for messages of the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Vec<Position>>,
}

/// Sends all requests and prints a summary. An error says how much was acknowledged before.
pub(super) async fn run(
    context: &Context,
    args: &PublishArgs,
    requests: mpsc::Receiver<Result<Request, CliError>>,
    length: Option<u64>,
    in_flight: usize,
) -> Result<(), CliError> {
    let policy =
        RetryPolicy { give_up_after: Duration::from_secs(args.retry_seconds.into()), ..RetryPolicy::default() };
    let producer = format!("{:032x}", context.client.env().entropy.next_u128());
    let mut progress = Progress::new(length, context.json() || !args.values.is_empty());
    let mut summary = Summary { published: (!args.values.is_empty()).then(Vec::new), ..Summary::default() };
    let started = Instant::now();
    // `buffered` starts no request before the oldest unfinished one is among the `in_flight` newest, so that a sequence
    // never falls out of the window in which the server recognises repeated requests.
    let mut answers = stream::unfold(requests, async |mut requests| Some((requests.recv().await?, requests)))
        .boxed()
        .zip(stream::iter(0..))
        .map(|(request, sequence)| {
            let identity = PublishIdentity::Producer { id: producer.clone(), sequence };
            publish(&context.client, &args.topic, request, identity, policy)
        })
        .buffered(in_flight);
    while let Some(answer) = answers.next().await {
        let (request, published) = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(failure.explain(&summary)),
        };
        progress.add(request.messages, request.input_bytes);
        summary.messages += request.messages;
        summary.bytes += request.input_bytes;
        summary.requests += 1;
        summary.retries += u64::from(published.retries);
        if let Some(positions) = &mut summary.published {
            positions.extend(published.messages);
        }
    }
    drop(progress);
    summary.seconds = started.elapsed().as_secs_f64();
    summary.messages_per_second = summary.messages as f64 / summary.seconds.max(1e-9);
    summary.bytes_per_second = summary.bytes as f64 / summary.seconds.max(1e-9);
    show(context, &summary)
}

/// Why sending stopped.
struct Failure {
    error: CliError,
    request: Option<Request>,
}

impl Failure {
    fn explain(self, done: &Summary) -> CliError {
        match (self.error, self.request) {
            (CliError::Client(source), Some(request)) => CliError::Partly {
                source,
                done: format!(
                    "input lines {} to {} were not acknowledged; the {} messages before them were, later ones may be \
                     stored too",
                    request.first_line,
                    request.last_line,
                    count(done.messages)
                ),
            },
            (error, _) => error,
        }
    }
}

async fn publish(
    client: &Client,
    topic: &str,
    request: Result<Request, CliError>,
    identity: PublishIdentity,
    policy: RetryPolicy,
) -> Result<(Request, Published), Failure> {
    let request = request.map_err(|error| Failure { error, request: None })?;
    let payload = Payload { content_type: ContentType::NdJson, bytes: request.body.clone() };
    let result = client.publish(topic, &payload, &identity, &policy).await.and_then(|published| {
        let stored = published.messages.len() as u64;
        if stored == request.messages { Ok(published) } else { Err(miscounted(stored, request.messages)) }
    });
    match result {
        Ok(published) => Ok((request, published)),
        Err(error) => Err(Failure { error: error.into(), request: Some(request) }),
    }
}

fn miscounted(stored: u64, sent: u64) -> ClientError {
    ClientError::Answer { why: format!("it acknowledges {stored} messages of {sent}") }
}

fn show(context: &Context, summary: &Summary) -> Result<(), CliError> {
    if context.json() {
        return print_json(summary);
    }
    if let Some(positions) = &summary.published {
        let mut rows = table(&["partition", "offset"], &[0, 1]);
        for position in positions {
            rows.add_row([position.partition.to_string(), position.offset.to_string()]);
        }
        return print_table(&rows);
    }
    let retries = if summary.retries == 0 { String::new() } else { format!(", {} repeated", summary.retries) };
    let line = format!(
        "published {} messages ({}) in {:.2} s with {} requests{retries}: {} messages/s, {}/s",
        count(summary.messages),
        bytes(summary.bytes),
        summary.seconds,
        count(summary.requests),
        count(summary.messages_per_second as u64),
        bytes(summary.bytes_per_second as u64),
    );
    print_line(line)
}
