//! Takeovers that come to nothing, half succeed, or meet regions that fail in the middle.

use object_store::ObjectStoreExt;

use super::{
    change::many_entries,
    regions::{Three, copy_of, publish_many, restore, state_of, texts, until},
    *,
};
use crate::{
    ids::WriteId,
    journal::Candidate,
    shard::walk::{Promised, Walk, promise},
    state::BatchLocation,
    store::{
        Component, Operation,
        fault::{Fault, FaultStore, Rule},
    },
};

/// A challenger that gets no further than one region.
async fn take_only(region: &'static str, stores: &[(&'static str, Store)], ballot: Ballot) {
    let env = Env::system();
    let (name, url) = named(&[region]).remove(0);
    let store = opener(stores, &env)(&name, &url).unwrap();
    let cluster = founding::join(&named(&[region]), opener(stores, &env), &env).await.unwrap();
    let mut walk = Walk::new(&cluster.regions[0].record, &cluster.cluster_id, ShardId(0), store);
    let mut candidate = Candidate::new(WriteId(env.entropy.next_u128()));
    candidate.stand(ballot).unwrap();
    let leader = Leader { node: "challenger".to_owned(), address: String::new(), time_ms: 1 };
    assert!(matches!(promise(&mut walk, &mut candidate, &leader).await.unwrap(), Promised::Yes(_)));
}

/// With one region lost to a challenger and one away nothing can be committed: only standing again gets the first one
/// back, and it must not wait for what cannot be committed.
#[tokio::test(start_paused = true)]
async fn a_leader_that_lost_a_region_stands_again_though_nothing_can_be_committed() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    three.away(1, true);
    let ballot = Ballot { round: shard.status().ballot.round + 7, nonce: 1 };
    take_only("a", &three.stores(), ballot).await;
    let (command, body) = publish_of(topic, "5", Some(1));
    let hanging = tokio::spawn({
        let shard = shard.clone();
        async move { submit(&shard, command, body).await }
    });
    tokio::time::timeout(Duration::from_secs(30), shard.ended()).await.expect("the leader stands again");
    assert_eq!(shard.status().state, "renewing");
    assert_eq!(shard.met(), ballot);
    assert!(matches!(hanging.await.unwrap(), Err(ProposeError::Unknown(_))));
    let shard = three.start("leader").await;
    let (command, body) = publish_of(topic, "5", Some(1));
    submit(&shard, command, body).await.unwrap();
    publish_many(&shard, topic, 6..10).await;
    assert_eq!(read_all(&shard, topic).await, texts(0..10));
    three.away(1, false);
    until("in sync", || state_of(&shard, "b") == ("in_sync", 0)).await;
}

/// A region that does not vote yet holds what its leader could not commit, and the next leader may find it there: the
/// first must not say that it is certainly not stored.
#[tokio::test(start_paused = true)]
async fn what_a_region_that_joins_may_hold_is_not_called_lost() {
    let env = Env::system();
    let stores: Vec<(&str, Store)> = ["a", "d"].into_iter().map(|name| (name, memory())).collect();
    let cluster = founding::join(&named(&["a"]), opener(&stores, &env), &env).await.unwrap();
    let shard = Shard::start(config("first"), cluster, env.clone(), &TaskTracker::new()).await.unwrap();
    let topic = create_topic(&shard, "t").await;
    let voters: Vec<_> = shard.state().regions.iter().cloned().collect();
    let (name, url) = named(&["d"]).remove(0);
    let region_id = founding::new_region_id(&env);
    let record = crate::region::RegionRecord { number: RegionNo(1), name, url, region_id };
    let store = opener(&stores, &env)(&record.name, &record.url).unwrap();
    founding::admit(&shard.shared.cluster_id, &record, (&shard.shared.founders, &voters), &store, &env).await.unwrap();
    shard.propose(vec![Command::AddRegion(record)]).await.unwrap();
    until("in sync", || state_of(&shard, "d") == ("in_sync", 0)).await;
    take_only("a", &stores, Ballot { round: shard.status().ballot.round + 1, nonce: 1 }).await;
    let (command, body) = publish_of(topic, "in doubt", None);
    let error = submit(&shard, command, body).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown(_)), "{error}");
}

