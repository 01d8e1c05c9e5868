//! Applying an entry: the one place where offsets are assigned and duplicates decided.

mod archive;
mod queue;
mod transaction;

use std::{collections::BTreeMap, sync::Arc};

use self::queue::{NewQueue, queue_mut, settle};
use super::{
    Kind, ShardState, Subscription, Topic,
    dedup::{Deduplication, Known},
    message_ids::{MessageIds, Sifted},
    partition::{BatchLocation, PartitionLog, Run},
};
use crate::{
    command::{
        Applied, BatchRef, Command, DuplicateRows, IdempotentRequest, Outcome, Placement, Publish, Published,
        Rejection, RequestOutcome, SettingsPatch, StoredRows, TopicSettings,
    },
    format::Value,
    ids::{Offset, Partition, Sequence, TopicId},
    limits::{MAX_SUBSCRIPTIONS, MAX_TOPICS},
    names::{SubscriptionName, TopicName},
};

/// A partition that an entry added messages to, or a topic that it deleted or whose queue subscriptions it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Touched {
    /// The partition has a new high watermark, or is new.
    Grown(TopicId, Partition),
    /// The topic is gone.
    Deleted(TopicId),
    /// A queue subscription of the topic was created, or has other settings, or a subscription was deleted.
    Subscriptions(TopicId),
}

/// Where an entry's body begins, for locating its batches.
#[derive(Clone, Copy)]
struct Body {
    sequence: Sequence,
    at: u64,
}

impl ShardState {
    /// Applies the committed entry `sequence`, whose body begins at byte `body_at` of every copy of it.
    /// Gives the outcome of each command and what readers may be waiting for.
    ///
    /// # Panics
    /// When `sequence` is not the next one: entries are applied in order, each once.
    pub fn apply(&mut self, value: &Value, sequence: Sequence, body_at: u64) -> (Vec<Applied>, Vec<Touched>) {
        assert_eq!(sequence, self.applied.next(), "I13: entries are applied in order");
        self.applied = sequence;
        self.time_ms = self.time_ms.max(value.time_ms);
        let body = Body { sequence, at: body_at };
        let mut touched = Vec::new();
        let outcomes = value.commands.iter().map(|command| self.apply_command(command, body, &mut touched)).collect();
        touched.sort_unstable();
        touched.dedup();
        (outcomes, touched)
    }

    fn apply_command(&mut self, command: &Command, body: Body, touched: &mut Vec<Touched>) -> Applied {
        let now = self.time_ms;
        match command {
            Command::CreateTopic { name, settings } => self.create_topic(name, settings),
            Command::AlterTopic { topic, patch } => alter_topic(self.topic_mut(*topic)?, patch, now, touched),
            Command::DeleteTopic { topic } => self.delete_topic(*topic, touched),
            Command::Publish(publish) => {
                let applied = publish_to(self.topic_mut(publish.topic)?, publish, body, now, touched)?;
                Ok(self.stored(applied, body))
            }
            Command::CreateSubscription { topic, name, positions } => {
                create_subscription(self.topic_mut(*topic)?, name, positions, now)
            }
            Command::CreateQueue { topic, name, settings, secret, positions } => {
                touched.push(Touched::Subscriptions(*topic));
                self.create_queue(&NewQueue { topic: *topic, name, settings, secret: *secret, positions })
            }
            Command::AlterQueue { topic, name, patch } => {
                touched.push(Touched::Subscriptions(*topic));
                self.alter_queue(*topic, name, patch)
            }
            Command::Settle(settled) => settle(self.topic_mut(settled.topic)?, settled),
            Command::Bury { copies, settle } => self.bury(copies, settle, body, touched),
            Command::Transact(transact) => self.transact(transact, body, touched),
            Command::Decide { id, commit } => self.decide(id, *commit, touched),
            Command::DeleteSubscription { topic, name } => {
                touched.push(Touched::Subscriptions(*topic));
                let topic = self.topic_mut(*topic)?;
                topic.subscriptions.remove(name).map(|_| Outcome::Done).ok_or(Rejection::SubscriptionNotFound)
            }
            Command::CommitPositions { topic, name, positions, seek } => {
                commit_positions(self.topic_mut(*topic)?, name, positions, *seek)
            }
            Command::AddRegion(region) => self.regions.add(region),
            Command::RemoveRegion(region) => self.regions.remove(*region),
            Command::SetVoters(voters) => self.regions.set_voters(voters),
            Command::Claim(claim) => self.claim(claim),
            Command::Replace(replace) => self.replace(replace),
            Command::Release(ids) => self.release(ids),
            Command::Located(located) => self.located(located),
            Command::Trim(trim) => self.trim(trim),
            Command::Deleted(ids) => self.deleted(ids),
        }
    }

