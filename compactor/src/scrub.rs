//! Scrubbing: everything is read again, in the buckets of all regions, and compared with what the index says of it and
//! between the regions. No server is needed, and one may run meanwhile.
//!
//! | file | holds |
//! |---|---|
//! | `scene` | all regions at one moment: what is committed, and what each should hold |
//! | `classify`, `list` | what every object of a region is, and which can go |
//! | `entries`, `files`, `verify` | reading what a region holds |
//! | `compare` | one region against another |
//! | `repair` | giving a region what it misses |
//! | `resume`, `progress`, `report` | what was done before, how far it is, what was found |
//!
//! First everything is looked at once. Whatever seems wrong then is looked at again, after another look at the index: a
//! cluster at work moves its messages, and what it has moved is not missing. Only what is wrong by then is told, and
//! repaired if that was asked for. Nothing is written otherwise.

mod classify;
mod compare;
pub(crate) mod entries;
pub(crate) mod files;
pub(crate) mod list;
mod progress;
mod repair;
mod report;
mod resume;
pub(crate) mod scene;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use brigade_index::{
    ids::{RegionNo, ShardId},
    keys,
    store::{Component, StoreError},
};
use futures::future::join_all;
use parking_lot::Mutex;
pub use progress::Progress;
pub use report::{
    Code, Finding, MAX_FINDINGS, PartitionContent, PartitionReport, RegionReport, Report, Severity, Tally,
};
pub use resume::Done;
pub use scene::{NothingToSee, Target};
use tokio::time::sleep;

use self::{
    entries::{Problem, Reading},
    list::Listing,
    report::Findings,
    scene::{Scene, Sight},
    verify::{Piece, Verified, Verifying},
};
use crate::budget::Budget;

/// How to scrub.
#[derive(Clone, Debug)]
pub struct ScrubSettings {
    /// Whether what is found wrong is repaired; otherwise nothing is written.
    pub repair: bool,
    /// Bytes read and written a second, of all regions together; 0 for no limit.
    pub bytes_per_second: u64,
    /// Entries of a region that are read at the same time.
    pub concurrency: usize,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self { repair: false, bytes_per_second: 0, concurrency: 8 }
    }
}

/// Scrubbing under way.
pub struct Scrub {
    shard: ShardId,
    targets: Vec<Target>,
    settings: ScrubSettings,
    reading: Reading,
    done: Arc<Mutex<Done>>,
}

/// Looks for an object that seems to be missing on the path, and the time between them: it may be on its way still.
const LATE_LOOKS: u32 = 4;
const LATE: Duration = Duration::from_millis(250);

/// Most times that everything is looked at, as long as repairs lead on.
const PASSES: usize = 32;

/// Objects deleted between two looks at the index.
const BATCH: usize = 1_000;

/// A region and what was found in it.
struct Found {
    sight: Arc<Sight>,
    listing: Listing,
    verified: Verified,
}

impl Scrub {
    /// Scrubbing of these regions. `done` is what was found whole before; it grows while this goes on.
    pub fn new(
        shard: ShardId,
        targets: Vec<Target>,
        settings: ScrubSettings,
        progress: Arc<Progress>,
        done: Arc<Mutex<Done>>,
    ) -> Self {
        let reading = Reading { budget: Budget::new(settings.bytes_per_second), progress };
        Self { shard, targets, settings, reading, done }
    }

    /// Looks at everything, and repairs what is wrong if that was asked for. A path that was repaired leads on to what
    /// could not be looked at before: that is looked at, too.
    ///
    /// # Errors
    /// When no region can be read.
    pub async fn run(&self) -> Result<Report, NothingToSee> {
        let mut report = self.pass().await?;
        let mut leads_on = report.leads_on();
        for _ in 1..PASSES {
            if !leads_on {
                break;
            }
            let next = self.pass().await?;
            leads_on = next.leads_on();
            report = next.after(report);
        }
        Ok(report)
    }

