//! A node that does not lead: it looks at the paths of all regions, and takes the shard over when it is told to.

use std::{collections::BTreeMap, time::Duration};

use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::{
    Shard, ShardConfig, StartError, open,
    path::newest_floor,
    walk::{Answer, Walk},
};
use crate::{
    env::Env,
    format::{Floor, Leader, Record, Section},
    founding::{Absence, Cluster, Region},
    ids::{Ballot, RegionNo, Sequence, WriteId},
    journal::{Abandoned, Candidate, Election, Fold, Want},
    keys::Slot,
    names::RegionName,
    region::RegionSet,
    store::RegionStore,
};

/// How long regions that are slower than a quorum are waited for when the paths are looked at.
const GRACE: Duration = Duration::from_millis(300);

/// How long reading may take without coming forward, or a quorum to read its paths, to promise, or to take the first entry.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Paths that are read anew in one attempt, because what they promised is not there.
const REREADS: u32 = 3;

/// So many leaders are remembered.
const MET: usize = 8;

/// What a look at the paths showed.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The highest ballot met.
    pub ballot: Ballot,
    /// Its leader, if it has one that can be named.
    pub leader: Option<Leader>,
    /// Whether a path has grown since the last look; false at the first.
    pub moved: bool,
    /// Whether a quorum of regions answered.
    pub quorum: bool,
}

/// A candidate for leading a shard.
pub struct Challenge {
    pub(super) config: ShardConfig,
    pub(super) cluster: Cluster,
    pub(super) env: Env,
    /// This node, as its Takeovers name it.
    pub(super) leader: Leader,
    pub(super) stores: BTreeMap<RegionNo, RegionStore>,
    pub(super) election: Election,
    /// Walks that are not under way.
    idle: BTreeMap<RegionNo, Walk>,
    failed: BTreeMap<RegionNo, StartError>,
    ends: Option<BTreeMap<RegionNo, Slot>>,
    /// When an object was last read: a long path takes its time, one that does not come forward is given up.
    progress: Instant,
    /// The latest leaders that were met on the paths.
    met: BTreeMap<Ballot, Leader>,
}

type Step = BoxFuture<'static, (Walk, Result<Answer, StartError>)>;

impl Challenge {
    /// A candidate among the regions of `cluster`. Nothing is read yet.
    pub fn new(config: ShardConfig, cluster: Cluster, env: Env) -> Self {
        let time_ms = env.clock.now_ms();
        let leader = Leader { node: config.node.clone(), address: config.address.clone(), time_ms };
        let founding = RegionSet::new(cluster.founding.iter().map(|record| record.number).collect());
        let start = founding.unwrap_or_else(|| RegionSet::one(RegionNo(0)));
        let mut election = Election::new(start);
        let (mut stores, mut idle) = (BTreeMap::new(), BTreeMap::new());
        for region in &cluster.regions {
            let number = region.record.number;
            election.add(number, WriteId(env.entropy.next_u128()));
            stores.insert(number, region.store.clone());
            idle.insert(number, Walk::new(&region.record, &cluster.cluster_id, config.shard, region.store.clone()));
        }
        let failed = BTreeMap::new();
        Self {
            config,
            cluster,
            env,
            leader,
            stores,
            election,
            idle,
            failed,
            ends: None,
            progress: Instant::now(),
            met: BTreeMap::new(),
        }
    }

    /// Reads every region's path to its end, from where the last look stopped. Writes nothing.
    ///
    /// # Errors
    /// When no region answers.
    pub async fn look(&mut self) -> Result<Sighting, StartError> {
        self.election.look_again();
        self.failed.clear();
        self.read_all().await?;
        if self.follow_marks().await {
            self.read_all().await?;
        }
        let read = self.read();
        if !self.election.could_win(|region| read.contains_key(&region)) {
            match self.open_unknown().await {
                Ok(true) => self.read_all().await?,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the regions that vote cannot be found out"),
            }
        }
        self.sighting()
    }

    /// Reads every path to its end, those that are slower than a quorum only as far as that is quickly done.
    async fn read_all(&mut self) -> Result<(), StartError> {
        let mut grace = None;
        self.progress = Instant::now();
        let mut known = 0;
        self.drive(|this| {
            // Whether a quorum has been read changes only with their number, and finding out reads all that was folded.
            let read = this.read();
            if read.len() > known && known < this.stores.len() {
                known = read.len();
                if this.election.could_win(|region| read.contains_key(&region)) {
                    grace.get_or_insert_with(|| Instant::now() + GRACE);
                }
            }
            (known < this.stores.len()).then(|| grace.unwrap_or(this.progress + PATIENCE))
        })
        .await
    }

