//! The owner task of a reign: seals proposals into entries, sends them to every region, and applies what is committed.
//!
//! It decides nothing about safety itself: [`Reign`] says what may be sent, what is accepted and what is committed,
//! [`crate::state::ShardState::apply`] what an entry does. A region that is slow or away never holds up the others: its
//! appends are futures of their own, and a commit needs a quorum only.

mod regions;
mod send;

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
    OnDone, Proposal, ProposeError, Shared,
    content::{Entry, Tail},
    events::{Event, Happening, meet},
    health::Role,
    snapshot::{CutAt, Cuts},
    view::View,
};
use crate::{
    format::{Install, Leader, Value},
    ids::{RegionNo, Sequence},
    journal::{Candidate, Reign},
    keys::Slot,
    limits::MAX_PROPOSALS_PER_ENTRY,
    store::RegionStore,
};

/// What the owner task is told.
pub(super) enum Message {
    Propose(Proposal),
    /// Somebody says that another node has taken over: look.
    Suspect,
    /// Where paths may be cut behind this entry, of which these regions have a snapshot.
    Cuts(Sequence, BTreeSet<RegionNo>, oneshot::Sender<Cuts>),
    /// What lay at this slot of a region, and was accepted, is not there any more.
    Gone(RegionNo, Slot),
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
    /// Bytes of young entries in flight.
    bytes: u64,
    /// Cancelled when no more is sent.
    stop: CancellationToken,
}

/// Bytes of young entries in flight to one region. A region that is away holds no more than this in memory, for as long as
/// it is away.
const IN_FLIGHT_BYTES: u64 = 32 * 1024 * 1024;

/// A region that is so many entries behind is given a snapshot, and the bodies of the entries before it as copies.
pub(super) const INSTALL_ABOVE: u64 = if cfg!(test) { 500 } else { 20_000 };

/// An entry in so many carries marks.
const MARK_EVERY: u64 = 64;

/// When a challenger has taken a minority of the regions and got no further, this leader stands again after so long, so
/// that all regions are its own again; as soon as all that was sent is committed, but after as long again at the latest.
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
    /// Snapshots put in place of entries in this reign.
    installs: BTreeMap<RegionNo, Install>,
    /// Regions that were asked in the election and that the committed state does not know yet.
    early: BTreeMap<RegionNo, (RegionStore, Candidate)>,
    /// Regions that are being looked at on suspicion.
    suspected: BTreeSet<RegionNo>,
    /// Behind which entry and up to which one regions have every entry, by what they promised in the election.
    sources: BTreeMap<RegionNo, (Sequence, Sequence)>,
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
            installs: BTreeMap::new(),
            early: BTreeMap::new(),
            suspected: BTreeSet::new(),
            sources: BTreeMap::new(),
            renew_at: None,
            renewing: false,
            void_from: None,
            stopping: None,
            started: Some(started),
        }
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
                    Some(message) => {
                        if let Some(role) = self.hear(message) {
                            break self.end(role);
                        }
                    }
                    // Every handle is gone: nobody can propose or wait any more.
                    None => break self.end(Role::Stopped),
                },
                () = sleep_until(renew_at.unwrap_or_else(Instant::now)), if renew_at.is_some() => {
                    if self.renewing {
                        // What was sent cannot be committed, perhaps for want of the very region that was lost.
                        break self.end(Role::Renewing);
                    }
                    (self.renew_at, self.renewing) = (Some(Instant::now() + RENEW_AFTER), true);
                }
            }
            if let Some(role) = self.hear_more() {
                break self.end(role);
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
    fn hear_more(&mut self) -> Option<Role> {
        while self.takes_more() {
            let role = self.inbox.try_recv().ok().map(|message| self.hear(message))?;
            if role.is_some() {
                return role;
            }
        }
        None
    }

    /// Takes in what it is told. `Some` when the reign is over.
    fn hear(&mut self, message: Message) -> Option<Role> {
        match message {
            Message::Propose(proposal) => self.queue.push_back(proposal),
            Message::Suspect => {
                for (region, sending) in &self.sending {
                    let Some(lane) = self.reign.lane(*region) else { continue };
                    // One look at a time: a region that is away may be suspected again and again.
                    if !self.suspected.insert(*region) {
                        continue;
                    }
                    let (store, slot) = (sending.view.store.clone(), lane.next_slot());
                    self.events.push(meet(self.shared.id, *region, store, slot, false, sending.stop.clone()));
                }
            }
            Message::Cuts(sequence, durable, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.cuts(sequence, &durable));
            }
            Message::Gone(region, slot) => return self.gone(region, slot),
            Message::Shutdown(done) => {
                self.stopping = Some(done);
                self.inbox.close();
            }
        }
        None
    }

    /// Takes in what has happened. `Some` when the reign is over.
    fn take(&mut self, event: Event) -> Option<Role> {
        match event {
            Event::Landed(region, slot, bytes) => self.landed(region, slot, bytes),
            Event::Occupied(region, slot) => {
                let sending = self.sending.get(&region)?;
                let (store, stop) = (sending.view.store.clone(), sending.stop.clone());
                self.events.push(meet(self.shared.id, region, store, slot, true, stop));
            }
            Event::Met(met) => return self.met(met),
            Event::Joined(region, joined) => return self.region_joined(region, joined),
            Event::Installed(region, promise, store, install) => {
                let sequence = install.snapshot.sequence;
                self.installs.insert(region, install);
                return self.promised(region, &promise, store, Some(sequence));
            }
            Event::Starved(region) => {
                self.sending.get(&region)?;
                let reason =
                    "entries that it misses are truncated everywhere; it is taken over anew and given a snapshot";
                return self.lose(region, false, None, reason);
            }
            Event::Nothing => {}
        }
        None
    }

    /// Where the path of each region may be cut behind an entry.
    fn cuts(&self, sequence: Sequence, durable: &BTreeSet<RegionNo>) -> Cuts {
        let cut = |(region, sending): (&RegionNo, &Sending)| {
            let slot = self.reign.floor(*region, sequence, |region| durable.contains(&region))?;
            let parent = self.reign.lane(*region)?.parent();
            Some(CutAt { view: sending.view.clone(), slot, parent })
        };
        Cuts {
            cuts: self.sending.iter().filter_map(cut).collect(),
            marks: self.reign.marks(),
            needed_by_none: self.needed_by_none(sequence),
        }
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
                Message::Suspect | Message::Cuts(..) | Message::Gone(..) => {}
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
