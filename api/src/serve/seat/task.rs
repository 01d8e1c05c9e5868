//! The task that moves a node in and out of the leader's seat, for as long as the node lives.

use std::{sync::Arc, time::Duration};

use brigade_compactor::{
    metrics::CompactorMetrics,
    snapshots,
    worker::{Compactor, CompactorSettings, Worker},
};
use brigade_index::{
    env::Env,
    format::Leader,
    founding::{self, Cluster},
    ids::{Ballot, Sequence},
    lease::{Event, Lease, LeaseConfig, Next},
    names::RegionName,
    shard::{Challenge, Shard, ShardConfig, ShardStatus, StartError},
};
use brigade_ingest::{Ingest, IngestMetrics, IngestSettings};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Absent, Leading, Seat,
    probe::{DeposedBody, ask, tell},
};
use crate::{
    peers::Peers,
    push::{Pushing, Workers},
    serve::check_back,
    settings::Settings,
};

/// How often a deposed leader is told, with doubling pauses, and how long each attempt may take: a process that was
/// paused hears it when it goes on.
const TELLINGS: u32 = 6;
/// See [`TELLINGS`].
const TELLING: Duration = Duration::from_secs(5);
/// See [`TELLINGS`].
const TELLING_PAUSE: Duration = Duration::from_millis(500);

/// What the task works with.
pub(in crate::serve) struct Surroundings {
    pub(in crate::serve) config: ShardConfig,
    /// The regions that the node was told of.
    pub(in crate::serve) named: Vec<(RegionName, String)>,
    /// What became of them when they were last looked at.
    pub(in crate::serve) cluster: Cluster,
    pub(in crate::serve) env: Env,
    pub(in crate::serve) peers: Arc<dyn Peers>,
    pub(in crate::serve) settings: Arc<Settings>,
    pub(in crate::serve) ingest: IngestSettings,
    pub(in crate::serve) metrics: IngestMetrics,
    pub(in crate::serve) compact: CompactorSettings,
    pub(in crate::serve) compactor_metrics: CompactorMetrics,
    pub(in crate::serve) pushing: Pushing,
    pub(in crate::serve) tasks: TaskTracker,
    pub(in crate::serve) draining: CancellationToken,
    pub(in crate::serve) stop: CancellationToken,
}

/// The task.
pub(in crate::serve) struct Task {
    around: Surroundings,
    seat: Seat,
    lease: Lease,
    challenge: Option<Challenge>,
    reign: Option<Reign>,
    started: Instant,
    /// Whom the log named last as the leader.
    named: Option<Leader>,
    /// The highest ballot that this node lost against.
    seen: Ballot,
    /// Why nobody can lead at present: too few regions answer.
    quorum: Option<String>,
    /// While nobody can lead: up to which entry this node lets read what is committed.
    reading: Option<(Sequence, Arc<Leading>)>,
}

/// A reign of this node.
struct Reign {
    leading: Arc<Leading>,
    since: Instant,
    /// Ends its work in the background.
    background: CancellationToken,
    background_tasks: TaskTracker,
    /// Ends pushing. It also ends when the node begins to shut down, while what it has to record is still taken.
    pushing: CancellationToken,
    pushed: JoinHandle<()>,
}

impl Task {
    pub(in crate::serve) fn new(around: Surroundings) -> Self {
        let settings = &around.settings.lease;
        let lease = Lease::new(LeaseConfig {
            timeout: Duration::from_millis(settings.timeout_ms),
            probe: Duration::from_millis(settings.probe_ms),
            node: around.config.node.clone(),
            address: around.config.address.clone(),
            usurp: settings.usurp,
        });
        let (seat, started) = (Seat::new(), Instant::now());
        Self {
            around,
            seat,
            lease,
            challenge: None,
            reign: None,
            started,
            named: None,
            seen: Ballot::BOOTSTRAP,
            quorum: None,
            reading: None,
        }
    }

