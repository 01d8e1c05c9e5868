//! The owner task of a reign: seals proposals into entries, sends them to every region, and applies what is committed.
//!
//! It decides nothing about safety itself: [`Reign`] says what may be sent, what is accepted and what is committed,
//! [`crate::state::ShardState::apply`] what an entry does. A region that is slow or away never holds up the others: its
//! appends are futures of their own, and a commit needs a quorum only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Challenge, Committed, OnDone, Proposal, ProposeError, Shared,
    content::{Entry, Tail},
    events::{Event, Happening, Met, Source, append, install, meet},
    health::{Condition, Role},
    join::{Joined, Joiner},
    snapshot::{CutAt, Cuts},
    view::View,
};
use crate::{
    command::Command,
    format::{HEAD_BYTES, Leader, Section, Value},
    ids::{RegionNo, Sequence},
    journal::{Cargo, Elected, Promise, Reign},
    keys::Slot,
    limits::{ENTRY_TARGET_BYTES, MAX_PROPOSALS_PER_ENTRY},
    region::RegionRecord,
    store::RegionStore,
};

/// What the owner task is told.
pub(super) enum Message {
    Propose(Proposal),
    /// Somebody says that another node has taken over: look.
    Suspect,
    /// Where paths may be cut behind this entry, of which these regions have a snapshot.
    Cuts(Sequence, BTreeSet<RegionNo>, oneshot::Sender<Cuts>),
    Shutdown(oneshot::Sender<()>),
}

/// An entry's content, and who waits for it.
pub(super) struct Content {
    value: Value,
    entry: Entry,
    parts: Vec<Part>,
}

impl Content {
    /// Content that nobody waits for.
    pub(super) fn unattended(value: Value, entry: Entry) -> Self {
        Self { value, entry, parts: Vec::new() }
    }

    /// Content without a body.
    pub(super) fn of(sequence: Sequence, value: Value, parts: Vec<Part>) -> Self {
        let entry = Entry { sequence, section: value.encode(), body: Vec::new() };
        Self { value, entry, parts }
    }
}

/// One proposal inside an entry.
pub(super) struct Part {
    commands: usize,
    /// Where its body begins in the entry's body.
    at: u64,
    done: OnDone,
}

/// An entry that was sealed and is not committed yet.
struct Sealed {
    sequence: Sequence,
    value: Value,
    bytes: u64,
    /// Where the entry's body begins in its objects.
    body_at: u64,
    parts: Vec<Part>,
}

/// A region that is appended to.
struct Sending {
    view: Arc<View>,
    /// Appends in flight whose content has to be read from another region first.
    old: usize,
    /// Cancelled when no more is sent.
    stop: CancellationToken,
}

/// Appends in flight to a region that catches up: enough to outrun what is published meanwhile.
const CATCH_UP_WINDOW: usize = 24;

/// A region that is so many entries behind is given a snapshot, and the bodies of the entries before it as copies.
const INSTALL_ABOVE: u64 = 20_000;

/// An entry in so many carries marks.
const MARK_EVERY: u64 = 64;

/// When a challenger has taken a minority of the regions and got no further, this leader stands again after so long, so
/// that all regions are its own again.
const RENEW_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Leading {
    shared: Arc<Shared>,
    /// This node, as its Takeovers name it.
    leader: Leader,
    reign: Reign,
    window: usize,
    inbox: mpsc::Receiver<Message>,
    queue: VecDeque<Proposal>,
    sealed: VecDeque<Sealed>,
    tail: Tail,
    events: FuturesUnordered<Happening>,
    sending: BTreeMap<RegionNo, Sending>,
    joining: BTreeMap<RegionNo, CancellationToken>,
    renew_at: Option<Instant>,
    renewing: bool,
    /// Entries from this one on can never be committed.
    void_from: Option<Sequence>,
    stopping: Option<oneshot::Sender<()>>,
    /// Told when the first entry of its own is committed.
    started: Option<oneshot::Sender<Result<(), ProposeError>>>,
}

