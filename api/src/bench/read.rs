//! Scenario `read`: every connection reads a partition from end to end, again and again. Messages are counted by how far
//! `Brigade-Next-Offset` moves; bodies are received and thrown away.

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    args::{Format, PageArgs, ReadArgs},
    bodies::Bodies,
    connection::{Connection, Head, Outcome, Target},
    report::Report,
    tally::{Tally, Window},
    topic::BenchTopic,
    window::{self, Counted, Measured},
};
use crate::{
    cli::{CliError, Context},
    client::{ContentType, PartitionState, Payload, PublishIdentity, RetryPolicy},
};

/// Messages of one request while filling a topic.
const FILL_BATCH: u64 = 500;

/// Runs the scenario.
pub(super) async fn run(context: &Context, topic: &BenchTopic, args: &ReadArgs) -> Result<Report, CliError> {
    let mut partitions = filled(context, topic).await?;
    if partitions.is_empty() && args.fill_messages > 0 {
        fill(context, topic, args).await?;
        partitions = filled(context, topic).await?;
    }
    if partitions.is_empty() {
        return Err(CliError::Input {
            message: format!("topic {} has no messages to read", topic.name),
            hint: "publish some, or let --fill-messages do it.".to_owned(),
        });
    }
    let target = Target::new(context.client.base(), &topic.name)?;
    let connections = usize::from(args.connections);
    let Measured { tally, seconds, used } =
        window::measure(context, "read", &args.time, connections, |number, window| {
            Reader::new(&target, &args.page, &partitions, number, connections, window).run(window)
        })
        .await?;
    let value_bytes = tally.messages * mean_bytes(&partitions, args.message.message_bytes.into());
    Ok(Report::new("read", connections, None, seconds, value_bytes, &tally, used))
}

/// Partitions that have messages.
async fn filled(context: &Context, topic: &BenchTopic) -> Result<Vec<PartitionState>, CliError> {
    let mut partitions = topic.describe(context).await?.partitions;
    partitions.retain(|partition| partition.high_watermark > partition.log_start);
    Ok(partitions)
}

/// Mean bytes of a message, from the server's own counts where it has them.
fn mean_bytes(partitions: &[PartitionState], otherwise: u64) -> u64 {
    let messages: u64 = partitions.iter().map(|partition| partition.messages).sum();
    let bytes: u64 = partitions.iter().map(|partition| partition.bytes).sum();
    if messages == 0 || bytes == 0 { otherwise } else { bytes / messages }
}

async fn fill(context: &Context, topic: &BenchTopic, args: &ReadArgs) -> Result<(), CliError> {
    let message = &args.message;
    let bodies = Bodies::build(message.seed, FILL_BATCH as usize, message.message_bytes as usize, Format::Json)?;
    let id = format!("bench-{:016x}", context.client.env().entropy.next_u64());
    let mut answers = stream::iter(0..args.fill_messages.div_ceil(FILL_BATCH))
        .map(|sequence| {
            let payload = Payload { content_type: ContentType::Json, bytes: bodies.at(sequence as usize) };
            let identity = PublishIdentity::Producer { id: id.clone(), sequence };
            async move { context.client.publish(&topic.name, &payload, &identity, &RetryPolicy::default()).await }
        })
        .buffered(8);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

struct Reader {
    connection: Connection,
    media_type: &'static str,
    query: String,
    log_start: u64,
    offset: u64,
    tally: Tally,
}

impl Reader {
    /// Reader `number` of `readers`. Readers of the same partition begin evenly spread over it.
    fn new(
        target: &Target,
        page: &PageArgs,
        partitions: &[PartitionState],
        number: usize,
        readers: usize,
        window: Window,
    ) -> Self {
        let partition = &partitions[number % partitions.len()];
        let (turn, turns) = ((number / partitions.len()) as u64, readers.div_ceil(partitions.len()) as u64);
        let length = partition.high_watermark - partition.log_start;
        Self {
            connection: Connection::new(target.clone()),
            media_type: page.format.media_type(),
            query: format!(
                "partition={}&max_messages={}&max_bytes={}&offset=",
                partition.partition, page.page_messages, page.page_bytes
            ),
            log_start: partition.log_start,
            offset: partition.log_start + length * turn / turns,
            tally: Tally::new(window),
        }
    }

    async fn run(mut self, window: Window) -> Result<Tally, CliError> {
        loop {
            let started = Instant::now();
            if started >= window.to {
                return Ok(self.tally);
            }
            let query = format!("{}{}", self.query, self.offset);
            let request = self.connection.target().read(self.media_type, &query);
            match self.connection.exchange(request).await {
                Outcome::Done(head, length) => self.page(started, head, length),
                Outcome::Refused(code, wait) => self.tally.refused(code, wait).await,
                Outcome::Broken => self.tally.refused("connection_broken".to_owned(), None).await,
            }
        }
    }

    fn page(&mut self, started: Instant, head: Head, length: u64) {
        let (Some(next), Some(end)) = (head.next_offset, head.high_watermark) else {
            self.tally.failed(Instant::now(), "headers_missing".to_owned());
            return;
        };
        self.tally.done(started, Instant::now(), next - self.offset.min(next), length);
        self.offset = if next >= end || next <= self.offset { self.log_start } else { next };
    }
}