    /// What was published refers to the body.
    fn stored(&mut self, outcome: Outcome, body: Body) -> Outcome {
        if let Outcome::Published(Published { batches, .. }) = &outcome {
            self.bodies.add(body.sequence, batches.iter().map(Vec::len).sum());
        }
        outcome
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, Rejection> {
        self.topics.get_mut(&id).ok_or(Rejection::TopicNotFound)
    }

    fn delete_topic(&mut self, id: TopicId, touched: &mut Vec<Touched>) -> Applied {
        if let Some(transaction) = self.transactions.publishing_to(id) {
            return Err(Rejection::TransactionPending(transaction.clone()));
        }
        let topic = self.topics.remove(&id).ok_or(Rejection::TopicNotFound)?;
        self.drop_archive(&topic);
        topic.partitions.iter().for_each(|log| self.bodies.remove_runs(&log.runs));
        self.names.remove(&topic.name);
        touched.push(Touched::Deleted(id));
        Ok(Outcome::Done)
    }

    fn create_topic(&mut self, name: &TopicName, settings: &TopicSettings) -> Applied {
        if let Some(id) = self.names.get(name) {
            return Err(Rejection::TopicExists(*id));
        }
        if self.topics.len() >= MAX_TOPICS {
            return Err(Rejection::TooManyTopics);
        }
        if let Some(problem) = settings.problem() {
            return Err(Rejection::InvalidSettings(problem));
        }
        self.next_topic += 1;
        let id = TopicId(self.next_topic);
        let topic = Topic {
            id,
            name: name.clone(),
            created_ms: self.time_ms,
            settings: Arc::new(settings.clone()),
            partitions: vec![PartitionLog::default(); settings.partitions as usize],
            dedup: Deduplication::default(),
            ids: MessageIds::default(),
            subscriptions: BTreeMap::new(),
            archive_version: 0,
            archive_changed_ms: 0,
        };
        self.topics.insert(id, topic);
        self.names.insert(name.clone(), id);
        Ok(Outcome::TopicCreated(id))
    }
}

fn alter_topic(topic: &mut Topic, patch: &SettingsPatch, now: i64, touched: &mut Vec<Touched>) -> Applied {
    let settings = topic.settings.patched(patch);
    if let Some(problem) = settings.problem() {
        return Err(Rejection::InvalidSettings(problem));
    }
    if settings.partitions < topic.settings.partitions {
        return Err(Rejection::InvalidSettings("partitions cannot become fewer"));
    }
    let added = topic.settings.partitions..settings.partitions;
    touched.extend(added.map(|partition| Touched::Grown(topic.id, Partition(partition))));
    topic.partitions.resize_with(settings.partitions as usize, PartitionLog::default);
    topic.ids.forget(now, settings.deduplication_window_ms);
    if topic.archive_version > 0 && settings != *topic.settings {
        // The published list says them, too.
        topic.archive_changed(now);
    }
    topic.settings = Arc::new(settings);
    Ok(Outcome::Done)
}

fn publish_to(topic: &mut Topic, publish: &Publish, body: Body, now: i64, touched: &mut Vec<Touched>) -> Applied {
    check_publish(topic, publish)?;
    let known = know_requests(topic, publish);
    let (batches, duplicates, placed) = store_batches(topic, publish, &known, body, now, touched);
    let requests = publish.requests.iter().zip(known).zip(placed).map(|((request, known), placed)| match known {
        Known::Duplicate(placement) => RequestOutcome::Duplicate(placement),
        Known::TooOld => RequestOutcome::SequenceTooOld,
        Known::New => {
            let placement = Arc::new(placed.of(request));
            topic.dedup.remember(&request.identity, placement.clone(), now);
            RequestOutcome::Stored(placement)
        }
    });
    let requests = requests.collect();
    Ok(Outcome::Published(Published { batches, duplicates, requests }))
}

/// Where the messages of a request with an identity went, see [`Placement`].
#[derive(Clone, Default)]
struct Placed {
    bases: Vec<(Partition, Offset, u32)>,
    duplicates: Vec<(Partition, DuplicateRows)>,
}

impl Placed {
    fn of(self, request: &IdempotentRequest) -> Placement {
        let (partition_count, keyless) = (request.partition_count, request.keyless);
        Placement { partition_count, keyless, bases: self.bases, duplicates: self.duplicates }
    }
}

/// For each batch what was stored and what was dropped, and for each request where its messages went.
type StoredBatches = (Vec<Vec<StoredRows>>, Vec<Vec<DuplicateRows>>, Vec<Placed>);

/// Stores the batches of a publish that was checked.
fn store_batches(
    topic: &mut Topic,
    publish: &Publish,
    known: &[Known],
    body: Body,
    now: i64,
    touched: &mut Vec<Touched>,
) -> StoredBatches {
    topic.ids.forget(now, topic.settings.deduplication_window_ms);
    let mut placed = vec![Placed::default(); publish.requests.len()];
    let mut batches = Vec::with_capacity(publish.batches.len());
    let mut duplicates = Vec::with_capacity(publish.batches.len());
    for batch in &publish.batches {
        let (stored, dropped) = store_batch(topic, batch, known, body, now);
        let high_watermark = topic.partitions[batch.partition.0 as usize].high_watermark;
        for owned in batch.owned.iter().filter(|owned| known[owned.request as usize] == Known::New) {
            let (end, placed) = (owned.first + owned.rows, &mut placed[owned.request as usize]);
            let (base, _) = StoredRows::within(&stored, owned.first, end);
            // Where the next would be, if all of them are duplicates.
            placed.bases.push((batch.partition, base.unwrap_or(high_watermark), owned.rows));
            let within = DuplicateRows::within(&dropped, owned.first, end);
            placed.duplicates.extend(within.map(|duplicates| (batch.partition, duplicates)));
        }
        if !stored.is_empty() {
            touched.push(Touched::Grown(topic.id, batch.partition));
        }
        batches.push(stored);
        duplicates.push(dropped);
    }
    (batches, duplicates, placed)
}

/// What is known of each request before any of them is stored; the second of two equal ones in the same publish cannot
/// be answered from the first, which has no placement yet, so writers never put both into one.
fn know_requests(topic: &Topic, publish: &Publish) -> Vec<Known> {
    publish.requests.iter().map(|request| topic.dedup.look_up(&request.identity)).collect()
}

/// Checks everything that could go wrong before anything changes.
fn check_publish(topic: &Topic, publish: &Publish) -> Result<(), Rejection> {
    for batch in &publish.batches {
        if topic.partition(batch.partition).is_none() {
            return Err(Rejection::PartitionNotFound(batch.partition));
        }
        let mut row = 0_u64;
        for owned in &batch.owned {
            if u64::from(owned.first) < row || owned.rows == 0 || owned.request as usize >= publish.requests.len() {
                return Err(Rejection::Malformed("rows of requests overlap or belong to none"));
            }
            row = u64::from(owned.first) + u64::from(owned.rows);
        }
        if row > u64::from(batch.rows) || batch.rows == 0 {
            return Err(Rejection::Malformed("a batch has fewer rows than its requests"));
        }
        let ascending = batch.ids.windows(2).all(|pair| pair[0].row < pair[1].row);
        if !ascending || batch.ids.last().is_some_and(|id| id.row >= batch.rows) {
            return Err(Rejection::Malformed("rows with deduplication ids are out of order"));
        }
    }
    let mut identities: Vec<_> = publish.requests.iter().map(|request| &request.identity).collect();
    identities.sort_unstable();
    if identities.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Rejection::Malformed("two requests with one identity"));
    }
    Ok(())
}