    /// A path that has not moved may have moved so far that what is behind the end seen last is deleted already: then there
    /// is a newer mark. Whether one was found.
    async fn follow_marks(&mut self) -> bool {
        let Some(ends) = &self.ends else { return false };
        let still = self.read().into_iter().filter(|(region, at)| ends.get(region) == Some(at));
        let still: Vec<_> = still.filter_map(|(region, _)| Some((region, self.stores.get(&region)?.clone()))).collect();
        let shard = self.config.shard;
        let marks = join_all(still.iter().map(|(region, store)| async move {
            let newest = newest_floor(shard, store).await.ok().flatten();
            (*region, newest.map(|floor| floor.k))
        }));
        let mut found = false;
        for (region, newest) in marks.await {
            let known = self.election.candidate(region).map_or(0, Candidate::floor_number);
            // It is read to its end, and may be read anew from the mark: it has promised nothing.
            if newest.is_some_and(|newest| newest > known) {
                self.election.restart(region);
                found = true;
            }
        }
        found
    }

    fn sighting(&mut self) -> Result<Sighting, StartError> {
        let read = self.read();
        if read.is_empty() {
            return Err(self.no_quorum());
        }
        let moved = self
            .ends
            .as_ref()
            .is_some_and(|ends| read.iter().any(|(region, at)| ends.get(region).is_some_and(|before| before != at)));
        let quorum = self.election.could_win(|region| read.contains_key(&region));
        let mut ends = self.ends.take().unwrap_or_default();
        ends.extend(read);
        self.ends = Some(ends);
        let (ballot, leader) = self.election.sighted();
        Ok(Sighting { ballot, leader: leader.cloned(), moved, quorum })
    }

    /// The ends of all paths that have been read.
    fn read(&self) -> BTreeMap<RegionNo, Slot> {
        let ends = self.stores.keys().filter_map(|region| {
            let candidate = self.election.candidate(*region)?;
            (candidate.at_end() && !self.failed.contains_key(region)).then(|| (*region, candidate.fold().at))
        });
        ends.collect()
    }

    /// Takes the shard over, recovers its state and commits a first entry. `seen` is a ballot that was met elsewhere.
    ///
    /// # Errors
    /// When too few regions answer, another node wins, or what was committed is damaged.
    pub async fn stand(mut self, seen: Ballot, tasks: &TaskTracker) -> Result<Shard, StartError> {
        let started = Instant::now();
        let nonce = self.env.entropy.next_u64();
        self.failed.clear();
        self.election.stand(nonce, seen).map_err(|abandoned| contended(&abandoned))?;
        self.progress = Instant::now();
        let (mut opened, mut unkept) = (false, 0);
        loop {
            let (mut promises, mut decided) = (0, None);
            self.drive(|this| {
                if this.election.promises() > promises {
                    promises = this.election.promises();
                    decided = this.election.decide();
                }
                decided.is_none().then(|| this.progress + PATIENCE)
            })
            .await?;
            if let Some(decided) = decided {
                let elected = decided.ok_or(StartError::Missing)?;
                match open::recovered(&self, &elected).await {
                    Ok(recovered) => return open::lead(self, elected, recovered, started, tasks).await,
                    Err((region, error)) => {
                        // It promised and cannot give what it promised: a former leader may have cut its path meanwhile, and
                        // deleted what was before. If it cannot by its newest mark either, the others may do without.
                        tracing::warn!(%error, "a region cannot give what it promised");
                        self.election.restart(region);
                        unkept += 1;
                        if unkept > REREADS {
                            self.failed.insert(region, error);
                        }
                        continue;
                    }
                }
            }
            // A region that votes may have been added since this node was told of regions.
            if opened || Instant::now() >= self.progress + PATIENCE || !self.open_unknown().await? {
                // Floors that moved meanwhile are a matter of bad luck: the next attempt begins with the new ones.
                let void = self.stores.keys().any(|region| self.election.want(*region) == Want::Void);
                let ballot = self.election.ballot().filter(|_| void);
                return Err(ballot.map_or_else(|| self.no_quorum(), StartError::Contended));
            }
            opened = true;
        }
    }

