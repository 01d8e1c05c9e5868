//! Regions that join, leave, are taken over by another leader, or turn out to be damaged.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::time::Instant;

use super::{INSTALL_ABOVE, Leading, RENEW_AFTER, Sending};
use crate::{
    format::{Leader, Section},
    founding::AbsenceKind,
    ids::{RegionNo, Sequence},
    journal::{Candidate, Elected, Promise},
    keys::{self, Slot},
    region::RegionRecord,
    shard::{
        Challenge, StartError, copies,
        events::{Event, Met, install},
        health::{Condition, Role},
        join::{Joined, Joiner},
        view::{View, replays_from},
    },
    store::RegionStore,
};

impl Leading {
    /// A region has promised in the election. One that is far behind joins a little later.
    pub(in crate::shard) fn elected(&mut self, region: RegionNo, promise: &Promise, store: RegionStore) {
        let snapshot = self.is_far_behind(promise) || self.is_starved(region, promise);
        if !snapshot || self.shared.state.read().regions.get(region).is_none() {
            return self.joined(region, promise, store);
        }
        self.reign.put_off(region);
        self.joining.insert(region, self.shared.health.over.child_token());
        self.install(region, Box::new(promise.clone()), store);
    }

    fn is_far_behind(&self, promise: &Promise) -> bool {
        self.reign.committed().0.saturating_sub(promise.fold.committed.0) > INSTALL_ABOVE
    }

    /// What regions can be sent from others is known before the first of them joins.
    pub(in crate::shard) fn note_sources(&mut self, elected: &Elected) {
        let source = |promise: &Promise| {
            let (fold, held) = (&promise.fold, self.reign.held(&promise.fold));
            (replays_from(&fold.extents, fold.truncated, held), held)
        };
        self.sources = elected.promises.iter().map(|(region, promise)| (*region, source(promise))).collect();
    }

    /// Whether the region misses an entry that no other has any more: truncation does not wait for ever.
    fn is_starved(&self, region: RegionNo, promise: &Promise) -> bool {
        let next = self.reign.held(&promise.fold).next();
        if next > self.reign.committed() || self.tail.get(next).is_some() {
            return false;
        }
        let views = self.shared.views.read();
        let joined = views.iter().map(|(other, view)| (*other, (view.replays_from(), view.accepted())));
        let promised = self.sources.iter().map(|(other, source)| (*other, *source));
        let mut sources = joined.chain(promised.filter(|(other, _)| !views.contains_key(other)));
        !sources.any(|(other, (from, held))| other != region && from < next && next <= held)
    }

    /// Up to where objects may be deleted with regard to regions that are only a little behind, catch up, or are just being
    /// given a snapshot.
    pub(super) fn needed_by_none(&self, sequence: Sequence) -> Sequence {
        let regions: Vec<_> = self.shared.state.read().regions.iter().map(|record| record.number).collect();
        let waits = |region, behind| {
            let catches_up = self.sending.contains_key(&region) && !self.shared.health.is_failing(region);
            behind <= INSTALL_ABOVE || catches_up
        };
        let least = self.reign.needed_by_none(regions.into_iter(), sequence, waits);
        let installing = self.shared.installing.lock();
        let known = installing.iter().filter(|(region, _)| self.joining.contains_key(region));
        known.map(|(_, from)| *from).min().map_or(least, |from| from.min(least))
    }

    fn install(&mut self, region: RegionNo, promise: Box<Promise>, store: RegionStore) {
        tracing::info!(
            region = %store.region(), from = %promise.fold.committed,
            "the region misses much, or what no other has as entries: it is sent a snapshot"
        );
        let Some(stop) = self.joining.get(&region).cloned() else { return };
        let installed = install(self.shared.clone(), region, promise, store);
        self.events.push(Box::pin(async move { stop.run_until_cancelled(installed).await.unwrap_or(Event::Nothing) }));
    }

    /// A region has joined the reign, which knows it already: others may read from it now, and it is sent entries.
    pub(in crate::shard) fn joined(&mut self, region: RegionNo, promise: &Promise, store: RegionStore) {
        let Some(record) = self.shared.state.read().regions.get(region).cloned() else { return };
        let (Some(extents), Some(lane)) = (self.reign.extents(region), self.reign.lane(region)) else { return };
        let view =
            View::new(record.clone(), store, extents.clone(), lane.accepted(), (promise.floor, promise.fold.truncated));
        // Until its copies have been listed it counts as having none: it must not pass for whole before that is known.
        view.copies_missing.store(copies::wanted(&self.shared, &view).len() as u64, Relaxed);
        let view = Arc::new(view);
        self.shared.views.write().insert(region, view.clone());
        self.shared.health.set_condition(&record, Condition::Joined);
        let stop = self.shared.health.over.child_token();
        self.events.push(Box::pin(copies::complete(self.shared.clone(), view.clone(), stop.clone())));
        self.sending.insert(region, Sending { view, bytes: 0, stop });
    }

