//! Which fault strikes which operation.

use std::{io, time::Duration};

use object_store::{Error, Result, path::Path};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{STORE, refused};
use crate::store::Operation;

/// How long operations take: log-normal, as object stores are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half of all operations are faster.
    pub median: Duration,
    /// One in a hundred is slower.
    pub p99: Duration,
}

/// What a failed operation answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP status, such as 500, 503 or 429.
    Status(u16),
    /// The key exists already; with `applied`, through the very write that is told so.
    AlreadyExists,
    /// The connection broke.
    Reset,
}

impl Answer {
    pub(super) fn error(self, key: &Path) -> Error {
        match self {
            Self::Status(status) => {
                let words = format!("Server returned non-2xx status code: {status}: injected");
                Error::Generic { store: STORE, source: words.into() }
            }
            Self::AlreadyExists => Error::AlreadyExists { path: key.to_string(), source: "injected".into() },
            Self::Reset => refused(io::ErrorKind::ConnectionReset, "injected: the connection broke"),
        }
    }
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, having been applied or not.
    Fail {
        /// Whether the store did what it was asked before it failed.
        applied: bool,
        /// What it says.
        answer: Answer,
    },
    /// It never answers, so that the caller's time-out strikes.
    Hang {
        /// Whether the store did what it was asked.
        applied: bool,
    },
    /// It takes this much longer.
    Delay(Duration),
    /// A read ends half-way.
    Truncate,
    /// A read has one wrong bit.
    Flip,
}

/// When a fault strikes.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The operation; `None` for every one.
    pub operation: Option<Operation>,
    /// The beginning of the keys concerned, whole segments; the empty path for all.
    pub prefix: Path,
    /// What happens.
    pub fault: Fault,
    /// Chance with which an operation that matches is struck, from 0 to 1.
    pub chance: f64,
    /// So many operations that match go through first.
    pub skip: u64,
    /// So many times it strikes, then no more.
    pub limit: u64,
}

impl Rule {
    /// A rule that strikes every operation of one kind, on any key.
    pub fn always(operation: Operation, fault: Fault) -> Self {
        let prefix = Path::default();
        Self { operation: Some(operation), prefix, fault, chance: 1.0, skip: 0, limit: u64::MAX }
    }

    /// A rule that strikes the next operation of one kind, once.
    pub fn once(operation: Operation, fault: Fault) -> Self {
        Self { limit: 1, ..Self::always(operation, fault) }
    }

    /// The same rule for keys under a prefix only.
    #[must_use]
    pub fn under(self, prefix: Path) -> Self {
        Self { prefix, ..self }
    }

    /// The same rule with a chance below 1.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }

    fn matches(&self, operation: Operation, key: &Path) -> bool {
        self.operation.is_none_or(|only| only == operation) && key.prefix_matches(&self.prefix)
    }
}

pub(super) struct Decision {
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rules: Vec<Rule>,
    pub(super) latency: Option<Latency>,
    pub(super) unreachable: bool,
    pub(super) full: bool,
    pub(super) struck: u64,
    random: StdRng,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { rules: Vec::new(), latency: None, unreachable: false, full: false, struck: 0, random }
    }

    pub(super) fn heal(&mut self) {
        self.rules.clear();
        self.latency = None;
        self.unreachable = false;
        self.full = false;
    }

    pub(super) fn check_reachable(&self, kind: io::ErrorKind) -> Result<()> {
        if self.unreachable { Err(refused(kind, "injected: unreachable")) } else { Ok(()) }
    }

    pub(super) fn decide(&mut self, operation: Operation, key: &Path) -> Result<Decision> {
        self.check_reachable(io::ErrorKind::ConnectionRefused)?;
        if self.full && operation == Operation::Put {
            return Err(refused(io::ErrorKind::StorageFull, "injected: no space left"));
        }
        let mut delay = self.sample();
        let fault = self.strike(operation, key);
        if let Some(Fault::Delay(longer)) = fault {
            delay += longer;
        }
        Ok(Decision { delay, fault })
    }

    fn strike(&mut self, operation: Operation, key: &Path) -> Option<Fault> {
        for rule in self.rules.iter_mut().filter(|rule| rule.limit > 0 && rule.matches(operation, key)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            // A sure thing draws nothing, so that adding one shifts no other decision.
            if rule.chance < 1.0 && unit(&mut self.random) >= rule.chance {
                continue;
            }
            rule.limit -= 1;
            self.struck += 1;
            return Some(rule.fault);
        }
        None
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    fn sample(&mut self) -> Duration {
        let Some(Latency { median, p99 }) = self.latency else { return Duration::ZERO };
        // The 99th percentile of the normal distribution lies 2.326 deviations above its middle.
        let deviation = (p99.as_secs_f64() / median.as_secs_f64().max(1e-9)).max(1.0).ln() / 2.326;
        let radius = (-2.0 * (1.0 - unit(&mut self.random)).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * unit(&mut self.random)).cos();
        Duration::try_from_secs_f64(median.as_secs_f64() * (deviation * normal).exp()).unwrap_or(p99)
    }
}

/// From 0 to just below 1.
fn unit(random: &mut StdRng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
