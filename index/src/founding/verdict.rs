//! What follows from what was seen of the regions: pure.

use std::collections::BTreeMap;

use super::{
    Absence, AbsenceKind, FoundingError,
    look::{Seen, Sight},
    refusal::Subject,
};
use crate::{
    format::{FoundingRegion, RegionIdentity},
    ids::RegionNo,
    names::RegionName,
    region::RegionRecord,
};

/// What to do.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There is a cluster.
    Join(Membership),
    /// All regions are new: write the first identity.
    Found,
    /// A founding was begun: write these identities.
    Finish(Vec<RegionIdentity>),
}

/// A cluster and its regions as far as they were seen.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) cluster_id: String,
    pub(super) founding: Vec<RegionRecord>,
    pub(super) founders: Vec<RegionRecord>,
    pub(super) healthy: Vec<RegionRecord>,
    pub(super) absent: Vec<Absence>,
}

impl Sight {
    fn subject(&self) -> Subject<'_> {
        Subject { name: &self.name, url: &self.url }
    }

    /// The absence of a region without identity when its cluster is unknown.
    fn lost(&self) -> Absence {
        if self.journal { self.partial() } else { self.subject().empty() }
    }

    /// The absence of a region with a journal and no identity.
    fn partial(&self) -> Absence {
        if self.restoring { self.subject().half_restored() } else { self.subject().partial() }
    }
}

/// A region whose identity bears its name.
type Member<'a> = (&'a Sight, &'a RegionIdentity);

/// Decides. `founding` says that this node has begun to write identities, so that every region has to be there.
pub(super) fn decide(sights: &[Sight], founding: bool) -> Result<Verdict, FoundingError> {
    let mut absent = Vec::new();
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut missing = Vec::new();
    for sight in sights {
        match &sight.seen {
            Seen::Identity(found) if found.region == sight.name.as_str() => members.push((sight, found)),
            Seen::Identity(found) => absent.push(sight.subject().swapped(found)),
            Seen::Nothing => missing.push(sight),
            Seen::Damaged(problem) => absent.push(sight.subject().damaged(problem)),
            Seen::Unreachable(silence) => absent.push(sight.subject().unreachable(silence)),
        }
    }
    if members.is_empty() {
        return without_members(sights, &missing, absent);
    }
    let cluster_id = majority(&members)?;
    members.retain(|(sight, found)| {
        let native = found.cluster_id == cluster_id;
        if !native {
            absent.push(sight.subject().foreign(found, &cluster_id));
        }
        native
    });
    let ids = agreed_ids(&members);
    members.retain(|(sight, found)| {
        let Some(expected) = ids.get(&found.number).filter(|expected| **expected != found.region_id) else {
            return true;
        };
        absent.push(sight.subject().replaced(&found.region_id, expected));
        false
    });
    // The member that was added last knows the latest voters.
    let Some((_, latest)) = members.iter().max_by_key(|(_, found)| found.number) else {
        return Err(no_region(absent));
    };
    let voters = voters_of(latest);
    if let Some(begun) = unfinished(sights, &missing, &cluster_id, &voters) {
        absent.extend(unnamed(sights, &voters));
        if !absent.is_empty() {
            return Err(FoundingError::Unready(sorted(absent)));
        }
        let identities = begun.into_iter().map(|voter| sibling(latest, &voters, voter));
        return Ok(Verdict::Finish(identities.collect()));
    }
    for sight in missing {
        let listed = voters.iter().any(|voter| voter.region == sight.name.as_str());
        absent.push(match (sight.journal, listed) {
            (true, _) => sight.partial(),
            (false, true) => sight.subject().wiped(&cluster_id),
            (false, false) => sight.subject().unlisted(&cluster_id),
        });
    }
    if founding && !absent.is_empty() {
        return Err(FoundingError::Unready(sorted(absent)));
    }
    let founders = if latest.founders.is_empty() { &voters } else { &latest.founders };
    Ok(Verdict::Join(membership(cluster_id, (&voters, founders), &members, sorted(absent))))
}

/// No region has an identity of its name: either all are new, or nothing works.
fn without_members(sights: &[Sight], missing: &[&Sight], mut absent: Vec<Absence>) -> Result<Verdict, FoundingError> {
    let refused = absent.iter().any(|absence| absence.kind == AbsenceKind::Refused);
    if refused || missing.is_empty() || missing.iter().any(|sight| sight.journal) {
        absent.extend(missing.iter().map(|sight| sight.lost()));
        return Err(no_region(absent));
    }
    if !matches!(sights.len(), 1 | 3 | 5) {
        let number = sights.len();
        return Err(FoundingError::Invalid(format!(
            "a cluster is founded with 1, 3 or 5 regions, and {number} are given"
        )));
    }
    if absent.is_empty() { Ok(Verdict::Found) } else { Err(FoundingError::Unready(absent)) }
}

fn no_region(absent: Vec<Absence>) -> FoundingError {
    FoundingError::NoRegion(sorted(absent))
}

fn sorted(mut absent: Vec<Absence>) -> Vec<Absence> {
    absent.sort_by(|a, b| a.name.cmp(&b.name));
    absent
}