/// Appends the rows of a batch that are not duplicates, as few runs as possible. Gives what was stored, and what was
/// dropped for its deduplication ids.
fn store_batch(
    topic: &mut Topic,
    batch: &BatchRef,
    known: &[Known],
    body: Body,
    now: i64,
) -> (Vec<StoredRows>, Vec<DuplicateRows>) {
    let Topic { partitions, ids, settings, .. } = topic;
    let log = &mut partitions[batch.partition.0 as usize];
    let location = BatchLocation { sequence: body.sequence, at: body.at + batch.at, len: batch.len, crc: batch.crc };
    let repeated = batch.owned.iter().filter(|owned| known[owned.request as usize] != Known::New);
    let repeated: Vec<_> = repeated.map(|owned| owned.first..owned.first + owned.rows).collect();
    let Sifted { dropped, duplicates } = if batch.ids.is_empty() || settings.deduplication_window_ms == 0 {
        Sifted { dropped: repeated, duplicates: Vec::new() }
    } else {
        ids.sift(batch, repeated, log.high_watermark, now)
    };
    let mut stored = Vec::new();
    let mut append = |first: u32, end: u32| {
        if end > first {
            let run = Run {
                base: Offset(0),
                first_row: first,
                rows: end - first,
                batch: location,
                min_timestamp_ms: batch.min_timestamp_ms,
                max_timestamp_ms: batch.max_timestamp_ms,
                attributes: batch.attributes,
            };
            let base = log.append(run, now);
            stored.push(StoredRows { first, rows: end - first, base });
        }
    };
    let mut first = 0;
    for gap in dropped {
        append(first, gap.start);
        first = gap.end;
    }
    append(first, batch.rows);
    log.bytes += batch.payload_bytes;
    (stored, duplicates)
}