impl Leading {
    pub(super) fn new(
        shared: Arc<Shared>,
        leader: Leader,
        reign: Reign,
        inbox: mpsc::Receiver<Message>,
        started: oneshot::Sender<Result<(), ProposeError>>,
    ) -> Self {
        Self {
            window: reign.window(),
            shared,
            leader,
            reign,
            inbox,
            queue: VecDeque::new(),
            sealed: VecDeque::new(),
            tail: Tail::default(),
            events: FuturesUnordered::new(),
            sending: BTreeMap::new(),
            joining: BTreeMap::new(),
            renew_at: None,
            renewing: false,
            void_from: None,
            stopping: None,
            started: Some(started),
        }
    }

    /// A region has joined the reign, which knows it already: others may read from it now, and it is sent entries.
    pub(super) fn joined(&mut self, region: RegionNo, promise: &Promise, store: RegionStore) {
        let Some(record) = self.shared.state.read().regions.get(region).cloned() else { return };
        let (Some(extents), Some(lane)) = (self.reign.extents(region), self.reign.lane(region)) else { return };
        let view = View::new(record.clone(), store, extents.clone(), lane.accepted(), promise.floor);
        let view = Arc::new(view);
        self.shared.views.write().insert(region, view.clone());
        self.shared.health.set_condition(&record, Condition::Joined);
        let stop = self.shared.health.over.child_token();
        self.events.push(Box::pin(super::copies::complete(self.shared.clone(), view.clone(), stop.clone())));
        self.sending.insert(region, Sending { view, old: 0, stop });
    }

    /// Entries that the reign begins with: those to be appended again, and its own first one.
    pub(super) fn append_again(&mut self, contents: VecDeque<Content>) {
        contents.into_iter().for_each(|content| self.keep(content));
    }

    /// The regions that have not promised yet do so in the background.
    pub(super) fn join_the_rest(&mut self, challenge: Challenge, elected: &Elected) {
        let Challenge { election, stores, cluster, .. } = challenge;
        let mut candidates = election.into_candidates();
        let records: Vec<_> = self.shared.state.read().regions.iter().cloned().collect();
        for record in records {
            let number = record.number;
            let backwards = elected.backwards.iter().any(|mark| mark.region == number);
            let refused = cluster
                .absent
                .iter()
                .any(|absence| absence.number == Some(number) && absence.kind == crate::founding::AbsenceKind::Refused);
            if self.sending.contains_key(&number) || backwards || refused {
                continue;
            }
            let (store, candidate) = (stores.get(&number).cloned(), candidates.remove(&number));
            self.join(record, store, candidate);
        }
    }

    fn join(&mut self, record: RegionRecord, store: Option<RegionStore>, candidate: Option<crate::journal::Candidate>) {
        let (region, stop) = (record.number, self.shared.health.over.child_token());
        self.joining.insert(region, stop.clone());
        self.shared.health.set_condition(&record, Condition::Joining);
        let joiner = Joiner { shared: self.shared.clone(), record, store, candidate, leader: self.leader.clone() };
        self.events.push(Box::pin(async move {
            let joined = stop.run_until_cancelled(joiner.run()).await;
            joined.map_or(Event::Nothing, |joined| Event::Joined(region, joined))
        }));
    }

    /// Leads until deposed, broken, or asked to stop.
    pub(super) async fn run(mut self) {
        let _ended = Ended(self.shared.clone());
        loop {
            self.pump();
            if self.sealed.is_empty() {
                if self.stopping.is_some() {
                    break self.end(Role::Stopped);
                }
                if self.renewing {
                    tracing::info!("standing again, so that all regions are this leader's own");
                    break self.end(Role::Renewing);
                }
            }
            let renew_at = self.renew_at;
            tokio::select! {
                biased;
                Some(event) = self.events.next(), if !self.events.is_empty() => {
                    if let Some(role) = self.take(event) {
                        break self.end(role);
                    }
                }
                message = self.inbox.recv(), if self.takes_more() => match message {
                    Some(message) => self.hear(message),
                    // Every handle is gone: nobody can propose or wait any more.
                    None => break self.end(Role::Stopped),
                },
                () = sleep_until(renew_at.unwrap_or_else(Instant::now)), if renew_at.is_some() => {
                    (self.renew_at, self.renewing) = (None, true);
                }
            }
            self.hear_more();
        }
        self.refuse_the_rest().await;
    }

