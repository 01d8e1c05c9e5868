//! Changing the set of regions under adverse circumstances.

use super::{
    regions::{NAMES, Three, copy_of, publish_many, restore, state_of, texts, until, whole_in},
    *,
};
use crate::{
    archive::{ArchiveFile, SetHash},
    command::{Archived, Claim, ClaimPart, Located, Rejection, Replace},
    ids::FileId,
    keys,
    region::RegionRecord,
    shard::leader::INSTALL_ABOVE,
    store::{
        Operation,
        fault::{Answer, Fault, FaultStore, Rule},
    },
};

fn refused() -> Fault {
    Fault::Fail { applied: false, answer: Answer::Status(403) }
}

/// Entries without a body, so many that a region which misses them is sent a snapshot.
pub(super) async fn many_entries(shard: &Shard) {
    for _ in 0..INSTALL_ABOVE + 100 {
        shard.propose(Vec::new()).await.unwrap();
    }
}

/// A region that was far behind misses bodies whose copies cannot be listed: it is not whole, and the set is not reduced
/// to it.
#[tokio::test(start_paused = true)]
async fn nobody_leaves_before_those_who_stay_have_every_body() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    three.away(1, true);
    publish_many(&shard, topic, 0..20).await;
    many_entries(&shard).await;
    drop(shard);
    three.away(1, false);
    let listing = Rule::always(Operation::List, refused()).under(keys::copies(ShardId(0)));
    three.faults[1].add(listing);
    let shard = three.start("next").await;
    until("the snapshot is there", || state_of(&shard, "b").1 == 0).await;
    let views = shard.shared.views_all();
    let view = views.iter().find(|view| view.record.name.as_str() == "b").unwrap();
    assert!(!view.extents.copies(view.accepted()).is_empty(), "it was given a snapshot, though it promised in time");
    for _ in 0..500 {
        assert_eq!(state_of(&shard, "b").0, "catching_up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let only = named(&["b"]);
    let early = tokio::time::timeout(Duration::from_secs(20), shard.change_regions(&only)).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(shard.status().voters.len(), NAMES.len());
    three.faults[1].heal();
    shard.change_regions(&only).await.unwrap();
    whole_in(&shard, "b").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..20));
}

/// The entry that adds a region is the last one, so that the next leader cannot know yet that it is committed; and that
/// leader was told of the region, which promises in the election already.
#[tokio::test(start_paused = true)]
async fn a_region_that_promises_before_it_is_known_is_asked_only_once() {
    let env = Env::system();
    let stores: Vec<(&str, Store)> = NAMES.into_iter().map(|name| (name, memory())).collect();
    let cluster = founding::join(&named(&NAMES[..1]), opener(&stores, &env), &env).await.unwrap();
    let shard = Shard::start(config("first"), cluster, env.clone(), &TaskTracker::new()).await.unwrap();
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    let voters: Vec<_> = shard.state().regions.iter().cloned().collect();
    for (number, (name, _)) in (1..).zip(&stores[1..]) {
        let (name, url) = named(&[name]).remove(0);
        let record = RegionRecord { number: RegionNo(number), region_id: founding::new_region_id(&env), name, url };
        let store = opener(&stores, &env)(&record.name, &record.url).unwrap();
        founding::admit(&shard.shared.cluster_id, &record, (&shard.shared.founders, &voters), &store, &env)
            .await
            .unwrap();
        shard.propose(vec![Command::AddRegion(record)]).await.unwrap();
    }
    drop(shard);
    let shard = try_start(&stores, "second").await.unwrap();
    for region in NAMES {
        until("in sync", || state_of(&shard, region) == ("in_sync", 0)).await;
    }
    shard.change_regions(&named(&NAMES)).await.unwrap();
    publish_many(&shard, topic, 5..10).await;
    drop(shard);
    let shard = try_start(&stores, "third").await.unwrap();
    assert_eq!(read_all(&shard, topic).await, texts(0..10));
    whole_in(&shard, "c").await;
}