    /// Opens regions that vote by what the paths say and that this node was not told of.
    async fn open_unknown(&mut self) -> Result<bool, StartError> {
        let unknown: Vec<_> = self.election.sets().iter().flat_map(|set| set.iter().collect::<Vec<_>>()).collect();
        let unknown: Vec<_> = unknown.into_iter().filter(|region| !self.stores.contains_key(region)).collect();
        if unknown.is_empty() {
            return Ok(false);
        }
        let regions = open::known_regions(self, &self.election).await?;
        let mut found = false;
        for record in unknown.into_iter().filter_map(|region| regions.get(region)) {
            let absent = self.cluster.absent.iter().any(|absence| absence.number == Some(record.number));
            let store = (self.cluster.opener)(&record.name, &record.url)?;
            if absent || crate::founding::verify(record, &self.cluster.cluster_id, &store).await.is_err() {
                continue;
            }
            found = true;
            self.election.add(record.number, WriteId(self.env.entropy.next_u128()));
            self.stores.insert(record.number, store.clone());
            let walk = Walk::new(record, &self.cluster.cluster_id, self.config.shard, store.clone());
            self.idle.insert(record.number, walk);
            self.cluster.regions.push(Region { record: record.clone(), store });
        }
        Ok(found)
    }

    /// The highest committed mark of the paths that were read.
    pub fn committed(&self) -> Sequence {
        self.best().map_or(Sequence(0), |(_, fold)| fold.committed)
    }

    /// The path that was read and tells most of what is committed.
    pub(super) fn best(&self) -> Option<(RegionNo, &Fold)> {
        let read = self.stores.keys().filter_map(|region| {
            let candidate = self.election.candidate(*region)?;
            candidate.at_end().then(|| (*region, candidate.fold()))
        });
        read.max_by_key(|(_, fold)| fold.committed)
    }

    /// What is committed by what the last look showed, for reading only: when too few regions answer for anybody to lead.
    /// It takes no proposals, and does not grow.
    ///
    /// # Errors
    /// When no path was read, or what it tells of is missing.
    pub async fn read_only(&self) -> Result<Shard, StartError> {
        open::read_only(self).await
    }

    /// Regions that promised and have lost what they had accepted.
    fn backwards(&self) -> impl Iterator<Item = (RegionName, String)> {
        self.election.backwards().into_iter().filter_map(|mark| {
            let name = self.stores.get(&mark.region)?.region().clone();
            let error = StartError::Backwards { region: name.to_string(), mark };
            Some((
                name.clone(),
                format!("{error} (replace it: brigade region replace {name} NEW=URL, with an empty store)"),
            ))
        })
    }

    /// Regions that vote and that could not be opened by what this node was told.
    fn unknown(&self) -> BTreeMap<RegionName, String> {
        let voters = self.election.sets().into_iter().flat_map(|set| set.iter().collect::<Vec<_>>());
        let absent = |region: RegionNo| self.cluster.absent.iter().any(|absence| absence.number == Some(region));
        let unknown = voters.filter(|region| !self.stores.contains_key(region) && !absent(*region));
        let named = unknown.filter_map(|region| {
            let record = self.cluster.founding.iter().find(|record| record.number == region);
            let name =
                record.map_or_else(|| RegionName::new(&format!("number-{region}")).ok(), |r| Some(r.name.clone()));
            Some((
                name?,
                "it votes, and this node was not told of it or cannot open it (name it: --region NAME=URL)".to_owned(),
            ))
        });
        named.collect()
    }

    /// What keeps a quorum from answering, as of the last look.
    pub fn no_quorum(&self) -> StartError {
        let sets = self.election.sets();
        let (needed, of) = sets.iter().map(|set| (set.quorum(), set.len())).max().unwrap_or((1, 1));
        let failed = self
            .failed
            .iter()
            .filter_map(|(region, error)| Some((self.stores.get(region)?.region().clone(), error.to_string())));
        let absent = self.cluster.absent.iter().map(|absence| {
            let Absence { name, problem, hint, .. } = absence;
            (name.clone(), format!("{problem} ({hint})"))
        });
        let mut problems: Vec<(RegionName, String)> = failed.chain(absent).collect();
        problems.extend(self.backwards());
        problems.extend(self.unknown());
        match (of, self.failed.values().next()) {
            (1, Some(only)) => only.clone(),
            _ => StartError::Quorum { needed, of, problems },
        }
    }

