//! Steps: what each action does to a state.

use std::sync::Arc;

use brigade_index::{
    format::{Floor, SnapshotRef},
    ids::{RegionNo, Sequence},
    journal::{Append, Cargo, Fold, Promise},
    keys::Slot,
};

use crate::{
    broken, check,
    mutation::Mutation,
    node::{Leading, Node, Standing, Step, advance},
    object::{ALTERED, commit, install, snapshot},
    region::content_in,
    scenario::Scenario,
    state::{Action, State},
};

/// Whether a step changed anything, or the rule that it showed to be broken.
type Outcome = Result<bool, String>;

/// Takes a step. `None` when it changes nothing.
pub fn step(scenario: &Scenario, before: &State, action: &Action) -> Option<State> {
    let mut state = before.clone();
    match state.take(scenario, action) {
        Ok(false) => return None,
        Ok(true) => state.flaw = check::flaw(scenario, &state),
        Err(flaw) => state.flaw = Some(flaw),
    }
    Some(state)
}

impl State {
    fn take(&mut self, scenario: &Scenario, action: &Action) -> Outcome {
        match *action {
            Action::Stand => {
                let standing = Standing::new(scenario, self.nodes.len() as u64 + 1);
                self.nodes.push(Arc::new(Node::Standing(standing)));
                Ok(true)
            }
            Action::Advance(node, region) => self.advance(scenario, node, region),
            Action::Lead(node) => self.lead(scenario, node),
            Action::Land(region, slot, id) => {
                let landed = self.region_mut(region).deliver(slot, id);
                self.tidy(scenario, region);
                Ok(landed)
            }
            Action::LandCut(region, k, writer) => {
                let takeovers = scenario.breaks(Mutation::DeleteTakeovers);
                Ok(self.region_mut(region).deliver_floor(k, writer, takeovers))
            }
            Action::Prune(region) => {
                let prunable = self.region(region).is_prunable();
                self.region_mut(region).prune();
                Ok(prunable)
            }
            Action::Delete(region, slot) => Ok(self.delete(region, slot)),
            Action::Start | Action::Read => self.read(scenario, action),
            Action::Seal(node)
            | Action::Change(node, _)
            | Action::Send(node, _)
            | Action::Landed(node, ..)
            | Action::Taken(node, ..)
            | Action::OtherBytes(node, ..)
            | Action::Snapshot(node, _)
            | Action::Install(node, _)
            | Action::Cut(node, ..) => self.leading(scenario, node, action),
        }
    }

    fn tidy(&mut self, scenario: &Scenario, region: RegionNo) {
        use brigade_index::format::Kind;
        let takeovers = scenario.breaks(Mutation::DeleteTakeovers);
        let deletes = scenario.single_reads();
        self.region_mut(region).forget_refused(|kind| deletes && (kind != Kind::Takeover || takeovers));
    }

    fn advance(&mut self, scenario: &Scenario, node: usize, number: RegionNo) -> Outcome {
        let region = Arc::make_mut(&mut self.regions[usize::from(number.0) - 1]);
        let own = Arc::make_mut(&mut self.nodes[node]);
        let (step, leads) = match own {
            Node::Standing(standing) => {
                let step = standing.advance(number, region, scenario);
                (step, !scenario.patient && standing.decide(scenario).is_some())
            }
            Node::Leading(leading) => {
                let Some(part) = leading.rest.get_mut(&number) else { return Ok(false) };
                let step = advance(part, region, scenario);
                match part.promise().cloned() {
                    _ if step == Step::Abandoned => _ = leading.rest.remove(&number),
                    Some(fold) => leading.join(scenario, number, fold),
                    None => {}
                }
                return Ok(step != Step::Idle);
            }
            Node::Gone => return Ok(false),
        };
        if step == Step::Abandoned {
            *own = Node::Gone;
        }
        if step == Step::Moved && leads {
            return self.lead(scenario, node);
        }
        Ok(step != Step::Idle)
    }

