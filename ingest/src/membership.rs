//! Members of subscriptions: the groups of this reign, and what waits for them to change.
//!
//! Nothing here runs by itself. A group is brought up to date by whoever asks about it; whoever waits sleeps until the
//! group changes or its next session would end.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use brigade_index::{
    command::Rejection,
    ids::{Ballot, Partition, TopicId},
    names::{MemberName, SubscriptionName, TopicName},
    state::{ShardState, Subscription},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    Assignment, Epoch, Ingest, IngestError, MemberStatus, PollReply, PollRequest, Refusal, log::Log, members::Group,
};

/// The groups of a reign.
pub(crate) struct Membership {
    log: Log,
    reign: Ballot,
    begun: Instant,
    /// Subscriptions created later than this, by the shard's own time, have no members from an earlier reign.
    begun_ms: i64,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    by_name: HashMap<(TopicId, SubscriptionName), Arc<Entry>>,
    /// At this many, those of deleted subscriptions are looked for.
    full: usize,
}

struct Entry {
    topic: TopicId,
    subscription: SubscriptionName,
    /// A subscription deleted and created again is another one.
    created_ms: i64,
    group: Mutex<Group>,
    changed: Notify,
}

/// Why a call of a member was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MemberError {
    /// Because of the state of the group. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Because of anything else.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// A member joins or says that it lives.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Who.
    pub member: MemberName,
    /// How long its session lasts without a heartbeat, within [`crate::SESSION_MS`].
    pub session_ms: u64,
    /// All that it owns as far as it knows.
    pub owned: BTreeMap<Partition, Epoch>,
    /// How long to wait while what it owns is what it is to own; at most half a session.
    pub wait: Duration,
}

/// The members of one subscription. A handle; cheap to clone.
#[derive(Clone)]
pub struct Members {
    ingest: Ingest,
    entry: Arc<Entry>,
}

impl Membership {
    pub(crate) fn new(log: Log) -> Self {
        let begun_ms = log.state().time_ms;
        let reign = log.reign();
        Self { log, reign, begun: Instant::now(), begun_ms, groups: Mutex::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn entry(&self, topic: &TopicName, subscription: &SubscriptionName) -> Result<Arc<Entry>, IngestError> {
        let state = self.log.state();
        let found = state.topic_named(topic).ok_or_else(|| IngestError::TopicNotFound(topic.clone()))?;
        let topic = found.id;
        let created_ms = stream(&state, topic, subscription)?.created_ms;
        let mut groups = self.groups.lock();
        let key = (topic, subscription.clone());
        if let Some(entry) = groups.by_name.get(&key).filter(|entry| entry.created_ms == created_ms) {
            return Ok(entry.clone());
        }
        if groups.by_name.len() >= groups.full {
            groups.by_name.retain(|_, entry| entry.exists(&state));
            groups.full = groups.by_name.len() * 2 + 16;
        }
        let group = Mutex::new(Group::new(self.reign, created_ms > self.begun_ms));
        let subscription = subscription.clone();
        let entry = Arc::new(Entry { topic, subscription, created_ms, group, changed: Notify::new() });
        groups.by_name.insert(key, entry.clone());
        Ok(entry)
    }
}

/// The subscription whose members are asked for.
fn stream<'a>(state: &'a ShardState, topic: TopicId, name: &SubscriptionName) -> Result<&'a Subscription, Rejection> {
    let topic = state.topic(topic).ok_or(Rejection::TopicNotFound)?;
    let found = topic.subscriptions.get(name).ok_or(Rejection::SubscriptionNotFound)?;
    if found.stream().is_none() {
        return Err(Rejection::WrongKind(found.kind_name()));
    }
    Ok(found)
}

impl Entry {
    fn exists(&self, state: &ShardState) -> bool {
        stream(state, self.topic, &self.subscription).is_ok_and(|found| found.created_ms == self.created_ms)
    }
}

impl Members {
    pub(crate) fn new(ingest: Ingest, topic: &TopicName, subscription: &SubscriptionName) -> Result<Self, IngestError> {
        let entry = ingest.membership().entry(topic, subscription)?;
        Ok(Self { ingest, entry })
    }

    /// Does something with the group, brought up to date, at the present time.
    fn with<R>(&self, act: impl FnOnce(&mut Group, u64) -> R) -> Result<R, MemberError> {
        let membership = self.ingest.membership();
        // Nobody is told anything by a leader that is none any more.
        self.ingest.ready()?;
        let partitions = {
            let state = membership.log.state();
            if !self.entry.exists(&state) {
                return Err(IngestError::from(Rejection::SubscriptionNotFound).into());
            }
            state.topic(self.entry.topic).map_or(0, |topic| topic.partitions.len())
        };
        let now = membership.now();
        let mut group = self.entry.group.lock();
        let before = group.generation();
        group.tick(partitions, now);
        let result = act(&mut group, now);
        if group.generation() != before {
            self.entry.changed.notify_waiters();
        }
        Ok(result)
    }

    /// A member joins or lives. Answers what it is to do; if it does that already, then after the wait or when that has
    /// changed.
    ///
    /// # Errors
    /// When there are too many members, or the subscription or this reign is gone.
    pub async fn heartbeat(&self, beat: Heartbeat) -> Result<Assignment, MemberError> {
        let Heartbeat { member, session_ms, owned, wait } = beat;
        let until = Instant::now() + wait.min(half(session_ms));
        self.with(|group, now| group.heartbeat(&member, session_ms, &owned, now))??;
        self.when(&member, until, |assignment| !assignment.is_known(&owned)).await
    }

