//! What happened in a simulation, in order.

use std::{
    fmt::{self, Display, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// How many events there are between two pauses in real time, and how long these are.
const PAUSES: (usize, Duration) = (2_000, Duration::from_millis(100));

/// A list of events with their virtual times. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trace {
    started: Instant,
    /// Whether real time passes between events.
    slow: bool,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(super) fn start(slow: bool) -> Self {
        Self { started: Instant::now(), slow, lines: Arc::default() }
    }

    pub(super) fn say(&self, who: impl Display, what: impl Display) {
        let mut line = String::new();
        // Writing to a string does not fail.
        let _ = write!(line, "{:>10.4} {who:<12} {what}", self.started.elapsed().as_secs_f64());
        let events = {
            let mut lines = self.lock();
            lines.push(line);
            lines.len()
        };
        if self.slow && events.is_multiple_of(PAUSES.0) {
            pause();
        }
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

    /// Where another trace begins to differ, with what was before; `None` when it is the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self.lines(), other.lines());
        let at = ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
        if at == ours.len().max(theirs.len()) {
            return None;
        }
        let around = |lines: &[String]| lines[at.saturating_sub(5)..lines.len().min(at + 3)].join("\n");
        Some(format!("traces differ at line {at}:\n{}\n--- and\n{}", around(&ours), around(&theirs)))
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

#[expect(clippy::disallowed_methods, reason = "real time is to pass")]
fn pause() {
    thread::sleep(PAUSES.1);
}
