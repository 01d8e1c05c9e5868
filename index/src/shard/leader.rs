//! The owner task of a reign: seals proposals into entries, appends them, and applies what is committed.
//!
//! It decides nothing about safety itself: [`Lane`] says what may be sent and what is accepted, [`Quorum`] what is
//! committed, [`crate::state::ShardState::apply`] what an entry does.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use object_store::PutPayload;
use tokio::sync::{mpsc, oneshot};

use super::{Committed, OnDone, Proposal, ProposeError, Shared, health::Role};
use crate::{
    command::Command,
    format::{Head, Kind, Leader, Record, Section, Value},
    ids::{Sequence, WriteId},
    journal::{Lane, Quorum},
    keys::{self, Slot},
    limits::{ENTRY_TARGET_BYTES, MAX_PROPOSALS_PER_ENTRY},
    store::{Component, Created, RegionStore},
};

/// What the owner task is told.
pub(super) enum Message {
    Propose(Proposal),
    /// There is a Takeover at this slot.
    Occupied(Slot),
    Shutdown(oneshot::Sender<()>),
}

/// An entry's content, before it has a slot.
pub(super) struct Content {
    pub(super) sequence: Sequence,
    pub(super) value: Value,
    pub(super) section: Bytes,
    pub(super) body: Vec<Bytes>,
    parts: Vec<Part>,
}

impl Content {
    /// Content that nobody waits for.
    pub(super) fn unattended(sequence: Sequence, value: Value, section: Bytes, body: Vec<Bytes>) -> Self {
        Self { sequence, value, section, body, parts: Vec::new() }
    }
}

/// One proposal inside an entry.
struct Part {
    commands: usize,
    /// Where its body begins in the entry's body.
    at: u64,
    done: OnDone,
}

/// An entry that was sent and is not committed yet.
struct Sealed {
    slot: Slot,
    sequence: Sequence,
    value: Value,
    /// Where the entry's body begins in its object.
    body_at: u64,
    parts: Vec<Part>,
}

type Put = Pin<Box<dyn Future<Output = (Slot, Created)> + Send>>;

pub(super) struct Reign {
    shared: Arc<Shared>,
    lane: Lane,
    quorum: Quorum,
    inbox: mpsc::Receiver<Message>,
    /// Entries to be appended again, then proposals: in this order.
    again: VecDeque<Content>,
    queue: VecDeque<Proposal>,
    sealed: VecDeque<Sealed>,
    puts: FuturesUnordered<Put>,
    next: Sequence,
    stopping: Option<oneshot::Sender<()>>,
    /// Where a Takeover was found by somebody else.
    told: Option<Slot>,
    /// Told when the first entry of its own is committed.
    started: Option<(Sequence, oneshot::Sender<Result<(), ProposeError>>)>,
}