    fn lead(&mut self, scenario: &Scenario, node: usize) -> Outcome {
        let Node::Standing(standing) = self.nodes[node].as_ref().clone() else { return Ok(false) };
        let Some(decided) = standing.decide(scenario) else { return Ok(false) };
        let Some(elected) = decided else { return Err("I5: a committed entry is in no promise".to_owned()) };
        let mut leading = Leading::new(scenario, standing.nonce, standing.election, &elected);
        let (timeline, start) = (leading.timeline(), leading.reign.start());
        let ghost = Arc::make_mut(&mut self.ghost);
        ghost.led.insert(leading.nonce as u8, timeline);
        if timeline > ghost.newest() {
            let carried = leading.contents(Sequence(leading.reign.own().0 - 1));
            ghost.branch(timeline, &leading.contents(start), carried, leading.reign.voters())?;
        }
        if start.0 as usize > ghost.log(timeline).len() {
            return Err(format!("I2: a leader starts from mark {start}, which is not committed"));
        }
        self.acknowledge(scenario, &mut leading)?;
        self.nodes[node] = Arc::new(Node::Leading(Box::new(leading)));
        Ok(true)
    }

    /// Writes down what a leader holds for committed.
    fn acknowledge(&mut self, scenario: &Scenario, leading: &mut Leading) -> Result<(), String> {
        let committed = broken::acknowledged(leading, scenario);
        let timeline = leading.timeline();
        let known = self.ghost.log(timeline);
        // All committed before, as far as it has contents for it (I1).
        let mut differs = known.iter().zip(1..).filter(|(content, sequence)| {
            leading.log.get(&Sequence(*sequence)).is_some_and(|entry| entry.content != **content)
                && *sequence <= committed.0
        });
        if let Some((content, sequence)) = differs.next() {
            return Err(format!("I1: entry {sequence} was committed as {content}, not what b{} has", leading.nonce));
        }
        if committed.0 as usize > known.len() {
            Arc::make_mut(&mut self.ghost).commit(leading.reign.ballot(), committed, &leading.log)?;
        }
        if !leading.serving && leading.reign.committed() >= leading.reign.own() {
            leading.serving = true;
            let has = |sequence| leading.log.get(&sequence).map(|entry| entry.content);
            let mut before = self.ghost.before(leading.reign.ballot());
            if let Some((sequence, content)) = before.find(|(sequence, content)| has(*sequence) != Some(*content)) {
                return Err(format!("I5: b{} serves without entry {sequence}, {content}", leading.nonce));
            }
            drop(before);
            Arc::make_mut(&mut self.ghost).served.push(leading.nonce);
        }
        Ok(())
    }

    fn leading(&mut self, scenario: &Scenario, node: usize, action: &Action) -> Outcome {
        let mut own = self.nodes[node].clone();
        let Node::Leading(leading) = Arc::make_mut(&mut own) else { return Ok(false) };
        let done = match *action {
            Action::Seal(_) => {
                leading.seal(None);
                true
            }
            Action::Change(_, change) => {
                leading.seal(Some(crate::scenario::set(&scenario.changes[change])));
                true
            }
            Action::Send(_, region) => self.send(scenario, leading, region),
            Action::Landed(_, region, slot) => {
                leading.flying.remove(&(region, slot));
                leading.landed(scenario, region, slot);
                true
            }
            Action::Taken(_, region, _) => {
                if let Some(lane) = leading.reign.lane(region) {
                    leading.lost.insert(region, lane.accepted());
                }
                leading.reign.lose(region);
                leading.flying.retain(|(own, _), _| *own != region);
                leading.promises.remove(&region);
                true
            }
            Action::OtherBytes(_, region, slot) => leading.alter(region, slot),
            Action::Snapshot(_, region) => {
                let SnapshotRef { id, sequence } = snapshot(&leading.contents(leading.reign.committed()));
                self.region_mut(region).snapshots.insert((sequence, id))
            }
            Action::Install(_, region) => self.install(scenario, leading, region),
            Action::Cut(_, region, sequence) => match self.cut(scenario, leading, region, sequence) {
                Some(done) => done,
                None => {
                    self.nodes[node] = Arc::new(Node::Gone);
                    return Ok(true);
                }
            },
            _ => false,
        };
        if !done {
            return Ok(false);
        }
        self.acknowledge(scenario, leading)?;
        if leading.reign.is_over() {
            own = Arc::new(Node::Gone);
        }
        self.nodes[node] = own;
        Ok(true)
    }