/// A region that was found to have gone backwards stays refused when the set of regions changes.
#[tokio::test(start_paused = true)]
async fn a_refused_region_is_replaced() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..100).await;
    let mut stores = three.stores();
    let old = copy_of(&stores[2].1).await;
    publish_many(&shard, topic, 100..300).await;
    drop(shard);
    restore(&stores[2].1, old).await;
    stores.push(("d", memory()));
    let shard = try_start(&stores[..3], "next").await.unwrap();
    until("refused", || state_of(&shard, "c").0 == "refused").await;
    drop(shard);
    let env = Env::system();
    let cluster = founding::join(&named(&NAMES), opener(&stores, &env), &env).await.unwrap();
    let shard = Shard::start(config("other"), cluster, env, &TaskTracker::new()).await.unwrap();
    until("refused", || state_of(&shard, "c").0 == "refused").await;
    shard.change_regions(&named(&["a", "b", "d"])).await.unwrap();
    assert_eq!(shard.status().regions.len(), 3);
    for region in ["a", "b", "d"] {
        until("in sync", || state_of(&shard, region) == ("in_sync", 0)).await;
        whole_in(&shard, region).await;
    }
    assert!(shard.ready().is_ok());
}

/// A change breaks off after it has written a new region's identity; begun again, it goes on with the same store. One that
/// waits for a store which is gone ends, so that another can begin.
#[tokio::test(start_paused = true)]
async fn a_change_that_broke_off_is_begun_again() {
    let env = Env::system();
    let faults: Vec<_> = (0..3).map(|seed| FaultStore::new(memory(), seed)).collect();
    let stores: Vec<(&str, Store)> =
        NAMES.into_iter().zip(&faults).map(|(name, faults)| (name, Arc::new(faults.clone()) as Store)).collect();
    let cluster = founding::join(&named(&["a"]), opener(&stores, &env), &env).await.unwrap();
    let shard = Shard::start(config("n"), cluster, env.clone(), &TaskTracker::new()).await.unwrap();
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    let voters: Vec<_> = shard.state().regions.iter().cloned().collect();
    let (name, url) = named(&["b"]).remove(0);
    let record = RegionRecord { number: RegionNo(1), region_id: founding::new_region_id(&env), name, url };
    let store = opener(&stores, &env)(&record.name, &record.url).unwrap();
    founding::admit(&shard.shared.cluster_id, &record, (&shard.shared.founders, &voters), &store, &env).await.unwrap();
    // Its identity can be written, and nothing else.
    faults[2].add(Rule { skip: 1, ..Rule::always(Operation::Put, refused()) });
    let error = shard.change_regions(&named(&NAMES)).await.unwrap_err();
    assert!(matches!(&error, ChangeError::Store { region, .. } if region.as_str() == "c"), "{error}");
    assert_eq!(shard.status().change, None);
    let elsewhere: Vec<_> = named(&NAMES).into_iter().map(|(name, url)| (name, format!("{url}/elsewhere"))).collect();
    let error = shard.change_regions(&elsewhere).await.unwrap_err();
    assert!(matches!(&error, ChangeError::Invalid(text) if text.contains("another name")), "{error}");
    faults[2].heal();
    shard.change_regions(&named(&NAMES)).await.unwrap();
    publish_many(&shard, topic, 5..10).await;
    assert_eq!(shard.status().voters, (0..3).map(RegionNo).collect::<Vec<_>>());
}

/// A node that recovers from the first entry applies it to the regions that the cluster was founded with, whichever voted
/// when the latest region was added.
#[tokio::test(start_paused = true)]
async fn entries_are_applied_to_the_founding_regions() {
    let stores: Vec<(&str, Store)> =
        ["a", "b", "c", "d", "e", "f", "g"].into_iter().map(|name| (name, memory())).collect();
    let start = async |node: &str, regions: &[&str]| {
        let env = Env::system();
        let cluster = founding::join(&named(regions), opener(&stores, &env), &env).await.unwrap();
        Shard::start(config(node), cluster, env, &TaskTracker::new()).await.unwrap()
    };
    let shard = start("first", &NAMES).await;
    for regions in [&["a", "b", "d"][..], &["a", "b", "e"], &["a", "b", "e", "f", "g"]] {
        shard.change_regions(&named(regions)).await.unwrap();
    }
    let expected = shard.state().regions.clone();
    drop(shard);
    let shard = start("second", &["a", "e", "f", "g"]).await;
    assert_eq!(shard.state().regions, expected);
    for region in ["a", "b", "e", "f", "g"] {
        until("in sync", || state_of(&shard, region) == ("in_sync", 0)).await;
    }
}

