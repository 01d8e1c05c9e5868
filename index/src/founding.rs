//! Which cluster a list of regions belongs to: founding it when all are new, and telling apart the regions that are
//! healthy, out of reach, wiped, swapped, or of another cluster.
//!
//! The identity object of a region says which cluster and region its store is. It is written once, before anything else.
//! The region whose name sorts first is written first, and put-if-absent makes it decide: its identity carries those of
//! all the others, so that nodes which found at the same time end up with one cluster, and a founding that broke off is
//! finished by the next start. A store without an identity is new only as long as no region holds a journal; afterwards
//! it was wiped, and a region that forgot what it promised must never take part again under its old identity.
//!
//! | step | where |
//! |---|---|
//! | look at every region at the same time | `look.rs` |
//! | decide, purely, from what was seen | `verdict.rs` |
//! | write what is to be written, and look again | here |

mod admit;
mod error;
mod look;
mod refusal;
#[cfg(test)]
mod tests;
mod url;
mod verdict;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

pub use admit::{admit, new_region_id, verify};
pub use error::FoundingError;
pub use url::shown_url;
use verdict::Verdict;

use crate::{
    env::Env,
    format::{FoundingRegion, RegionIdentity},
    ids::{RegionNo, WriteId},
    keys,
    names::RegionName,
    region::RegionRecord,
    store::{Component, RegionStore, StoreError},
};

/// How long a look waits for one region. A region that takes longer is unreachable for now.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// Looks before giving up: founding takes three, and every further one means that other nodes write at the same time.
const LOOKS: u32 = 8;

/// Opens the store of a region from its name and URL.
pub type Opener = Arc<dyn Fn(&RegionName, &str) -> Result<RegionStore, StoreError> + Send + Sync>;

/// A region that is what it should be.
#[derive(Clone, Debug)]
pub struct Region {
    /// What its own identity object says of it, with the URL under which this node reaches it.
    pub record: RegionRecord,
    /// Its store.
    pub store: RegionStore,
}

/// Why a region takes no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbsenceKind {
    /// Its identity could not be read: it may be healthy, and can be looked at again with [`verify`].
    Unreachable,
    /// It is not what it should be, and waiting will not change that.
    Refused,
}

/// A region that takes no part.
#[derive(Clone, Debug)]
pub struct Absence {
    /// The name it was given.
    pub name: RegionName,
    /// Its URL, without secrets.
    pub url: String,
    /// Its number, when one is known for its name.
    pub number: Option<RegionNo>,
    /// Out of reach, or refused.
    pub kind: AbsenceKind,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
    /// Its store, when it could be opened.
    pub store: Option<RegionStore>,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, url, problem, hint, .. } = self;
        write!(f, "region {name} ({url}): {problem} ({hint})")
    }
}

impl std::error::Error for Absence {}

/// What [`join`] found out.
#[derive(Clone)]
pub struct Cluster {
    /// Identity of the cluster: 32 hexadecimal digits.
    pub cluster_id: String,
    /// The voters that the identity objects list, by number: where a candidate starts from. When the lists differ,
    /// because regions were added later, it is the one of the region added last. Where a region is healthy, the URL is
    /// the one of this node's settings.
    pub founding: Vec<RegionRecord>,
    /// The regions that it was founded with, by number: the first entry is applied to them.
    pub founders: Vec<RegionRecord>,
    /// Healthy regions, by name.
    pub regions: Vec<Region>,
    /// The others, by name.
    pub absent: Vec<Absence>,
    /// Opens further regions.
    pub opener: Opener,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("cluster_id", &self.cluster_id)
            .field("founding", &self.founding)
            .field("regions", &self.regions)
            .field("absent", &self.absent)
            .finish_non_exhaustive()
    }
}

/// A region of the settings.
struct Named {
    name: RegionName,
    url: String,
    opened: Result<RegionStore, StoreError>,
}

