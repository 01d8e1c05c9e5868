//! A member of a stream subscription: it lives by heartbeats in the background and knows what it owns.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Assignment, Client, ClientError, ErrorKind, Heartbeat, Owned, OwnedPosition, PollRequest, Polled, Position,
};

/// Heartbeats in one session: two may get lost.
const BEATS: u32 = 3;

/// Pause after a heartbeat that failed: a leader that is replaced is back within a second or two.
const PAUSE: Duration = Duration::from_millis(200);

/// A member. It goes on living until it leaves or is dropped; when it is dropped its session ends by itself.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    topic: String,
    subscription: String,
    name: String,
    session: Duration,
    belief: Mutex<Belief>,
    /// The next heartbeat is to be sent at once.
    hurry: Notify,
    /// A heartbeat was answered, or none will be any more.
    told: Notify,
}

/// What the member knows of itself.
#[derive(Debug)]
struct Belief {
    owned: BTreeMap<u32, String>,
    /// Part of it that is to be given up.
    revoke: BTreeSet<u32>,
    /// Until then nobody else can have been given what it owns.
    until: Instant,
    settling: bool,
    failure: Option<ClientError>,
}

impl Belief {
    fn take(&mut self, answer: Assignment, until: Instant) {
        let kept = answer.revoke.iter().filter_map(|partition| self.owned.remove_entry(partition)).collect();
        self.owned = kept;
        // What it never knew to be its own it need not give up.
        self.revoke = self.owned.keys().copied().collect();
        self.owned.extend(answer.partitions.into_iter().map(|assigned| (assigned.partition, assigned.epoch)));
        (self.until, self.settling) = (until, answer.settles_in_ms.is_some());
    }

    /// Believes nothing any more that may be somebody else's by now.
    fn expire(&mut self) {
        if Instant::now() >= self.until {
            self.owned.clear();
            self.revoke.clear();
        }
    }
}

impl Member {
    /// Joins. No two members of a subscription may have the same name.
    ///
    /// # Errors
    /// Like [`Client::heartbeat`].
    pub async fn join(
        client: Client,
        topic: &str,
        subscription: &str,
        name: &str,
        session: Duration,
    ) -> Result<Self, ClientError> {
        let belief = Belief {
            owned: BTreeMap::new(),
            revoke: BTreeSet::new(),
            until: Instant::now(),
            settling: false,
            failure: None,
        };
        let shared = Arc::new(Shared {
            client,
            topic: topic.to_owned(),
            subscription: subscription.to_owned(),
            name: name.to_owned(),
            session,
            belief: Mutex::new(belief),
            hurry: Notify::new(),
            told: Notify::new(),
        });
        shared.beat(Duration::ZERO).await?;
        let task = tokio::spawn(live(shared.clone()));
        Ok(Self { shared, task })
    }

    /// Partitions that it owns and is not to give up, ascending.
    pub fn reads(&self) -> Vec<u32> {
        let mut belief = self.shared.belief.lock();
        belief.expire();
        belief.owned.keys().filter(|partition| !belief.revoke.contains(partition)).copied().collect()
    }

    /// Whether partitions may still be held back after a takeover.
    pub fn is_settling(&self) -> bool {
        self.shared.belief.lock().settling
    }

    /// Gives up what it was asked for. To be called when nothing that was received is still to be committed.
    pub fn release(&self) {
        let mut belief = self.shared.belief.lock();
        if !belief.revoke.is_empty() {
            let revoke = std::mem::take(&mut belief.revoke);
            belief.owned.retain(|partition, _| !revoke.contains(partition));
            self.shared.hurry.notify_one();
        }
    }

