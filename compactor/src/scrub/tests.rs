//! Scrubbing against stores in memory.

use std::{sync::Arc, time::Duration};

use brigade_index::{
    ids::Sequence,
    keys::{self, Key},
    shard::inspect::inspect,
};
use object_store::{ObjectStoreExt, memory::InMemory};
use parking_lot::Mutex;

use super::*;
use crate::testbed::{Bed, Lead, SHARD};

const THREE: [&str; 3] = ["a", "b", "c"];

async fn scrub_with(bed: &Bed, repair: bool, done: &Arc<Mutex<Done>>) -> Report {
    let settings = ScrubSettings { repair, ..ScrubSettings::default() };
    Scrub::new(SHARD, bed.targets(), settings, Arc::default(), done.clone()).run().await.unwrap()
}

async fn scrub(bed: &Bed, repair: bool) -> Report {
    scrub_with(bed, repair, &Arc::default()).await
}

/// Errors and warnings that are not repaired: code, region, key.
fn open(report: &Report) -> Vec<(Code, &str, &str)> {
    let open = report.findings.iter().filter(|finding| finding.severity > Severity::Info && !finding.repaired);
    open.map(|finding| (finding.code, finding.region.as_str(), finding.key.as_str())).collect()
}

/// A cluster with files, runs behind them, a truncation mark, and entries behind that.
async fn filled(names: &[&str]) -> (Bed, Lead, Vec<Key>) {
    let bed = Bed::new(names);
    let lead = bed.lead(names).await;
    let topic = lead.topic("orders").await;
    lead.publish_many(topic, 0, 6).await;
    lead.publish_many(topic, 1, 3).await;
    let files = vec![lead.archive(topic, 0, 2, names).await, lead.archive(topic, 1, 0, names).await];
    lead.settle().await;
    lead.shard.snapshot().await.unwrap();
    lead.publish_many(topic, 1, 3).await;
    lead.settle().await;
    (bed, lead, files)
}

/// The entries below and behind the truncation mark whose batches are referenced, with their keys in a region.
async fn entries(bed: &Bed, region: &str) -> (Vec<Key>, Vec<Key>) {
    let content = inspect(&bed.region(region), SHARD).await.unwrap();
    let state = content.state_at(content.accepted()).unwrap();
    let floor = content.floor.as_ref().unwrap().snapshot.sequence;
    let key = |sequence: Sequence| content.key_of(SHARD, sequence).unwrap();
    let (below, behind): (Vec<_>, Vec<_>) = state.bodies().partition(|sequence| *sequence <= floor);
    (below.into_iter().map(key).collect(), behind.into_iter().map(key).collect())
}

