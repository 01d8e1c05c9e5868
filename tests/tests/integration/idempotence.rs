//! A publish that is repeated is stored once, and gets the first one's answer.

use brigade_tests::{
    http::{Answer, Http},
    process::Process,
};
use futures::future::join_all;
use serde_json::json;

const DUPLICATE: &str = "brigade-duplicate";

enum Identity<'a> {
    Producer(&'a str, u64),
    Key(&'a str),
}

async fn publish(http: &Http, topic: &str, identity: Identity<'_>, values: &[&str]) -> Answer {
    let request = http.request("POST", &format!("/v1/topics/{topic}/messages"));
    let request = match identity {
        Identity::Producer(id, sequence) => request.header("producer-id", id).header("producer-sequence", sequence),
        Identity::Key(key) => request.header("idempotency-key", key),
    };
    let messages: Vec<_> = values.iter().map(|value| json!({"value": value})).collect();
    http.send(request.json(&json!({"messages": messages}))).await
}

async fn count(http: &Http, topic: &str) -> usize {
    http.read_all(topic, 0).await.len()
}

async fn topic() -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    (node, http)
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_also_after_crashes() {
    let (mut node, http) = topic().await;
    let identities = || [Identity::Producer("p", 7), Identity::Key("order-4711:first/try")];
    let mut answers = Vec::new();
    for identity in identities() {
        let first = publish(&http, "t", identity, &["a", "b"]).await.expect(200);
        assert_eq!(first.header(DUPLICATE), "");
        answers.push(first.placed());
    }
    assert_eq!(answers, [[(0, 0), (0, 1)], [(0, 2), (0, 3)]]);
    for _ in 0..3 {
        for (identity, answer) in identities().into_iter().zip(&answers) {
            let again = publish(&http, "t", identity, &["a", "b"]).await.expect(200);
            assert_eq!((again.header(DUPLICATE), &again.placed()), ("true", answer));
        }
        assert_eq!(count(&http, "t").await, 4);
        node.kill_9();
        node.restart().await;
    }
}

#[tokio::test]
async fn the_same_request_many_times_at_once_is_stored_once() {
    let (_node, http) = topic().await;
    for round in 0..10 {
        let key = format!("key-{round}");
        let all = join_all((0..8).map(|_| publish(&http, "t", Identity::Key(&key), &["x"]))).await;
        let placed: Vec<_> = all.into_iter().map(|answer| answer.expect(200).placed()).collect();
        assert!(placed.iter().all(|place| *place == [(0, round)]), "{placed:?}");
    }
    assert_eq!(count(&http, "t").await, 10);
}

#[tokio::test]
async fn sequences_may_come_in_any_order_within_the_window() {
    let (_node, http) = topic().await;
    for (stored, sequence) in [5, 3, 64, 4].into_iter().enumerate() {
        let answer = publish(&http, "t", Identity::Producer("p", sequence), &["x"]).await.expect(200);
        assert_eq!((answer.header(DUPLICATE), answer.placed()), ("", vec![(0, stored as u64)]));
    }
    for sequence in 100..170 {
        publish(&http, "t", Identity::Producer("p", sequence), &["x"]).await.expect(200);
    }
    for sequence in [5, 100] {
        let answer = publish(&http, "t", Identity::Producer("p", sequence), &["x"]).await;
        answer.expect_error(409, "sequence_too_old");
    }
    let within = publish(&http, "t", Identity::Producer("p", 150), &["x"]).await.expect(200);
    assert_eq!(within.header(DUPLICATE), "true");
    publish(&http, "t", Identity::Producer("another", 2), &["x"]).await.expect(200);
    assert_eq!(count(&http, "t").await, 4 + 70 + 1);
}

#[tokio::test]
async fn identities_belong_to_one_topic_and_one_request() {
    let (_node, http) = topic().await;
    http.create_topic("u", 1).await;
    for topic in ["t", "u"] {
        let answer = publish(&http, topic, Identity::Key("k"), &["x"]).await.expect(200);
        assert_eq!(answer.header(DUPLICATE), "");
    }
    publish(&http, "t", Identity::Key("k"), &["x", "y", "z"]).await.expect_error(409, "identity_reused");
    assert_eq!(count(&http, "t").await, 1);
}