    fn send(&mut self, scenario: &Scenario, leading: &mut Leading, region: RegionNo) -> bool {
        if !leading.can_send(region) {
            return false;
        }
        let Some(Append { slot, parent, cargo, committed }) = leading.reign.send(region) else { return false };
        leading.promises.retain(|own, _| *own != region || scenario.breaks(Mutation::CountOldCopies));
        let object = match cargo {
            Cargo::Install(_) => {
                let snapshot = leading.installs[&region].clone();
                let voters = leading.voters_behind(snapshot.sequence);
                install(slot, parent, snapshot, voters)
            }
            Cargo::Commit(sequence) => {
                let above = scenario.breaks(Mutation::MarkAboveEntry);
                let committed = if above { leading.reign.committed() } else { committed };
                let marks = if scenario.marks { leading.reign.marks() } else { Vec::new() };
                commit(slot, parent, sequence, committed, &leading.log[&sequence], marks)
            }
        };
        leading.flying.insert((region, slot), object.head.id);
        self.region_mut(region).send(slot, object, scenario.copies);
        self.tidy(scenario, region);
        true
    }

    fn install(&mut self, scenario: &Scenario, leading: &mut Leading, region: RegionNo) -> bool {
        let Some(promise) = leading.promises.get(&region).cloned() else { return false };
        let sequence = leading.reign.committed();
        if !leading.reign.install(region, &promise, sequence) {
            return false;
        }
        let covered = if scenario.breaks(Mutation::InstallUncommitted) { leading.reign.sealed() } else { sequence };
        leading.installs.insert(region, snapshot(&leading.contents(covered)));
        true
    }

    /// Sends a truncation mark. `None` when it shows that a later leader has written one.
    fn cut(
        &mut self,
        scenario: &Scenario,
        leading: &mut Leading,
        number: RegionNo,
        sequence: Sequence,
    ) -> Option<bool> {
        let known = leading.floors.get(&number).copied().unwrap_or_default();
        let region = self.region(number);
        if region.floors.contains_key(&(known + 1)) {
            let newest = region.newest().filter(|newest| newest.promised <= leading.reign.ballot())?;
            leading.floors.insert(number, newest.k);
            return Some(true);
        }
        let covered = snapshot(&leading.contents(sequence));
        let Some(slot) = leading.cut_at(scenario, self, number, &covered) else { return Some(false) };
        let (Some(lane), Some(extents)) = (leading.reign.lane(number), leading.reign.extents(number)) else {
            return Some(false);
        };
        let floor = Floor {
            k: known + 1,
            slot,
            parent: lane.parent(),
            promised: leading.reign.ballot(),
            snapshot: covered,
            extents: extents.iter().collect(),
            voters: Some(leading.voters_behind(sequence)),
            marks: if scenario.marks { leading.reign.marks() } else { Vec::new() },
            leader: None,
            truncated: Sequence(0),
        };
        let region = self.region_mut(number);
        if scenario.breaks(Mutation::DeleteBeforeFloor) {
            let before = region.before(&floor, false);
            region.below.extend(before);
        }
        Some(region.floors_flying.insert((floor.k, leading.nonce), Arc::new(floor)).is_none())
    }

    fn delete(&mut self, number: RegionNo, slot: Option<Slot>) -> bool {
        let slots = check::deletable(self.region(number));
        let region = self.region_mut(number);
        let mut some = false;
        for each in slots.into_iter().filter(|each| slot.is_none_or(|slot| slot == *each)) {
            region.delete(each);
            some = true;
        }
        some
    }