    /// A member goes. Returns whether there was one.
    ///
    /// # Errors
    /// When the subscription is gone.
    pub fn leave(&self, member: &MemberName) -> Result<bool, MemberError> {
        self.with(|group, _| group.leave(member))
    }

    /// The members, by name.
    ///
    /// # Errors
    /// When the subscription is gone.
    pub fn list(&self) -> Result<Vec<MemberStatus>, MemberError> {
        self.with(|group, now| group.list(now))
    }

    /// What a member reads at present, for a poll whose positions are looked up afterwards: what its former owner commits
    /// is committed by then. Counts as a heartbeat. `asked` are partitions for which the poll names a position.
    ///
    /// # Errors
    /// When it is no member, or a partition that it asks for is not its own.
    pub fn turn(&self, member: &MemberName, asked: &[Partition]) -> Result<Turn, MemberError> {
        let (mine, session_ms) = self.with(|group, now| {
            group.touch(member, now)?;
            asked.iter().try_for_each(|partition| group.check(member, *partition, None))?;
            Ok::<_, Refusal>((group.assignment(member, now)?, group.session_ms(member).unwrap_or_default()))
        })??;
        Ok(Turn { members: self.clone(), member: member.clone(), mine, session_ms })
    }

    /// A member is about to commit positions of these partitions, under the epochs that it names. While the answer is held
    /// none of them is given to anybody else. Counts as a heartbeat.
    ///
    /// # Errors
    /// When it is no member, or does not own all of them.
    pub fn commit(
        &self,
        member: &MemberName,
        partitions: &[(Partition, Option<Epoch>)],
    ) -> Result<PendingCommit, MemberError> {
        self.with(|group, now| group.commit(member, partitions, now))??;
        let partitions = partitions.iter().map(|(partition, _)| *partition).collect();
        Ok(PendingCommit { entry: self.entry.clone(), partitions })
    }

    /// Waits until `is_it` holds for what a member is to do, or the time is over.
    async fn when(
        &self,
        member: &MemberName,
        until: Instant,
        is_it: impl Fn(&Assignment) -> bool,
    ) -> Result<Assignment, MemberError> {
        let membership = self.ingest.membership();
        let mut ended = pin!(membership.log.ended());
        loop {
            let mut changed = pin!(self.entry.changed.notified());
            changed.as_mut().enable();
            let (found, timer) = self.with(|group, now| (group.assignment(member, now), group.next_timer()))?;
            let found = found?;
            if is_it(&found) || Instant::now() >= until {
                return Ok(found);
            }
            let timer = timer.map_or(until, |timer| membership.begun + Duration::from_millis(timer));
            tokio::select! {
                biased;
                () = &mut ended => {
                    self.ingest.ready()?;
                    return Ok(found);
                }
                () = changed => {}
                () = sleep_until(timer.min(until)) => {}
            }
        }
    }
}

/// What a member reads, while that does not change.
pub struct Turn {
    members: Members,
    member: MemberName,
    mine: Assignment,
    session_ms: u64,
}

impl Turn {
    /// Polls what the member is to go on reading. Waits for half a session at most, and ends early, without messages, when
    /// what the member is to do changes.
    ///
    /// # Errors
    /// When it is no member any more; like [`Ingest::poll`].
    pub async fn poll(&self, request: PollRequest) -> Result<PollReply, MemberError> {
        let Self { members, member, mine, session_ms } = self;
        let wait = request.wait.min(half(*session_ms));
        let until = Instant::now() + wait;
        let changed = members.when(member, until, |assignment| !assignment.is_same(mine));
        if mine.partitions.is_empty() {
            changed.await?;
            return Ok(PollReply::default());
        }
        let only = mine.partitions.iter().map(|(partition, _)| *partition).collect();
        let request = PollRequest { only: Some(only), wait, ..request };
        let mut reply = if wait.is_zero() {
            members.ingest.poll(request).await?
        } else {
            tokio::select! {
                biased;
                reply = members.ingest.poll(request) => reply?,
                changed = changed => {
                    changed?;
                    return Ok(PollReply::default());
                }
            }
        };
        // What it lost in the meantime is no longer its own to read.
        let now = members.with(|group, now| group.assignment(member, now))??;
        let still = |partition: Partition| {
            let is_it = |found: &&(Partition, Epoch)| found.0 == partition;
            let (then, now) = (mine.partitions.iter().find(is_it), now.partitions.iter().find(is_it));
            now.is_some() && then == now
        };
        reply.slices.retain(|slice| still(slice.partition));
        reply.positions.retain(|(partition, _)| still(*partition));
        Ok(reply)
    }
}

/// A wait that leaves the member time for its next heartbeat.
fn half(session_ms: u64) -> Duration {
    Duration::from_millis(session_ms / 2)
}

/// Commits of a member whose outcome is awaited.
#[must_use]
pub struct PendingCommit {
    entry: Arc<Entry>,
    partitions: Vec<Partition>,
}

impl Drop for PendingCommit {
    fn drop(&mut self) {
        let mut group = self.entry.group.lock();
        let before = group.generation();
        group.committed(self.partitions.iter().copied());
        if group.generation() != before {
            self.entry.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
