//! Messages that are really there: published, prepared in transactions, and read back wherever they are.

use brigade_index::{
    archive::{Footer, FooterStep},
    batch::{self, Columns, MessageRef, Messages, ValueKind},
    command::{
        BatchRef, Command, IdempotentRequest, Identity, Mode, Outcome, OwnedRows, Prepare, Publish, TopicSettings,
        Transact,
    },
    format::checksum,
    ids::{Partition, TopicId},
    names::{ProducerId, TopicName, TransactionId},
    shard::Proposal,
};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use tokio_util::sync::CancellationToken;

use super::Trial;
use crate::{
    metrics::CompactorMetrics,
    status::RunReport,
    worker::{Compactor, CompactorSettings},
};

/// A batch of these values, and what a publish says of it.
fn batch_of(partition: u32, values: &[Vec<u8>]) -> (BatchRef, Bytes) {
    let mut columns = Columns::default();
    for value in values {
        columns.push(&MessageRef {
            key: Some(&value[..value.len().min(4)]),
            value: Some(value),
            kind: ValueKind::Binary,
            headers: &[],
            timestamp_ms: 1_700_000_000_000,
            attributes: batch::Attributes::default(),
        });
    }
    let payload_bytes = columns.payload_bytes() as u64;
    let bytes = batch::encode(&columns.into_record_batch(), batch::Compression::Lz4).unwrap();
    let batch = BatchRef {
        partition: Partition(partition),
        at: 0,
        len: bytes.len() as u32,
        crc: checksum(&bytes),
        rows: values.len() as u32,
        payload_bytes,
        min_timestamp_ms: 1_700_000_000_000,
        max_timestamp_ms: 1_700_000_000_000,
        owned: Vec::new(),
        attributes: batch::AttributeSet::default(),
        ids: Vec::new(),
    };
    (batch, bytes)
}

/// Values of a decoded batch.
fn values(messages: &Messages, rows: std::ops::Range<usize>) -> impl Iterator<Item = Vec<u8>> + '_ {
    rows.map(|row| messages.value(row).unwrap().to_vec())
}

pub(crate) fn text(text: impl ToString) -> Vec<u8> {
    text.to_string().into_bytes()
}

impl Trial {
    pub(crate) async fn wide_topic(&self, name: &str, partitions: u32) -> TopicId {
        let (name, settings) = (TopicName::new(name).unwrap(), TopicSettings { partitions, ..Default::default() });
        let Outcome::TopicCreated(id) = self.propose(Command::CreateTopic { name, settings }).await else { panic!() };
        id
    }

    async fn submit(&self, command: Command, body: Vec<Bytes>) {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| _ = answer.send(result));
        self.shard.submit(Proposal { commands: vec![command], body, done }).await;
        let committed = answered.await.unwrap().unwrap();
        assert!(committed.outcomes[0].is_ok(), "{committed:?}");
    }

    /// One entry with a batch for each of these partitions.
    pub(crate) async fn publish_values(&self, topic: TopicId, partitions: &[(u32, Vec<Vec<u8>>)]) {
        let (mut batches, mut body, mut at) = (Vec::new(), Vec::new(), 0);
        for (partition, values) in partitions {
            let (batch, bytes) = batch_of(*partition, values);
            batches.push(BatchRef { at, ..batch });
            at += bytes.len() as u64;
            body.push(bytes);
        }
        self.submit(Command::Publish(Publish { topic, requests: Vec::new(), batches }), body).await;
    }

    /// Messages that are not there before the transaction is committed.
    pub(crate) async fn prepare(&self, topic: TopicId, id: &str, values: &[Vec<u8>]) {
        let (batch, bytes) = batch_of(0, values);
        let owned = vec![OwnedRows { first: 0, rows: batch.rows, request: 0 }];
        let identity = Identity::Producer(ProducerId::new(id).unwrap(), 1);
        let request = IdempotentRequest { identity, partition_count: 1, keyless: Partition(0) };
        let publish = Publish { topic, requests: vec![request], batches: vec![BatchRef { owned, ..batch }] };
        let mode = Mode::Prepare(Prepare { expires_ms: self.env.clock.now_ms() + 60_000, check_back: None });
        let id = TransactionId::new(id).unwrap();
        let transact = Transact { id, publishes: vec![publish], settles: Vec::new(), mode };
        self.submit(Command::Transact(transact), vec![bytes]).await;
    }

    pub(crate) async fn commit(&self, id: &str) {
        self.propose(Command::Decide { id: TransactionId::new(id).unwrap(), commit: true }).await;
    }

    /// All messages of a partition with their offsets, from files and journal, as every region that is said to hold a file
    /// has it.
    pub(crate) async fn read_back(&self, topic: TopicId, partition: u32) -> Vec<(u64, Vec<u8>)> {
        let (log, name) = {
            let state = self.shard.state();
            let topic = state.topic(topic).unwrap();
            (topic.partitions[partition as usize].clone(), topic.name.clone())
        };
        let mut found = Vec::new();
        for file in log.files() {
            let key = file.key(&name, topic, Partition(partition));
            let mut copies = Vec::new();
            for region in &file.regions {
                let bytes = self.faults[usize::from(region.0)].inner().get(&key).await.unwrap().bytes().await.unwrap();
                assert_eq!(checksum(&bytes), file.crc, "{key} in region {region}");
                copies.push(bytes);
            }
            let bytes = copies.pop().unwrap();
            let mut range = Footer::first_range(file.bytes);
            let footer = loop {
                let tail = bytes.slice(range.start as usize..range.end as usize);
                match Footer::decode(file.bytes, range.start, tail).unwrap() {
                    FooterStep::Ready(footer) => break footer,
                    FooterStep::Need(more) => range = more,
                }
            };
            for block in 0..footer.blocks().len() {
                let fetched = footer.ranges(block).into_iter().map(|range| {
                    let part = bytes.slice(range.start as usize..range.end as usize);
                    (range, part)
                });
                let rows = footer.decode_block(block, &fetched.collect::<Vec<_>>()).unwrap();
                found.extend(rows.offsets.iter().copied().zip(values(&rows.messages, 0..rows.messages.rows())));
            }
        }
        for run in log.runs() {
            let messages = batch::decode(&self.shard.fetch(&run.batch).await.unwrap()).unwrap();
            let first = run.first_row as usize;
            let rows = values(&messages, first..first + run.rows as usize);
            found.extend((run.base.0..).zip(rows));
        }
        found
    }

    /// A compactor, and how to stop it.
    pub(crate) fn compactor(&self, settings: &CompactorSettings) -> (Compactor, CancellationToken, CompactorMetrics) {
        let (metrics, stop) = (CompactorMetrics::default(), CancellationToken::new());
        let (compactor, worker) =
            Compactor::new(self.shard.clone(), settings.clone(), metrics.clone(), self.env.clone());
        tokio::spawn(worker.run(stop.clone()));
        (compactor, stop, metrics)
    }

    /// Has everything archived.
    pub(crate) async fn run_to_the_end(&self, compactor: &Compactor) -> RunReport {
        let run = compactor.run_now(None).unwrap();
        compactor.wait(run, std::time::Duration::from_secs(3_600)).await.unwrap().expect("the run ends")
    }
}