    async fn pass(&self) -> Result<Report, NothingToSee> {
        let progress = &self.reading.progress;
        progress.begin("reading the index");
        let scene = scene::look(&self.targets, self.shard).await?;
        self.done.lock().begin(&scene.cluster_id);
        let mut findings = Findings::default();
        progress.begin("listing and reading");
        scene.sights.iter().for_each(|sight| progress.expect(verify::expected_bytes(&scene, sight)));
        let found = join_all(scene.sights.iter().map(|sight| self.one(&scene, sight))).await;
        let mut regions = Vec::new();
        for (sight, found) in scene.sights.iter().zip(found) {
            match found {
                Ok((listing, verified)) => regions.push(Found { sight: sight.clone(), listing, verified }),
                Err(error) => findings.add(unreadable(sight.name.as_str(), &error)),
            }
        }
        progress.begin("looking again at what seems wrong");
        // What was looked at first is compared with itself.
        findings.extend(compare::states(&scene));
        let partitions = compare::partitions(&scene, &regions, &mut findings);
        let again = scene::look(&self.targets, self.shard).await?;
        findings.extend(again.findings.iter().cloned());
        for region in &mut regions {
            findings.extend(std::mem::take(&mut region.listing.findings));
            let Some(now) = again.sights.iter().find(|sight| sight.number == region.sight.number) else { continue };
            if let Err(error) = self.judge(&scene, &again, region, now, &mut findings).await {
                findings.add(unreadable(now.name.as_str(), &error));
            }
        }
        let (findings, findings_left_out) = findings.into_parts();
        Ok(Report {
            cluster_id: scene.cluster_id.clone(),
            sequence: scene.state.applied.0,
            regions: self.region_reports(&again, regions),
            partitions,
            findings,
            findings_left_out,
        })
    }

    /// Lists and reads one region.
    async fn one(&self, scene: &Scene, sight: &Arc<Sight>) -> Result<(Listing, Verified), StoreError> {
        let listing = list::list(scene, sight).await?;
        let verifying = Verifying {
            scene,
            sight,
            listing: &listing,
            reading: &self.reading,
            done: &self.done,
            concurrency: self.settings.concurrency,
        };
        let verified = verifying.run().await?;
        Ok((listing, verified))
    }

    /// Judges by another look what seemed wrong in a region at the first, and repairs it.
    async fn judge(
        &self,
        before: &Scene,
        scene: &Scene,
        found: &mut Found,
        sight: &Arc<Sight>,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let name = sight.name.as_str();
        let hole = self.hole(scene, found, sight).await?;
        findings.extend(compare::behind(before, &found.sight, sight, hole.is_some()));
        findings.extend(hole);
        for damage in &sight.content.damage {
            let problem = Problem { missing: damage.missing, text: damage.problem.clone() };
            let mut finding = wrong(name, damage.key.as_ref(), &problem);
            if self.settings.repair {
                let repaired = repair::repair_damage(scene, sight, &self.reading, damage).await?;
                note(&mut finding, repaired);
            }
            findings.add(finding);
        }
        for piece in found.verified.suspects.keys().copied() {
            self.suspect(scene, sight, piece, findings).await?;
        }
        if self.settings.repair {
            let deleted = self.delete(sight.number, &std::mem::take(&mut found.listing.dead)).await?;
            findings.deleted(name, deleted);
        }
        Ok(())
    }

    /// Looks at a piece again, and repairs it if it is still wrong.
    async fn suspect(
        &self,
        scene: &Scene,
        sight: &Sight,
        piece: Piece,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let checked = verify::check_again(scene, sight, &self.reading, piece).await?;
        let Some(Err(problem)) = checked else { return Ok(()) };
        let key = verify::key_of(scene, sight, piece).map_or_else(String::new, |key| key.to_string());
        let mut finding = wrong(sight.name.as_str(), &key, &problem);
        if self.settings.repair {
            let mut repaired = repair::repair(scene, sight, &self.reading, piece).await?;
            if repaired.is_ok() {
                // Whether it is whole now, its own bytes tell.
                let now = verify::check_again(scene, sight, &self.reading, piece).await?;
                repaired =
                    now.unwrap_or(Ok(())).map_err(|problem| format!("it was written anew, and {}", problem.text));
            }
            note(&mut finding, repaired);
        }
        findings.add(finding);
        Ok(())
    }

