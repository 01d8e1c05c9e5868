//! In which order an archive job reads entries: each of them once, as far as that is possible.

use std::{collections::BTreeMap, ops::Range};

use brigade_index::{
    ids::Sequence,
    state::{BatchLocation, Run},
};

/// Most bytes of batches that are fetched for one step, unless a batch is larger.
const STEP: u64 = 8 << 20;

/// Bytes between two batches that are read along: a further request costs about as much as they do.
const GAP: u64 = 1 << 20;

/// What is fetched together, and then goes into the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What to read.
    pub(super) fetches: Vec<Fetch>,
    /// The runs, each with the part that it goes into; those of a part in order of their offsets.
    pub(super) pieces: Vec<(usize, Run)>,
}

/// Bytes of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) sequence: Sequence,
    pub(super) range: Range<u64>,
}

impl Step {
    fn of(pieces: Vec<(usize, Run)>) -> Self {
        let mut batches: Vec<_> = pieces.iter().map(|(_, run)| run.batch).collect();
        batches.sort_by_key(|batch| (batch.sequence, batch.at));
        let mut fetches: Vec<Fetch> = Vec::new();
        for BatchLocation { sequence, at, len, .. } in batches {
            let end = at + u64::from(len);
            match fetches.last_mut().filter(|last| last.sequence == sequence && at <= last.range.end + GAP) {
                Some(last) => last.range.end = last.range.end.max(end),
                None => fetches.push(Fetch { sequence, range: at..end }),
            }
        }
        Self { fetches, pieces }
    }

    /// Bytes to be fetched.
    pub(super) fn bytes(&self) -> u64 {
        self.fetches.iter().map(|fetch| fetch.range.end - fetch.range.start).sum()
    }
}

/// Steps for the runs of each part, which are in order of their offsets.
///
/// Entries are read in their order. Messages of a transaction are in an older entry than their neighbours; they are read,
/// once more, when it is their turn.
pub(super) fn steps(parts: &[Vec<Run>]) -> Vec<Step> {
    let mut turns: BTreeMap<Sequence, Vec<(usize, Run)>> = BTreeMap::new();
    for (part, runs) in parts.iter().enumerate() {
        let mut turn = Sequence(0);
        for run in runs {
            turn = turn.max(run.batch.sequence);
            turns.entry(turn).or_default().push((part, *run));
        }
    }
    let mut steps = Vec::with_capacity(turns.len());
    for pieces in turns.into_values() {
        let (mut step, mut bytes, mut last): (Vec<(usize, Run)>, u64, _) = (Vec::new(), 0, None);
        for (part, run) in pieces {
            // Runs of one batch follow each other.
            if last.replace(run.batch) != Some(run.batch) {
                let more = u64::from(run.batch.len);
                if !step.is_empty() && bytes + more > STEP {
                    steps.push(Step::of(std::mem::take(&mut step)));
                    bytes = 0;
                }
                bytes += more;
            }
            step.push((part, run));
        }
        steps.push(Step::of(step));
    }
    steps
}

#[cfg(test)]
mod tests {
    use brigade_index::{batch::AttributeSet, ids::Offset};

    use super::*;

    fn run(base: u64, rows: u32, sequence: u64, at: u64, len: u32) -> Run {
        Run {
            base: Offset(base),
            first_row: 0,
            rows,
            batch: BatchLocation { sequence: Sequence(sequence), at, len, crc: 0 },
            min_timestamp_ms: 0,
            max_timestamp_ms: 0,
            attributes: AttributeSet::default(),
        }
    }

    fn ranges(step: &Step) -> Vec<(u64, Range<u64>)> {
        step.fetches.iter().map(|fetch| (fetch.sequence.0, fetch.range.clone())).collect()
    }

    #[test]
    fn an_entry_is_read_once_for_all_parts() {
        let parts = [
            vec![run(0, 1, 1, 100, 50), run(1, 1, 2, 100, 50), run(2, 1, 2, 100, 50)],
            vec![run(5, 1, 1, 150, 50), run(6, 1, 2, 400, 10)],
        ];
        let steps = steps(&parts);
        assert_eq!(steps.iter().map(ranges).collect::<Vec<_>>(), [vec![(1, 100..200)], vec![(2, 100..410)]]);
        assert_eq!(
            steps[1].pieces.iter().map(|(part, run)| (*part, run.base.0)).collect::<Vec<_>>(),
            [(0, 1), (0, 2), (1, 6)]
        );
        assert_eq!(steps[1].bytes(), 310);
    }

    #[test]
    fn messages_of_a_transaction_wait_for_their_turn() {
        // Prepared in entry 2, committed between two batches of entry 9.
        let parts = [vec![run(0, 1, 1, 0, 9), run(1, 1, 9, 0, 9), run(2, 1, 2, 0, 9), run(3, 1, 9, 9, 9)]];
        let steps = steps(&parts);
        assert_eq!(steps.iter().map(ranges).collect::<Vec<_>>(), [vec![(1, 0..9)], vec![(2, 0..9), (9, 0..18)]]);
        let offsets: Vec<_> = steps.iter().flat_map(|step| &step.pieces).map(|(_, run)| run.base.0).collect();
        assert_eq!(offsets, [0, 1, 2, 3]);
    }

    #[test]
    fn large_entries_are_read_piece_by_piece_and_gaps_are_skipped() {
        let mib = 1 << 20;
        let parts = [(0..20).map(|n| run(n, 1, 1, n * 2 * mib, 2 * mib as u32)).collect::<Vec<_>>()];
        let all = steps(&parts);
        assert_eq!(all.iter().map(Step::bytes).collect::<Vec<_>>(), [8 * mib; 5]);
        let far = [vec![run(0, 1, 1, 0, 10), run(1, 1, 1, 2 * mib, 10)]];
        assert_eq!(ranges(&steps(&far)[0]).len(), 2);
    }
}