/// Whether another subscription of that name fits into the topic.
fn check_room(topic: &Topic, name: &SubscriptionName) -> Result<(), Rejection> {
    if topic.subscriptions.contains_key(name) {
        return Err(Rejection::SubscriptionExists);
    }
    if topic.subscriptions.len() >= MAX_SUBSCRIPTIONS {
        return Err(Rejection::TooManySubscriptions);
    }
    Ok(())
}

fn create_subscription(
    topic: &mut Topic,
    name: &SubscriptionName,
    positions: &[(Partition, Offset)],
    created_ms: i64,
) -> Applied {
    check_room(topic, name)?;
    check_positions(topic, positions)?;
    let mut starts: Vec<_> = topic.partitions.iter().map(|log| log.log_start).collect();
    positions.iter().for_each(|(partition, offset)| starts[partition.0 as usize] = *offset);
    let subscription = Subscription { created_ms, kind: Kind::Stream(starts.clone()) };
    topic.subscriptions.insert(name.clone(), subscription);
    Ok(Outcome::Positions(starts))
}

fn commit_positions(
    topic: &mut Topic,
    name: &SubscriptionName,
    positions: &[(Partition, Offset)],
    seek: bool,
) -> Applied {
    // Who read before retention moved the log start commits what is behind it: that moves nothing, like any other commit
    // behind what is known.
    let behind = |(partition, offset): &&(Partition, Offset)| {
        !seek && topic.partition(*partition).is_some_and(|log| *offset < log.log_start)
    };
    let positions: Vec<_> = positions.iter().filter(|position| !behind(position)).copied().collect();
    let positions = &*positions;
    check_positions(topic, positions)?;
    let starts: Vec<_> = topic.partitions.iter().map(|log| log.log_start).collect();
    let subscription = topic.subscriptions.get_mut(name).ok_or(Rejection::SubscriptionNotFound)?;
    let known = match &mut subscription.kind {
        Kind::Stream(known) => known,
        Kind::Queue(_) if seek => return seek_queue(topic, name, positions),
        Kind::Queue(_) => return Err(Rejection::WrongKind("queue")),
    };
    known.extend_from_slice(starts.get(known.len()..).unwrap_or_default());
    for (partition, offset) in positions {
        let position = &mut known[partition.0 as usize];
        *position = if seek { *offset } else { (*position).max(*offset) };
    }
    Ok(Outcome::Positions(known.clone()))
}

fn seek_queue(topic: &mut Topic, name: &SubscriptionName, positions: &[(Partition, Offset)]) -> Applied {
    let queue = queue_mut(topic, name)?;
    for (partition, offset) in positions {
        queue.partition_mut(*partition).into_iter().for_each(|at| at.seek(*offset));
    }
    Ok(Outcome::Positions(queue.partitions.iter().map(super::QueuePartition::floor).collect()))
}

fn check_positions(topic: &Topic, positions: &[(Partition, Offset)]) -> Result<(), Rejection> {
    for (partition, offset) in positions {
        let log = topic.partition(*partition).ok_or(Rejection::PartitionNotFound(*partition))?;
        let (log_start, high_watermark) = (log.log_start, log.high_watermark);
        if *offset < log_start || *offset > high_watermark {
            let (partition, offset) = (*partition, *offset);
            return Err(Rejection::InvalidPosition { partition, offset, log_start, high_watermark });
        }
    }
    Ok(())
}
