//! When a node challenges the leader: pure decisions over events and monotonic time.
//!
//! A lease here protects nothing but peace: safety comes from the journal alone. The leader writes nothing to keep it. A
//! node that follows asks the leader over the network whether it lives; only when the leader is silent for the lease time
//! **and** no path has moved for that time does it stand. A path that moves proves a leader that is only out of reach
//! from here. Clocks are never compared: all times are this node's own monotonic time since its start.
//!
//! | rule | where |
//! |---|---|
//! | L1: a node never stands while the leader answers | [`Lease::next`], `suspicious` |
//! | L2: nor when a path moved within the lease time | `stand_due`, `still_since` |
//! | L3: nor on a look that is older than the decision, or that found no quorum | [`Lease::next`], `fresh` |
//! | L4: challenges that fail and reigns that end early back off, doubling to 30 s | `backoff` |

use std::time::Duration;

use crate::{format::Leader, ids::Ballot};

/// Longest pause between challenges of one node, and how long a leader that cannot be asked is left alone.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A failed challenge, or a reign shorter than this, counts towards the pause until this much time without another.
pub const QUIET: Duration = Duration::from_secs(60);

/// How long a leader that says it is just taking over counts as alive.
const TAKING_OVER: Duration = Duration::from_secs(20);

/// A leader that took over while this node watched and was never heard since may still be recovering: it is given this
/// many lease times.
const RECOVERY: u32 = 5;

/// Longest pause between looks that find no quorum.
const LONGEST_LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Settings of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Silence after which a leader is challenged.
    pub timeout: Duration,
    /// Pause between questions to the leader.
    pub probe: Duration,
    /// Name of this node.
    pub node: String,
    /// Its address, empty when it has none.
    pub address: String,
    /// Stand at the first look, whoever leads. For an operator's or a test's forced takeover.
    pub usurp: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The node at the leader's address says that it leads under this ballot.
    Answered(Ballot),
    /// It says that it is taking over.
    TakingOver,
    /// It says that its reign is over, or somebody else answers there.
    Ended,
    /// No answer in time, a refused connection, or a leader that cannot write any more.
    Silent,
    /// The paths were read to their ends.
    Looked {
        /// Highest ballot on them.
        ballot: Ballot,
        /// Its leader, if known.
        leader: Option<Leader>,
        /// Whether one of them is longer than at the last look.
        moved: bool,
        /// Whether a quorum of the regions answered.
        quorum: bool,
    },
    /// The paths could not be read.
    LookFailed,
    /// A challenge was won: this node leads.
    Won,
    /// A challenge was lost, abandoned, or failed.
    Lost,
    /// The reign of this node ended.
    Deposed {
        /// How long it was.
        reigned: Duration,
    },
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the leader whether it lives.
    Probe,
    /// Read the paths.
    Look,
    /// Take over.
    Stand,
    /// Nothing before this time.
    Wait(Duration),
    /// Nothing at all until the reign of this node ends.
    Lead,
}

/// What is known of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    ballot: Ballot,
    leader: Option<Leader>,
    /// Nobody has to be waited for: there is no leader, or it was this very node.
    vacant: bool,
    /// It has no address to ask at, or this node's own.
    mute: bool,
    /// It took over while this node watched, and has not answered since.
    fresh: bool,
    /// When it was first known, answered last, or said that it is taking over.
    heard: Duration,
    /// When it first said that it is taking over.
    taking_over: Option<Duration>,
    /// Set when it said that its reign is over.
    ended: Option<Duration>,
    /// Whether the last question went without an answer.
    suspicious: bool,
    /// Whether the paths were looked at since then.
    watched: bool,
    next_probe: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    started: Duration,
    quorum: bool,
}

/// The decisions of one node about one shard. Times are monotonic times of this node; `random` is any random number.
#[derive(Clone, Debug)]
pub struct Lease {
    config: LeaseConfig,
    leading: bool,
    known: Option<Known>,
    look: Option<Look>,
    look_started: Duration,
    /// Whether the paths were ever looked at.
    looked: bool,
    /// Since when no path has moved, for certain.
    still_since: Duration,
    look_failures: u32,
    failures: u32,
    failed_at: Duration,
    not_before: Duration,
    look_not_before: Duration,
    jitter: Duration,
    usurp: bool,
}