    /// Carries out what the election wants in all regions at once, until `until` gives no time to go on to, or a time that
    /// has passed. A walk that is under way then is begun anew next time.
    async fn drive(&mut self, mut until: impl FnMut(&Self) -> Option<Instant>) -> Result<(), StartError> {
        let mut running: FuturesUnordered<Step> = FuturesUnordered::new();
        loop {
            for region in self.idle.keys().copied().collect::<Vec<_>>() {
                let want = self.election.want(region);
                let rests = matches!(want, Want::Rest | Want::Promised | Want::Void);
                if rests || self.failed.contains_key(&region) {
                    continue;
                }
                let Some(walk) = self.idle.remove(&region) else { continue };
                running.push(self.step(walk, want));
            }
            let limit = until(self).filter(|limit| *limit > Instant::now());
            let Some(limit) = limit.filter(|_| !running.is_empty()) else { break };
            let done = tokio::select! {
                biased;
                done = running.next() => done,
                () = sleep_until(limit) => None,
            };
            let Some((walk, result)) = done else { break };
            self.take(walk, result)?;
        }
        for Region { record, store } in &self.cluster.regions {
            let fresh = || Walk::new(record, &self.cluster.cluster_id, self.config.shard, store.clone());
            self.idle.entry(record.number).or_insert_with(fresh);
        }
        Ok(())
    }

    fn step(&self, mut walk: Walk, want: Want) -> Step {
        let (leader, id) = (self.leader.clone(), self.election.candidate(walk.region).map(|candidate| candidate.id()));
        Box::pin(async move {
            let result = walk.perform(want, &leader, id.unwrap_or(WriteId(0))).await;
            (walk, result)
        })
    }

    /// Remembers the latest leaders, so that they can be told that they lead no more.
    fn note_leaders(&mut self, result: &Result<Answer, StartError>) {
        match result {
            Ok(Answer::Floor(Some(Floor { promised, leader: Some(leader), .. }))) => {
                self.met.insert(*promised, leader.clone());
            }
            Ok(Answer::Object(_, Some(Record { head, section: Section::Takeover(leader), .. }))) => {
                self.met.insert(head.ballot, leader.clone());
            }
            _ => {}
        }
        while self.met.len() > MET {
            self.met.pop_first();
        }
    }

    /// Leaders that may still take themselves for such, each once, the latest first. This node is not among them.
    pub(super) fn predecessors(&self) -> Vec<Leader> {
        let mut found: Vec<Leader> = Vec::new();
        for leader in self.met.values().rev().filter(|leader| leader.address != self.leader.address) {
            if !leader.address.is_empty() && found.iter().all(|known| known.address != leader.address) {
                found.push(leader.clone());
            }
        }
        found
    }

    /// Gives the election what a step found.
    fn take(&mut self, mut walk: Walk, result: Result<Answer, StartError>) -> Result<(), StartError> {
        let region = walk.region;
        self.note_leaders(&result);
        if let Ok(Answer::Object(_, Some(_))) = &result {
            self.progress = Instant::now();
        }
        match result {
            Ok(Answer::Floor(floor)) => self.election.floor(region, floor.as_ref()),
            Ok(Answer::Put(landed)) => self.election.put(region, landed),
            Ok(Answer::Object(slot, record)) => match self.election.object(region, record.as_ref()) {
                Ok(Ok(())) => {}
                Ok(Err(abandoned)) => return Err(contended(&abandoned)),
                Err(error) => {
                    let error = walk.off_path(slot, &error);
                    walk.forget();
                    self.election.restart(region);
                    self.failed.insert(region, error);
                }
            },
            Ok(Answer::Nothing) => {}
            Err(error) => {
                tracing::debug!(region = %walk.store.region(), %error, "a step of a takeover failed");
                self.failed.insert(region, error);
            }
        }
        self.idle.insert(region, walk);
        Ok(())
    }
}

fn contended(abandoned: &Abandoned) -> StartError {
    let node = abandoned.leader.as_ref().map(|leader| leader.node.as_str());
    tracing::info!(ballot = %abandoned.ballot, node, "a takeover was abandoned");
    StartError::Contended(abandoned.ballot)
}
