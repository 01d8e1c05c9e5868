//! What a world is like when nothing special happens, drawn from the seed: how many regions it has, how fast and how
//! reliable their stores and the network are.

use std::time::Duration;

use brigade_compactor::{
    plan::PlanSettings,
    worker::{CompactorSettings, Pace},
};
use brigade_index::{
    archive::WriterSettings,
    store::{
        Operation,
        fault::{Answer, Fault, Latency, Rule},
    },
};
use rand::{RngExt, rngs::StdRng};

use super::region::Mood;

/// How stores behave in a world.
#[derive(Clone, Copy, Debug)]
enum Stores {
    /// A few milliseconds.
    Fast,
    /// Like real object stores: tens of milliseconds, with a heavy tail.
    Real,
    /// Fast, and every region different.
    Mixed,
}

/// What goes wrong all the time.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    /// F8: a fifth of all writes meets a conflict with itself, or an error after it was applied.
    OwnConflicts,
    /// A bit of everything.
    Everything,
}

/// The usual weather of a world.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// Regions that the cluster is founded with.
    pub(super) regions: usize,
    stores: Stores,
    trouble: Trouble,
    /// Chance that a message between nodes is lost.
    pub(super) loss: f64,
    /// What the compactors of all nodes go by.
    pub(super) compactor: CompactorSettings,
}

impl Weather {
    pub(super) fn draw(random: &mut StdRng) -> Self {
        let regions = match random.random_range(0..10) {
            0 => 1,
            1 => 5,
            _ => 3,
        };
        let stores = match random.random_range(0..4) {
            0 => Stores::Real,
            1 => Stores::Mixed,
            _ => Stores::Fast,
        };
        let trouble = match random.random_range(0..4) {
            0 => Trouble::OwnConflicts,
            1 => Trouble::Everything,
            _ => Trouble::None,
        };
        let loss = if random.random_bool(0.3) { 0.01 } else { 0.0 };
        Self { regions, stores, trouble, loss, compactor: compactor(random) }
    }

    /// The usual mood of one region's store.
    pub(super) fn mood(&self, random: &mut StdRng) -> Mood {
        let (median, tail) = match self.stores {
            Stores::Fast => (random.random_range(1..5), 3),
            Stores::Real => (random.random_range(15..60), 7),
            Stores::Mixed => ([2, 20, 60][random.random_range(0..3)], 5),
        };
        let latency = Latency { median: Duration::from_millis(median), p99: Duration::from_millis(median * tail) };
        Mood { latency, rules: self.trouble.rules(), away: false, full: false }
    }
}

/// A compactor that is never at rest while messages come: it archives a few KiB at a time.
fn compactor(random: &mut StdRng) -> CompactorSettings {
    let pick = |random: &mut StdRng, from: &[u64]| from[random.random_range(0..from.len())];
    let file_bytes = pick(random, &[2 << 10, 6 << 10, 16 << 10]);
    let merge_least = random.random_range(2..4);
    let plan = PlanSettings {
        file_bytes,
        max_file_bytes: pick(random, &[16 << 10, 40 << 10, 120 << 10]),
        job_bytes: file_bytes * random.random_range(1..5),
        pressure_bytes: 1 << 10,
        job_partitions: random.random_range(1..9),
        archive_after_ms: random.random_range(300..4_000),
        idle_after_ms: random.random_range(4_000..12_000),
        min_file_bytes: pick(random, &[1, 512, 2 << 10]),
        max_runs_partition: pick(random, &[8, 60, 10_000]) as usize,
        max_runs: pick(random, &[30, 200_000]) as usize,
        merge_fan_in: merge_least + random.random_range(0..4),
        merge_least,
        jobs_of_a_kind: random.random_range(1..5),
    };
    let writer = WriterSettings {
        row_group_bytes: pick(random, &[512, 4 << 10, 16 << 20]) as usize,
        row_group_rows: pick(random, &[7, 50, 10_000]) as usize,
        page_bytes: pick(random, &[100, 1 << 10, 256 << 10]) as usize,
        ..WriterSettings::default()
    };
    let pace = Pace {
        dead_entries: pick(random, &[20, 100, 400]),
        views_every: Duration::from_millis(pick(random, &[300, 3_000])),
        pause: Duration::from_millis(pick(random, &[500, 3_000])),
        pauses: (Duration::from_millis(300), Duration::from_secs(4)),
    };
    CompactorSettings {
        enabled: true,
        plan,
        writer,
        memory_bytes: pick(random, &[64 << 10, 1 << 20]) as usize,
        part_bytes: pick(random, &[1 << 10, 8 << 10, 8 << 20]) as usize,
        bytes_per_second: pick(random, &[0, 300 << 10]),
        repair_bytes_per_second: pick(random, &[0, 1 << 20]),
        delete_delay: Duration::from_millis(pick(random, &[0, 500, 3_000])),
        pace,
    }
}

impl Trouble {
    fn rules(self) -> Vec<Rule> {
        let fail = |operation, applied, answer, chance| {
            Rule::always(operation, Fault::Fail { applied, answer }).with_chance(chance)
        };
        match self {
            Self::None => Vec::new(),
            Self::OwnConflicts => own_conflicts(0.2),
            Self::Everything => {
                let all = [Operation::Put, Operation::Get, Operation::List];
                let unavailable = all.map(|operation| fail(operation, false, Answer::Status(503), 0.03));
                let hang = |applied| Rule::always(Operation::Put, Fault::Hang { applied }).with_chance(0.005);
                let damage = Rule::always(Operation::Get, Fault::Truncate).with_chance(0.01);
                let flip = Rule::always(Operation::Get, Fault::Flip).with_chance(0.02).under("archive".into());
                unavailable
                    .into_iter()
                    .chain([hang(true), hang(false), damage, flip])
                    .chain(own_conflicts(0.05))
                    .collect()
            }
        }
    }
}

/// Writes that are applied and answered with a conflict with themselves, or with an error.
pub(super) fn own_conflicts(chance: f64) -> Vec<Rule> {
    let answers = [(Answer::AlreadyExists, 0.5), (Answer::Reset, 0.25), (Answer::Status(500), 0.25)];
    let rule = |(answer, share)| {
        Rule::always(Operation::Put, Fault::Fail { applied: true, answer }).with_chance(chance * share)
    };
    answers.map(rule).into()
}

/// Most operations are refused, some of the writes after they were applied.
pub(super) fn storm(random: &mut StdRng) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (answer, chance) in [(503, 0.4), (429, 0.3), (500, 0.2)] {
        let fault = Fault::Fail { applied: random.random_bool(0.5), answer: Answer::Status(answer) };
        rules.push(Rule::always(Operation::Put, fault).with_chance(chance));
    }
    let fault = Fault::Fail { applied: false, answer: Answer::Status(503) };
    rules.push(Rule::always(Operation::Get, fault).with_chance(0.4));
    rules
}
