//! Ten thousand topics: they cost little memory, and a node with them starts quickly. The exact figures are for
//! `brigade bench`; the bounds here hold for a build without optimisation on a busy machine.

use std::{collections::BTreeSet, time::Duration};

use brigade_tests::process::Process;
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep};

const TOPICS: usize = 10_000;
const MIB: u64 = 1 << 20;

#[tokio::test]
async fn ten_thousand_topics_start_quickly_and_idle_cheaply() {
    let mut node = Process::start().await;
    let http = node.http();
    let created = stream::iter(0..TOPICS).map(|number| {
        let http = http.clone();
        async move { http.json("PUT", &format!("/v1/topics/topic-{number:05}"), &json!({})).await.status }
    });
    let statuses: BTreeSet<_> = created.buffer_unordered(128).collect().await;
    assert_eq!(statuses, BTreeSet::from([201]));
    http.publish("topic-09999", &["last"]).await;

    // Killed, there is nothing but the journal; ended, there is a snapshot.
    for killed in [true, false] {
        if killed {
            node.kill_9();
        } else {
            assert!(node.terminate().await.success());
        }
        let started = Instant::now();
        node.restart().await;
        let took = started.elapsed();
        sleep(Duration::from_millis(200)).await;
        let (memory, _) = node.memory();
        println!("{TOPICS} topics, killed: {killed}: ready after {took:?}, {} MiB", memory / MIB);
        assert!(took < Duration::from_secs(if killed { 20 } else { 8 }), "ready after {took:?}");
        assert!(memory < 300 * MIB, "{} MiB", memory / MIB);
    }
    let requests = http.metric("brigade_store_requests_total", &[]).await;
    let (mut names, mut after) = (0, String::new());
    loop {
        let page = http.get(&format!("/v1/topics?limit=1000{after}")).await.expect(200).json();
        names += page["topics"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(names, TOPICS);
    assert_eq!(
        http.metric("brigade_store_requests_total", &[]).await,
        requests,
        "listing and idling ask the store nothing"
    );
    assert_eq!(http.read("topic-09999", "").await["messages"][0]["value"], "last");
}
