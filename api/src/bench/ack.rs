//! Scenario `ack-latency`: one message at a time, each followed by a bare PUT of the same size on the same disk, so that
//! both meet the same disk in the same state. The bare PUT is what the journal does at least: create a new object, fsync
//! it and its directory.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutPayload, local::LocalFileSystem, path::Path as ObjectPath};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    args::{AckArgs, Format},
    bodies::Bodies,
    connection::{Connection, Outcome, Target},
    generate::LogLines,
    tally::{Latencies, Latency},
    topic::BenchTopic,
    usage::Usage,
};
use crate::{
    cli::{CliError, Context, progress::Ticker},
    client::Client,
};

/// Rounds before the measured ones; they also show how large an entry of one message is.
const WARMUP_ROUNDS: u32 = 50;

/// Latencies of acknowledged publishes and of bare PUTs.
#[derive(Debug, Serialize)]
pub(super) struct AckReport {
    pub(super) rounds: u32,
    /// Publishes, in milliseconds.
    pub(super) ack_ms: Latency,
    /// Bare PUTs, in milliseconds, if there was a directory for them.
    pub(super) bare_put_ms: Option<Latency>,
    /// Bytes of a bare PUT: as many as the server's own PUT of one message.
    pub(super) bare_put_bytes: Option<u64>,
    /// Median ack over median bare PUT.
    pub(super) ratio_of_medians: Option<f64>,
}

/// Runs the scenario.
pub(super) async fn run(context: &Context, topic: &BenchTopic, args: &AckArgs) -> Result<AckReport, CliError> {
    let message = &args.message;
    let bodies = Bodies::build(message.seed, 1, message.message_bytes as usize, Format::Json)?;
    let mut publisher =
        Publisher { connection: Connection::new(Target::new(context.client.base(), &topic.name)?), bodies, place: 0 };
    let ticker = Ticker::new(format!("ack latency, {} rounds", args.bare.rounds), context.json());
    let put_bytes = warm_up(&context.client, &mut publisher).await?.unwrap_or(u64::from(message.message_bytes));
    let random = context.client.env().entropy.next_u64();
    let mut bare = match &args.bare.bare_dir {
        Some(dir) => Some(BareStore::open(dir, random, put_bytes as usize).await?),
        None => None,
    };
    let rounds = args.bare.rounds;
    // On a task of its own: the runtime's main task would be woken through another thread for every answer, which is no
    // latency of the server's.
    let measured = tokio::spawn(async move {
        let (mut acks, mut puts) = (Latencies::default(), Latencies::default());
        let result = measure(rounds, &mut publisher, bare.as_mut(), &mut acks, &mut puts).await;
        (acks, puts, bare, result)
    });
    let (acks, puts, bare, result) = measured.await.map_err(|error| CliError::Failed(error.to_string()))?;
    drop(ticker);
    let measured_bare = bare.is_some();
    if let Some(bare) = bare {
        bare.close().await?;
    }
    result?;
    let ack_ms = acks.summary();
    let bare_put_ms = measured_bare.then(|| puts.summary());
    Ok(AckReport {
        rounds,
        ack_ms,
        bare_put_ms,
        bare_put_bytes: measured_bare.then_some(put_bytes),
        ratio_of_medians: bare_put_ms.map(|put| ack_ms.p50 / put.p50),
    })
}

/// Publishes and bare PUTs in turn, each timed.
async fn measure(
    rounds: u32,
    publisher: &mut Publisher,
    mut bare: Option<&mut BareStore>,
    acks: &mut Latencies,
    puts: &mut Latencies,
) -> Result<(), CliError> {
    for _ in 0..rounds {
        let started = Instant::now();
        publisher.publish().await?;
        acks.record(started.elapsed());
        if let Some(bare) = &mut bare {
            let started = Instant::now();
            bare.put().await?;
            puts.record(started.elapsed());
        }
    }
    Ok(())
}

/// Publishes some messages; returns the mean bytes of the server's PUTs, if it counts them.
async fn warm_up(client: &Client, publisher: &mut Publisher) -> Result<Option<u64>, CliError> {
    let before = Usage::fetch(client).await.ok();
    for _ in 0..WARMUP_ROUNDS {
        publisher.publish().await?;
    }
    let after = Usage::fetch(client).await.ok();
    Ok(before.zip(after).and_then(|(before, after)| {
        let used = after.since(&before, u64::from(WARMUP_ROUNDS));
        let (bytes, puts) = (used.store_bytes.get("put")?, used.store_requests.get("put")?);
        bytes.checked_div(*puts)
    }))
}

struct Publisher {
    connection: Connection,
    bodies: Bodies,
    place: usize,
}

impl Publisher {
    /// Publishes one message. Anything but an ack ends the scenario: a latency with failures in it means nothing.
    async fn publish(&mut self) -> Result<(), CliError> {
        let body = self.bodies.at(self.place);
        self.place += 1;
        let request = self.connection.target().publish(Format::Json.media_type(), body);
        match self.connection.exchange(request).await {
            Outcome::Done(..) => Ok(()),
            Outcome::Refused(code, _) => Err(CliError::Failed(format!("a publish was refused with code {code}"))),
            Outcome::Broken => Err(CliError::Failed("the connection broke during a publish".to_owned())),
        }
    }
}

/// A directory that already has files: what an fsync costs depends on where on the disk it goes, so that bare PUTs go where
/// the caller says, beside the server's own objects if need be, under names of their own that are removed afterwards.
struct BareStore {
    dir: PathBuf,
    prefix: String,
    store: LocalFileSystem,
    lines: LogLines,
    number: u32,
}

impl BareStore {
    async fn open(dir: &Path, random: u64, put_bytes: usize) -> Result<Self, CliError> {
        let io = |source| CliError::Io { what: dir.display().to_string(), source };
        tokio::fs::create_dir_all(dir).await.map_err(io)?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(failed)?.with_fsync(true);
        let prefix = format!("brigade-bench-{:08x}", random >> 32);
        Ok(Self { dir: dir.to_owned(), prefix, store, lines: LogLines::new(random, put_bytes), number: 0 })
    }

    async fn put(&mut self) -> Result<(), CliError> {
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(self.lines.next_line()));
        let path = ObjectPath::from(self.name(self.number));
        self.number += 1;
        self.store.put_opts(&path, payload, PutMode::Create.into()).await.map_err(failed)?;
        Ok(())
    }

    fn name(&self, number: u32) -> String {
        format!("{}-{number:08}", self.prefix)
    }

    async fn close(self) -> Result<(), CliError> {
        for number in 0..self.number {
            let path = self.dir.join(self.name(number));
            if let Err(source) = tokio::fs::remove_file(&path).await
                && source.kind() != std::io::ErrorKind::NotFound
            {
                return Err(CliError::Io { what: path.display().to_string(), source });
            }
        }
        Ok(())
    }
}

fn failed(error: object_store::Error) -> CliError {
    CliError::Failed(format!("bare PUT: {error}"))
}

#[cfg(test)]
mod tests {
    use super::BareStore;

    #[tokio::test]
    async fn bare_puts_leave_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let mut bare = BareStore::open(parent.path(), 7 << 32, 300).await.unwrap();
        for _ in 0..3 {
            bare.put().await.unwrap();
        }
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 3);
        bare.close().await.unwrap();
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