    /// The regions that have not promised yet do so in the background.
    pub(in crate::shard) fn join_the_rest(&mut self, challenge: Challenge, elected: &Elected) {
        let Challenge { election, stores, cluster, .. } = challenge;
        let mut candidates = election.into_candidates();
        let records: Vec<_> = self.shared.state.read().regions.iter().cloned().collect();
        for mut record in records {
            let number = record.number;
            let backwards = elected.backwards.iter().any(|mark| mark.region == number);
            if self.sending.contains_key(&number) || self.joining.contains_key(&number) || backwards {
                continue;
            }
            let absence = cluster.absent.iter().find(|absence| absence.name == record.name);
            if let Some(absence) = absence {
                // This node's settings say where it is now; what it is, its identity says.
                record.url.clone_from(&absence.url);
            }
            let (store, candidate) = (stores.get(&number).cloned(), candidates.remove(&number));
            self.join(record.clone(), store, candidate);
            if let Some(absence) = absence.filter(|absence| absence.kind == AbsenceKind::Refused) {
                // It may be put right, such as a directory that was not mounted: it is looked at again.
                let (problem, hint) = (absence.problem.clone(), absence.hint.clone());
                self.shared.health.set_condition(&record, Condition::Refused { problem, hint });
            }
        }
        for mark in &elected.backwards {
            self.reign.lose(mark.region);
        }
        let unknown = |region: &RegionNo| self.shared.state.read().regions.get(*region).is_none();
        let early = candidates.into_iter().filter(|(region, _)| unknown(region));
        self.early =
            early.filter_map(|(region, candidate)| Some((region, (stores.get(&region)?.clone(), candidate)))).collect();
    }

    pub(super) fn join(&mut self, record: RegionRecord, store: Option<RegionStore>, candidate: Option<Candidate>) {
        let (region, stop) = (record.number, self.shared.health.over.child_token());
        self.joining.insert(region, stop.clone());
        self.shared.health.set_condition(&record, Condition::Joining);
        let joiner = Joiner { shared: self.shared.clone(), record, store, candidate, leader: self.leader.clone() };
        self.events.push(Box::pin(async move {
            let joined = stop.run_until_cancelled(joiner.run()).await;
            joined.map_or(Event::Nothing, |joined| Event::Joined(region, joined))
        }));
    }

    /// Regions were added, removed, or vote from now on.
    pub(super) fn regions_changed(&mut self) {
        self.shared.health.set_voters(self.reign.sets());
        let records: Vec<_> = self.shared.state.read().regions.iter().cloned().collect();
        let known = |region: RegionNo| records.iter().any(|record| record.number == region);
        // A region that is refused or lost is neither sent to nor joining, and leaves all the same.
        let (_, shown) = self.shared.health.look();
        let gone: Vec<_> = shown.into_keys().filter(|region| !known(*region)).collect();
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
                // Under one ballot a region is asked once.
                let (store, candidate) = self.early.remove(&region).unzip();
                self.join(record, store, candidate);
            }
        }
    }

    pub(super) fn region_joined(&mut self, region: RegionNo, joined: Joined) -> Option<Role> {
        let (promise, store) = match joined {
            Joined::Yes(promise, store) => (promise, store),
            Joined::No(by) => {
                // It may have left in the meantime.
                self.joining.remove(&region)?;
                self.shared.meet(by.unwrap_or_default());
                return self.lose(region, by.is_some(), None, "a region could not be taken over in this reign");
            }
        };
        if self.is_far_behind(&promise) || self.is_starved(region, &promise) {
            self.install(region, promise, store);
            return None;
        }
        self.promised(region, &promise, store, None)
    }

    pub(super) fn promised(
        &mut self,
        region: RegionNo,
        promise: &Promise,
        store: RegionStore,
        install: Option<Sequence>,
    ) -> Option<Role> {
        self.joining.remove(&region)?;
        if let Err(mark) = self.reign.join(region, promise) {
            let record = self.shared.state.read().regions.get(region).cloned()?;
            let error = StartError::Backwards { region: record.name.to_string(), mark };
            let hint = format!("replace it: brigade region replace {} NEW=URL, with an empty store", record.name);
            tracing::error!(%error, hint, "the region is refused");
            self.shared.health.set_condition(&record, Condition::Refused { problem: error.to_string(), hint });
            self.reign.lose(region);
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
    pub(super) fn met(&mut self, met: Met) -> Option<Role> {
        let Met { region, slot, record, occupied } = met;
        if !occupied {
            self.suspected.remove(&region);
        }
        match record {
            Ok(Some(record)) if record.head.ballot > self.reign.ballot() => {
                let Section::Takeover(leader) = record.section else {
                    return self.break_region(region, slot, "it is of a later reign and no takeover");
                };
                tracing::warn!(
                    region = %self.shared.name_of(region), ballot = %self.reign.ballot(), by = %record.head.ballot,
                    node = leader.node, address = leader.address, "another node has taken the region over"
                );
                self.shared.meet(record.head.ballot);
                // A region that does not vote yet may hold the entry all the same, and who took over may append that again.
                let alone = self.reign.sets().iter().all(|set| set.len() == 1)
                    && self.shared.state.read().regions.iter().len() == 1;
                if alone {
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

    /// The region has lost what it had accepted. Whether the others can be led, the next takeover finds out.
    pub(super) fn gone(&mut self, region: RegionNo, slot: Slot) -> Option<Role> {
        self.sending.get(&region)?;
        self.reign.distrust(region);
        let problem = "it was accepted and is gone: the region was wiped, or restored from an old copy";
        self.break_region(region, slot, problem).map(|_| Role::Renewing)
    }

    /// The region is not appended to any more in this reign.
    pub(super) fn lose(&mut self, region: RegionNo, taken: bool, leader: Option<Leader>, reason: &str) -> Option<Role> {
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

    pub(super) fn break_region(&mut self, region: RegionNo, slot: Slot, problem: &str) -> Option<Role> {
        let name = self.shared.name_of(region);
        let key = keys::journal(self.shared.id, slot);
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
}
