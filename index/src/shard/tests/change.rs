//! Changing the set of regions under adverse circumstances.

use super::{
    regions::{NAMES, Three, publish_many, state_of, texts, until, whole_in},
    *,
};
use crate::{
    keys,
    shard::leader::INSTALL_ABOVE,
    store::{
        Operation,
        fault::{Answer, Fault, Rule},
    },
};

fn refused() -> Fault {
    Fault::Fail { applied: false, answer: Answer::Status(403) }
}

/// Entries without a body, so many that a region which misses them is sent a snapshot.
async fn many_entries(shard: &Shard) {
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
