//! Admission by bytes: what is being published is bounded, and a request that does not fit is refused at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::IngestError;

/// Requests are charged in units of this many bytes, because even the smallest one costs columns and bookkeeping.
const UNIT: usize = 1024;

/// How long a refused client should wait: a few commits of a slow store.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Counts the bytes in use against a limit.
#[derive(Debug)]
pub(crate) struct Gate {
    used: AtomicUsize,
    limit: usize,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Room for `bytes`, rounded up to whole units.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize) -> Result<Admission, IngestError> {
        let mut admission = Admission { gate: self.clone(), bytes: 0, charged: 0 };
        admission.grow(bytes.max(1))?;
        Ok(admission)
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// A permit for bytes in memory; give it to [`Ingest::publish`](crate::Ingest::publish). It travels with the messages and
/// is released when they are committed or refused, even if the client has gone away meanwhile.
#[derive(Debug)]
pub struct Admission {
    gate: Arc<Gate>,
    /// Bytes announced.
    bytes: usize,
    /// Bytes taken from the gate.
    charged: usize,
}

impl Admission {
    /// More room, for bodies whose length was not announced.
    ///
    /// # Errors
    /// `Busy` when there is no room now, `TooLarge` when there can never be. The permit stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let total = self.bytes.saturating_add(bytes);
        let charged = total.checked_next_multiple_of(UNIT).unwrap_or(usize::MAX);
        if charged > self.gate.limit {
            return Err(IngestError::TooLarge { bytes: total, limit: self.gate.limit });
        }
        if !self.gate.take(charged - self.charged) {
            return Err(IngestError::Busy { retry_after: RETRY_AFTER });
        }
        (self.bytes, self.charged) = (total, charged);
        Ok(())
    }

    /// Makes sure that at least `bytes` are covered: messages may take more room than their body did.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), IngestError> {
        if bytes > self.bytes { self.grow(bytes - self.bytes) } else { Ok(()) }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.gate.used.fetch_sub(self.charged, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_at_once_when_full_and_admits_again_after_release() {
        let gate = Gate::new(4 * UNIT);
        let first = gate.admit(3 * UNIT).unwrap();
        assert!(matches!(gate.admit(UNIT + 1), Err(IngestError::Busy { .. })));
        let second = gate.admit(1).unwrap();
        assert_eq!(gate.used(), 4 * UNIT);
        drop(first);
        assert_eq!(gate.used(), UNIT);
        drop(second);
        assert_eq!(gate.used(), 0);
    }

    #[test]
    fn what_can_never_fit_is_too_large() {
        let gate = Gate::new(4 * UNIT);
        assert!(matches!(gate.admit(4 * UNIT + 1), Err(IngestError::TooLarge { .. })));
        assert!(matches!(gate.admit(usize::MAX), Err(IngestError::TooLarge { .. })));
        let mut growing = gate.admit(UNIT).unwrap();
        assert!(matches!(growing.grow(usize::MAX), Err(IngestError::TooLarge { .. })));
        assert_eq!(gate.used(), UNIT);
    }

    proptest! {
        #[test]
        fn never_above_the_limit_and_everything_comes_back(steps in proptest::collection::vec((0..3u8, 0..6_000usize), 0..60)) {
            let gate = Gate::new(10_000);
            let mut held: Vec<Admission> = Vec::new();
            for (what, bytes) in steps {
                match (what, held.last_mut()) {
                    (0, Some(last)) => { let _ = last.grow(bytes); }
                    (1, Some(_)) => { held.remove(bytes % held.len()); }
                    _ => held.extend(gate.admit(bytes)),
                }
                prop_assert!(gate.used() <= 10_000);
                prop_assert_eq!(gate.used(), held.iter().map(|permit| permit.charged).sum::<usize>());
            }
            drop(held);
            prop_assert_eq!(gate.used(), 0);
        }
    }
}
