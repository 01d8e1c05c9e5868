//! Takeovers that come to nothing, half succeed, or meet regions that fail in the middle.

use super::{
    regions::{Three, publish_many, state_of, texts, until},
    *,
};
use crate::{
    ids::WriteId,
    journal::Candidate,
    shard::walk::{Promised, Walk, promise},
};

/// A challenger that gets no further than one region.
async fn take_only(region: &'static str, stores: &[(&'static str, Store)], ballot: Ballot) {
    let env = Env::system();
    let (name, url) = named(&[region]).remove(0);
    let store = opener(stores, &env)(&name, &url).unwrap();
    let mut walk = Walk::new(RegionNo(0), ShardId(0), store);
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
    founding::admit(&shard.shared.cluster_id, &record, &voters, &store, &env).await.unwrap();
    shard.propose(vec![Command::AddRegion(record)]).await.unwrap();
    until("in sync", || state_of(&shard, "d") == ("in_sync", 0)).await;
    take_only("a", &stores, Ballot { round: shard.status().ballot.round + 1, nonce: 1 }).await;
    let (command, body) = publish_of(topic, "in doubt", None);
    let error = submit(&shard, command, body).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown(_)), "{error}");
}