    pub(in crate::serve) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// Goes on until the node leads or follows a leader that lives.
    ///
    /// # Errors
    /// When the only store does not answer, or stores hold damaged objects. Other nodes that are faster are no error, and
    /// neither are too few regions: the node leads or follows when there are enough.
    pub(in crate::serve) async fn settle(&mut self) -> Result<(), StartError> {
        while self.reign.is_none() && !self.lease.leader_lives() {
            match self.step().await {
                Err(error @ StartError::Quorum { .. }) => {
                    tracing::warn!(%error, "starting without a leader");
                    return Ok(());
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Goes on until the node is told to stop, and ends the reign in order if there is one.
    pub(in crate::serve) async fn run(mut self) {
        let stop = self.around.stop.clone();
        while !stop.is_cancelled() {
            if let Some(reign) = self.reign.take() {
                self.reign(reign).await;
            } else if let Some(Err(error)) = stop.run_until_cancelled(self.step()).await {
                tracing::warn!(%error, "the journal could not be read or taken over; it is tried again");
            }
        }
        if self.seat.status().is_none_or(|status| status.state != "stopped") {
            self.seat.leave(Absent::without_leader("stopped", "the node is shutting down"));
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        self.lease.event(now, event, self.around.env.entropy.next_u64());
        self.show(if self.lease.leader().is_some() { "following" } else { "looking" });
    }

    /// Does what the lease wants next.
    async fn step(&mut self) -> Result<(), StartError> {
        let result = self.try_step().await;
        match &result {
            Err(error @ StartError::Quorum { .. }) => self.quorum = Some(error.to_string()),
            Ok(()) if self.reign.is_some() || self.lease.leader_lives() => self.quorum = None,
            _ => {}
        }
        result
    }

    async fn try_step(&mut self) -> Result<(), StartError> {
        match self.lease.next(self.now()) {
            Next::Wait(until) => {
                self.wait(until).await;
                Ok(())
            }
            Next::Probe => {
                self.probe().await;
                Ok(())
            }
            Next::Look => self.look().await,
            // A node that is about to leave does not take over.
            Next::Stand if self.around.draining.is_cancelled() => {
                sleep(Duration::from_millis(self.around.settings.lease.probe_ms)).await;
                Ok(())
            }
            Next::Stand => self.stand().await,
            // The lease and the reign begin and end together.
            Next::Lead => {
                self.event(Event::Deposed { reigned: Duration::ZERO });
                Ok(())
            }
        }
    }

    /// Waits; a hint is worth a question before its time.
    async fn wait(&mut self, until: Duration) {
        let seat = self.seat.clone();
        let hinted = tokio::select! {
            biased;
            () = seat.0.hint.notified() => true,
            () = sleep_until(self.started + until) => false,
        };
        if hinted && self.lease.leader().is_some() {
            self.probe().await;
        }
    }

    async fn probe(&mut self) {
        let Some(leader) = self.lease.leader().cloned().filter(|leader| !leader.address.is_empty()) else { return };
        let limit = Duration::from_millis(self.around.settings.lease.timeout_ms / 2);
        let asking = ask(&*self.around.peers, &leader.address, self.around.config.shard, self.lease.ballot());
        let event = timeout(limit, asking).await.unwrap_or(Event::Silent);
        let lived = self.lease.leader_lives();
        let ended = event == Event::Ended;
        if matches!(event, Event::Answered(_)) {
            // What was read before is old when the leader falls silent, and its floors have moved.
            self.challenge = None;
        }
        self.event(event);
        if lived && !self.lease.leader_lives() {
            tracing::warn!(node = leader.node, address = leader.address, ended, "the leader does not answer");
        }
    }

    async fn look(&mut self) -> Result<(), StartError> {
        if self.challenge.is_none() && !self.around.cluster.absent.is_empty() {
            self.rejoin().await;
        }
        let around = &self.around;
        let fresh = || Challenge::new(around.config.clone(), around.cluster.clone(), around.env.clone());
        let sighting = self.challenge.get_or_insert_with(fresh).look().await;
        match sighting {
            Ok(seen) if !seen.quorum => {
                // Regions that were away may be back next time.
                let gone = self.challenge.take();
                let problem = gone.as_ref().map_or(StartError::Missing, Challenge::no_quorum);
                if let Some(gone) = gone {
                    self.read(&gone).await;
                }
                let (ballot, leader) = (seen.ballot, seen.leader);
                self.event(Event::Looked { ballot, leader, moved: seen.moved, quorum: false });
                Err(problem)
            }
            Ok(seen) => {
                let (ballot, leader, moved, quorum) = (seen.ballot, seen.leader, seen.moved, seen.quorum);
                self.event(Event::Looked { ballot, leader, moved, quorum });
                Ok(())
            }
            Err(error) => {
                self.challenge = None;
                self.event(Event::LookFailed);
                Err(error)
            }
        }
    }

    /// While nobody can lead, what is committed can be read.
    async fn read(&mut self, challenge: &Challenge) {
        let up_to_date = self.reading.as_ref().is_some_and(|(committed, _)| *committed == challenge.committed());
        if self.lease.leader_lives() || up_to_date {
            return;
        }
        match challenge.read_only().await {
            Ok(shard) => {
                let committed = challenge.committed();
                tracing::warn!(%committed, "nobody can lead; what is committed up to this entry can be read");
                // Nothing is archived while nobody leads.
                let (leading, _) = self.leading(shard);
                self.seat.read(leading.clone());
                self.read_no_more();
                self.reading = Some((committed, leading));
            }
            Err(error) => tracing::warn!(%error, "what is committed cannot be read"),
        }
    }

    fn read_no_more(&mut self) {
        if let Some((_, reading)) = self.reading.take() {
            self.around.tasks.spawn(async move { reading.ingest.drain().await });
        }
    }

    /// Looks again at regions that were away.
    async fn rejoin(&mut self) {
        let around = &mut self.around;
        match founding::join(&around.named, around.cluster.opener.clone(), &around.env).await {
            Ok(cluster) => around.cluster = cluster,
            Err(error) => tracing::warn!(%error, "the regions cannot be looked at"),
        }
    }

    async fn stand(&mut self) -> Result<(), StartError> {
        let Some(challenge) = self.challenge.take() else {
            self.event(Event::Lost);
            return Ok(());
        };
        let begun = Instant::now();
        self.show("standing");
        match challenge.stand(self.seen, &self.around.tasks).await {
            Ok(shard) => {
                self.lease.event(self.now(), Event::Won, 0);
                let ShardStatus { ballot, committed, .. } = shard.status();
                let took_ms = begun.elapsed().as_millis() as u64;
                tracing::info!(%ballot, %committed, took_ms, "this node leads");
                self.sit(shard);
                Ok(())
            }
            Err(error) => {
                self.event(Event::Lost);
                match error {
                    StartError::Contended(ballot) => {
                        self.seen = self.seen.max(ballot);
                        tracing::info!(%ballot, "another node was faster");
                    }
                    StartError::FirstEntry(error) => tracing::info!(%error, "the takeover came to nothing"),
                    error => return Err(error),
                }
                Ok(())
            }
        }
    }

    /// A shard with its publish and read paths.
    fn leading(&self, shard: Shard) -> (Arc<Leading>, Worker) {
        let Surroundings { env, tasks, settings, draining, .. } = &self.around;
        let (ingest, metrics) = (self.around.ingest.clone(), self.around.metrics.clone());
        let ingest = Ingest::start(shard.clone(), ingest, metrics, env.clone(), tasks);
        let (compact, compactor_metrics) = (self.around.compact.clone(), self.around.compactor_metrics.clone());
        let (compactor, worker) = Compactor::new(shard.clone(), compact, compactor_metrics, env.clone());
        let (settings, env) = (settings.clone(), env.clone());
        let (draining, tasks) = (draining.clone(), tasks.clone());
        let endpoints = self.around.pushing.endpoints.clone();
        (Arc::new(Leading { shard, ingest, compactor, endpoints, settings, env, draining, tasks }), worker)
    }

    fn sit(&mut self, shard: Shard) {
        let (background, background_tasks) = (CancellationToken::new(), TaskTracker::new());
        background_tasks.spawn(snapshots::run(shard.clone(), background.clone()));
        for before in shard.predecessors() {
            background_tasks.spawn(self.tell(shard.clone(), before.clone(), background.clone()));
        }
        let ((leading, worker), since) = (self.leading(shard), Instant::now());
        background_tasks.spawn(worker.run_apart(background.clone()));
        let (ingest, stop) = (leading.ingest.clone(), background.clone());
        let ask = check_back::ask(self.around.pushing.endpoints.clone());
        background_tasks.spawn(async move { ingest.watch_transactions(ask, stop).await });
        self.named = None;
        self.read_no_more();
        self.seat.sit(leading.clone());
        let pushing = self.around.draining.child_token();
        let workers = Workers::new(leading.shard.clone(), leading.ingest.clone(), self.around.pushing.clone());
        let pushed = background_tasks.spawn(workers.run(pushing.clone()));
        self.reign = Some(Reign { leading, since, background, background_tasks, pushing, pushed });
    }

    /// Tells a leader before this one, in case it lives and has nothing to write.
    fn tell(&self, shard: Shard, before: Leader, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let (peers, config) = (self.around.peers.clone(), &self.around.config);
        let ballot = shard.status().ballot.to_string();
        let news = DeposedBody { ballot, node: config.node.clone(), address: config.address.clone() };
        let number = config.shard;
        async move {
            let telling = async {
                for attempt in 0..TELLINGS {
                    let telling = tell(&*peers, &before.address, number, &news);
                    if timeout(TELLING, telling).await.unwrap_or(false) {
                        return;
                    }
                    sleep(TELLING_PAUSE * (1 << attempt)).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = shard.ended() => {}
                () = telling => {}
            }
        }
    }

    /// Leads until the reign is over or the node is told to stop.
    async fn reign(&mut self, reign: Reign) {
        let (seat, stop) = (self.seat.clone(), self.around.stop.clone());
        let shard = &reign.leading.shard;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return reign.end().await,
                () = shard.ended() => break,
                () = seat.0.hint.notified() => {
                    shard.check_deposed().await;
                    // Whoever hints again and again causes no more than this.
                    let pause = Duration::from_millis(self.around.settings.lease.probe_ms);
                    let _ = timeout(pause, shard.ended()).await;
                }
            }
        }
        self.seen = self.seen.max(shard.met());
        let status = shard.status();
        tracing::warn!(state = status.state, ballot = %status.ballot, "this node leads no more");
        self.lease.event(self.now(), Event::Deposed { reigned: reign.since.elapsed() }, self.random());
        let problem = if status.state == "deposed" { "another node took over" } else { "the reign of this node ended" };
        self.seat.leave(Absent { leader: addressed(status.deposed_by), ..Absent::without_leader("looking", problem) });
        reign.background.cancel();
        reign.pushing.cancel();
        // What is in flight is refused; that takes no time that anybody waits for.
        self.around.tasks.spawn(async move { reign.leading.ingest.drain().await });
    }

    fn random(&self) -> u64 {
        self.around.env.entropy.next_u64()
    }

    /// Makes known what the lease knows.
    fn show(&mut self, state: &'static str) {
        let leader = addressed(self.lease.leader().cloned());
        if leader.is_some() && leader != self.named {
            let named = leader.as_ref();
            let (node, address) = (named.map(|leader| &*leader.node), named.map(|leader| &*leader.address));
            tracing::info!(node, address, ballot = %self.lease.ballot(), "another node leads");
            self.named.clone_from(&leader);
        }
        let lives = self.lease.leader_lives();
        let problem = match (&leader, state) {
            (_, "standing") => "this node is taking over",
            (Some(_), _) if lives => "",
            (Some(_), _) => "the leader does not answer",
            (None, _) => "no leader is known",
        };
        if self.reading.is_some() && !lives && state != "standing" {
            return;
        }
        self.read_no_more();
        let (ballot, problem, quorum) = (self.lease.ballot(), problem.to_owned(), self.quorum.clone());
        self.seat.leave(Absent { state, leader, ballot, lives, problem, quorum });
    }
}

/// A leader that can be asked.
fn addressed(leader: Option<Leader>) -> Option<Leader> {
    leader.filter(|leader| !leader.address.is_empty())
}

impl Reign {
    /// Stops pushing, answers every publish in flight, writes a last snapshot, and stops leading.
    async fn end(self) {
        self.pushing.cancel();
        // However it ended, it has.
        let _ = self.pushed.await;
        self.leading.ingest.drain().await;
        // Before the shard stops, since the last snapshot is written by its leader.
        self.background.cancel();
        self.background_tasks.close();
        self.background_tasks.wait().await;
        self.leading.shard.shutdown().await;
    }
}
