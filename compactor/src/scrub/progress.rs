//! How far scrubbing or restoring has come, for a progress bar.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// How far long work has come. Figures only rise but for a new phase.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<String>,
    done: AtomicU64,
    total: AtomicU64,
    objects: AtomicU64,
}

impl Progress {
    /// What is being done.
    pub fn phase(&self) -> String {
        self.phase.lock().clone()
    }

    /// Bytes done, bytes to be done, and objects done.
    pub fn figures(&self) -> (u64, u64, u64) {
        (self.done.load(Relaxed), self.total.load(Relaxed), self.objects.load(Relaxed))
    }

    pub(crate) fn begin(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock());
    }

    pub(crate) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn object(&self) {
        self.objects.fetch_add(1, Relaxed);
    }
}
