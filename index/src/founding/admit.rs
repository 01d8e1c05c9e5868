//! One region at a time: adding it to a running cluster, and looking at it again.

use super::{
    Absence,
    look::{self, Seen},
    put,
    refusal::Subject,
};
use crate::{
    env::Env,
    format::{FoundingRegion, RegionIdentity},
    ids::{RegionNo, WriteId},
    region::RegionRecord,
    store::RegionStore,
};

/// A new identity for a region: 32 hexadecimal digits.
pub fn new_region_id(env: &Env) -> String {
    WriteId(env.entropy.next_u128()).to_string()
}

/// Writes the identity of a region that is being added to a running cluster. `founders` are the regions that it was founded
/// with, `voters` those that vote now. Gives the region as its store has it.
///
/// Repeating it is harmless. An identity that was written when the region was to be added before, and that came to nothing,
/// is taken over with its number: no number above the cluster's latest was ever given.
///
/// # Errors
/// When the store does not answer, or is not empty: it has another identity, or a journal without one.
pub async fn admit(
    cluster_id: &str,
    record: &RegionRecord,
    (founders, voters): (&[RegionRecord], &[RegionRecord]),
    store: &RegionStore,
    env: &Env,
) -> Result<RegionRecord, Absence> {
    let subject = Subject { name: &record.name, url: &record.url };
    let absent = |absence| numbered(absence, record, store);
    match look::identity(store).await {
        Seen::Nothing => {}
        seen => return adopt(cluster_id, record, seen).map_err(absent),
    }
    match look::journal(store).await {
        Ok(false) => {}
        Ok(true) => return Err(absent(subject.littered())),
        Err(silence) => return Err(absent(subject.unreachable(&silence))),
    }
    let listed = |voter: &RegionRecord| FoundingRegion {
        number: voter.number.0,
        region: voter.name.to_string(),
        region_id: voter.region_id.clone(),
        url: voter.url.clone(),
    };
    let identity = RegionIdentity {
        region_id: record.region_id.clone(),
        cluster_id: cluster_id.to_owned(),
        region: record.name.to_string(),
        number: record.number.0,
        voters: voters.iter().map(listed).collect(),
        founders: founders.iter().map(listed).collect(),
        format: 1,
        created_ms: env.clock.now_ms(),
    };
    if let Err(error) = put(store, &identity).await {
        return Err(absent(subject.unreachable(&(&error).into())));
    }
    // Somebody else may have been faster.
    adopt(cluster_id, record, look::identity(store).await).map_err(absent)
}

/// The region by the identity that was found, if that can be the one that is to be added.
fn adopt(cluster_id: &str, record: &RegionRecord, seen: Seen) -> Result<RegionRecord, Absence> {
    let subject = Subject { name: &record.name, url: &record.url };
    match seen {
        Seen::Identity(found)
            if found.cluster_id == cluster_id
                && found.region == record.name.as_str()
                && found.number >= record.number.0 =>
        {
            Ok(RegionRecord { number: RegionNo(found.number), region_id: found.region_id, ..record.clone() })
        }
        Seen::Identity(found) => Err(subject.taken(&found)),
        // It was there before, or was written just now.
        Seen::Nothing => Err(subject.wiped(cluster_id)),
        Seen::Damaged(problem) => Err(subject.damaged(&problem)),
        Seen::Unreachable(silence) => Err(subject.unreachable(&silence)),
    }
}

/// Looks at one region again, such as one that was out of reach: it must carry the identity that the record says.
///
/// # Errors
/// When the store does not answer, or holds anything else.
pub async fn verify(record: &RegionRecord, cluster_id: &str, store: &RegionStore) -> Result<(), Absence> {
    let subject = Subject { name: &record.name, url: &record.url };
    let absence = match look::identity(store).await {
        Seen::Identity(found) if is(&found, record, cluster_id) => return Ok(()),
        Seen::Identity(found) if found.region != record.name.as_str() => subject.swapped(&found),
        Seen::Identity(found) if found.cluster_id != cluster_id => subject.foreign(&found, cluster_id),
        Seen::Identity(found) if found.region_id != record.region_id => {
            subject.replaced(&found.region_id, &record.region_id)
        }
        Seen::Identity(found) => subject.renumbered(found.number, record.number.0),
        Seen::Nothing => subject.wiped(cluster_id),
        Seen::Unreachable(silence) => subject.unreachable(&silence),
        Seen::Damaged(problem) => subject.damaged(&problem),
    };
    Err(numbered(absence, record, store))
}

fn is(found: &RegionIdentity, record: &RegionRecord, cluster_id: &str) -> bool {
    found.cluster_id == cluster_id
        && found.region_id == record.region_id
        && found.region == record.name.as_str()
        && found.number == record.number.0
}

fn numbered(absence: Absence, record: &RegionRecord, store: &RegionStore) -> Absence {
    Absence { number: Some(record.number), store: Some(store.clone()), ..absence }
}
