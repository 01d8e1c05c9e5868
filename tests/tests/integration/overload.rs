//! More publishes than there is memory for: 429 with Retry-After, and no growth (I23).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use brigade_tests::{
    http::Http,
    process::{Options, Process},
};
use tokio::time::Instant;

const BODY: usize = 1 << 20;
const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Tally {
    stored: AtomicUsize,
    refused: AtomicUsize,
}

async fn publish_until(http: Http, tally: Arc<Tally>, end: Instant) {
    while Instant::now() < end {
        let body = vec![b'x'; BODY - 1_000];
        let answer = http.body("POST", "/v1/topics/t/messages", "application/octet-stream", body).await;
        match answer.status {
            200 => tally.stored.fetch_add(1, Relaxed),
            429 => {
                assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
                assert_eq!(answer.code(), "too_busy");
                tally.refused.fetch_add(1, Relaxed)
            }
            _ => panic!("{}: {}", answer.status, answer.text()),
        };
    }
}

#[tokio::test]
async fn overload_is_refused_and_memory_stays_bounded() {
    let config = "[publish]\nmemory_mib = 8\nmax_request_mib = 4\n[read]\ncache_mib = 8\n".to_owned();
    let mut node = Process::start_with(Options { config, ..Options::default() }).await;
    let http = node.http();
    http.create_topic("t", 4).await;
    let tally = Arc::new(Tally::default());
    let end = Instant::now() + Duration::from_secs(4);
    let clients: Vec<_> = (0..48).map(|_| tokio::spawn(publish_until(http.clone(), tally.clone(), end))).collect();
    for client in clients {
        client.await.unwrap();
    }
    let (stored, refused) = (tally.stored.load(Relaxed), tally.refused.load(Relaxed));
    let (_, peak) = node.memory();
    println!("{stored} stored, {refused} refused, peak memory {} MiB", peak / MIB);
    assert!(stored > 0 && refused > 0, "{stored} stored, {refused} refused");
    assert!(peak < 200 * MIB, "peak memory {} MiB", peak / MIB);
    assert_eq!(http.publish("t", &["calm again"]).await.len(), 1);
    node.kill_9();
    node.restart().await;
    let topic = http.get("/v1/topics/t").await.expect(200).json();
    let messages =
        topic["partitions"].as_array().unwrap().iter().map(|partition| partition["messages"].as_u64().unwrap());
    assert_eq!(messages.sum::<u64>(), stored as u64 + 1, "what was acknowledged, and nothing that was refused");
}
