//! What the compactor and the archive's readers need of a shard: its regions' stores, and bytes from the nearest of them.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use object_store::path::Path;
use tokio::time::{Instant, sleep_until};

use super::{FetchError, Shard};
use crate::{
    ids::{Ballot, RegionNo, Sequence},
    region::RegionRecord,
    store::{Component, RegionStore},
};

/// A region that has not answered by then is not waited for alone: the next one is asked, too.
const HEDGE: Duration = Duration::from_millis(500);

/// A region that takes part in the reign.
#[derive(Clone, Debug)]
pub struct RegionHandle {
    /// The region.
    pub record: RegionRecord,
    /// Its store.
    pub store: RegionStore,
    /// Whether it votes.
    pub votes: bool,
    /// Whether its last request failed.
    pub failing: bool,
}

impl Shard {
    /// The ballot of this reign.
    pub fn ballot(&self) -> Ballot {
        self.shared.ballot
    }

    /// Identity of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    /// The regions that take part in the reign, those that answer fastest first, those that fail last.
    pub fn regions(&self) -> Vec<RegionHandle> {
        let shared = &self.shared;
        let voters = shared.state.read().regions.voters().cloned();
        let handles = shared.views_holding(Sequence(0)).into_iter().map(|view| RegionHandle {
            record: view.record.clone(),
            store: view.store.clone(),
            votes: voters.as_ref().is_some_and(|voters| voters.contains(view.record.number)),
            failing: shared.health.is_failing(view.record.number),
        });
        handles.collect()
    }

    /// Bytes `range` of the object of an entry, from the nearest region that has it. They are not checked: whoever takes
    /// batches out of them knows their checksums.
    ///
    /// # Errors
    /// When no region gave them.
    pub async fn fetch_entry(
        &self,
        component: Component,
        sequence: Sequence,
        range: Range<u64>,
    ) -> Result<Bytes, FetchError> {
        let mut problem = FetchError::Damaged {
            key: format!("entry {sequence}"),
            problem: "no region is known to hold it".to_owned(),
        };
        for view in self.shared.views_holding(sequence) {
            let Some(key) = view.key_of(self.shared.id, sequence) else { continue };
            match whole_range(&view.store, component, &key, range.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(error @ FetchError::Unavailable(_)) => problem = error,
                Err(error) if !matches!(problem, FetchError::Unavailable(_)) => problem = error,
                Err(_) => {}
            }
        }
        Err(problem)
    }

    /// Bytes `range` of an archive file, from the nearest of the regions that hold it; the next one is asked when one
    /// fails, or does not answer soon.
    ///
    /// # Errors
    /// When no region gave them.
    pub async fn fetch_file(
        &self,
        component: Component,
        key: &Path,
        holders: &[RegionNo],
        range: Range<u64>,
    ) -> Result<Bytes, FetchError> {
        let mut regions =
            self.regions().into_iter().filter(|region| holders.contains(&region.record.number)).peekable();
        let mut running = FuturesUnordered::new();
        let mut worst =
            FetchError::Damaged { key: key.to_string(), problem: "no region is known to hold it".to_owned() };
        loop {
            if let Some(region) = regions.next() {
                let range = range.clone();
                running.push(async move { whole_range(&region.store, component, key, range).await });
            }
            let more = regions.peek().is_some();
            let hedge = Instant::now() + HEDGE;
            let answer = tokio::select! {
                biased;
                answer = running.next() => answer,
                () = sleep_until(hedge), if more => continue,
            };
            match answer {
                Some(Ok(bytes)) => return Ok(bytes),
                Some(Err(error @ FetchError::Unavailable(_))) => worst = error,
                Some(Err(error)) => {
                    if !matches!(worst, FetchError::Unavailable(_)) {
                        worst = error;
                    }
                }
                None if more => {}
                None => return Err(self.doubt(worst).await),
            }
        }
    }
}

async fn whole_range(
    store: &RegionStore,
    component: Component,
    key: &Path,
    range: Range<u64>,
) -> Result<Bytes, FetchError> {
    let want = range.end.saturating_sub(range.start);
    let damaged = |problem: &str| FetchError::Damaged {
        key: key.to_string(),
        problem: format!("{problem} (region {})", store.region()),
    };
    match store.get_range(component, key, range).await {
        Err(error) => Err(FetchError::Unavailable(error.to_string())),
        Ok(None) => Err(damaged("it does not exist")),
        Ok(Some(bytes)) if bytes.len() as u64 != want => Err(damaged("it is cut off")),
        Ok(Some(bytes)) => Ok(bytes),
    }
}