impl Lease {
    /// A node that knows nothing yet.
    pub fn new(config: LeaseConfig) -> Self {
        let zero = Duration::ZERO;
        Self {
            usurp: config.usurp,
            config,
            leading: false,
            known: None,
            look: None,
            look_started: zero,
            looked: false,
            still_since: zero,
            look_failures: 0,
            failures: 0,
            failed_at: zero,
            not_before: zero,
            look_not_before: zero,
            jitter: zero,
        }
    }

    /// The leader that is followed, if one is known.
    pub fn leader(&self) -> Option<&Leader> {
        self.known.as_ref().filter(|known| !known.vacant).and_then(|known| known.leader.as_ref())
    }

    /// Ballot that the leader is known under.
    pub fn ballot(&self) -> Ballot {
        self.known.as_ref().map_or(Ballot::BOOTSTRAP, |known| known.ballot)
    }

    /// Whether the leader answered when it was last asked.
    pub fn leader_lives(&self) -> bool {
        let alive = |known: &Known| !known.vacant && !known.mute && !known.suspicious && known.next_probe > known.heard;
        self.known.as_ref().is_some_and(alive)
    }

    /// What to do at time `now`.
    pub fn next(&mut self, now: Duration) -> Next {
        if self.leading {
            return Next::Lead;
        }
        let Some(known) = &self.known else { return self.look(now) };
        if self.usurp {
            return self.stand_or_look(now, self.not_before);
        }
        let asks = !known.vacant && !known.mute;
        if asks && !known.suspicious {
            return if now >= known.next_probe { Next::Probe } else { Next::Wait(known.next_probe) };
        }
        let (due, next_probe, watched) = (self.stand_due(known), known.next_probe, known.watched);
        if asks && now >= next_probe {
            return Next::Probe;
        }
        // The first look after the last sign of life: from here on, the paths are watched.
        let next = if asks && !watched { self.look(now) } else { self.stand_or_look(now, due) };
        match next {
            Next::Wait(until) if asks => Next::Wait(until.min(next_probe)),
            next => next,
        }
    }

    /// Stands if the paths were looked at since `due`, and looks otherwise (L3).
    fn stand_or_look(&mut self, now: Duration, due: Duration) -> Next {
        if now < due {
            return Next::Wait(due);
        }
        let fresh = self.look.is_some_and(|look| look.quorum && look.started >= due);
        if fresh { Next::Stand } else { self.look(now) }
    }

    fn look(&mut self, now: Duration) -> Next {
        if now < self.look_not_before {
            return Next::Wait(self.look_not_before);
        }
        self.look_started = now;
        Next::Look
    }

    /// From when on it may stand (L1, L2, L4).
    fn stand_due(&self, known: &Known) -> Duration {
        if known.vacant {
            return self.not_before;
        }
        if let Some(ended) = known.ended {
            return self.not_before.max(ended + self.jitter);
        }
        let silence = match known {
            Known { mute: true, .. } => LONGEST_PAUSE,
            Known { fresh: true, .. } => self.config.timeout * RECOVERY,
            _ => self.config.timeout,
        };
        let silent = known.heard + silence;
        let still = self.still_since + self.config.timeout;
        silent.max(still).max(self.not_before) + self.jitter
    }

    /// Takes in what happened, at time `now`.
    pub fn event(&mut self, now: Duration, event: Event, random: u64) {
        match event {
            Event::Answered(ballot) => self.answered(now, ballot),
            Event::TakingOver => self.taking_over(now),
            Event::Ended => {
                self.silent(now, random);
                if let Some(known) = &mut self.known {
                    known.ended.get_or_insert(now);
                }
            }
            Event::Silent => self.silent(now, random),
            Event::Looked { ballot, leader, moved, quorum } => {
                self.looked(now, (ballot, leader), moved);
                self.look_ended(now, quorum);
            }
            Event::LookFailed => self.look_ended(now, false),
            Event::Won => {
                self.leading = true;
                self.usurp = false;
                self.known = None;
            }
            Event::Lost => self.failed(now, random),
            Event::Deposed { reigned } => {
                self.leading = false;
                if reigned < QUIET {
                    self.failed(now, random);
                } else {
                    self.failures = 0;
                    self.forget();
                }
            }
        }
    }

