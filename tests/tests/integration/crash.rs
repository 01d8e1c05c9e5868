//! SIGKILL under load, again and again. What was acknowledged is there, once, where it was said to be, in order.
//!
//! `BRIGADE_CRASH_ROUNDS` (default 50) and `BRIGADE_CRASH_SEED` (default 1) can be set.

use std::{env, time::Duration};

use brigade_tests::{
    history::{Recorder, check},
    load::{Consumer, Identity, Sender, Stop, stored},
    process::Process,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;

const PARTITIONS: u32 = 4;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_fifty_kills() {
    let (rounds, seed) = (setting("BRIGADE_CRASH_ROUNDS", 50), setting("BRIGADE_CRASH_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Process::start().await;
    let http = node.http();
    http.create_topic("t", PARTITIONS).await;
    http.json("PUT", "/v1/topics/t/subscriptions/s", &json!({"kind": "stream"})).await.expect(201);
    let (recorder, stop) = (Recorder::default(), Stop::default());
    let identities = [
        ("producer-a", Identity::Producer),
        ("producer-b", Identity::Producer),
        ("key-a", Identity::Key),
        ("key-b", Identity::Key),
        ("plain-a", Identity::Plain),
        ("plain-b", Identity::Plain),
    ];
    let senders: Vec<_> = identities
        .into_iter()
        .map(|(name, identity)| Sender::new(name, http.clone(), "t", identity, recorder.clone()))
        .map(|sender| tokio::spawn(sender.run(stop.clone())))
        .collect();
    let consumer = tokio::spawn(Consumer::new(http.clone(), "t", "s", recorder.clone()).run(stop.clone()));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(20..400))).await;
        node.kill_9();
        node.restart().await;
    }
    stop.set();
    for sender in senders {
        sender.await.unwrap();
    }
    consumer.await.unwrap().finish().await;
    for _ in 0..2 {
        let found = stored(&http, "t", PARTITIONS.into()).await;
        match check(&recorder.history(), &found) {
            Ok(summary) => {
                println!("{rounds} kills, seed {seed}: {summary:?}");
                assert!(summary.acknowledged as u64 > rounds, "there was load: {summary:?}");
            }
            Err(violations) => panic!(
                "seed {seed}: {} violations:\n{}",
                violations.len(),
                violations[..violations.len().min(20)].join("\n")
            ),
        }
        node.kill_9();
        node.restart().await;
    }
    assert!(!node.log().contains("panicked"));
}
