//! Repairing regions beside everything else: it may take hours, and nothing waits for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use brigade_index::{
    ids::{RegionNo, Sequence},
    shard::{Shard, Throttle},
};
use futures::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{budget::Budget, repair};

/// How often it is looked whether a region misses something. Looking sends no request.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Repairs regions until `stop`, with this pause after a round that left something.
pub(super) async fn run(shard: Shard, budget: Budget, pause: Duration, stop: CancellationToken) {
    let throttle: Throttle = Arc::new(move |bytes| {
        let budget = budget.clone();
        async move { budget.take(bytes).await }.boxed()
    });
    shard.set_throttle(throttle.clone());
    let _ = stop.run_until_cancelled(mend(&shard, &throttle, pause, &stop)).await;
}

async fn mend(shard: &Shard, throttle: &Throttle, pause: Duration, stop: &CancellationToken) {
    let (mut seen, mut until): (Option<(Sequence, BTreeSet<RegionNo>)>, Option<Instant>) = (None, None);
    loop {
        sleep(LOOK_EVERY).await;
        let now = Instant::now();
        let here = (shard.state().applied, reachable(shard));
        // A region that comes back is worth a look at once.
        let back = seen.as_ref().is_some_and(|(_, before)| *before != here.1);
        if until.is_some_and(|until| until > now) && !back || seen.as_ref() == Some(&here) && until.is_none() {
            continue;
        }
        until = None;
        if misses_any(shard, &here.1) {
            match repair::run(shard, throttle, stop).await {
                Ok(repaired) => {
                    if repaired.files > 0 {
                        tracing::info!(files = repaired.files, bytes = repaired.bytes, "regions were repaired");
                    }
                    if repaired.missing > 0 {
                        let problem = repaired.problem.unwrap_or_default();
                        tracing::warn!(missing = repaired.missing, problem, "archive files are missing in regions");
                        until = Some(Instant::now() + pause);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "repair of regions broke off; it goes on later");
                    until = Some(Instant::now() + pause);
                }
            }
        }
        seen = Some(here);
    }
}

fn reachable(shard: &Shard) -> BTreeSet<RegionNo> {
    shard.regions().into_iter().filter(|region| !region.failing).map(|region| region.record.number).collect()
}

/// Whether one of these regions misses an archive file.
fn misses_any(shard: &Shard, regions: &BTreeSet<RegionNo>) -> bool {
    let state = shard.state();
    let mut logs = state.topics().flat_map(|topic| &topic.partitions);
    logs.any(|log| regions.iter().any(|region| log.file_totals().missing_in(*region).files > 0))
}
