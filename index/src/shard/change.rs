//! Changing the set of regions while the shard runs: new regions are sent everything, then they vote, then old ones go.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};

use super::{ChangeError, ProposeError, RegionStatus, Shard};
use crate::{
    command::Command,
    founding,
    ids::RegionNo,
    names::RegionName,
    region::{RegionRecord, RegionSet},
    state::Regions,
};

/// How often it is looked whether new regions have caught up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A change breaks off when a region that it waits for has been out of reach for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cleared however a change ends.
struct Announced<'a>(&'a Shard);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        *self.0.shared.change.lock() = None;
    }
}

impl Shard {
    /// Makes these regions, and no others, the ones that vote. New ones are added first and caught up in full; then one
    /// entry changes who votes, which needs a quorum of the old and of the new set; when a further entry says that it is
    /// committed, the change is done and regions that voted no longer are needed. It may take long, and may be begun again
    /// after it broke off: what is done already is not done twice.
    ///
    /// # Errors
    /// When the wanted set cannot be, another change is under way, a new region's store cannot be used, or this node stops
    /// leading in between.
    pub async fn change_regions(&self, wanted: &[(RegionName, String)]) -> Result<(), ChangeError> {
        check_wanted(wanted)?;
        let _announced = self.announce()?;
        // Whoever leads no more must not write a number into a region that the cluster has given to another.
        self.propose(Vec::new()).await.map_err(not_changed)?;
        let regions = self.state().regions.clone();
        let known = |name: &RegionName| regions.iter().find(|record| record.name == *name);
        let votes = |number| regions.voters().is_some_and(|voters| voters.contains(number));
        let (mut members, mut new) = (BTreeSet::new(), Vec::new());
        for (name, url) in wanted {
            match known(name) {
                Some(record) if same_url(&record.url, url) => _ = members.insert(record.number),
                // Before anything is written to its store.
                Some(record) if votes(record.number) => {
                    let text =
                        format!("region {name} has the URL {}; a region at another URL needs another name", record.url);
                    return Err(ChangeError::Invalid(text));
                }
                _ => new.push((name, url)),
            }
        }
        // First, since one may have the name of a region that is added.
        self.remove_learners(&regions, &members).await?;
        for (name, url) in new {
            members.insert(self.add(name, url).await?);
        }
        let _no_new_files = loop {
            self.caught_up(&members).await?;
            let no_new_files = self.shared.replacing.write().await;
            // Behind what was proposed before, also by whoever did not wait for the answer.
            self.propose(Vec::new()).await.map_err(not_changed)?;
            if self.hold_files(&members) {
                break no_new_files;
            }
        };
        let voters = RegionSet::new(members).ok_or_else(|| ChangeError::Invalid("no region is left".to_owned()))?;
        if self.state().regions.voters() != Some(&voters) {
            self.say("the regions vote from now on");
            self.carry_out(Command::SetVoters(voters)).await?;
        }
        // Its committed mark tells whoever takes over that the change is committed, so that the old set is not asked any more.
        self.propose(Vec::new()).await.map_err(not_changed)?;
        Ok(())
    }

    /// Whether that is a change at all, or what the shard has already.
    pub fn has_regions(&self, wanted: &[(RegionName, String)]) -> bool {
        let state = self.state();
        let regions = &state.regions;
        let voters = regions.voters().map_or(0, RegionSet::len);
        regions.iter().len() == voters
            && voters == wanted.len()
            && wanted.iter().all(|(name, url)| regions.iter().any(|r| r.name == *name && same_url(&r.url, url)))
    }