/// What a leader does not find as it should be may be the work of its successor: a batch, or an archive file.
#[tokio::test(start_paused = true)]
async fn nothing_is_called_damaged_while_it_is_not_known_who_leads() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..3).await;
    let batch = shard.state().topic(topic).unwrap().partitions[0].runs()[0].batch;
    let other = BatchLocation { crc: !batch.crc, ..batch };
    let (key, holders) = (object_store::path::Path::from("archive/gone"), [RegionNo(0)]);
    let file = || shard.fetch_file(Component::Read, &key, &holders, 0..4);
    let unavailable = |error: FetchError, why: &str| {
        assert!(matches!(&error, FetchError::Unavailable(problem) if problem.contains(why)), "{error}");
    };
    assert!(matches!(shard.fetch(&other).await, Err(FetchError::Damaged { .. })));
    assert!(matches!(file().await, Err(FetchError::Damaged { .. })));
    // Nothing can be committed for a while.
    [1, 2].iter().for_each(|region| three.away(*region, true));
    unavailable(file().await.unwrap_err(), "it is not known whether this node still leads");
    [1, 2].iter().for_each(|region| three.away(*region, false));
    until("in sync", || state_of(&shard, "b") == ("in_sync", 0)).await;
    assert!(matches!(file().await, Err(FetchError::Damaged { .. })));
    let ballot = Ballot { round: shard.status().ballot.round + 1, nonce: 1 };
    for region in ["a", "b"] {
        take_only(region, &three.stores(), ballot).await;
    }
    unavailable(shard.fetch(&other).await.unwrap_err(), "challenger");
    unavailable(file().await.unwrap_err(), "challenger");
    shard.fetch(&batch).await.expect("what is as it should be is read all the same");
}

/// A cluster of one region was extended, and the node's settings still name the first only.
#[tokio::test(start_paused = true)]
async fn a_node_that_looks_finds_the_regions_that_it_was_not_told_of() {
    let env = Env::system();
    let stores: Vec<(&str, Store)> = ["a", "b", "c"].into_iter().map(|name| (name, memory())).collect();
    let join = || async { founding::join(&named(&["a"]), opener(&stores, &env), &env).await.unwrap() };
    let shard = Shard::start(config("n1"), join().await, env.clone(), &TaskTracker::new()).await.unwrap();
    shard.change_regions(&named(&["a", "b", "c"])).await.unwrap();
    drop(shard);
    let mut challenge = Challenge::new(config("n2"), join().await, env.clone());
    let sighting = challenge.look().await.unwrap();
    assert!(sighting.quorum && !sighting.moved, "{sighting:?}");
    assert!(challenge.look().await.unwrap().quorum);
    challenge.stand(Ballot::BOOTSTRAP, &TaskTracker::new()).await.unwrap();
}

/// Two of three regions were restored from old copies: the message names them and says what to do.
#[tokio::test(start_paused = true)]
async fn too_many_regions_gone_backwards_are_named() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..100).await;
    let stores = three.stores();
    let (b, c) = (copy_of(&stores[1].1).await, copy_of(&stores[2].1).await);
    publish_many(&shard, topic, 100..300).await;
    drop(shard);
    restore(&stores[1].1, b).await;
    restore(&stores[2].1, c).await;
    // The one that knows better promises in time.
    let slow = || Rule::always(Operation::Put, Fault::Delay(Duration::from_millis(100)));
    three.faults[1..].iter().for_each(|faults| faults.add(slow()));
    let error = try_start(&stores, "next").await.err().expect("it cannot start").to_string();
    for part in ["2 of 3", "b:", "c:", "old copy", "region replace b NEW=URL"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// A node follows for long; meanwhile a region is wiped. It must not promise as an empty one when the node stands.
#[tokio::test(start_paused = true)]
async fn a_region_that_was_wiped_while_a_node_followed_promises_nothing() {
    for looked in [false, true] {
        let three = Three::new();
        let shard = three.start("leader").await;
        let topic = create_topic(&shard, "t").await;
        let env = Env::system();
        let stores = three.stores();
        let cluster = founding::join(&named(&["a", "b", "c"]), opener(&stores, &env), &env).await.unwrap();
        let mut challenge = Challenge::new(config("follower"), cluster, env.clone());
        if looked {
            challenge.look().await.unwrap();
        }
        // So few entries that no mark says yet how far the region had come. One of the others lags behind.
        three.away(0, true);
        publish_many(&shard, topic, 0..10).await;
        drop(shard);
        restore(&stores[2].1, Vec::new()).await;
        three.away(1, true);
        three.away(0, false);
        let stood = challenge.stand(Ballot::BOOTSTRAP, &TaskTracker::new()).await;
        let error = stood.err().expect("nobody who promises knows what was committed").to_string();
        assert!(error.contains("c: ") && error.contains("wiped"), "{error}");
        three.away(1, false);
        let cluster = founding::join(&named(&["a", "b", "c"]), opener(&stores, &env), &env).await.unwrap();
        let challenge = Challenge::new(config("follower"), cluster, env);
        let shard = challenge.stand(Ballot { round: 90, nonce: 0 }, &TaskTracker::new()).await.unwrap();
        assert_eq!(read_all(&shard, topic).await, texts(0..10));
        until("refused", || state_of(&shard, "c").0 == "refused").await;
    }
}

/// Two regions go away between their promises and the first entry: the attempt ends and says so.
#[tokio::test(start_paused = true)]
async fn a_takeover_whose_first_entry_hangs_ends() {
    let three = Three::new();
    drop(three.start("leader").await);
    for faults in &three.faults[1..] {
        // The Takeover lands; nothing after it.
        let put = Rule { skip: 1, ..Rule::always(Operation::Put, Fault::Hang { applied: false }) };
        faults.add(put);
    }
    let error = three.try_start("next").await.err().expect("nothing can be committed");
    assert!(matches!(error, StartError::Quorum { needed: 2, of: 3, .. }), "{error}");
    three.faults.iter().for_each(FaultStore::heal);
    three.start("next").await;
}

/// A region whose directory was not mounted when the node started is looked at again.
#[tokio::test(start_paused = true)]
async fn a_region_that_is_put_right_joins() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..10).await;
    drop(shard);
    let stores = three.stores();
    let whole = copy_of(&stores[2].1).await;
    restore(&stores[2].1, Vec::new()).await;
    let shard = three.start("next").await;
    until("refused", || state_of(&shard, "c").0 == "refused").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(state_of(&shard, "c").0, "refused");
    publish_many(&shard, topic, 10..20).await;
    restore(&stores[2].1, whole).await;
    until("in sync", || state_of(&shard, "c") == ("in_sync", 0)).await;
}