    fn answered(&mut self, now: Duration, ballot: Ballot) {
        if now >= self.failed_at + QUIET {
            self.failures = 0;
        }
        let probe = self.config.probe;
        let Some(known) = self.known.as_mut().filter(|known| ballot >= known.ballot) else { return };
        known.ballot = ballot;
        known.heard = now;
        known.next_probe = now + probe;
        (known.fresh, known.watched) = (false, false);
        (known.suspicious, known.taking_over, known.ended) = (false, None, None);
    }

    fn taking_over(&mut self, now: Duration) {
        let probe = self.config.probe;
        let Some(known) = &mut self.known else { return };
        known.next_probe = now + probe;
        if now < *known.taking_over.get_or_insert(now) + TAKING_OVER {
            (known.heard, known.suspicious, known.watched) = (now, false, false);
        } else {
            known.suspicious = true;
        }
    }

    fn silent(&mut self, now: Duration, random: u64) {
        let probe = self.config.probe;
        let jitter = share(self.config.timeout / 4, random);
        let Some(known) = &mut self.known else { return };
        if !known.suspicious {
            // Drawn once for each silence, so that asking again does not shift the moment.
            self.jitter = jitter;
        }
        known.suspicious = true;
        known.next_probe = now + probe;
    }

    fn looked(&mut self, now: Duration, (ballot, leader): (Ballot, Option<Leader>), moved: bool) {
        let first = !std::mem::replace(&mut self.looked, true);
        let same = self.known.as_ref().is_some_and(|known| known.ballot >= ballot);
        if moved || !same {
            self.still_since = now;
        }
        if same {
            self.known.iter_mut().for_each(|known| known.watched = known.suspicious);
            return;
        }
        let (node, address) = (&self.config.node, &self.config.address);
        let own = |leader: &Leader| leader.address == *address && (first || leader.node == *node);
        // A leader without an address that took over while this node was watching lives for all we know.
        let gone = |leader: &Leader| own(leader) || (first && leader.address.is_empty());
        let vacant = leader.as_ref().is_none_or(gone);
        let mute = leader.as_ref().is_none_or(|leader| leader.address.is_empty() || leader.address == *address);
        self.known = Some(Known {
            ballot,
            leader,
            vacant,
            mute,
            fresh: !first,
            heard: now,
            taking_over: None,
            ended: None,
            suspicious: false,
            watched: false,
            next_probe: now,
        });
    }

    fn look_ended(&mut self, now: Duration, quorum: bool) {
        self.look = Some(Look { started: self.look_started, quorum });
        if quorum {
            self.look_failures = 0;
            return;
        }
        let pause = doubled(self.config.probe, self.look_failures).min(LONGEST_LOOK_PAUSE);
        self.look_failures = self.look_failures.saturating_add(1);
        self.look_not_before = now + pause;
    }

    /// A challenge that came to nothing, or a reign that did not last.
    fn failed(&mut self, now: Duration, random: u64) {
        if now >= self.failed_at + QUIET {
            self.failures = 0;
        }
        self.failed_at = now;
        let longest = doubled(self.config.timeout, self.failures).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all of it, so that those who failed together do not stand together again.
        self.not_before = now + longest / 2 + share(longest / 2, random);
        self.forget();
    }

    /// Whoever leads now is found out by looking.
    fn forget(&mut self) {
        (self.known, self.look) = (None, None);
    }
}

/// A share of `most` that `random` chooses.
fn share(most: Duration, random: u64) -> Duration {
    most.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16))
}

#[cfg(test)]
mod tests;
