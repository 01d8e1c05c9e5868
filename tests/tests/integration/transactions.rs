//! Transactions from outside: whole or not at all through kills, with receipts, decided by clients, by time and by asking.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, routing::post};
use brigade_tests::{http::Http, load::Stop, process::Process};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

const PARTITIONS: u64 = 3;
const TOPICS: [&str; 2] = ["orders", "audit"];

/// Kills of the node in a loop.
const KILLS: usize = 12;

async fn world() -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    for topic in TOPICS {
        http.create_topic(topic, PARTITIONS as u32).await;
    }
    (node, http)
}

/// A transaction with four messages, whose value is its id, in two partitions of each topic.
fn transaction(id: &str) -> Value {
    let message = |partition: u64| json!({"value": id, "partition": partition});
    let parts = TOPICS.map(|topic| json!({"topic": topic, "messages": [message(0), message(2)]}));
    json!({"id": id, "publish": parts})
}

async fn transact(http: &Http, body: &Value) -> Value {
    http.json("POST", "/v1/transactions", body).await.expect(200).json()
}

async fn state(http: &Http, id: &str) -> String {
    let answer = http.get(&format!("/v1/transactions/{id}")).await.expect(200).json();
    answer["state"].as_str().unwrap().to_owned()
}

/// For each value in how many messages it is.
async fn seen(http: &Http) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            for message in http.read_all(topic, partition).await {
                *seen.entry(message["value"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    seen
}

async fn until(http: &Http, id: &str, wanted: &str) {
    for _ in 0..2_000 {
        if state(http, id).await == wanted {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} is still {}", state(http, id).await);
}

/// Sends transactions, each again until it is answered; every third is prepared and then decided. Gives what became of each.
async fn send(http: Http, name: &'static str, stop: Stop) -> BTreeMap<String, bool> {
    let mut sent = BTreeMap::new();
    let repeat = async |path: &str, body: &Value| loop {
        match http.try_send(http.request("POST", path).json(body)).await {
            Ok(answer) if answer.status == 200 => return answer.json(),
            Ok(answer) => assert!(answer.status >= 500, "{}: {}", answer.status, answer.text()),
            Err(_) => {}
        }
        sleep(Duration::from_millis(5)).await;
    };
    for number in 0.. {
        if stop.is_set() {
            break;
        }
        let id = format!("{name}-{number}");
        let mut body = transaction(&id);
        let prepare = number % 3 == 0;
        if prepare {
            body["prepare"] = json!(true);
        }
        let answer = repeat("/v1/transactions", &body).await;
        let mut committed = answer["state"] == "committed";
        assert_eq!(answer["state"], if prepare { "prepared" } else { "committed" });
        if prepare {
            let decision = if number % 2 == 0 { "commit" } else { "rollback" };
            repeat(&format!("/v1/transactions/{id}/{decision}"), &json!({})).await;
            committed = number % 2 == 0;
        }
        sent.insert(id, committed);
    }
    sent
}

/// Reads both topics again and again: the partition read first must not know more than the one read last.
async fn watch(http: Http, stop: Stop) -> usize {
    let values = async |topic: &str, partition: u64| -> Option<BTreeSet<String>> {
        let path = format!("/v1/topics/{topic}/messages?partition={partition}&max_messages=100000&max_bytes=8388608");
        let answer = http.try_get(&path).await.ok().filter(|answer| answer.status == 200)?;
        let messages = answer.json()["messages"].as_array().unwrap().clone();
        Some(messages.iter().map(|message| message["value"].as_str().unwrap().to_owned()).collect())
    };
    let mut compared = 0;
    while !stop.is_set() {
        let (first, last) = (values("orders", 0).await, values("audit", 2).await);
        if let (Some(first), Some(last)) = (first, last) {
            let half: Vec<_> = first.difference(&last).collect();
            assert!(half.is_empty(), "seen in one topic and not in the other: {half:?}");
            compared += 1;
        }
        sleep(Duration::from_millis(2)).await;
    }
    compared
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_half_a_transaction_through_kills_and_each_once() {
    let (mut node, http) = world().await;
    let (stop, mut random) = (Stop::default(), StdRng::seed_from_u64(7));
    let senders: Vec<_> = ["a", "b", "c"].map(|name| tokio::spawn(send(http.clone(), name, stop.clone()))).into();
    let watcher = tokio::spawn(watch(http.clone(), stop.clone()));
    for _ in 0..KILLS {
        sleep(Duration::from_millis(random.random_range(30..300))).await;
        node.kill_9();
        node.restart().await;
    }
    stop.set();
    let mut sent = BTreeMap::new();
    for sender in senders {
        sent.append(&mut sender.await.unwrap());
    }
    assert!(watcher.await.unwrap() > 0 && sent.len() > KILLS, "there was load");
    for _ in 0..2 {
        let seen = seen(&http).await;
        for (id, committed) in &sent {
            assert_eq!(seen.get(id).copied().unwrap_or(0), if *committed { 4 } else { 0 }, "{id}");
        }
        assert_eq!(seen.len(), sent.values().filter(|committed| **committed).count());
        node.kill_9();
        node.restart().await;
    }
    assert!(!node.log().contains("panicked"));
}

#[tokio::test]
async fn a_prepared_one_outlives_a_kill_and_so_does_its_decision() {
    let (mut node, http) = world().await;
    for id in ["yes", "no"] {
        let mut body = transaction(id);
        body["prepare"] = json!(true);
        assert_eq!(transact(&http, &body).await["state"], "prepared");
    }
    node.kill_9();
    node.restart().await;
    let list = http.get("/v1/transactions?state=prepared").await.expect(200).json();
    assert_eq!(list["transactions"].as_array().unwrap().len(), 2);
    assert!(seen(&http).await.is_empty());
    http.json("POST", "/v1/transactions/yes/commit", &json!({})).await.expect(200);
    http.json("POST", "/v1/transactions/no/rollback", &json!({})).await.expect(200);
    for _ in 0..2 {
        assert_eq!(seen(&http).await, BTreeMap::from([("yes".to_owned(), 4)]));
        assert_eq!([state(&http, "yes").await, state(&http, "no").await], ["committed", "rolled_back"]);
        http.json("POST", "/v1/transactions/yes/rollback", &json!({})).await.expect_error(409, "transaction_decided");
        let again = transact(&http, &transaction("yes")).await;
        assert_eq!((again["state"].as_str(), again["messages"].as_array().unwrap().len()), (Some("committed"), 4));
        node.kill_9();
        node.restart().await;
    }
}

async fn queue(http: &Http) {
    http.json("PUT", "/v1/topics/orders/subscriptions/q", &json!({"kind": "queue"})).await.expect(201);
}

/// Values and receipts of what is received.
async fn poll(http: &Http, wait_ms: u64) -> Vec<(String, String)> {
    let body = json!({"max_messages": 100, "wait_ms": wait_ms, "visibility_timeout_ms": 60_000});
    let answer = http.json("POST", "/v1/topics/orders/subscriptions/q/poll", &body).await.expect(200).json();
    let text = |message: &Value, field: &str| message[field].as_str().unwrap().to_owned();
    let messages = answer["messages"].as_array().unwrap();
    messages.iter().map(|message| (text(message, "value"), text(message, "receipt"))).collect()
}

/// A transaction that acknowledges these receipts and publishes what came of them.
fn processed(id: &str, receipts: &[&str]) -> Value {
    let publish = json!([{"topic": "audit", "messages": [{"value": id, "partition": 1}]}]);
    let ack = json!([{"topic": "orders", "subscription": "q", "receipts": receipts}]);
    json!({"id": id, "publish": publish, "ack": ack})
}

#[tokio::test]
async fn what_is_processed_is_acknowledged_with_what_came_of_it() {
    let (mut node, http) = world().await;
    queue(&http).await;
    http.publish("orders", &["one", "two", "three", "four"]).await;
    let mut received: BTreeMap<String, String> = BTreeMap::new();
    while received.len() < 4 {
        received.extend(poll(&http, 5_000).await);
    }
    let receipt = |value: &str| received[value].as_str();
    let first = transact(&http, &processed("first", &[receipt("one")])).await;
    assert_eq!(first["state"], "committed");
    // Sent again with the receipt that it has used, it gets its answer.
    assert_eq!(transact(&http, &processed("first", &[receipt("one")])).await, first);
    // One bad receipt, and nothing happens.
    let refused = http.json("POST", "/v1/transactions", &processed("bad", &[receipt("two"), receipt("one")])).await;
    let refused = refused.expect_error(409, "already_settled");
    assert!(refused.text().contains("ack[0].receipts[1]"), "{}", refused.text());
    let made_up = http.json("POST", "/v1/transactions", &processed("bad", &["x"])).await;
    made_up.expect_error(400, "receipt_invalid");
    http.get("/v1/transactions/bad").await.expect_error(404, "transaction_not_found");
    // A prepared one holds its message until it is decided.
    for (id, value) in [("held", "two"), ("given-up", "three")] {
        let mut body = processed(id, &[receipt(value)]);
        body["prepare"] = json!(true);
        assert_eq!(transact(&http, &body).await["state"], "prepared");
    }
    let view = http.get("/v1/transactions/held").await.expect(200).json();
    assert_eq!(view["ack"], json!([{"topic": "orders", "subscription": "q", "messages": 1}]));
    node.kill_9();
    node.restart().await;
    // Receipts of before are good until their time is over; whatever is open and not held is delivered again.
    let again: Vec<_> = poll(&http, 1_000).await.into_iter().map(|(value, _)| value).collect();
    assert_eq!(again, ["four"], "what is held is not delivered");
    http.json("POST", "/v1/transactions/held/commit", &json!({})).await.expect(200);
    http.json("POST", "/v1/transactions/given-up/rollback", &json!({})).await.expect(200);
    let mut back = BTreeSet::new();
    for _ in 0..20 {
        back.extend(poll(&http, 500).await.into_iter().map(|(value, _)| value));
        if back.contains("three") {
            break;
        }
    }
    assert!(back.contains("three") && !back.contains("two") && !back.contains("one"), "{back:?}");
    let audit = http.read_all("audit", 1).await;
    let audit: Vec<_> = audit.iter().map(|message| message["value"].as_str().unwrap()).collect();
    assert_eq!(audit, ["first", "held"]);
}

/// A server that answers questions about transactions; what it was asked.
async fn shop(answer: fn(&str, usize) -> Option<Value>) -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let handle = move |Json(question): Json<Value>| {
        let seen = seen.clone();
        async move {
            let mut seen = seen.lock().await;
            let before = seen.iter().filter(|other: &&Value| other["transaction"] == question["transaction"]).count();
            let answer = answer(question["transaction"].as_str().unwrap(), before);
            seen.push(question);
            answer.map(Json).ok_or(http::StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/decide", post(handle))).await });
    (address, asked)
}

#[tokio::test]
async fn whoever_prepared_is_asked_and_time_decides_the_rest() {
    let (mut node, http) = world().await;
    let (address, asked) = shop(|id, before| match (id, before) {
        (_, 0) => None,
        (_, 1) => Some(json!({"decision": "unknown"})),
        (_, 2) => Some(json!(["commit"])),
        ("yes", _) => Some(json!({"decision": "commit", "more": 1})),
        ("no", _) => Some(json!({"decision": "rollback"})),
        _ => Some(json!({"decision": "perhaps"})),
    })
    .await;
    for (id, timeout_ms) in [("yes", 60_000), ("no", 60_000), ("never", 2_000)] {
        let mut body = transaction(id);
        (body["prepare"], body["timeout_ms"]) = (json!(true), json!(timeout_ms));
        body["check_back"] = json!({"url": format!("http://{address}/decide"), "every_ms": 100});
        transact(&http, &body).await;
    }
    // Whoever leads next goes on asking.
    node.kill_9();
    node.restart().await;
    until(&http, "yes", "committed").await;
    until(&http, "no", "rolled_back").await;
    until(&http, "never", "rolled_back").await;
    assert_eq!(seen(&http).await, BTreeMap::from([("yes".to_owned(), 4)]));
    let asked = asked.lock().await.clone();
    let of = |id: &str| asked.iter().filter(|question| question["transaction"] == id).count();
    assert_eq!([of("yes"), of("no")], [4, 4]);
    assert!(of("never") >= 4 && asked.iter().all(|question| question["prepared_at"].is_i64()), "{asked:?}");
    let count = asked.len();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(count, asked.len());
}

#[tokio::test]
async fn the_command_line_sends_lists_and_decides() {
    let (node, http) = world().await;
    let path = node.scratch().join("transaction.json");
    let mut body = transaction("mine");
    body["prepare"] = json!(true);
    std::fs::write(&path, body.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let run = async |args: &[&str]| {
        let output = node.cli(&[&["transaction"], args, &["--output", "json"]].concat()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(run(&["publish", "--file", path]).await["state"], "prepared");
    assert_eq!(run(&["list"]).await[0]["id"], "mine");
    assert_eq!(run(&["commit", "mine"]).await["state"], "committed");
    assert_eq!(run(&["get", "mine"]).await["publish"].as_array().unwrap().len(), 4);
    assert_eq!(run(&["publish", "--file", path]).await["messages"].as_array().unwrap().len(), 4);
    assert_eq!(run(&["list"]).await, json!([]));
    assert_eq!(node.cli(&["transaction", "rollback", "mine"]).await.status.code(), Some(4));
    assert_eq!(node.cli(&["transaction", "get", "none"]).await.status.code(), Some(3));
    assert_eq!(seen(&http).await, BTreeMap::from([("mine".to_owned(), 4)]));
}