/// The newest snapshot is in one region only, where it was put in place of entries, and it cannot be read there.
#[tokio::test(start_paused = true)]
async fn a_region_whose_snapshot_cannot_be_read_is_done_without() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    three.away(1, true);
    many_entries(&shard).await;
    drop(shard);
    three.away(1, false);
    let shard = three.start("next").await;
    until("in sync", || state_of(&shard, "b") == ("in_sync", 0)).await;
    publish_many(&shard, topic, 5..10).await;
    drop(shard);
    let store = &three.stores()[1].1;
    let objects: Vec<_> = copy_of(store).await;
    let snapshot = objects.iter().find(|(key, _)| key.as_ref().contains("/snapshot/")).expect("it was given one");
    store.delete(&snapshot.0).await.unwrap();
    let shard = three.start("last").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..10));
}

/// An object on the path of one region is damaged: it is refused with a remedy, and the others lead.
#[tokio::test(start_paused = true)]
async fn a_region_with_a_damaged_path_is_refused() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..10).await;
    until("in sync", || state_of(&shard, "c") == ("in_sync", 0)).await;
    drop(shard);
    let store = &three.stores()[2].1;
    let objects = copy_of(store).await;
    let (key, bytes) = objects.iter().find(|(key, _)| key.as_ref().ends_with("/000000000005")).unwrap();
    store.put(key, bytes.slice(..40).into()).await.unwrap();
    let shard = three.start("next").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..10));
    until("refused", || state_of(&shard, "c").0 == "refused").await;
    let status = shard.status();
    let region = status.regions.iter().find(|region| region.name.as_str() == "c").unwrap();
    assert!(region.hint.as_ref().unwrap().contains("region replace c NEW=URL"), "{region:?}");
}

/// Two stores take requests and never answer: publishes are refused long before the stores' own time-outs add up.
#[tokio::test(start_paused = true)]
async fn stores_that_hang_are_noticed_soon() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    for faults in &three.faults[1..] {
        faults.add(Rule { operation: None, ..Rule::always(Operation::Put, Fault::Hang { applied: false }) });
    }
    let (command, body) = publish_of(topic, "hangs", Some(1));
    let hanging = tokio::spawn({
        let shard = shard.clone();
        async move { submit(&shard, command, body).await }
    });
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(matches!(shard.ready(), Err(ProposeError::Quorum(_))));
    three.faults.iter().for_each(FaultStore::heal);
    assert!(hanging.await.unwrap().is_ok());
    assert!(shard.ready().is_ok());
}