    /// The path ends before objects that were sent after the one at its end, and that one does not come.
    async fn hole(&self, scene: &Scene, found: &Found, now: &Sight) -> Result<Option<Finding>, StoreError> {
        let (before, listing) = (&found.sight, &found.listing);
        let (was, is) = (&before.content.fold, &now.content.fold);
        let floor = |sight: &Sight| sight.content.floor.as_ref().map(|floor| floor.k);
        if listing.behind == 0 || was.at != is.at || floor(before) != floor(now) || !now.content.damage.is_empty() {
            return Ok(None);
        }
        let key = keys::journal(self.shard, is.at);
        for _ in 0..LATE_LOOKS {
            if now.store.get_range(Component::Repair, &key, 0..1).await?.is_some() {
                return Ok(None);
            }
            sleep(LATE).await;
        }
        let place = (now.name.as_str(), key.as_ref());
        if let Some(why) = listing.proof {
            let elsewhere = scene.sights.iter().any(|sight| sight.content.accepted() > now.content.accepted());
            let hint = if elsewhere {
                "entries are lost in this region; put a new one in its place: brigade region replace"
            } else {
                "no region that was read has it: bring it back from a backup, or keep what lies before it: brigade restore \
                 --despite-gaps"
            };
            return Ok(Some(Finding::object(Code::MissingObject, Severity::Error, place, why, hint)));
        }
        let (last, behind) = (now.content.accepted(), listing.behind);
        let problem =
            format!("it does not exist, though {behind} objects lie behind it: the region ends at entry {last}");
        // Nothing is ever written into a path but by whoever leads.
        let hint = if scene.state.regions.iter().len() > 1 {
            "a takeover puts it right: restart the leader, or let another node take over; if it does not, put a new region \
             in the place of this one: brigade region replace"
        } else {
            "no other region has it: a server that starts goes on from the entry before it, without what lies behind; if \
             it was deleted, bring it back from a backup before that"
        };
        Ok(Some(Finding::object(Code::MissingObject, Severity::Warning, place, problem, hint)))
    }

    /// Deletes dead objects, looking at the index again before each batch of them. Gives how many are gone.
    async fn delete(&self, region: RegionNo, dead: &[keys::Key]) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for batch in dead.chunks(BATCH) {
            let Ok(scene) = scene::look(&self.targets, self.shard).await else { break };
            let Some(sight) = scene.sights.iter().find(|sight| sight.number == region) else { break };
            deleted += list::delete_dead(&scene, sight, batch).await?.len() as u64;
        }
        Ok(deleted)
    }

    fn region_reports(&self, scene: &Scene, found: Vec<Found>) -> Vec<RegionReport> {
        let mut reports: BTreeMap<usize, RegionReport> = BTreeMap::new();
        for (number, target) in self.targets.iter().enumerate() {
            let (region, url) = (target.name.to_string(), target.url.clone());
            reports.insert(number, RegionReport { region, url, ..RegionReport::default() });
        }
        for found in found {
            let now = scene.sights.iter().find(|sight| sight.number == found.sight.number);
            let content = &now.unwrap_or(&found.sight).content;
            let Some(report) = reports.get_mut(&found.sight.target) else { continue };
            report.checked = true;
            report.committed = content.fold.committed.0;
            report.accepted = content.accepted().0;
            report.floor = content.floor.as_ref().map_or(0, |floor| floor.k);
            report.objects = found.listing.tallies;
            report.entries_checked = found.verified.entries;
            report.files_checked = found.verified.files;
            report.bytes_checked = found.verified.bytes;
            report.known_before = found.verified.known;
        }
        reports.into_values().collect()
    }
}

fn unreadable(region: &str, error: &StoreError) -> Finding {
    let problem = format!("{error} ({})", error.hint());
    let hint = "it was not looked at to the end; scrub again, with --resume to go on";
    Finding::region(Code::RegionUnreadable, Severity::Error, region, problem, hint)
}

fn wrong(region: &str, key: &str, problem: &Problem) -> Finding {
    let code = if problem.missing { Code::MissingObject } else { Code::CorruptObject };
    let hint = "brigade scrub --repair takes it from a region that has it whole";
    Finding::object(code, Severity::Error, (region, key), problem.text.clone(), hint)
}

/// Notes what came of a repair.
fn note(finding: &mut Finding, repaired: Result<(), String>) {
    match repaired {
        Ok(()) => {
            finding.repaired = true;
            "it was repaired".clone_into(&mut finding.hint);
        }
        Err(why) => finding.hint = format!("it cannot be repaired: {why}"),
    }
}