async fn repaired(bed: &Bed, expected: &[(Code, &str, &str)]) {
    let found = scrub(bed, false).await;
    assert_eq!(open(&found), expected, "{found:#?}");
    assert!(!found.is_clean());
    let repair = scrub(bed, true).await;
    assert!(repair.is_clean(), "{repair:#?}");
    assert_eq!(
        repair.findings.iter().filter(|finding| finding.repaired && finding.severity > Severity::Info).count(),
        expected.len()
    );
    let again = scrub(bed, false).await;
    assert!(again.is_clean() && open(&again).is_empty(), "{again:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_healthy_cluster_is_clean_and_its_regions_hold_the_same() {
    for names in [&THREE[..], &["a"]] {
        let (bed, lead, _) = filled(names).await;
        let report = scrub(&bed, false).await;
        assert!(report.is_clean() && open(&report).is_empty(), "{report:#?}");
        assert_eq!(report.sequence, lead.shard.status().committed.0, "what a majority has accepted is committed");
        assert_eq!(report.partitions.len(), 2);
        let of = &report.partitions;
        assert_eq!([of[0].messages, of[1].messages], [30, 30]);
        for partition in of {
            assert_eq!(partition.files, 1);
            assert_eq!(partition.regions.len(), names.len());
            let first = &partition.regions[0];
            for held in &partition.regions {
                assert!(held.complete && held.messages == 30 && held.set_hash == first.set_hash, "{partition:#?}");
            }
        }
        assert!(report.regions.iter().all(|region| region.checked && region.files_checked == 2));
    }
}

#[tokio::test(start_paused = true)]
async fn archive_files_that_are_missing_or_damaged_are_copied_from_another_region() {
    let (bed, _lead, files) = filled(&THREE).await;
    bed.delete("b", &files[0]).await;
    // Somewhere in its messages, and cut short.
    bed.flip("a", &files[1], 300).await;
    let mut cut = bed.get("c", &files[0]).await.unwrap();
    cut.truncate(cut.len() / 2);
    bed.put("c", &files[0], cut).await;
    let expected = [
        (Code::CorruptObject, "a", files[1].as_ref()),
        (Code::MissingObject, "b", files[0].as_ref()),
        (Code::CorruptObject, "c", files[0].as_ref()),
    ];
    repaired(&bed, &expected).await;
    for key in &files {
        let bytes = bed.get("a", key).await;
        assert!(bytes.is_some() && bytes == bed.get("b", key).await && bytes == bed.get("c", key).await);
    }
}

#[tokio::test(start_paused = true)]
async fn every_bit_of_an_archive_file_counts() {
    let (bed, _lead, files) = filled(&["a"]).await;
    let length = bed.get("a", &files[0]).await.unwrap().len();
    for at in (0..length).step_by(41).chain([length - 1]) {
        bed.flip("a", &files[0], at).await;
        let report = scrub(&bed, false).await;
        assert_eq!(open(&report), [(Code::CorruptObject, "a", files[0].as_ref())], "bit at {at}");
        bed.flip("a", &files[0], at).await;
    }
    assert!(scrub(&bed, true).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn batches_are_restored_below_and_behind_the_truncation_mark() {
    let (bed, _lead, _) = filled(&THREE).await;
    let (below, behind) = entries(&bed, "b").await;
    let whole = [bed.get("b", &below[0]).await.unwrap(), bed.get("b", &behind[0]).await.unwrap()];
    bed.flip("b", &below[0], usize::MAX).await;
    bed.flip("b", &behind[0], usize::MAX).await;
    // The head itself, and the object.
    bed.flip("b", &below[1], 50).await;
    let (other, _) = entries(&bed, "c").await;
    bed.delete("c", &other[0]).await;
    let mut expected = [
        (Code::CorruptObject, "b", below[0].as_ref()),
        (Code::CorruptObject, "b", below[1].as_ref()),
        (Code::CorruptObject, "b", behind[0].as_ref()),
        (Code::MissingObject, "c", other[0].as_ref()),
    ];
    expected.sort_by_key(|(_, region, key)| (*region, *key));
    repaired(&bed, &expected).await;
    assert_eq!(bed.get("b", &below[0]).await.unwrap(), whole[0], "as it was, byte for byte");
    assert_eq!(bed.get("b", &behind[0]).await.unwrap(), whole[1], "as it was, byte for byte");
    // Who leads next reads it all from that region.
    let bed = Bed { stores: bed.stores.clone(), ..bed };
    bed.lead(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_section_on_the_path_becomes_what_it_was() {
    let (bed, _lead, _) = filled(&THREE).await;
    let (_, behind) = entries(&bed, "a").await;
    let whole = bed.get("a", &behind[1]).await.unwrap();
    bed.flip("a", &behind[1], 110).await;
    let found = scrub(&bed, false).await;
    assert!(open(&found).contains(&(Code::CorruptObject, "a", behind[1].as_ref())), "{found:#?}");
    let repair = scrub(&bed, true).await;
    assert!(repair.findings.iter().any(|finding| finding.repaired && finding.key == behind[1].as_ref()));
    assert_eq!(bed.get("a", &behind[1]).await.unwrap(), whole);
    assert!(scrub(&bed, false).await.is_clean(), "what lay behind it was not looked at before");
}

#[tokio::test(start_paused = true)]
async fn what_the_path_needs_and_nobody_can_give_back_is_told() {
    let (bed, _lead, _) = filled(&THREE).await;
    let (_, behind) = entries(&bed, "a").await;
    // The head of an object on the path.
    bed.flip("a", &behind[1], 50).await;
    let report = scrub(&bed, true).await;
    assert!(open(&report).contains(&(Code::CorruptObject, "a", behind[1].as_ref())), "{report:#?}");
    assert!(report.findings.iter().any(|finding| finding.hint.contains("brigade region replace")));
    // An object on the path: what lies behind it says that it was committed, and there is nobody else.
    let (bed, lead, _) = filled(&["a"]).await;
    lead.settle().await;
    let (_, behind) = entries(&bed, "a").await;
    bed.delete("a", &behind[0]).await;
    let report = scrub(&bed, true).await;
    assert_eq!(open(&report), [(Code::MissingObject, "a", behind[0].as_ref())], "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn snapshots_come_from_another_region() {
    let (bed, _lead, _) = filled(&THREE).await;
    let snapshot = bed.keys("a", "journal/00000000/snapshot").await.pop().unwrap();
    bed.delete("a", &snapshot).await;
    bed.flip("b", &snapshot, 200).await;
    let expected = [(Code::MissingObject, "a", snapshot.as_ref()), (Code::CorruptObject, "b", snapshot.as_ref())];
    let found = scrub(&bed, false).await;
    let found: Vec<_> = open(&found).into_iter().filter(|(code, ..)| *code != Code::NotChecked).collect();
    assert_eq!(found, expected);
    scrub(&bed, true).await;
    assert!(scrub(&bed, false).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn dead_objects_are_deleted_and_others_are_left() {
    let (bed, lead, files) = filled(&THREE).await;
    let topic = lead.shard.state().topics().next().unwrap().id;
    // One that a dead compactor finished after its claim was released and its key deleted.
    let (id, part) = lead.claim(topic, 1, 0).await;
    lead.submit(vec![brigade_index::command::Command::Release(vec![id])], Vec::new()).await;
    lead.submit(vec![brigade_index::command::Command::Deleted(vec![id])], Vec::new()).await;
    // One that is claimed.
    let (claimed, _) = lead.claim(topic, 1, 0).await;
    lead.settle().await;
    let name = brigade_index::names::TopicName::new("orders").unwrap();
    let of = |id| keys::archive_file(&name, topic, part.partition, part.first, id);
    let future = of(brigade_index::ids::FileId(claimed.0 + 5));
    for key in [&of(id), &of(claimed), &future, &Key::from("notes.txt"), &Key::from("journal/notes")] {
        bed.put("b", key, b"x".to_vec()).await;
    }
    let report = scrub(&bed, true).await;
    assert_eq!(
        open(&report),
        [(Code::ForeignObject, "b", "journal/notes"), (Code::ForeignObject, "b", "notes.txt")],
        "{report:#?}"
    );
    assert!(bed.get("b", &of(id)).await.is_none(), "its number will never be used");
    assert!(bed.get("b", &of(claimed)).await.is_some(), "somebody may be writing it");
    assert!(bed.get("b", &future).await.is_some(), "the index does not know it yet");
    // Entries that are in archive files now, below the mark, are gone; what is referenced is there.
    let again = scrub(&bed, false).await;
    assert!(!again.findings.iter().any(|finding| finding.code == Code::ExtraObject), "{again:#?}");
    assert!(again.partitions.iter().flat_map(|p| &p.regions).all(|held| held.complete));
    for key in &files {
        assert!(bed.get("b", key).await.is_some());
    }
    drop(lead);
    let lead = bed.lead(&THREE).await;
    for partition in 0..2 {
        let found = crate::testbed::read(&bed, "a", &lead.shard, topic, partition).await;
        assert_eq!(found.len(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn stores_that_are_not_the_region_are_refused() {
    let (bed, _lead, _) = filled(&THREE).await;
    let mut swapped = bed.clone();
    let (a, b) = (bed.stores["a"].clone(), bed.stores["b"].clone());
    swapped.stores.insert("a".to_owned(), b);
    swapped.stores.insert("b".to_owned(), a);
    let report = scrub(&swapped, true).await;
    assert_eq!(open(&report), [(Code::WrongRegion, "a", ""), (Code::WrongRegion, "b", "")]);
    let mut wiped = bed.clone();
    wiped.stores.insert("a".to_owned(), Arc::default());
    let report = scrub(&wiped, true).await;
    assert_eq!(open(&report), [(Code::MissingIdentity, "a", "")]);
    assert!(wiped.keys("a", "").await.is_empty(), "nothing is repaired in a region that is none");
    let (other, _other, _) = filled(&THREE).await;
    let mut mixed = bed.clone();
    mixed.stores.insert("c".to_owned(), other.stores["c"].clone());
    assert_eq!(open(&scrub(&mixed, true).await), [(Code::WrongRegion, "c", "")]);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_behind_is_not_damaged_and_one_that_went_back_is() {
    let (bed, lead, _) = filled(&THREE).await;
    let topic = lead.shard.state().topics().next().unwrap().id;
    let old = copy_of(&bed, "c").await;
    lead.publish_many(topic, 0, 3).await;
    lead.settle().await;
    drop(lead);
    let mut back = bed.clone();
    back.stores.insert("c".to_owned(), old);
    let report = scrub(&back, false).await;
    let behind = report.findings.iter().find(|finding| finding.code == Code::RegionBehind).unwrap();
    assert_eq!((behind.region.as_str(), behind.severity), ("c", Severity::Info), "{report:#?}");
    // Only a mark tells the one from the other: the next truncation mark of the others has it.
    let lead = bed.lead(&THREE).await;
    lead.settle().await;
    let old = copy_of(&bed, "c").await;
    lead.publish_many(topic, 0, 3).await;
    lead.settle().await;
    lead.shard.snapshot().await.unwrap();
    drop(lead);
    let mut back = bed.clone();
    back.stores.insert("c".to_owned(), old);
    let report = scrub(&back, false).await;
    assert_eq!(open(&report), [(Code::RegionWentBackwards, "c", "")], "{report:#?}");
}

/// A copy of a region as it is now.
async fn copy_of(bed: &Bed, region: &str) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    for key in bed.keys(region, "").await {
        let bytes = bed.get(region, &key).await.unwrap();
        store.put(&key, bytes.into()).await.unwrap();
    }
    store
}

#[tokio::test(start_paused = true)]
async fn what_was_found_whole_is_not_read_again() {
    let (bed, lead, files) = filled(&THREE).await;
    let done = Arc::new(Mutex::new(Done::default()));
    let first = scrub_with(&bed, false, &done).await;
    let text = serde_json::to_string(&*done.lock()).unwrap();
    let resumed = Arc::new(Mutex::new(serde_json::from_str::<Done>(&text).unwrap()));
    assert!(resumed.lock().objects() > 10);
    let settings = ScrubSettings::default();
    let progress = Arc::<Progress>::default();
    let targets = bed.targets();
    let metrics = brigade_index::store::StoreMetrics::new();
    let targets: Vec<_> = targets
        .into_iter()
        .map(|target| {
            let store: Arc<dyn object_store::ObjectStore> = bed.stores[target.name.as_str()].clone();
            let timing = brigade_index::store::StoreTiming::default();
            let store = brigade_index::store::RegionStore::new(
                target.name.clone(),
                store,
                metrics.clone(),
                timing,
                bed.env.clone(),
            );
            Target { store: Ok(store), ..target }
        })
        .collect();
    let again = Scrub::new(SHARD, targets, settings, progress, resumed.clone()).run().await.unwrap();
    assert_eq!((&again.partitions, again.is_clean()), (&first.partitions, true));
    let file_bytes = bed.get("a", &files[0]).await.unwrap().len() as u64;
    assert!(metrics.totals().bytes_got < 6 * file_bytes + 60_000, "{:?}", metrics.totals());
    // What was written anew since is read anew, and what is gone is missed.
    bed.flip("a", &files[0], 500).await;
    bed.delete("b", &files[1]).await;
    let report = scrub_with(&bed, false, &resumed).await;
    assert_eq!(open(&report).len(), 2, "{report:#?}");
    drop(lead);
}

#[tokio::test(start_paused = true)]
async fn beside_a_cluster_at_work_nothing_is_found_and_nothing_is_lost() {
    let (bed, lead, _) = filled(&THREE).await;
    let topic = lead.shard.state().topics().next().unwrap().id;
    let working = tokio::spawn(async move {
        for _ in 0..6 {
            lead.publish_many(topic, 0, 4).await;
            lead.archive(topic, 0, 1, &THREE).await;
            lead.shard.snapshot().await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        lead
    });
    let mut looks = 0;
    while !working.is_finished() {
        let report = scrub(&bed, looks % 2 == 0).await;
        assert!(open(&report).is_empty(), "{report:#?}");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let lead = working.await.unwrap();
    lead.settle().await;
    assert!(looks > 2);
    let report = scrub(&bed, true).await;
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.partitions.iter().flat_map(|partition| &partition.regions).all(|held| held.complete));
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_one_regions_path_is_told_until_a_takeover_puts_it_right() {
    let (bed, lead, _) = filled(&THREE).await;
    let topic = lead.shard.state().topics().next().unwrap().id;
    lead.publish_many(topic, 0, 4).await;
    lead.settle().await;
    drop(lead);
    let (_, behind) = entries(&bed, "b").await;
    let [flipped, gone, cut] = [behind[1].clone(), behind[2].clone(), behind[3].clone()];
    bed.flip("b", &flipped, 110).await;
    bed.delete("b", &gone).await;
    let bytes = bed.get("b", &cut).await.unwrap();
    bed.put("b", &cut, bytes[..40].to_vec()).await;
    let report = scrub(&bed, true).await;
    // What can be repaired is repaired at once; the hole is told, and nothing is written into it.
    assert!(report.findings.iter().any(|finding| finding.repaired && finding.key == flipped.as_ref()), "{report:#?}");
    let left = [(Code::CorruptObject, "b", cut.as_ref()), (Code::MissingObject, "b", gone.as_ref())];
    let mut found = open(&report);
    found.sort_by_key(|(code, ..)| code.as_str());
    assert_eq!(found, left, "{report:#?}");
    let hole = report.findings.iter().find(|finding| finding.code == Code::MissingObject).unwrap();
    assert!(hole.hint.contains("a takeover puts it right"), "{hole:?}");
    assert!(!bed.keys("b", "journal").await.contains(&gone));
    let lead = bed.lead(&THREE).await;
    lead.settle().await;
    let report = scrub(&bed, false).await;
    assert!(report.is_clean(), "{report:#?}");
}