    /// Proposals wait here only as far as one entry can hold them; the others wait in the inbox, and behind it their
    /// senders do.
    fn takes_more(&self) -> bool {
        self.stopping.is_none() && self.queue.len() < MAX_PROPOSALS_PER_ENTRY
    }

    /// Takes what else has come in, so that it shares the next entry.
    fn hear_more(&mut self) {
        while self.takes_more()
            && let Ok(message) = self.inbox.try_recv()
        {
            self.hear(message);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Propose(proposal) => self.queue.push_back(proposal),
            Message::Suspect => {
                for (region, sending) in &self.sending {
                    let Some(lane) = self.reign.lane(*region) else { continue };
                    let (store, slot) = (sending.view.store.clone(), lane.next_slot());
                    self.events.push(meet(self.shared.id, *region, store, slot, false, sending.stop.clone()));
                }
            }
            Message::Cuts(sequence, durable, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.cuts(sequence, &durable));
            }
            Message::Shutdown(done) => {
                self.stopping = Some(done);
                self.inbox.close();
            }
        }
    }

    /// Seals what waits, as far as the window allows, and sends every region what can be sent to it.
    fn pump(&mut self) {
        while !self.renewing && !self.queue.is_empty() && self.in_flight() < self.window as u64 {
            let Some(content) = self.seal() else { break };
            self.keep(content);
        }
        let regions: Vec<_> = self.sending.keys().copied().collect();
        regions.into_iter().for_each(|region| self.send_to(region));
        self.shared.in_flight.store(self.in_flight(), Relaxed);
    }

    fn in_flight(&self) -> u64 {
        self.reign.sealed().0 - self.reign.committed().0
    }

    /// Packs waiting proposals into one entry, at least one and as many as fit.
    fn seal(&mut self) -> Option<Content> {
        let (mut value, mut body, mut parts) = (Value::default(), Vec::new(), Vec::new());
        let mut at = 0_u64;
        while let Some(proposal) = self.queue.front() {
            let bytes: u64 = proposal.body.iter().map(|chunk| chunk.len() as u64).sum();
            let full = at + bytes > ENTRY_TARGET_BYTES as u64 || parts.len() >= MAX_PROPOSALS_PER_ENTRY;
            let changes = proposal.commands.iter().any(|command| matches!(command, Command::SetVoters(_)));
            if !parts.is_empty() && (full || changes) {
                break;
            }
            let Some(Proposal { mut commands, body: chunks, done }) = self.queue.pop_front() else { break };
            if changes && self.reign.is_changing() {
                done(Err(ProposeError::Unavailable("another change of the regions is under way".to_owned())));
                continue;
            }
            commands.iter_mut().for_each(|command| shift(command, at));
            parts.push(Part { commands: commands.len(), at, done });
            value.commands.append(&mut commands);
            body.extend(chunks);
            at += bytes;
            if changes {
                break;
            }
        }
        if parts.is_empty() {
            return None;
        }
        value.time_ms = self.shared.env.clock.now_ms();
        let voters = value.voters().cloned();
        let changed = voters.is_some();
        let sequence = self.reign.seal(voters);
        if changed {
            self.shared.health.set_voters(self.reign.sets());
        }
        if sequence.0.is_multiple_of(MARK_EVERY) {
            value.marks = self.reign.marks();
        }
        let entry = Entry { sequence, section: value.encode(), body };
        Some(Content { value, entry, parts })
    }

    fn keep(&mut self, content: Content) {
        let Content { value, entry, parts } = content;
        let body_at = (HEAD_BYTES + entry.section.len()) as u64;
        let (sequence, bytes) = (entry.sequence, entry.bytes());
        self.shared.sealed.store(sequence.0, Relaxed);
        self.sealed.push_back(Sealed { sequence, value, bytes, body_at, parts });
        self.tail.push(entry);
    }

    fn send_to(&mut self, region: RegionNo) {
        let Some(sending) = self.sending.get_mut(&region) else { return };
        let behind = self.reign.lane(region).map_or(0, |lane| self.reign.sealed().0.saturating_sub(lane.accepted().0));
        let catches_up = behind > 2 * self.window as u64;
        self.reign.set_window(region, if catches_up { CATCH_UP_WINDOW.max(self.window) } else { self.window });
        while let Some(cargo) = self.reign.upcoming(region) {
            let source = match cargo {
                Cargo::Install(sequence) => {
                    Source::Install(sequence, self.shared.installs.lock().get(&region).cloned())
                }
                Cargo::Commit(sequence) => match self.tail.get(sequence) {
                    Some(entry) => Source::Memory(entry),
                    None => Source::Old(sequence),
                },
            };
            if matches!(source, Source::Old(_)) {
                sending.old += 1;
            }
            let Some(send) = self.reign.send(region) else { return };
            let (shared, view, stop) = (self.shared.clone(), sending.view.clone(), sending.stop.clone());
            self.events.push(Box::pin(append(shared, view, send, source, stop)));
        }
    }

    /// Takes in what has happened. `Some` when the reign is over.
    fn take(&mut self, event: Event) -> Option<Role> {
        match event {
            Event::Landed(region, slot) => self.landed(region, slot),
            Event::Occupied(region, slot) => {
                let sending = self.sending.get(&region)?;
                let (store, stop) = (sending.view.store.clone(), sending.stop.clone());
                self.events.push(meet(self.shared.id, region, store, slot, true, stop));
            }
            Event::Met(met) => return self.met(met),
            Event::Joined(region, joined) => return self.region_joined(region, joined),
            Event::Installed(region, promise, store, snapshot) => {
                self.shared.installs.lock().insert(region, snapshot);
                let sequence = self.shared.installs.lock().get(&region).map(|install| install.snapshot.sequence);
                return self.promised(region, &promise, store, sequence);
            }
            Event::Nothing => {}
        }
        None
    }

    fn landed(&mut self, region: RegionNo, slot: Slot) {
        if self.shared.health.succeeded(region) {
            tracing::info!(region = %self.shared.name_of(region), "the region takes writes again");
        }
        let before = self.reign.committed();
        let committed = self.reign.landed(region, slot);
        if let (Some(sending), Some(lane)) = (self.sending.get(&region), self.reign.lane(region)) {
            sending.view.set_accepted(lane.accepted());
        }
        if committed > before {
            self.commit_up_to(committed);
        }
        let accepted = self.reign.regions().filter_map(|region| Some(self.reign.lane(region)?.accepted()));
        let everywhere = accepted.min().unwrap_or(committed);
        self.tail.trim(everywhere, committed);
    }

    fn commit_up_to(&mut self, committed: Sequence) {
        let mut regions_changed = false;
        while self.sealed.front().is_some_and(|sealed| sealed.sequence <= committed) {
            if let Some(sealed) = self.sealed.pop_front() {
                regions_changed |= sealed.value.commands.iter().any(|command| {
                    matches!(command, Command::AddRegion(_) | Command::RemoveRegion(_) | Command::SetVoters(_))
                });
                self.commit(sealed);
            }
        }
        if regions_changed {
            self.regions_changed();
        }
    }

    /// Applies a committed entry and only then answers (I6).
    fn commit(&mut self, sealed: Sealed) {
        let Sealed { sequence, value, bytes, body_at, parts } = sealed;
        assert!(sequence <= self.reign.committed(), "I6: only what is committed is acknowledged");
        let (mut outcomes, touched) = self.shared.state.write().apply(&value, sequence, body_at);
        self.shared.committed.store(sequence.0, Relaxed);
        self.shared.history.lock().committed(sequence, bytes);
        self.shared.waiters.wake(&touched);
        for part in parts {
            let rest = outcomes.split_off(part.commands);
            let outcomes = std::mem::replace(&mut outcomes, rest);
            let body_at = body_at + part.at;
            (part.done)(Ok(Committed { sequence, body_at, outcomes }));
        }
        if self.reign.own() <= sequence
            && let Some(started) = self.started.take()
        {
            let _ = started.send(Ok(()));
        }
    }

    /// Regions were added, removed, or vote from now on.
    fn regions_changed(&mut self) {
        self.shared.health.set_voters(self.reign.sets());
        let records: Vec<_> = self.shared.state.read().regions.iter().cloned().collect();
        let known = |region: RegionNo| records.iter().any(|record| record.number == region);
        let gone: Vec<_> = self.sending.keys().chain(self.joining.keys()).copied().filter(|r| !known(*r)).collect();
        for region in gone {
            tracing::info!(region = %self.shared.name_of(region), "the region has left the cluster");
            if let Some(sending) = self.sending.remove(&region) {
                sending.stop.cancel();
            }
            if let Some(stop) = self.joining.remove(&region) {
                stop.cancel();
            }
            self.reign.leave(region);
            self.shared.views.write().remove(&region);
            self.shared.health.forget(region);
        }
        for record in records {
            let region = record.number;
            let known = self.sending.contains_key(&region) || self.joining.contains_key(&region);
            if !known && !self.reign.has_lost(region) {
                self.join(record, None, None);
            }
        }
    }

    fn region_joined(&mut self, region: RegionNo, joined: Joined) -> Option<Role> {
        let (promise, store) = match joined {
            Joined::Yes(promise, store) => (promise, store),
            Joined::No(by) => {
                self.joining.remove(&region);
                return self.lose(region, by.is_some(), None, "a region could not be taken over in this reign");
            }
        };
        let behind = self.reign.committed().0.saturating_sub(promise.fold.committed.0);
        if behind > INSTALL_ABOVE {
            tracing::info!(region = %store.region(), entries = behind, "the region is far behind: it is sent a snapshot");
            self.events.push(install(self.shared.clone(), region, promise, store));
            return None;
        }
        self.promised(region, &promise, store, None)
    }

    fn promised(
        &mut self,
        region: RegionNo,
        promise: &Promise,
        store: RegionStore,
        install: Option<Sequence>,
    ) -> Option<Role> {
        self.joining.remove(&region)?;
        if let Err(mark) = self.reign.join(region, promise) {
            let record = self.shared.state.read().regions.get(region).cloned()?;
            let error = super::StartError::Backwards { region: record.name.to_string(), mark };
            tracing::error!(%error, "the region is refused");
            let hint = format!("replace it: brigade region replace {} NEW=URL, with an empty store", record.name);
            self.shared.health.set_condition(&record, Condition::Refused { problem: error.to_string(), hint });
            return None;
        }
        if let Some(sequence) = install {
            self.reign.install(region, promise, sequence);
        }
        tracing::info!(region = %store.region(), from = %promise.fold.committed, "a region joins");
        self.joined(region, promise, store);
        None
    }

    /// What lies where this leader wanted to append, or was told to look.
    fn met(&mut self, met: Met) -> Option<Role> {
        let Met { region, slot, record, occupied } = met;
        match record {
            Ok(Some(record)) if record.head.ballot > self.reign.ballot() => {
                let Section::Takeover(leader) = record.section else {
                    return self.break_region(region, slot, "it is of a later reign and no takeover");
                };
                tracing::warn!(
                    region = %self.shared.name_of(region), ballot = %self.reign.ballot(), by = %record.head.ballot,
                    node = leader.node, address = leader.address, "another node has taken the region over"
                );
                if self.reign.sets().iter().all(|set| set.len() == 1) {
                    self.void_from = self.reign.lane(region).map(|lane| lane.sequence_at(slot));
                }
                self.lose(region, true, Some(leader), "")
            }
            Ok(Some(_)) if occupied => {
                self.break_region(region, slot, "it is not what this leader wrote and no takeover")
            }
            Ok(None) if occupied => self.break_region(region, slot, "it exists and cannot be read"),
            Err(problem) if occupied => self.break_region(region, slot, &problem),
            _ => None,
        }
    }

    /// The region is not appended to any more in this reign.
    fn lose(&mut self, region: RegionNo, taken: bool, leader: Option<Leader>, reason: &str) -> Option<Role> {
        if !reason.is_empty() {
            tracing::warn!(region = %self.shared.name_of(region), reason, "a region is lost to this reign");
        }
        let record = self.shared.state.read().regions.get(region).cloned();
        if let Some(record) = &record {
            self.shared.health.set_condition(record, Condition::Lost);
        }
        if let Some(sending) = self.sending.remove(&region) {
            sending.stop.cancel();
        }
        self.reign.lose(region);
        if self.reign.is_over() {
            return Some(if taken || leader.is_some() { Role::Deposed(leader) } else { Role::Renewing });
        }
        self.renew_at.get_or_insert_with(|| Instant::now() + RENEW_AFTER);
        None
    }

    fn break_region(&mut self, region: RegionNo, slot: Slot, problem: &str) -> Option<Role> {
        let name = self.shared.name_of(region);
        let key = crate::keys::journal(self.shared.id, slot);
        let problem = format!("object {key} of region {name} is damaged: {problem}");
        tracing::error!(problem, "a region's journal is broken; it is not written to any more");
        if let Some(sending) = self.sending.remove(&region) {
            sending.stop.cancel();
        }
        self.reign.lose(region);
        if let Some(record) = self.shared.state.read().regions.get(region) {
            let hint = format!("replace it: brigade region replace {name} NEW=URL, with an empty store");
            self.shared.health.set_condition(record, Condition::Refused { problem: problem.clone(), hint });
        }
        self.reign.is_over().then_some(Role::Broken(problem))
    }

    /// Where the path of each region may be cut behind an entry.
    fn cuts(&self, sequence: Sequence, durable: &BTreeSet<RegionNo>) -> Cuts {
        let cut = |(region, sending): (&RegionNo, &Sending)| {
            let slot = self.reign.floor(*region, sequence, |region| durable.contains(&region))?;
            let parent = self.reign.lane(*region)?.parent();
            Some(CutAt { view: sending.view.clone(), slot, parent })
        };
        Cuts { cuts: self.sending.iter().filter_map(cut).collect(), marks: self.reign.marks() }
    }

    /// Tells whoever waits for entries that were sent and cannot be acknowledged. With one region, an entry whose slot lies
    /// at or behind the Takeover can never come to be on the path; with several, whoever took over may append it again.
    fn refuse_sealed(&mut self) {
        let error = self.shared.health.check().err().unwrap_or(ProposeError::ShuttingDown);
        for sealed in std::mem::take(&mut self.sealed) {
            let lost = self.void_from.is_some_and(|from| sealed.sequence >= from);
            for part in sealed.parts {
                let error = if lost { error.clone() } else { ProposeError::Unknown(error.to_string()) };
                (part.done)(Err(error));
            }
        }
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
        }
    }

    fn end(&mut self, role: Role) {
        self.shared.health.end(role);
        self.shared.waiters.wake_all();
    }

    /// Answers everything that was never sent.
    async fn refuse_the_rest(mut self) {
        self.refuse_sealed();
        let error = self.shared.health.check().err().unwrap_or(ProposeError::ShuttingDown);
        self.inbox.close();
        let mut stopping = self.stopping.take();
        for proposal in std::mem::take(&mut self.queue) {
            (proposal.done)(Err(error.clone()));
        }
        while let Some(message) = self.inbox.recv().await {
            match message {
                Message::Propose(proposal) => (proposal.done)(Err(error.clone())),
                Message::Shutdown(done) => stopping = Some(done),
                Message::Suspect | Message::Cuts(..) => {}
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
        self.0.waiters.wake_all();
    }
}

/// Makes places of batches relative to the entry's body.
fn shift(command: &mut Command, by: u64) {
    if let Command::Publish(publish) = command {
        publish.batches.iter_mut().for_each(|batch| batch.at += by);
    }
}