/// The cluster to which most regions belong, of those that tell.
fn majority(members: &[Member<'_>]) -> Result<String, FoundingError> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, found) in members {
        *counts.entry(&found.cluster_id).or_default() += 1;
    }
    let winner = counts.into_iter().find(|(_, count)| count * 2 > members.len());
    winner.map(|(cluster_id, _)| cluster_id.to_owned()).ok_or_else(|| {
        let of = |(sight, found): &Member<'_>| (sight.name.clone(), found.cluster_id.clone());
        FoundingError::Clusters(members.iter().map(of).collect())
    })
}

/// The voters that an identity lists, by number; itself in an object from before regions were counted.
fn voters_of(identity: &RegionIdentity) -> Vec<FoundingRegion> {
    let mut voters = identity.voters.clone();
    if voters.is_empty() {
        voters.push(FoundingRegion {
            number: identity.number,
            region: identity.region.clone(),
            region_id: identity.region_id.clone(),
            url: String::new(),
        });
    }
    voters.sort_by_key(|voter| voter.number);
    voters
}

/// The identity behind each number, as most members have it. Every member counts once for each number: through the
/// voters that it lists, and through itself when it is not among them. Of two that are equally frequent, the one that
/// the member with the lowest number has counts.
fn agreed_ids(members: &[Member<'_>]) -> BTreeMap<u16, String> {
    let mut by_number = members.to_vec();
    by_number.sort_by_key(|(_, found)| found.number);
    let mut claims: BTreeMap<u16, Vec<(String, usize)>> = BTreeMap::new();
    let mut claim = |number: u16, id: &str| {
        let ids = claims.entry(number).or_default();
        match ids.iter_mut().find(|(known, _)| known == id) {
            Some((_, count)) => *count += 1,
            None => ids.push((id.to_owned(), 1)),
        }
    };
    for (_, found) in by_number {
        let voters = voters_of(found);
        voters.iter().for_each(|voter| claim(voter.number, &voter.region_id));
        if !voters.iter().any(|voter| voter.number == found.number) {
            claim(found.number, &found.region_id);
        }
    }
    let agreed = claims.into_iter().filter_map(|(number, ids)| {
        // The first of equals was claimed first.
        let (id, _) = ids.into_iter().rev().max_by_key(|(_, count)| *count)?;
        Some((number, id))
    });
    agreed.collect()
}

/// The voters whose identities a founding that broke off did not come to write; `None` when there are none.
fn unfinished<'a>(
    sights: &[Sight],
    missing: &[&Sight],
    cluster_id: &str,
    voters: &'a [FoundingRegion],
) -> Option<Vec<&'a FoundingRegion>> {
    let of_cluster = |sight: &Sight| match &sight.seen {
        Seen::Identity(found) => found.cluster_id == cluster_id,
        _ => true,
    };
    if sights.iter().any(|sight| sight.journal && of_cluster(sight)) {
        return None;
    }
    let is_missing = |voter: &&FoundingRegion| missing.iter().any(|sight| sight.name.as_str() == voter.region);
    let begun: Vec<_> = voters.iter().filter(is_missing).collect();
    (!begun.is_empty()).then_some(begun)
}

/// Voters at which nobody looked, because they are not named: they may hold a journal.
fn unnamed(sights: &[Sight], voters: &[FoundingRegion]) -> Vec<Absence> {
    let named = |voter: &&FoundingRegion| sights.iter().any(|sight| sight.name.as_str() == voter.region);
    let unnamed = voters.iter().filter(|voter| !named(voter));
    unnamed.filter_map(|voter| Some(Subject { name: &name(&voter.region)?, url: &voter.url }.unnamed())).collect()
}

/// The identity of another founding region, equal byte for byte whoever writes it.
fn sibling(first: &RegionIdentity, voters: &[FoundingRegion], region: &FoundingRegion) -> RegionIdentity {
    RegionIdentity {
        region_id: region.region_id.clone(),
        cluster_id: first.cluster_id.clone(),
        region: region.region.clone(),
        number: region.number,
        voters: voters.to_vec(),
        founders: Vec::new(),
        format: first.format,
        created_ms: first.created_ms,
    }
}

/// The name in a checked identity.
fn name(region: &str) -> Option<RegionName> {
    RegionName::new(region).ok()
}

fn membership(
    cluster_id: String,
    (voters, founders): (&[FoundingRegion], &[FoundingRegion]),
    members: &[Member<'_>],
    mut absent: Vec<Absence>,
) -> Membership {
    let record = |(sight, found): &Member<'_>| RegionRecord {
        number: RegionNo(found.number),
        name: sight.name.clone(),
        url: sight.url.clone(),
        region_id: found.region_id.clone(),
    };
    let healthy: Vec<RegionRecord> = members.iter().map(record).collect();
    let listed = |voter: &FoundingRegion| {
        let known = healthy.iter().find(|record| record.region_id == voter.region_id);
        let url = known.map_or_else(|| voter.url.clone(), |record| record.url.clone());
        let (number, region_id) = (RegionNo(voter.number), voter.region_id.clone());
        Some(RegionRecord { number, name: name(&voter.region)?, url, region_id })
    };
    let founding: Vec<RegionRecord> = voters.iter().filter_map(listed).collect();
    let founders = founders.iter().filter_map(listed).collect();
    for absence in &mut absent {
        let listed = founding.iter().find(|record| record.name == absence.name);
        absence.number = listed.map(|record| record.number);
    }
    Membership { cluster_id, founding, founders, healthy, absent }
}
