//! Figures of a shard and of its regions, with the content of `/v1/shards` and `/v1/regions`.
//!
//! Labels are bounded: a cluster has five regions at most and a few while they change, and every state has its line.

use std::fmt;

use brigade_index::shard::{REGION_STATES, RegionStatus, ShardStatus};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
};

use crate::serve::{Known, Seat};

/// What is known of a shard at one moment.
#[derive(Debug)]
pub(crate) struct ShardFigures {
    pub(crate) status: ShardStatus,
    /// Its topics.
    pub(crate) topics: u64,
    /// Their partitions.
    pub(crate) partitions: u64,
    /// Bytes of messages in one region's journal, and in its archive.
    pub(crate) stored: [u64; 2],
    /// How often this process took the shard over.
    pub(crate) takeovers: u64,
    /// How often another node took it over from this process.
    pub(crate) depositions: u64,
    /// Whether it follows a leader that answers.
    pub(crate) follows: bool,
}

impl ShardFigures {
    /// What a node knows.
    pub(crate) fn of(seat: &Seat) -> Self {
        let Known { status, topics, partitions, stored } = seat.known();
        let (takeovers, depositions) = seat.changes();
        let follows = seat.lead().is_err_and(|absent| absent.lives);
        Self { status, topics, partitions, stored, takeovers, depositions, follows }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegionLabels {
    region: String,
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    region: String,
    shard: u32,
    state: &'static str,
}

/// A figure of each region: its name, what it is, and its value.
type RegionFigure = (&'static str, &'static str, fn(&RegionStatus) -> u64);

const REGION_FIGURES: [RegionFigure; 7] = [
    ("brigade_region_in_sync", "1 while the region has every committed entry", |region| {
        u64::from(region.state == "in_sync")
    }),
    ("brigade_region_votes", "1 while the region counts towards the quorum", |region| u64::from(region.votes)),
    ("brigade_region_accepted", "Last entry that the region has accepted", |region| region.accepted.0),
    ("brigade_region_behind_entries", "Committed entries that the region has not accepted", |region| {
        region.behind_entries
    }),
    ("brigade_region_behind_bytes", "Bytes of those entries", |region| region.behind_bytes),
    (
        "brigade_region_copies_missing",
        "Entries that the region has accepted without a copy of their messages",
        |region| region.copies_missing,
    ),
    ("brigade_region_files_missing", "Archive files that the region does not hold yet", |region| region.files_missing),
];

impl ShardFigures {
    /// Writes all figures.
    ///
    /// # Errors
    /// When the writer fails.
    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_shard(encoder)?;
        self.encode_partitions(encoder)?;
        self.encode_regions(encoder)
    }

    fn labels(&self) -> ShardLabels {
        ShardLabels { shard: self.status.shard.0 }
    }

    fn encode_shard(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = &self.status;
        let labels = self.labels();
        let mut shard = |name, help, value: u64| gauges(encoder, name, help, [(labels, value)]);
        let leads = u64::from(status.state == "leading");
        shard("brigade_shard_is_leader", "1 while this node leads the shard", leads)?;
        shard("brigade_shard_following", "1 while this node follows a leader that answers", self.follows.into())?;
        shard("brigade_shard_ballot_round", "Round of the ballot of this node's reign", status.ballot.round)?;
        shard("brigade_shard_committed", "Last entry committed", status.committed.0)?;
        shard("brigade_shard_sealed_sequence", "Last entry sealed", status.sealed.0)?;
        shard("brigade_shard_snapshot_sequence", "Last entry that a snapshot covers", status.snapshot.0)?;
        shard("brigade_shard_snapshot_bytes", "Size of the last snapshot", status.snapshot_bytes)?;
        shard("brigade_shard_appends_in_flight", "Entries being appended", status.in_flight as u64)?;
        let problem = u64::from(status.store_problem.is_some());
        shard("brigade_shard_store_problem", "1 while the store takes no writes", problem)?;
        shard("brigade_shard_topics", "Topics", self.topics)?;
        let [journal, archive] = self.stored;
        shard("brigade_shard_journal_bytes", "Bytes of messages in the journal of one region", journal)?;
        shard("brigade_shard_archive_bytes", "Bytes of archive files in one region", archive)?;
        if let Some(took) = status.takeover_ms {
            let help = "How long the last takeover by this node took";
            gauges(encoder, "brigade_shard_takeover_seconds", help, [(labels, took as f64 / 1000.0)])?;
        }
        for (name, help, value) in [
            ("brigade_shard_takeovers", "Takeovers of the shard by this process", self.takeovers),
            ("brigade_shard_depositions", "Takeovers of the shard from this process", self.depositions),
        ] {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A partition is under-replicated when a region that votes is not in sync; it is offline when this node knows of no
    /// leader that can commit. All partitions of a shard share its fate.
    fn encode_partitions(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut count = |name, help, condition: bool| {
            gauges(encoder, name, help, [(self.labels(), if condition { self.partitions } else { 0 })])
        };
        let help = "Partitions of which a region that votes is not in sync";
        count("brigade_under_replicated_partitions", help, self.status.is_under_replicated())?;
        let help = "Partitions for which this node knows of no leader that can commit";
        count("brigade_offline_partitions", help, self.status.is_offline())
    }

    /// Every region has a line for every state, with 1 for the one it is in.
    fn encode_regions(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (shard, regions) = (self.status.shard.0, &self.status.regions);
        let labels = |region: &RegionStatus| RegionLabels { region: region.name.to_string(), shard };
        for (name, help, value) in REGION_FIGURES {
            gauges(encoder, name, help, regions.iter().map(|region| (labels(region), value(region))))?;
        }
        let seconds = regions.iter().map(|region| (labels(region), region.behind_ms as f64 / 1000.0));
        let help = "For how long the oldest of those entries has been committed";
        gauges(encoder, "brigade_region_behind_seconds", help, seconds)?;
        let states = regions.iter().flat_map(|region| {
            REGION_STATES.map(|state| {
                let labels = StateLabels { region: region.name.to_string(), shard, state };
                (labels, u64::from(region.state == state))
            })
        });
        gauges(encoder, "brigade_region_state", "1 for the state that the region is in", states)
    }
}

/// Writes a gauge for each set of labels.
fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, V)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
}

#[cfg(test)]
mod tests {
    use brigade_index::{
        ids::{Ballot, RegionNo, Sequence, ShardId},
        names::RegionName,
    };
    use prometheus_client::{collector::Collector, registry::Registry};

