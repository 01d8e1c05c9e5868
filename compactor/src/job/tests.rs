//! What a job does with what committed state says of its files.

use brigade_index::{archive::SetHash, batch::AttributeSet};

use super::*;
use crate::trial::{Trial, text};

fn context(trial: &Trial) -> JobContext {
    JobContext {
        shard: trial.shard.clone(),
        budget: Budget::new(0),
        metrics: CompactorMetrics::default(),
        memory_bytes: 1 << 20,
        aside: 0,
        part_bytes: 1 << 20,
        writer: WriterSettings::default(),
    }
}

/// A file of so many messages for a claim of two, that every region is said to have.
fn file(context: &JobContext, id: FileId, rows: u64) -> Archived {
    let file = ArchiveFile {
        id,
        first: Offset(0),
        end: Offset(2),
        rows,
        bytes: 10,
        payload_bytes: 10,
        crc: 0,
        set_hash: SetHash(0),
        min_timestamp_ms: 1,
        max_timestamp_ms: 1,
        attributes: AttributeSet::default(),
        merges: 0,
        compacted: false,
        regions: context.shard.state().regions.iter().map(|record| record.number).collect(),
    };
    Archived { id, file: Some(file), compacted: None }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_refused_or_whose_claim_is_lost_does_not_keep_the_others_back() {
    let trial = Trial::new(31).await;
    let topic = trial.wide_topic("t", 4).await;
    let values = |partition| (partition, vec![text(1), text(2)]);
    trial.publish_values(topic, &[0, 1, 2, 3].map(values)).await;
    let part = |partition| {
        let partition = Partition(partition);
        ClaimPart { topic, partition, first: Offset(0), end: Offset(2) }
    };
    let context = context(&trial);
    let files = |ids: Vec<FileId>| {
        let context = &context;
        async move {
            context.shard.propose(vec![Command::Release(vec![ids[2]])]).await.unwrap();
            // A message is missing in the second.
            let rows = [2, 1, 2, 2];
            Ok(ids.into_iter().zip(rows).map(|(id, rows)| file(context, id, rows)).collect())
        }
    };
    let error = context.under_claims((0..4).map(part).collect(), files).await.unwrap_err();
    let JobError::Refused { parts, rejection } = error else { panic!("{error}") };
    assert_eq!(parts, [(topic, Partition(1))], "{rejection}");
    let state = trial.shard.state();
    let files: Vec<_> = state.topic(topic).unwrap().partitions.iter().map(|log| log.files().len()).collect();
    assert_eq!(files, [1, 0, 0, 1]);
    assert!(state.archive.claims().is_empty(), "what was refused is given up");
}
