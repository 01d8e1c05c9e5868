//! Reading batches from the nearest region that has them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use super::{FetchError, Shard, Shared, view::View};
use crate::{
    format::checksum,
    ids::{RegionNo, Sequence},
    state::BatchLocation,
    store::Component,
};

/// A region that has not answered by then is not waited for alone: the next one is asked, too.
const HEDGE: Duration = Duration::from_millis(250);

/// How long it may take to know whether this node leads before it says that an object is damaged.
const DOUBT: Duration = Duration::from_secs(5);

impl Shard {
    /// Fetches the bytes of a batch and checks them against their checksum. Regions that hold it are asked in turn, the
    /// fastest first; the next one when one fails, or does not answer soon.
    ///
    /// # Errors
    /// When no store answers, or the object is missing or damaged in every region that has it.
    pub async fn fetch(&self, batch: &BatchLocation) -> Result<Bytes, FetchError> {
        let mut views = self.shared.views_holding(batch.sequence).into_iter();
        let mut running = FuturesUnordered::new();
        let mut worst = FetchError::Damaged {
            key: format!("entry {}", batch.sequence),
            problem: "no region is known to hold it".to_owned(),
        };
        loop {
            if let Some(view) = views.next() {
                running.push(fetch_from(self.shared.clone(), view, *batch));
            }
            let more = views.len() > 0;
            let hedge = Instant::now() + HEDGE;
            let answer = tokio::select! {
                biased;
                answer = running.next() => answer,
                () = sleep_until(hedge), if more => continue,
            };
            match answer {
                Some(Ok(bytes)) => return Ok(bytes),
                // Damage is worth telling only when nobody is merely away, who may have it whole.
                Some(Err(error @ FetchError::Unavailable(_))) => worst = error,
                Some(Err(error)) => {
                    if !matches!(worst, FetchError::Unavailable(_)) {
                        worst = error;
                    }
                }
                None if more => {}
                None => return Err(self.doubt(self.shared.judge(batch.sequence, worst)).await),
            }
        }
    }

    /// What is not there, or not as this node knows it, may have been deleted or replaced by a later leader: nobody is told
    /// of damage before an entry shows that this one still leads.
    pub(super) async fn doubt(&self, error: FetchError) -> FetchError {
        let FetchError::Damaged { key, problem } = &error else { return error };
        let problem = match timeout(DOUBT, self.propose(Vec::new())).await {
            Ok(Ok(_)) => return error,
            Ok(Err(doubt)) => format!("object {key}: {problem}; {doubt}"),
            Err(_) => format!("object {key}: {problem}; it is not known whether this node still leads"),
        };
        FetchError::Unavailable(problem)
    }
}

impl Shared {
    /// What a batch is that no region gave: damaged only if every region that votes was asked. One that is out of reach
    /// may have it whole.
    fn judge(&self, sequence: Sequence, worst: FetchError) -> FetchError {
        let asked = self.views_holding(sequence);
        let asked = |region: RegionNo| asked.iter().any(|view| view.record.number == region);
        let state = self.state.read();
        let away: Vec<_> = state
            .regions
            .iter()
            .filter(|record| state.regions.voters().is_some_and(|voters| voters.contains(record.number)))
            .filter(|record| !asked(record.number))
            .map(|record| record.name.to_string())
            .collect();
        match worst {
            FetchError::Damaged { key, problem } if !away.is_empty() => {
                let away = away.join(", ");
                FetchError::Unavailable(format!("object {key}: {problem}; not reached: {away}"))
            }
            worst => worst,
        }
    }
}

async fn fetch_from(shared: Arc<Shared>, view: Arc<View>, batch: BatchLocation) -> Result<Bytes, FetchError> {
    let region = &view.record.name;
    let Some(key) = view.key_of(shared.id, batch.sequence) else {
        let key = format!("entry {}", batch.sequence);
        return Err(FetchError::Damaged { key, problem: format!("region {region} does not hold it") });
    };
    let damaged = |problem: &str| {
        let problem = format!("{problem} (region {region})");
        FetchError::Damaged { key: key.to_string(), problem }
    };
    let started = Instant::now();
    let read = view.store.get_range(Component::Read, &key, batch.at..batch.at + u64::from(batch.len)).await;
    view.observe(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    match read {
        Err(error) => Err(FetchError::Unavailable(error.to_string())),
        Ok(None) => Err(damaged("it does not exist")),
        Ok(Some(bytes)) if bytes.len() != batch.len as usize => Err(damaged("it is cut off")),
        Ok(Some(bytes)) if checksum(&bytes) != batch.crc => {
            Err(damaged("the checksum of a batch in it does not match"))
        }
        Ok(Some(bytes)) => Ok(bytes),
    }
}
