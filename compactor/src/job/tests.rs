//! What a job does with what committed state says of its files.

use brigade_index::{
    archive::SetHash,
    batch::AttributeSet,
    store::{
        Operation,
        fault::{Answer, Fault, Rule},
    },
};
use object_store::path::Path;

use super::*;
use crate::{
    plan::ArchiveJob,
    trial::{Trial, text},
};

const MIB: usize = 1 << 20;

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
        oldest_tombstone_ms: None,
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

/// Writes the object of a file to every region.
async fn upload(trial: &Trial, context: &JobContext, topic: TopicId, id: FileId) {
    let part = ClaimPart { topic, partition: Partition(0), first: Offset(0), end: Offset(2) };
    let mut outgoing = context.outgoing(JobKind::Archive, &context.place(&part).unwrap(), Offset(0), id);
    outgoing.push(Bytes::from_static(b"late"));
    assert_eq!(outgoing.finish().await.unwrap().len(), 3);
    for region in 0..3 {
        assert_eq!(trial.files_in(region).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_may_have_been_put_in_place_is_deleted() {
    let trial = Trial::new(33).await;
    let topic = trial.topic("t").await;
    trial.publish_values(topic, &[(0, vec![text(1), text(2)])]).await;
    let part = ClaimPart { topic, partition: Partition(0), first: Offset(0), end: Offset(2) };
    let context = context(&trial);
    let unknown = |ids: Vec<FileId>| {
        let (trial, context) = (&trial, &context);
        async move {
            upload(trial, context, topic, ids[0]).await;
            // The journal takes what it is told, and does not say so.
            for fault in &trial.faults {
                let lost = Fault::Hang { applied: true };
                fault.add(Rule::always(Operation::Put, lost).under(Path::from("journal")));
            }
            Ok(vec![file(context, ids[0], 2)])
        }
    };
    // Whether it ends or not.
    let _ = tokio::time::timeout(Duration::from_secs(60), context.under_claims(vec![part], unknown)).await;
    for region in 0..3 {
        assert_eq!(trial.files_in(region).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_leaves_no_parts() {
    let trial = Trial::new(34).await;
    let topic = trial.topic("t").await;
    let noise = || (0..MIB / 8).flat_map(|_| trial.env.entropy.next_u64().to_le_bytes()).collect::<Vec<_>>();
    trial.publish_values(topic, &[(0, (0..4).map(|_| noise()).collect())]).await;
    for region in [1, 2] {
        let broken = Fault::Fail { applied: false, answer: Answer::Status(403) };
        trial.faults[region].add(Rule::always(Operation::Put, broken).under(Path::from("archive")));
    }
    let aborted = Fault::Delay(Duration::from_millis(1));
    trial.faults[0].add(Rule::always(Operation::Delete, aborted).under(Path::from("archive")));
    let part = ClaimPart { topic, partition: Partition(0), first: Offset(0), end: Offset(4) };
    let job = ArchiveJob { parts: vec![part], input_bytes: 0 };
    let error = archive::run(&context(&trial), &job).await.unwrap_err();
    assert!(matches!(error, JobError::Regions { stored: 1, .. }), "{error}");
    assert_eq!(trial.faults[0].struck(), 1, "the upload to the region that is left is given up");
}