    fn announce(&self) -> Result<Announced<'_>, ChangeError> {
        self.leads().map_err(not_changed)?;
        let mut change = self.shared.change.lock();
        if let Some(other) = change.as_ref() {
            return Err(ChangeError::InProgress(other.clone()));
        }
        *change = Some("regions are added".to_owned());
        Ok(Announced(self))
    }

    fn say(&self, what: &str) {
        tracing::info!(what, "changing the regions");
        *self.shared.change.lock() = Some(what.to_owned());
    }

    async fn carry_out(&self, command: Command) -> Result<(), ChangeError> {
        let committed = self.propose(vec![command]).await.map_err(not_changed)?;
        match committed.outcomes.into_iter().next() {
            Some(Err(rejection)) => Err(ChangeError::Invalid(rejection.to_string())),
            _ => Ok(()),
        }
    }

    /// Adds a region that does not vote yet. It begins to be sent entries when the command is committed.
    async fn add(&self, name: &RegionName, url: &str) -> Result<RegionNo, ChangeError> {
        let shared = &self.shared;
        let unusable = |problem: String, hint: String| ChangeError::Store { region: name.clone(), problem, hint };
        let store = (shared.opener)(name, url).map_err(|error| unusable(error.to_string(), error.hint().to_owned()))?;
        let (number, voters) = {
            let state = self.state();
            let voters = state.regions.voters().cloned();
            let votes = |record: &&RegionRecord| voters.as_ref().is_some_and(|voters| voters.contains(record.number));
            (state.regions.next_number(), state.regions.iter().filter(votes).cloned().collect::<Vec<_>>())
        };
        let region_id = founding::new_region_id(&shared.env);
        let record = RegionRecord { number, name: name.clone(), url: founding::shown_url(url), region_id };
        self.say(&format!("region {name} is added"));
        let admitted =
            founding::admit(&shared.cluster_id, &record, (&shared.founders, &voters), &store, &shared.env).await;
        let record = admitted.map_err(|absence| unusable(absence.problem, absence.hint))?;
        let number = record.number;
        self.carry_out(Command::AddRegion(record)).await?;
        Ok(number)
    }

    /// Regions of an earlier change that was broken off and that nobody wants now.
    async fn remove_learners(&self, before: &Regions, members: &BTreeSet<RegionNo>) -> Result<(), ChangeError> {
        for record in before.iter() {
            let votes = before.voters().is_some_and(|voters| voters.contains(record.number));
            if !votes && !members.contains(&record.number) {
                self.carry_out(Command::RemoveRegion(record.number)).await?;
            }
        }
        Ok(())
    }

    /// Whether a quorum of those to vote, and every one that is new among them, holds every archive file.
    fn hold_files(&self, members: &BTreeSet<RegionNo>) -> bool {
        let missing = self.shared.files_missing();
        let state = self.state();
        let votes = |region| state.regions.voters().is_some_and(|voters| voters.contains(region));
        let whole = members.iter().filter(|region| !missing.contains_key(region)).count();
        whole > members.len() / 2 && members.iter().all(|region| votes(*region) || !missing.contains_key(region))
    }

    /// Waits until every region that is new among those to vote has everything, and so has a quorum of those to vote: when
    /// others leave, what only they hold is gone (I10).
    async fn caught_up(&self, members: &BTreeSet<RegionNo>) -> Result<(), ChangeError> {
        let mut silent_since = None;
        loop {
            self.leads().map_err(not_changed)?;
            let status = self.status();
            let of_members = |region: &&RegionStatus| members.contains(&region.number);
            let whole = status.regions.iter().filter(of_members).filter(|region| region.state == "in_sync").count();
            // A region that votes already and is away keeps nobody from joining, as long as enough others are whole.
            let enough = whole > members.len() / 2;
            let late = status.regions.iter().filter(of_members).filter(|region| region.state != "in_sync");
            let late: Vec<_> = late.filter(|region| !(region.votes && enough)).collect();
            if let Some(refused) = late.iter().find(|region| region.state == "refused") {
                return Err(unusable(refused));
            }
            if late.is_empty() {
                return Ok(());
            }
            // Another change must be possible when a store never answers again.
            match late.iter().find(|region| region.state == "unreachable") {
                None => silent_since = None,
                Some(away) if silent_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE => {
                    return Err(unusable(away));
                }
                Some(_) => {}
            }
            let texts: Vec<_> = late
                .iter()
                .map(|region| {
                    let RegionStatus { name, behind_entries, copies_missing, files_missing, .. } = region;
                    format!(
                        "region {name} is {behind_entries} entries, {copies_missing} copies and {files_missing} archive files behind"
                    )
                })
                .collect();
            *self.shared.change.lock() = Some(texts.join("; "));
            sleep(LOOK_EVERY).await;
        }
    }
}

fn unusable(region: &RegionStatus) -> ChangeError {
    let (problem, hint) = (region.problem.clone(), region.hint.clone());
    let (problem, hint) = (problem.unwrap_or_default(), hint.unwrap_or_default());
    ChangeError::Store { region: region.name.clone(), problem, hint }
}

fn same_url(known: &str, wanted: &str) -> bool {
    known == founding::shown_url(wanted)
}

fn check_wanted(wanted: &[(RegionName, String)]) -> Result<(), ChangeError> {
    if ![1, 3, 5].contains(&wanted.len()) {
        let text = format!("{} regions are wanted; a cluster has one, three or five", wanted.len());
        return Err(ChangeError::Invalid(text));
    }
    let names: BTreeSet<_> = wanted.iter().map(|(name, _)| name).collect();
    if names.len() < wanted.len() {
        return Err(ChangeError::Invalid("two regions of one name are wanted".to_owned()));
    }
    Ok(())
}

fn not_changed(error: ProposeError) -> ChangeError {
    match error {
        ProposeError::NotLeader { leader } => ChangeError::NotLeader { leader },
        other => ChangeError::Interrupted(other.to_string()),
    }
}
