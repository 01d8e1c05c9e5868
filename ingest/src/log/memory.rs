//! A log in memory: the real shard state, and a store whose writes take a while and can be made to fail.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use brigade_index::{
    command::{Applied, Command, TopicSettings},
    format::{Value, checksum},
    ids::{Offset, Partition, Sequence, TopicId},
    names::TopicName,
    shard::{Committed, FetchError, Proposal, ProposeError},
    state::{BatchLocation, ShardState},
};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

#[cfg(test)]
mod archive;

/// Identity of the cluster.
pub(crate) const CLUSTER: &str = "memory";

/// Where bodies begin.
const BODY_AT: u64 = 1_000;

/// What the next writes are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Refused, and not stored.
    Unavailable,
    /// Answered with "unknown", but stored.
    UnknownButStored,
    /// Dropped without an answer.
    Dropped,
}

pub(crate) struct MemoryLog {
    pub(crate) state: RwLock<ShardState>,
    pub(crate) fault: Mutex<Fault>,
    pub(crate) not_ready: Mutex<Option<ProposeError>>,
    pub(crate) fetches: Mutex<u64>,
    /// Whether nothing can be fetched at present.
    pub(crate) unreachable: Mutex<bool>,
    /// Byte of every archive file that the nearest region gives wrong.
    pub(crate) damaged_nearby: Mutex<Option<u64>>,
    /// How much later than they take effect writes are answered.
    pub(crate) late: Mutex<Duration>,
    /// How often it was asked whether it is ready.
    pub(crate) asked: Mutex<u64>,
    /// Proposals written so far: number of commands and bytes of the body.
    pub(crate) written: Mutex<Vec<(usize, usize)>>,
    bodies: Mutex<BTreeMap<Sequence, Bytes>>,
    /// Archive files by their keys.
    pub(crate) files: Mutex<BTreeMap<String, Bytes>>,
    ranges: Mutex<Vec<(String, std::ops::Range<u64>)>>,
    queue: mpsc::UnboundedSender<(Proposal, tokio::time::Instant)>,
    grown: watch::Sender<u64>,
}

impl MemoryLog {
    /// A log whose writes take `write` each; all of them may be under way at once.
    pub(crate) fn start(write: Duration) -> Arc<Self> {
        let (queue, mut proposals) = mpsc::unbounded_channel();
        let log = Arc::new(Self {
            state: RwLock::default(),
            fault: Mutex::default(),
            not_ready: Mutex::default(),
            fetches: Mutex::default(),
            unreachable: Mutex::default(),
            damaged_nearby: Mutex::default(),
            late: Mutex::default(),
            asked: Mutex::default(),
            written: Mutex::default(),
            bodies: Mutex::default(),
            files: Mutex::default(),
            ranges: Mutex::default(),
            queue,
            grown: watch::Sender::new(0),
        });
        let weak = Arc::downgrade(&log);
        tokio::spawn(async move {
            while let Some((proposal, submitted)) = proposals.recv().await {
                tokio::time::sleep_until(submitted + write).await;
                let Some(log) = weak.upgrade() else { return };
                log.commit(proposal);
            }
        });
        log
    }

    pub(crate) fn submit(&self, proposal: Proposal) {
        let _ = self.queue.send((proposal, tokio::time::Instant::now()));
    }

    fn commit(&self, proposal: Proposal) {
        let Proposal { commands, body, done } = proposal;
        let fault = *self.fault.lock();
        match fault {
            Fault::Unavailable => return done(Err(ProposeError::Unavailable("full".to_owned()))),
            Fault::Dropped => return drop(done),
            Fault::None | Fault::UnknownButStored => {}
        }
        let body: Bytes = body.concat().into();
        self.written.lock().push((commands.len(), body.len()));
        let (sequence, outcomes) = self.apply(commands, body);
        let answer = match fault {
            Fault::UnknownButStored => Err(ProposeError::Unknown("no answer".to_owned())),
            _ => Ok(Committed { sequence, body_at: BODY_AT, outcomes }),
        };
        let late = *self.late.lock();
        if late.is_zero() {
            return done(answer);
        }
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            done(answer);
        });
    }

    fn apply(&self, commands: Vec<Command>, body: Bytes) -> (Sequence, Vec<Applied>) {
        let mut state = self.state.write();
        let sequence = state.applied.next();
        self.bodies.lock().insert(sequence, body);
        let (outcomes, _) = state.apply(&Value { time_ms: 1, commands, marks: Vec::new() }, sequence, BODY_AT);
        drop(state);
        self.grown.send_modify(|times| *times += 1);
        (sequence, outcomes)
    }

    /// Applies a command at once.
    pub(crate) fn now(&self, command: Command) -> Applied {
        self.apply(vec![command], Bytes::new()).1.remove(0)
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: u32) -> (TopicName, TopicId) {
        let name = TopicName::new(name).unwrap();
        let settings = TopicSettings { partitions, ..TopicSettings::default() };
        self.now(Command::CreateTopic { name: name.clone(), settings }).unwrap();
        let id = self.state.read().topic_named(&name).unwrap().id;
        (name, id)
    }

    pub(crate) async fn grown_past(&self, topic: TopicId, partition: Partition, offset: Offset) {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            let mark =
                self.state.read().topic(topic).and_then(|t| t.partition(partition)).map(|log| log.high_watermark);
            if mark.is_none_or(|mark| mark > offset) || grown.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) async fn has_partition(&self, topic: TopicId, partition: Partition) {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            let waiting = self.state.read().topic(topic).is_some_and(|topic| topic.partition(partition).is_none());
            if !waiting || grown.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) async fn fetch(&self, batch: &BatchLocation) -> Result<Bytes, FetchError> {
        *self.fetches.lock() += 1;
        let unreachable = *self.unreachable.lock();
        tokio::time::sleep(Duration::from_millis(if unreachable { 10 } else { 1 })).await;
        if unreachable {
            return Err(FetchError::Unavailable("unreachable".to_owned()));
        }
        let bodies = self.bodies.lock();
        let at = (batch.at - BODY_AT) as usize;
        let bytes = bodies.get(&batch.sequence).and_then(|body| body.get(at..at + batch.len as usize));
        match bytes {
            Some(bytes) if checksum(bytes) == batch.crc => Ok(Bytes::copy_from_slice(bytes)),
            _ => Err(FetchError::Damaged { key: "entry".to_owned(), problem: "checksum".to_owned() }),
        }
    }

    /// Loses the bytes of all entries so far.
    pub(crate) fn lose_bodies(&self) {
        self.bodies.lock().clear();
    }

    pub(crate) fn ready(&self) -> Result<(), ProposeError> {
        *self.asked.lock() += 1;
        self.not_ready.lock().clone().map_or(Ok(()), Err)
    }
}