impl Reign {
    /// A reign that appends `again` first, whose last element is its first own entry; `started` is told when that one is
    /// committed.
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Lane,
        quorum: Quorum,
        inbox: mpsc::Receiver<Message>,
        again: VecDeque<Content>,
        started: oneshot::Sender<Result<(), ProposeError>>,
    ) -> Self {
        let first = again.back().map_or(Sequence(0), |content| content.sequence);
        Self {
            shared,
            lane,
            quorum,
            inbox,
            again,
            queue: VecDeque::new(),
            sealed: VecDeque::new(),
            puts: FuturesUnordered::new(),
            next: first.next(),
            stopping: None,
            told: None,
            started: Some((first, started)),
        }
    }

    /// Leads until deposed, broken, or asked to stop.
    pub(super) async fn run(mut self) {
        let _ended = Ended(self.shared.clone());
        loop {
            self.send_what_can_be_sent();
            if self.stopping.is_some() && self.sealed.is_empty() && self.again.is_empty() {
                break self.end(Role::Stopped);
            }
            tokio::select! {
                biased;
                Some((slot, created)) = self.puts.next(), if !self.puts.is_empty() => match created {
                    Created::Landed => self.landed(slot),
                    Created::Occupied => break self.occupied(slot).await,
                },
                message = self.inbox.recv(), if self.takes_more() => match message {
                    Some(Message::Propose(proposal)) => self.queue.push_back(proposal),
                    Some(Message::Occupied(slot)) => break self.occupied(slot).await,
                    Some(Message::Shutdown(done)) => self.stop(done),
                    // Every handle is gone: nobody can propose or wait any more.
                    None => break self.end(Role::Stopped),
                },
            }
            self.take_more();
            if let Some(slot) = self.told {
                break self.occupied(slot).await;
            }
        }
        self.refuse_the_rest().await;
    }

    /// Proposals wait here only as far as one entry can hold them; the others wait in the inbox, and behind it their
    /// senders do.
    fn takes_more(&self) -> bool {
        self.stopping.is_none() && self.queue.len() < MAX_PROPOSALS_PER_ENTRY
    }

    /// Takes what else has come in, so that it shares the next entry.
    fn take_more(&mut self) {
        while self.takes_more() {
            match self.inbox.try_recv() {
                Ok(Message::Propose(proposal)) => self.queue.push_back(proposal),
                Ok(Message::Occupied(slot)) => self.told = Some(slot),
                Ok(Message::Shutdown(done)) => self.stop(done),
                Err(_) => break,
            }
        }
    }

    fn stop(&mut self, done: oneshot::Sender<()>) {
        self.stopping = Some(done);
        self.inbox.close();
    }

    fn send_what_can_be_sent(&mut self) {
        while self.lane.has_room() {
            let content = match self.again.pop_front() {
                Some(content) => content,
                None if !self.queue.is_empty() => self.seal(),
                None => break,
            };
            self.send(content);
        }
        self.shared.in_flight.store(self.lane.outstanding() as u64, Relaxed);
    }

    /// Packs waiting proposals into one entry, at least one and as many as fit.
    fn seal(&mut self) -> Content {
        let (mut value, mut body, mut parts) = (Value::default(), Vec::new(), Vec::new());
        let mut at = 0_u64;
        while let Some(proposal) = self.queue.front() {
            let bytes: u64 = proposal.body.iter().map(|chunk| chunk.len() as u64).sum();
            let full = at + bytes > ENTRY_TARGET_BYTES as u64 || parts.len() >= MAX_PROPOSALS_PER_ENTRY;
            if !parts.is_empty() && full {
                break;
            }
            let Some(Proposal { mut commands, body: chunks, done }) = self.queue.pop_front() else { break };
            commands.iter_mut().for_each(|command| shift(command, at));
            parts.push(Part { commands: commands.len(), at, done });
            value.commands.append(&mut commands);
            body.extend(chunks);
            at += bytes;
        }
        value.time_ms = self.shared.env.clock.now_ms();
        let (sequence, section) = (self.next, value.encode());
        self.next = sequence.next();
        Content { sequence, value, section, body, parts }
    }

    fn send(&mut self, content: Content) {
        let Content { sequence, value, section, body, parts } = content;
        let slot = self.lane.send(sequence);
        let head = Head {
            kind: Kind::Commit,
            id: WriteId(self.shared.env.entropy.next_u128()),
            ballot: slot.ballot,
            parent: self.lane.parent(),
            sequence,
            committed: self.quorum.committed().min(sequence),
            section_len: section.len() as u32,
            section_crc: 0,
            body_len: body.iter().map(|chunk| chunk.len() as u64).sum(),
        };
        let (id, body_at) = (head.id, head.body_at());
        let payload: PutPayload = std::iter::once(head.encode(&section).into()).chain(body).collect();
        self.puts.push(Box::pin(append(self.shared.clone(), slot, payload, id)));
        self.shared.sealed.store(sequence.0, Relaxed);
        self.sealed.push_back(Sealed { slot, sequence, value, body_at, parts });
    }

    fn landed(&mut self, slot: Slot) {
        if self.shared.health.succeeded() {
            tracing::info!(region = %self.shared.store.region(), "the store takes writes again");
        }
        self.lane.landed(slot);
        let committed = self.quorum.advance([self.lane.accepted()]);
        while self.sealed.front().is_some_and(|sealed| sealed.sequence <= committed) {
            if let Some(sealed) = self.sealed.pop_front() {
                self.commit(sealed);
            }
        }
        self.shared.in_flight.store(self.lane.outstanding() as u64, Relaxed);
    }

    /// Applies a committed entry and only then answers (I6).
    fn commit(&mut self, sealed: Sealed) {
        let Sealed { sequence, value, body_at, parts, .. } = sealed;
        assert!(sequence <= self.quorum.committed(), "I6: only what is committed is acknowledged");
        let (mut outcomes, touched) = self.shared.state.write().apply(&value, sequence, body_at);
        self.shared.committed.store(sequence.0, Relaxed);
        self.shared.waiters.wake(&touched);
        for part in parts {
            let rest = outcomes.split_off(part.commands);
            let outcomes = std::mem::replace(&mut outcomes, rest);
            let body_at = body_at + part.at;
            (part.done)(Ok(Committed { sequence, body_at, outcomes }));
        }
        if self.started.as_ref().is_some_and(|(first, _)| *first <= sequence)
            && let Some((_, started)) = self.started.take()
        {
            let _ = started.send(Ok(()));
        }
    }

    /// Another object is where this leader wanted to append: a Takeover, unless something is broken.
    async fn occupied(&mut self, slot: Slot) {
        let store = self.shared.store.clone();
        let key = keys::journal(self.shared.id, slot);
        let found = loop {
            match store.get(Component::Journal, &key).await {
                Ok(found) => break found,
                Err(error) => tracing::warn!(%error, "reading what deposed this leader"),
            }
            tokio::time::sleep(RETRY_MAX).await;
        };
        let record = found.as_ref().map(Record::decode);
        let role = match record {
            Some(Ok(Record { section: Section::Takeover(leader), head, .. })) if head.ballot > slot.ballot => {
                tracing::warn!(
                    ballot = %slot.ballot, by = %head.ballot, node = leader.node, address = leader.address,
                    "deposed: another node took the shard over; this one acknowledges nothing more"
                );
                Role::Deposed(Some(leader))
            }
            other => {
                let problem = match other {
                    Some(Err(error)) => format!("object {key} is damaged: {error}"),
                    _ => format!("object {key} is not what this leader wrote and no takeover"),
                };
                tracing::error!(problem, "the journal is broken; this node stops leading");
                Role::Broken(problem)
            }
        };
        self.end(role);
        self.refuse_sealed(slot);
    }

    /// Tells whoever waits for entries that were sent and cannot be acknowledged. An entry is only ever sent to one
    /// slot; with one region, one whose slot lies at or behind the Takeover can never come to be on the path.
    fn refuse_sealed(&mut self, takeover: Slot) {
        let error = self.shared.health.check().err().unwrap_or(ProposeError::ShuttingDown);
        for sealed in std::mem::take(&mut self.sealed) {
            let lost = sealed.slot.index >= takeover.index && matches!(error, ProposeError::NotLeader { .. });
            for part in sealed.parts {
                let error = if lost { error.clone() } else { ProposeError::Unknown(error.to_string()) };
                (part.done)(Err(error));
            }
        }
        self.answer_start(error);
    }

    fn answer_start(&mut self, error: ProposeError) {
        if let Some((_, started)) = self.started.take() {
            let _ = started.send(Err(error));
        }
    }

    fn end(&mut self, role: Role) {
        self.shared.health.end(role);
        self.shared.ended.cancel();
        self.shared.waiters.wake_all();
    }

    /// Answers everything that was never sent.
    async fn refuse_the_rest(mut self) {
        let error = self.shared.health.check().err().unwrap_or(ProposeError::ShuttingDown);
        self.inbox.close();
        let mut stopping = self.stopping.take();
        for proposal in std::mem::take(&mut self.queue) {
            (proposal.done)(Err(error.clone()));
        }
        while let Some(message) = self.inbox.recv().await {
            match message {
                Message::Propose(proposal) => (proposal.done)(Err(error.clone())),
                Message::Occupied(_) => {}
                Message::Shutdown(done) => stopping = Some(done),
            }
        }
        self.shared.in_flight.store(0, Relaxed);
        stopping.map(|done| done.send(()));
    }
}