    fn read(&mut self, scenario: &Scenario, action: &Action) -> Outcome {
        let Some(reader) = self.reader.clone() else { return Ok(false) };
        let region = self.region(RegionNo(scenario.reader.unwrap_or(1)));
        let mut reader = reader.as_ref().clone();
        match (action, reader.fold.as_mut()) {
            (Action::Start, _) => reader.fold = Some(Fold::start(region.newest())),
            (_, Some(fold)) => {
                let Some(object) = region.objects.get(&fold.at) else { return Ok(false) };
                let mut record = brigade_index::format::Record::clone(object);
                if scenario.breaks(Mutation::IgnoreParents) {
                    record.head.parent = fold.parent;
                }
                let takeover = matches!(record.section, brigade_index::format::Section::Takeover(_));
                if fold.accept(&record).is_err() {
                    reader.fold = None;
                } else if takeover && scenario.breaks(Mutation::TakeoverCarriesMark) {
                    let end = fold.log.last_key_value().map_or(fold.committed, |(last, _)| *last);
                    let mark = Sequence(self.ghost.log(0).len() as u64).min(end);
                    fold.committed = fold.committed.max(mark);
                }
            }
            (_, None) => return Ok(false),
        }
        let shown = reader.fold.as_ref().map_or(Vec::new(), |fold| {
            (1..=fold.committed.0).map(|sequence| content_in(fold, Sequence(sequence)).unwrap_or_default()).collect()
        });
        let common = shown.len().min(reader.shown.len());
        if shown[..common] != reader.shown[..common] {
            return Err(format!("I9: a reader was shown {:?} and then {shown:?}", reader.shown));
        }
        if !self.ghost.logs.values().any(|log| log.starts_with(&shown)) {
            return Err(format!("I2: a reader is shown {shown:?}, of which not all is committed"));
        }
        if shown.len() > reader.shown.len() {
            reader.shown = shown;
        }
        self.reader = Some(Arc::new(reader));
        Ok(true)
    }
}

impl Leading {
    /// A region has promised after the reign began.
    fn join(&mut self, scenario: &Scenario, region: RegionNo, fold: Fold) {
        let Some(candidate) = self.rest.remove(&region) else { return };
        let mut promise = Promise { fold, floor: candidate.floor_number() };
        if scenario.breaks(Mutation::HeldTooFar) {
            broken::hold_all(&mut promise, self.reign.start());
        }
        if self.reign.join(region, &promise).is_ok() {
            self.floors.insert(region, promise.floor);
            if scenario.installs {
                self.promises.insert(region, promise);
            }
        }
    }

    fn landed(&mut self, scenario: &Scenario, region: RegionNo, slot: Slot) {
        if scenario.breaks(Mutation::OutOfOrder) {
            // All indexes up to this one.
            for index in 0..slot.index {
                self.reign.landed(region, Slot { ballot: slot.ballot, index });
            }
        }
        self.reign.landed(region, slot);
    }

    /// Whether it has the content of what comes next for a region.
    pub fn can_send(&self, region: RegionNo) -> bool {
        match self.reign.upcoming(region) {
            Some(Cargo::Commit(sequence)) => sequence > self.base,
            Some(Cargo::Install(_)) => self.installs.contains_key(&region),
            None => false,
        }
    }

    fn alter(&mut self, region: RegionNo, slot: Slot) -> bool {
        let Some(lane) = self.reign.lane(region) else { return false };
        let sequence = Sequence(lane.start().1 + slot.index);
        match self.log.get_mut(&sequence) {
            Some(entry) if entry.content < ALTERED && sequence > self.reign.committed() => {
                entry.content += ALTERED;
                true
            }
            _ => false,
        }
    }

    /// Where a region's path may be cut behind the entries that a snapshot covers.
    pub fn cut_at(&self, scenario: &Scenario, state: &State, region: RegionNo, covered: &SnapshotRef) -> Option<Slot> {
        let unchecked = scenario.breaks(Mutation::FloorWithoutSnapshot);
        let durable = |region| unchecked || state.region(region).has_snapshot(covered);
        if scenario.breaks(Mutation::FloorTooEarly) {
            let quorum =
                covered.sequence <= self.reign.committed() && durable(region) && self.reign.has_quorum(durable);
            return self.reign.lane(region).filter(|_| quorum)?.behind(covered.sequence);
        }
        self.reign.floor(region, covered.sequence, durable)
    }
}
