//! Looking at regions: what their identity objects say, and whether they hold a journal.

use futures::future::join_all;
use tokio::time::timeout;

use super::{Named, PATIENCE};
use crate::{
    format::{FrameError, RegionIdentity},
    ids::ShardId,
    keys,
    names::RegionName,
    store::{Component, RegionStore, StoreError, StoreErrorKind},
};

/// Reads of an identity that cannot be decoded, before it counts as damaged: an answer may be altered on its way.
const READS: u32 = 3;

/// One region as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) name: RegionName,
    /// Without secrets.
    pub(super) url: String,
    pub(super) seen: Seen,
    /// Whether there is any object of a journal; false as long as nobody had to ask.
    pub(super) journal: bool,
    /// Whether it was restored in part; false as long as nobody had to ask.
    pub(super) restoring: bool,
}

/// What is known of a region's identity.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Identity(RegionIdentity),
    /// There is none.
    Nothing,
    /// There is one, but it makes no sense.
    Damaged(String),
    Unreachable(Silence),
}

/// Why a region told nothing.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    pub(super) problem: String,
    pub(super) hint: &'static str,
}

impl From<&StoreError> for Silence {
    fn from(error: &StoreError) -> Self {
        Self { problem: error.to_string(), hint: error.hint() }
    }
}

impl Silence {
    fn in_time() -> Self {
        let problem = format!("no answer within {} s", PATIENCE.as_secs());
        Self { problem, hint: StoreErrorKind::Timeout.hint() }
    }
}

/// Looks at all regions at the same time. Journals are listed only when some identity is missing.
pub(super) async fn at_all(regions: &[Named]) -> Vec<Sight> {
    let sights = join_all(regions.iter().map(|Named { name, url, opened }| async {
        let seen = match opened {
            Ok(store) => identity(store).await,
            Err(error) => Seen::Unreachable(error.into()),
        };
        Sight { name: name.clone(), url: url.clone(), seen, journal: false, restoring: false }
    }));
    let sights = sights.await;
    if !sights.iter().any(|sight| matches!(sight.seen, Seen::Nothing)) {
        return sights;
    }
    let sights = join_all(regions.iter().zip(sights).map(|(Named { opened, .. }, mut sight)| async move {
        if let (Ok(store), false) = (opened, matches!(sight.seen, Seen::Unreachable(_))) {
            match journal(store).await {
                Ok(journal) => sight.journal = journal,
                Err(silence) => sight.seen = Seen::Unreachable(silence),
            }
            if sight.journal && matches!(sight.seen, Seen::Nothing) {
                sight.restoring = restoring(store).await;
            }
        }
        sight
    }));
    let sights = sights.await;
    // A node that founds the cluster at the same time may have gone on to write a journal. It wrote every identity
    // before, so that what is missing now was missing all the time.
    let sights = join_all(regions.iter().zip(sights).map(|(Named { opened, .. }, mut sight)| async move {
        if let (Ok(store), Seen::Nothing) = (opened, &sight.seen) {
            sight.seen = identity(store).await;
        }
        sight
    }));
    sights.await
}

/// Reads a region's identity, patiently.
pub(super) async fn identity(store: &RegionStore) -> Seen {
    timeout(PATIENCE, read(store)).await.unwrap_or_else(|_| Seen::Unreachable(Silence::in_time()))
}

/// Whether a region holds any object of a journal.
pub(super) async fn journal(store: &RegionStore) -> Result<bool, Silence> {
    match timeout(PATIENCE, store.holds_any(Component::Cluster, &keys::journals())).await {
        Ok(Ok(any)) => Ok(any),
        Ok(Err(error)) => Err((&error).into()),
        Err(_) => Err(Silence::in_time()),
    }
}

/// Whether a region bears the mark of a restore that has not ended. For the words only: without an answer it does not.
async fn restoring(store: &RegionStore) -> bool {
    let key = keys::restoring(ShardId(0));
    let mark = store.get(Component::Cluster, &key);
    matches!(timeout(PATIENCE, mark).await, Ok(Ok(Some(_))))
}

async fn read(store: &RegionStore) -> Seen {
    let mut seen = Seen::Nothing;
    for _ in 0..READS {
        seen = match store.get(Component::Cluster, &keys::identity()).await {
            Err(error) => return Seen::Unreachable((&error).into()),
            Ok(None) => return Seen::Nothing,
            Ok(Some(bytes)) => match RegionIdentity::decode(&bytes) {
                Ok(identity) => match problem(&identity) {
                    None => return Seen::Identity(identity),
                    Some(problem) => Seen::Damaged(problem.to_owned()),
                },
                Err(FrameError::Version(version)) => {
                    Seen::Damaged(format!("it has format {version}, which this version of Brigade does not know"))
                }
                Err(error) => Seen::Damaged(error.to_string()),
            },
        };
    }
    seen
}

/// What makes no sense in an identity.
fn problem(identity: &RegionIdentity) -> Option<&'static str> {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_id(&identity.region_id) || !is_id(&identity.cluster_id) {
        return Some("its identities are not 32 hexadecimal digits");
    }
    let sound = |name: &str| RegionName::new(name).is_ok();
    if !sound(&identity.region) || identity.voters.iter().any(|voter| !sound(&voter.region) || !is_id(&voter.region_id))
    {
        return Some("it lists regions that cannot exist");
    }
    None
}