    use super::*;

    #[derive(Debug)]
    struct Fixed(ShardFigures);

    impl Collector for Fixed {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            self.0.encode(&mut encoder)
        }
    }

    fn region(number: u16, name: &str, state: &'static str, behind: u64) -> RegionStatus {
        RegionStatus {
            number: RegionNo(number),
            name: RegionName::new(name).unwrap(),
            url: String::new(),
            votes: true,
            state,
            accepted: Sequence(9 - behind),
            behind_entries: behind,
            behind_bytes: behind * 100,
            behind_ms: behind * 500,
            copies_missing: 0,
            files_missing: 0,
            problem: None,
            hint: None,
        }
    }

    #[test]
    fn a_region_behind_shows_in_its_own_figures_and_in_those_of_partitions() {
        let status = ShardStatus {
            state: "leading",
            ballot: Ballot { round: 3, nonce: 1 },
            committed: Sequence(9),
            sealed: Sequence(10),
            in_flight: 1,
            snapshot: Sequence(4),
            leader_since_ms: Some(1_000),
            takeover_ms: Some(70),
            voters: [0, 1, 2].map(RegionNo).into(),
            regions: vec![region(0, "a", "in_sync", 0), region(1, "b", "in_sync", 0), region(2, "c", "behind", 3)],
            ..ShardStatus::unknown(ShardId(0))
        };
        let mut registry = Registry::default();
        let (topics, partitions, takeovers, depositions, follows) = (2, 5, 4, 1, false);
        let stored = [700, 800];
        let figures = ShardFigures { status, topics, partitions, stored, takeovers, depositions, follows };
        registry.register_collector(Box::new(Fixed(figures)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "brigade_shard_takeover_seconds{shard=\"0\"} 0.07",
            "brigade_shard_takeovers_total{shard=\"0\"} 4",
            "brigade_shard_journal_bytes{shard=\"0\"} 700",
            "brigade_shard_archive_bytes{shard=\"0\"} 800",
            "brigade_under_replicated_partitions{shard=\"0\"} 5",
            "brigade_offline_partitions{shard=\"0\"} 0",
            "brigade_region_in_sync{region=\"b\",shard=\"0\"} 1",
            "brigade_region_in_sync{region=\"c\",shard=\"0\"} 0",
            "brigade_region_behind_entries{region=\"c\",shard=\"0\"} 3",
            "brigade_region_behind_bytes{region=\"c\",shard=\"0\"} 300",
            "brigade_region_behind_seconds{region=\"c\",shard=\"0\"} 1.5",
            "brigade_region_state{region=\"c\",shard=\"0\",state=\"behind\"} 1",
            "brigade_region_state{region=\"c\",shard=\"0\",state=\"in_sync\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("brigade_region_state{")).count(), 21);
    }
}
