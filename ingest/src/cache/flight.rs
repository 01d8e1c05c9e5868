//! One fetch for all who want the same thing at the same time.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::Xxh3Builder;

/// Fetches under way, by what is fetched.
pub(super) struct Flights<K, V, S = Xxh3Builder>(Mutex<HashMap<K, Arc<OnceCell<V>>, S>>);

impl<K, V, S: Default> Default for Flights<K, V, S> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::default()))
    }
}

impl<K, V, S> fmt::Debug for Flights<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl<K: Copy + Eq + Hash, V: Clone, S: BuildHasher> Flights<K, V, S> {
    /// The outcome of the fetch that is under way, or else of this one. When who carries it out gives up, the next of those
    /// who wait carries out his.
    pub(super) async fn join(&self, key: K, fetch: impl Future<Output = V>) -> V {
        let cell = self.0.lock().entry(key).or_default().clone();
        let aboard = Aboard { flights: self, key, cell: Some(cell) };
        // Not cloned: who is aboard is counted.
        let cell = aboard.cell.as_ref().expect("nobody takes it before the end");
        cell.get_or_init(|| fetch).await.clone()
    }
}

/// Somebody who waits. Whoever wants the same thing when it has come, or when nobody waits any more, begins anew.
struct Aboard<'a, K: Copy + Eq + Hash, V, S: BuildHasher> {
    flights: &'a Flights<K, V, S>,
    key: K,
    /// There until this is dropped.
    cell: Option<Arc<OnceCell<V>>>,
}

impl<K: Copy + Eq + Hash, V, S: BuildHasher> Drop for Aboard<'_, K, V, S> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let Some(ours) = self.cell.take() else { return };
        let Some(cell) = flights.get(&self.key).filter(|cell| Arc::ptr_eq(cell, &ours)) else { return };
        // Under the lock nobody else comes aboard or leaves.
        drop(ours);
        if cell.initialized() || Arc::strong_count(cell) == 1 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        time::Duration,
    };

    use futures::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    type TestFlights = Flights<u8, Result<u32, u32>>;

    #[tokio::test(start_paused = true)]
    async fn all_who_want_the_same_get_the_outcome_of_one_fetch() {
        let (flights, fetches) = (TestFlights::default(), AtomicU32::new(0));
        let fetch = |answer| async move {
            sleep(Duration::from_secs(1)).await;
            answer
        };
        let count = |key, answer| {
            let (flights, fetches) = (&flights, &fetches);
            flights.join(key, async move {
                fetches.fetch_add(1, Relaxed);
                fetch(answer).await
            })
        };
        let answers = join_all([count(1, Ok(7)), count(1, Ok(8)), count(2, Err(9)), count(2, Ok(1))]).await;
        assert_eq!((answers, fetches.load(Relaxed)), (vec![Ok(7), Ok(7), Err(9), Err(9)], 2));
        assert!(flights.0.lock().is_empty());
        assert_eq!(count(2, Ok(3)).await, Ok(3), "a failure is not remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_who_waits_fetches_when_the_first_gives_up() {
        let flights = TestFlights::default();
        let second = Duration::from_secs(1);
        let gives_up = timeout(second, flights.join(1, pending()));
        let (first, next) = tokio::join!(gives_up, flights.join(1, async { Ok(2) }));
        assert_eq!((first.is_err(), next), (true, Ok(2)));
        timeout(second, flights.join(1, pending())).await.unwrap_err();
        assert!(flights.0.lock().is_empty(), "nothing is left of what all gave up");
    }
}