/// Finds out which cluster the named regions belong to, and founds one if all of them are new.
///
/// In an existing cluster this is one GET for each region, at the same time. Some of the regions may be out of reach or
/// refused, and a part of the cluster's regions may be named.
///
/// # Errors
/// When no region is usable, the regions belong to several clusters, or founding is needed and impossible now.
pub async fn join(named: &[(RegionName, String)], opener: Opener, env: &Env) -> Result<Cluster, FoundingError> {
    let regions = open(named, &opener)?;
    let mut wrote = false;
    for _ in 0..LOOKS {
        let sights = look::at_all(&regions).await;
        match verdict::decide(&sights, wrote)? {
            Verdict::Join(membership) => return Ok(cluster(membership, &regions, opener)),
            Verdict::Found => {
                let first = plan(&regions, env);
                write(&regions, &first).await?;
            }
            Verdict::Finish(identities) => {
                for identity in &identities {
                    write(&regions, identity).await?;
                }
            }
        }
        wrote = true;
    }
    Err(FoundingError::Unsettled)
}

/// Opens the stores, in the order of the regions' names.
fn open(named: &[(RegionName, String)], opener: &Opener) -> Result<Vec<Named>, FoundingError> {
    let mut names = BTreeSet::new();
    let mut urls = BTreeSet::new();
    for (name, url) in named {
        if !names.insert(name) {
            return Err(FoundingError::Invalid(format!(
                "region {name} is named twice; give every region its own name"
            )));
        }
        // Every store in memory is a new one.
        if url != "memory://" && !urls.insert(url.trim_end_matches('/')) {
            let url = shown_url(url);
            return Err(FoundingError::Invalid(format!(
                "two regions have the URL {url}; give every region its own bucket or prefix"
            )));
        }
    }
    if named.is_empty() {
        return Err(FoundingError::Invalid("no region is named; give 1, 3 or 5".to_owned()));
    }
    let mut regions: Vec<_> = named
        .iter()
        .map(|(name, url)| {
            let opened = opener(name, url).map_err(|mut error| {
                error.region.get_or_insert_with(|| name.clone());
                if error.key == *url {
                    error.key = shown_url(url);
                }
                error
            });
            Named { name: name.clone(), url: shown_url(url), opened }
        })
        .collect();
    regions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(regions)
}

/// A new cluster of these regions: the identity of the first, which carries those of all.
fn plan(regions: &[Named], env: &Env) -> RegionIdentity {
    let cluster_id = format!("{:032x}", env.entropy.next_u128());
    let mut voters = Vec::new();
    for (number, Named { name, url, .. }) in (0..).zip(regions) {
        let (region, region_id, url) = (name.to_string(), new_region_id(env), url.clone());
        voters.push(FoundingRegion { number, region, region_id, url });
    }
    let first = voters.first().map_or_else(String::new, |first| first.region_id.clone());
    let region = regions.first().map_or_else(String::new, |first| first.name.to_string());
    RegionIdentity {
        region_id: first,
        cluster_id,
        region,
        number: 0,
        voters,
        founders: Vec::new(),
        format: 1,
        created_ms: env.clock.now_ms(),
    }
}

/// Writes an identity unless there is one. Which one counts, the next look tells.
async fn write(regions: &[Named], identity: &RegionIdentity) -> Result<(), FoundingError> {
    let region = regions.iter().find(|region| region.name.as_str() == identity.region);
    let Some(Named { opened: Ok(store), .. }) = region else { return Err(FoundingError::Unsettled) };
    put(store, identity).await.map_err(FoundingError::Write)?;
    Ok(())
}

async fn put(store: &RegionStore, identity: &RegionIdentity) -> Result<(), StoreError> {
    // Whoever decodes an identity checks that this is a number.
    let id = WriteId(u128::from_str_radix(&identity.region_id, 16).unwrap_or_default());
    let created = store.create(Component::Cluster, &keys::identity(), identity.encode(id).into(), id).await?;
    tracing::info!(region = %store.region(), cluster = %identity.cluster_id, ?created, "wrote the identity of a region");
    Ok(())
}

fn cluster(membership: verdict::Membership, regions: &[Named], opener: Opener) -> Cluster {
    let store = |name: &RegionName| {
        let region = regions.iter().find(|region| region.name == *name)?;
        region.opened.as_ref().ok().cloned()
    };
    let verdict::Membership { cluster_id, founding, founders, healthy, mut absent } = membership;
    for absence in &mut absent {
        absence.store = store(&absence.name);
        tracing::warn!(region = %absence.name, kind = ?absence.kind, hint = %absence.hint, "{}", absence.problem);
    }
    let healthy = healthy.into_iter();
    let regions = healthy.filter_map(|record| store(&record.name).map(|store| Region { record, store })).collect();
    Cluster { cluster_id, founding, founders, regions, absent, opener }
}