/// However the task of a reign ends, by a panic too, nobody takes this node for a leader any more or waits for it.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The first end stays, so this one counts only when there was no other.
        self.0.health.end(Role::Broken("the task of the reign ended".to_owned()));
        self.0.ended.cancel();
        self.0.waiters.wake_all();
    }
}

/// First and longest pause between attempts of an append.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(1_000);

/// Puts the same bytes at the same key until it is known what lies there.
async fn append(shared: Arc<Shared>, slot: Slot, payload: PutPayload, id: WriteId) -> (Slot, Created) {
    let key = keys::journal(shared.id, slot);
    let store: &RegionStore = &shared.store;
    let mut pause = RETRY_MIN;
    loop {
        match store.create(Component::Journal, &key, payload.clone(), id).await {
            Ok(created) => return (slot, created),
            Err(error) => {
                if shared.health.failed(error.to_string()) {
                    tracing::warn!(%error, hint = error.hint(), "an append failed; it is tried again until it lands");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Makes places of batches relative to the entry's body.
fn shift(command: &mut Command, by: u64) {
    if let Command::Publish(publish) = command {
        publish.batches.iter_mut().for_each(|batch| batch.at += by);
    }
}

/// The content of the first entry of a reign: nothing but the leader's time.
pub(super) fn first_entry(sequence: Sequence, time_ms: i64) -> Content {
    let value = Value { time_ms, ..Value::default() };
    let section = value.encode();
    Content::unattended(sequence, value, section, Vec::new())
}

/// Names a node as leader, for its Takeover.
pub(super) fn leader_of(node: &str, address: &str, time_ms: i64) -> Leader {
    Leader { node: node.to_owned(), address: address.to_owned(), time_ms }
}