    /// Waits for the answer to a heartbeat, at most for so long.
    ///
    /// # Errors
    /// The error that ended the membership.
    pub async fn told(&self, limit: Duration) -> Result<(), ClientError> {
        let told = self.shared.told.notified();
        if !self.task.is_finished() {
            let _ = timeout(limit, told).await;
        }
        match self.shared.belief.lock().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Receives from what it reads. Without messages also when its assignment has changed.
    ///
    /// # Errors
    /// Like [`Client::poll`]; one that says that it is no member any more was answered by joining again.
    pub async fn poll(&self, poll: &PollRequest) -> Result<Polled, ClientError> {
        let poll = PollRequest { member: Some(self.shared.name.clone()), ..poll.clone() };
        let polled = self.shared.client.poll(&self.shared.topic, &self.shared.subscription, &poll).await;
        self.join_again(polled).await
    }

    /// Commits those of the positions whose partitions it still owns. Returns them; the rest is somebody else's to receive
    /// again.
    ///
    /// # Errors
    /// Like [`Client::commit`].
    pub async fn commit(&self, positions: &[Position]) -> Result<Vec<Position>, ClientError> {
        let Shared { client, topic, subscription, name, belief, .. } = &*self.shared;
        // A new leader may have to hear first what it owns; and what it lost it hears of.
        for last in [false, true] {
            let owned: Vec<_> = {
                let mut belief = belief.lock();
                belief.expire();
                let owned = |position: &Position| {
                    let epoch = belief.owned.get(&position.partition)?.clone();
                    Some(OwnedPosition { partition: position.partition, offset: position.offset, epoch })
                };
                positions.iter().filter_map(owned).collect()
            };
            if owned.is_empty() {
                break;
            }
            match client.commit_as(topic, subscription, name, &owned).await {
                Err(error) if is_fenced(&error) && last => break,
                Err(error) if is_fenced(&error) => drop(self.join_again::<()>(Err(error)).await),
                committed => {
                    committed?;
                    let plain = |owned: OwnedPosition| Position { partition: owned.partition, offset: owned.offset };
                    return Ok(owned.into_iter().map(plain).collect());
                }
            }
        }
        Ok(Vec::new())
    }

    /// Leaves, so that others need not wait for the end of its session.
    ///
    /// # Errors
    /// Like [`Client::leave`].
    pub async fn leave(self) -> Result<(), ClientError> {
        self.task.abort();
        let Shared { client, topic, subscription, name, .. } = &*self.shared;
        client.leave(topic, subscription, name).await
    }

    /// Hears what there is to hear when the server says that something is not as the member believes.
    async fn join_again<T>(&self, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        if answer.as_ref().is_err_and(is_fenced) {
            let told = self.shared.told.notified();
            self.shared.hurry.notify_one();
            let _ = timeout(self.shared.session / BEATS, told).await;
        }
        answer
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether an error says that somebody is no member, or does not own a partition.
pub fn is_fenced(error: &ClientError) -> bool {
    matches!(error.code(), "member_unknown" | "partition_not_assigned")
}

impl Shared {
    /// One heartbeat. What it owns is its own for a session from when it was sent.
    async fn beat(&self, wait: Duration) -> Result<(), ClientError> {
        let (sent, owned) = {
            let mut belief = self.belief.lock();
            belief.expire();
            let owned = |(partition, epoch): (&u32, &String)| Owned { partition: *partition, epoch: epoch.clone() };
            (Instant::now(), belief.owned.iter().map(owned).collect())
        };
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (session_timeout_ms, wait_ms) = (milliseconds(self.session), milliseconds(wait));
        let beat = Heartbeat { session_timeout_ms, owned, wait_ms };
        let answer = timeout(self.session, self.client.heartbeat(&self.topic, &self.subscription, &self.name, &beat));
        // One that takes longer tells nothing that would still hold.
        if let Ok(answer) = answer.await {
            self.belief.lock().take(answer?, sent + self.session);
            self.told.notify_waiters();
        }
        Ok(())
    }
}

/// Heartbeats, one after another: each waits on the server for something to tell, for a third of the session.
async fn live(shared: Arc<Shared>) {
    let pause = shared.session / BEATS;
    loop {
        let busy = !shared.belief.lock().revoke.is_empty();
        if busy {
            // The server would answer the same at once, until it is given up.
            let _ = timeout(pause, shared.hurry.notified()).await;
        }
        let wait = if busy { Duration::ZERO } else { pause };
        let beaten = tokio::select! {
            biased;
            beaten = shared.beat(wait) => beaten,
            () = shared.hurry.notified(), if !busy => shared.beat(Duration::ZERO).await,
        };
        match beaten {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                shared.belief.lock().expire();
                sleep(PAUSE.max(error.retry_after().unwrap_or_default()).min(pause)).await;
            }
            Err(error) => {
                shared.belief.lock().failure = Some(error);
                shared.told.notify_waiters();
                return;
            }
        }
    }
}
