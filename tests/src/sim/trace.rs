//! What happened in a simulation, in order.

use std::{
    fmt::{self, Display, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

/// A list of events with their virtual times. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trace {
    started: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), lines: Arc::default() }
    }

    pub(super) fn say(&self, who: impl Display, what: impl Display) {
        let mut line = String::new();
        // Writing to a string does not fail.
        let _ = write!(line, "{:>10.4} {who:<12} {what}", self.started.elapsed().as_secs_f64());
        self.lock().push(line);
    }

    /// The events.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// A number that two equal traces share and others almost never (FNV-1a).
    pub fn hash(&self) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.lock().iter().flat_map(|line| line.bytes().chain([b'\n'])).fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
