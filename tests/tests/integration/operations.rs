//! What operators rely on: health, metrics, the OpenAPI document, draining, fencing, and clear refusals to start.

use std::time::Duration;

use brigade_tests::{
    history::{Message, Outcome, Recorder, Verdict, check},
    load::{Identity, Sender, stored},
    process::{Options, Process},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_node_tells_how_it_is() {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    http.publish("t", &["a", "b", "c"]).await;
    http.read_all("t", 0).await;
    assert_eq!(http.get("/healthz").await.expect(200).json(), json!({"status": "ok"}));
    http.get("/readyz").await.expect(200);
    assert_eq!(http.get("/").await.expect(200).json()["links"]["openapi"], "/openapi.json");

    let metrics = http.get("/metrics").await.expect(200);
    assert!(metrics.header("content-type").starts_with("text/plain"));
    assert!(http.metric("brigade_store_requests_total", &["operation=\"put\""]).await >= 2.0, "{}", metrics.text());

    let cluster = http.get("/v1/cluster").await.expect(200).json();
    assert_eq!((&cluster["regions"], &cluster["shards"][0]["state"]), (&json!(["local"]), &json!("leading")));
    assert!(cluster["shards"][0]["committed"].as_u64().unwrap() >= 3);
}

#[tokio::test]
async fn the_openapi_document_names_every_path() {
    let node = Process::start().await;
    let document = node.http().get("/openapi.json").await.expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let routes = [
        ("/v1/topics", "get"),
        ("/v1/topics/{topic}", "get put patch delete"),
        ("/v1/topics/{topic}/files", "get"),
        ("/v1/topics/{topic}/messages", "get post"),
        ("/v1/topics/{topic}/subscriptions", "get"),
        ("/v1/topics/{topic}/subscriptions/{subscription}", "get put patch delete"),
        ("/v1/topics/{topic}/subscriptions/{subscription}/poll", "post"),
        ("/v1/topics/{topic}/subscriptions/{subscription}/commit", "post"),
        ("/v1/cluster", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    ];
    for (path, methods) in routes {
        for method in methods.split(' ') {
            let operation = &document["paths"][path][method];
            assert!(operation["responses"].is_object(), "{method} {path} is missing");
        }
    }
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight() {
    let mut node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 2).await;
    let recorder = Recorder::default();
    let sender = |n: u32| Sender::new(&format!("sender-{n}"), http.clone(), "t", Identity::Plain, recorder.clone());
    let senders: Vec<_> = (0..16).map(|number| tokio::spawn(sender(number).until_refused())).collect();
    let waiting = tokio::spawn({
        let http = http.clone();
        async move { http.get("/v1/topics/t/messages?partition=0&offset=latest&wait=60000").await }
    });
    let slow_message = vec![Message { key: None, value: "slow".to_owned() }];
    let slow_ticket = recorder.start("slow", None, slow_message);
    let mut slow = node.raw().await;
    let body = "{\"value\":\"slow\"}";
    let head = "POST /v1/topics/t/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n";
    slow.send(format!("{head}content-length: {}\r\n\r\n{}", body.len(), &body[..4])).await;
    sleep(Duration::from_millis(500)).await;

    node.ask_to_end();
    sleep(Duration::from_millis(200)).await;
    slow.send(&body[4..]).await;
    let (status, answer) = slow.answer().await.expect("an answer");
    let Verdict::Stored(places) = Verdict::of(status, answer.as_bytes()) else {
        panic!("a request that had begun is finished: {status} {answer}")
    };
    recorder.finish(&slow_ticket, Outcome::Acknowledged(places));
    assert!(node.wait().await.success(), "a wanted end is no failure");
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "a long poll ends with what there is: {}", answer.text());
    for sender in senders {
        sender.await.unwrap();
    }
    node.restart().await;
    let summary = check(&recorder.history(), &stored(&http, "t", 2).await).unwrap();
    // A request may cross with the closing of an idle connection and never reach the node; but what the node has begun
    // it answers.
    assert_eq!(summary.unknown_stored, 0, "no request in flight is left without an answer: {summary:?}");
    assert!(summary.acknowledged > 1, "{summary:?}");
}

#[tokio::test]
async fn a_second_node_follows_passes_requests_on_and_takes_over() {
    let mut first = Process::start().await;
    let http = first.http();
    http.create_topic("t", 1).await;
    http.publish("t", &["one"]).await;
    let mut second = first.rival();
    second.restart().await;
    let other = second.http();
    assert_eq!(other.get("/readyz").await.expect(200).json()["role"], "following");
    let cluster = other.get("/v1/cluster").await.json();
    assert_eq!(cluster["shards"][0]["state"], "following");
    assert_eq!(cluster["shards"][0]["leader"]["address"], format!("http://{}", first.address()));
    let publish = |value: &str| json!({"messages": [{"value": value}]});
    let answer = other.json("POST", "/v1/topics/t/messages", &publish("two")).await.expect(200);
    assert_ne!(answer.header("brigade-leader"), "");
    assert_eq!(answer.placed(), [(0, 1)]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(http.get("/v1/cluster").await.json()["shards"][0]["state"], "leading", "nobody disturbs the leader");

    first.kill_9();
    let killed = Instant::now();
    let mut attempts = 0;
    while http_publishes(&other, &publish("three")).await.is_none() {
        attempts += 1;
        assert!(killed.elapsed() < Duration::from_secs(10), "{attempts} attempts");
        sleep(Duration::from_millis(20)).await;
    }
    println!("publishing works again after {:?}", killed.elapsed());
    let values: Vec<_> = other.read_all("t", 0).await.iter().map(|message| message["value"].clone()).collect();
    assert_eq!(values, ["one", "two", "three"]);

    first.restart().await;
    assert_eq!(http.get("/readyz").await.expect(200).json()["role"], "following", "it comes back as a follower");
    assert_eq!(http.read_all("t", 0).await.len(), 3);
    assert!(second.terminate().await.success());
    while http_publishes(&http, &publish("four")).await.is_none() {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(first.terminate().await.success());
}

/// Publishes once; nothing when that was refused for certain.
async fn http_publishes(http: &brigade_tests::http::Http, body: &serde_json::Value) -> Option<()> {
    let answer = http.json("POST", "/v1/topics/t/messages", body).await;
    if answer.status == 200 {
        return Some(());
    }
    assert!(["not_leader", "shutting_down"].contains(&answer.code().as_str()), "{}", answer.text());
    None
}

#[tokio::test]
async fn wrong_settings_are_refused_with_their_name() {
    let cases = [
        ("listne = \"127.0.0.1:1\"\n", "listne"),
        ("[publish]\nmemory_mib = 0\n", "memory_mib"),
        ("[publish]\nlinger_ms = \"soon\"\n", "line 2"),
        ("drain_seconds = -1\n", "line 1"),
        ("not toml", ""),
    ];
    for (config, named) in cases {
        let mut node = Process::prepare(Options { config: config.to_owned(), ..Options::default() });
        node.spawn();
        let status = node.wait().await;
        assert!(!status.success(), "{config}");
        assert!(node.log().contains(named) && !node.log().contains("panicked"), "{config}: {}", node.log());
    }
}

#[tokio::test]
async fn a_port_in_use_and_a_file_for_a_directory_are_refused() {
    let node = Process::start().await;
    let mut taken = Process::prepare(Options::default());
    taken.listen_at(node.address());
    taken.spawn();
    assert!(!taken.wait().await.success());
    assert!(taken.log().contains(&node.address().port().to_string()), "{}", taken.log());
    node.http().get("/readyz").await.expect(200);

    let mut file = Process::prepare(Options::default());
    std::fs::write(file.data(), "a file").unwrap();
    file.spawn();
    assert!(!file.wait().await.success());
    assert!(!file.log().contains("panicked"), "{}", file.log());
}