/// An archive file is put in place just when it was found that the regions to vote miss none: who has it must not leave.
#[tokio::test(start_paused = true)]
async fn nobody_leaves_with_an_archive_file_that_came_meanwhile() {
    let env = Env::system();
    let faults = FaultStore::new(memory(), 1);
    let stores: Vec<(&str, Store)> = vec![("a", Arc::new(faults.clone())), ("b", memory())];
    let cluster = founding::join(&named(&["a"]), opener(&stores, &env), &env).await.unwrap();
    let shard = Shard::start(config("n"), cluster, env.clone(), &TaskTracker::new()).await.unwrap();
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    let voters: Vec<_> = shard.state().regions.iter().cloned().collect();
    let (name, url) = named(&["b"]).remove(0);
    let record = RegionRecord { number: RegionNo(1), region_id: founding::new_region_id(&env), name, url };
    let store = opener(&stores, &env)(&record.name, &record.url).unwrap();
    founding::admit(&shard.shared.cluster_id, &record, (&shard.shared.founders, &voters), &store, &env).await.unwrap();
    shard.propose(vec![Command::AddRegion(record)]).await.unwrap();
    until("in sync", || state_of(&shard, "b") == ("in_sync", 0)).await;
    let part = ClaimPart { topic, partition: Partition(0), first: Offset(0), end: Offset(5) };
    let claim = Command::Claim(Claim { owner: shard.ballot(), parts: vec![part] });
    let outcome = shard.propose(vec![claim]).await.unwrap().outcomes.remove(0);
    assert_eq!(outcome, Ok(Outcome::Claimed(vec![FileId(1)])));
    // While entries take long, the file comes between the look and the change.
    faults.add(Rule::always(Operation::Put, Fault::Delay(Duration::from_millis(300))));
    let replaced = {
        let shard = shard.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            shard.propose(vec![replace(FileId(1), 5, RegionNo(0))]).await.unwrap().outcomes.remove(0)
        })
    };
    let only = named(&["b"]);
    let early = tokio::time::timeout(Duration::from_secs(20), shard.change_regions(&only)).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!((replaced.await.unwrap(), shard.status().voters), (Ok(Outcome::Done), vec![RegionNo(0)]));
    let files = vec![(topic, Partition(0), FileId(1))];
    shard.propose(vec![Command::Located(Located { region: RegionNo(1), files })]).await.unwrap();
    shard.change_regions(&only).await.unwrap();
    // One that was written before, and only to who left, is refused.
    publish_many(&shard, topic, 5..6).await;
    let part = ClaimPart { first: Offset(5), end: Offset(6), ..part };
    shard.propose(vec![Command::Claim(Claim { owner: shard.ballot(), parts: vec![part] })]).await.unwrap();
    let outcome = shard.propose(vec![replace(FileId(2), 6, RegionNo(0))]).await.unwrap().outcomes.remove(0);
    assert!(matches!(outcome, Err(Rejection::Malformed(problem)) if problem.contains("too few")), "{outcome:?}");
}

/// Puts a file of the messages before `end` that one region has in the place of what was claimed.
fn replace(id: FileId, end: u64, region: RegionNo) -> Command {
    let first = if id == FileId(1) { 0 } else { 5 };
    let file = ArchiveFile {
        id,
        first: Offset(first),
        end: Offset(end),
        rows: end - first,
        bytes: 1,
        payload_bytes: 1,
        crc: 0,
        set_hash: SetHash(1),
        min_timestamp_ms: 1,
        max_timestamp_ms: 1,
        attributes: batch::AttributeSet::default(),
        oldest_tombstone_ms: None,
        merges: 0,
        compacted: false,
        regions: vec![region],
    };
    Command::Replace(Replace { parts: vec![Archived { id, file: Some(file), compacted: None }] })
}
