//! A server in memory with one topic `t` of two partitions and one subscription.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde_json::{Value, json};

pub(crate) const PARTITIONS: usize = 2;

/// How a publish goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing is stored; 429.
    Busy,
    /// It is stored; 503 `outcome_unknown`.
    Unknown,
    /// It is stored; the connection breaks in the middle of the answer.
    Cut,
    /// Nothing is stored; 400.
    Invalid,
}

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) partitions: [Vec<Value>; PARTITIONS],
    answers: BTreeMap<String, Value>,
    /// Identity of every publish request, repeated ones too.
    pub(crate) identities: Vec<String>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) committed: BTreeMap<usize, usize>,
    pub(crate) puts: u64,
    /// Calls that settle messages of the queue `q`: what, and the body.
    pub(crate) settled: Vec<(String, Value)>,
    /// Regions that vote, as name and URL; one when none are here.
    pub(crate) regions: Vec<Value>,
    /// How often a change of the regions is still seen under way.
    pub(crate) looks: u64,
}

type Shared = Arc<Mutex<Stored>>;

/// The running server.
pub(crate) struct Mock {
    pub(crate) url: String,
    pub(crate) stored: Shared,
}

impl Mock {
    pub(crate) async fn start() -> Self {
        let stored = Shared::default();
        let router = Router::new()
            .route("/v1/topics/{topic}", put(topic).get(topic).delete(async || StatusCode::NO_CONTENT))
            .route("/v1/topics/{topic}/messages", post(publish).get(read))
            .route("/v1/topics/{topic}/subscriptions/{name}", put(subscribe).get(subscription))
            .route("/v1/topics/{topic}/subscriptions/{name}/poll", post(poll))
            .route("/v1/topics/{topic}/subscriptions/{name}/commit", post(commit))
            .route("/v1/topics/{topic}/subscriptions/q/poll", post(receive))
            .route("/v1/topics/{topic}/subscriptions/q/{action}", post(settle))
            .route("/v1/regions", get(regions).put(change_regions))
            .route("/v1/shards", get(async || Json(shards())))
            .route("/metrics", get(metrics))
            .route("/readyz", get(async || error(503, "not_ready", "still recovering")))
            .route(
                "/v1/cluster",
                get(async || Json(json!({"node": "n1", "shards": [{"shard": 0, "state": "leading"}]}))),
            )
            .with_state(Arc::clone(&stored));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, stored }
    }

    pub(crate) fn fail(&self, faults: &[Fault]) {
        self.stored.lock().unwrap().faults.extend(faults);
    }

    /// Values of all partitions.
    pub(crate) fn values(&self) -> Vec<Value> {
        let stored = self.stored.lock().unwrap();
        stored.partitions.iter().flatten().map(|message| message["value"].clone()).collect()
    }
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let body = Json(json!({"error": {"code": code, "message": message, "hint": "look at the mock"}}));
    (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], body).into_response()
}

fn unknown() -> Response {
    error(404, "topic_not_found", "there is no topic of this name")
}

async fn topic(State(stored): State<Shared>, Path(topic): Path<String>) -> Response {
    if topic != "t" && !topic.starts_with("bench") {
        return unknown();
    }
    let stored = stored.lock().unwrap();
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|number| json!({"partition": number, "log_start": 0, "high_watermark": stored.partitions[number].len()}))
        .collect();
    Json(json!({"name": topic, "id": 7, "settings": {"partitions": PARTITIONS}, "partitions": partitions}))
        .into_response()
}

async fn publish(State(stored): State<Shared>, Path(topic): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    if topic != "t" && !topic.starts_with("bench") {
        return unknown();
    }
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let identity = format!("{}/{}{}", header("producer-id"), header("producer-sequence"), header("idempotency-key"));
    let mut stored = stored.lock().unwrap();
    stored.identities.push(identity.clone());
    let fault = stored.faults.pop_front();
    match fault {
        Some(Fault::Busy) => return error(429, "too_busy", "too many bytes in flight"),
        Some(Fault::Invalid) => return error(400, "invalid_json", "line 2 is no message"),
        _ => {}
    }
    let known = stored.answers.get(&identity).filter(|_| identity.len() > 1).cloned();
    let duplicate = known.is_some();
    let answer = known.unwrap_or_else(|| {
        let answer = store(&mut stored, &header("content-type"), &body);
        stored.answers.insert(identity, answer.clone());
        answer
    });
    match fault {
        Some(Fault::Unknown) => error(503, "outcome_unknown", "the store did not say"),
        Some(Fault::Cut) => {
            let broken = futures::stream::iter([Ok(Bytes::from("{\"mess")), Err(std::io::Error::other("cut"))]);
            Body::from_stream(broken).into_response()
        }
        _ if duplicate => ([("brigade-duplicate", "true")], Json(answer)).into_response(),
        _ => Json(answer).into_response(),
    }
}

fn store(stored: &mut Stored, content_type: &str, body: &[u8]) -> Value {
    let messages: Vec<Value> = if content_type == "application/json" {
        serde_json::from_slice::<Value>(body).unwrap()["messages"].as_array().unwrap().clone()
    } else {
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    };
    stored.puts += 1;
    let mut positions = Vec::new();
    for mut message in messages {
        let partition = message["partition"].as_u64().unwrap_or(0) as usize;
        let offset = stored.partitions[partition].len();
        message["partition"] = json!(partition);
        message["offset"] = json!(offset);
        stored.partitions[partition].push(message);
        positions.push(json!({"partition": partition, "offset": offset}));
    }
    json!({"messages": positions})
}

async fn read(
    State(stored): State<Shared>,
    Path(topic): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if topic != "t" && !topic.starts_with("bench") {
        return unknown();
    }
    let stored = stored.lock().unwrap();
    let messages = &stored.partitions[query["partition"].parse::<usize>().unwrap()];
    let offset = match query["offset"].as_str() {
        "earliest" => 0,
        "latest" => messages.len(),
        number => number.parse().unwrap(),
    };
    if offset > messages.len() {
        return error(416, "offset_out_of_range", "the offset is above the high watermark");
    }
    let most: usize = query["max_messages"].parse().unwrap();
    let page = &messages[offset..messages.len().min(offset.saturating_add(most))];
    let body: String = page.iter().map(|message| format!("{message}\n")).collect();
    let (next, end) = ((offset + page.len()).to_string(), messages.len().to_string());
    ([("brigade-next-offset", next), ("brigade-high-watermark", end)], body).into_response()
}

async fn subscribe(Path((_, name)): Path<(String, String)>, Json(body): Json<Value>) -> Response {
    Json(json!({"name": name, "kind": body["kind"]})).into_response()
}

async fn subscription(Path((_, name)): Path<(String, String)>) -> Response {
    match name.as_str() {
        "nowhere" => error(404, "subscription_not_found", "there is no subscription of this name"),
        "q" => Json(json!({"name": name, "kind": "queue", "settings": {"filter": null}, "lag": 3, "in_flight": 1,
            "partitions": [{"partition": 0, "floor": 1_234, "unsettled": 3, "high_watermark": 1_240}]}))
        .into_response(),
        _ => Json(json!({"name": name, "kind": "stream"})).into_response(),
    }
}

async fn poll(State(stored): State<Shared>, Json(body): Json<Value>) -> Response {
    let stored = stored.lock().unwrap();
    let mut most = body["max_messages"].as_u64().unwrap() as usize;
    let mut next = stored.committed.clone();
    for position in body["positions"].as_array().into_iter().flatten() {
        next.insert(position["partition"].as_u64().unwrap() as usize, position["offset"].as_u64().unwrap() as usize);
    }
    let (mut messages, mut positions) = (Vec::new(), Vec::new());
    for (number, partition) in stored.partitions.iter().enumerate() {
        let from = next.get(&number).copied().unwrap_or(0);
        let page = &partition[from..partition.len().min(from + most)];
        most -= page.len();
        messages.extend_from_slice(page);
        if !page.is_empty() {
            positions.push(json!({"partition": number, "offset": from + page.len()}));
        }
    }
    Json(json!({"messages": messages, "positions": positions})).into_response()
}

/// Gives every message once, with its offset as the receipt.
async fn receive(State(stored): State<Shared>, Json(body): Json<Value>) -> Response {
    assert!(body.get("positions").is_none(), "a queue has none");
    let mut stored = stored.lock().unwrap();
    let most = body["max_messages"].as_u64().unwrap() as usize;
    let from = stored.committed.get(&0).copied().unwrap_or(0);
    let page = &stored.partitions[0][from..];
    let mut page = page[..page.len().min(most)].to_vec();
    for message in &mut page {
        message["receipt"] = json!(format!("r{}", message["offset"]));
        message["delivery_count"] = json!(1);
    }
    stored.committed.insert(0, from + page.len());
    Json(json!({"messages": page})).into_response()
}

/// Knows receipts that begin with `r`.
async fn settle(
    State(stored): State<Shared>,
    Path((_, action)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let refused = json!({"code": "receipt_expired", "message": "its time is over", "hint": "look at the mock"});
    let receipts = body["receipts"].as_array().unwrap();
    let is_good = |receipt: &Value| receipt.as_str().unwrap().starts_with('r');
    let result = |receipt: &Value| match (is_good(receipt), action.as_str()) {
        (false, _) => json!({"receipt": receipt, "error": refused}),
        (true, "extend") => json!({"receipt": receipt, "status": "extended", "new_receipt": "new", "deadline": 5}),
        (true, _) => json!({"receipt": receipt, "status": "acknowledged"}),
    };
    let results: Vec<_> = receipts.iter().map(result).collect();
    stored.lock().unwrap().settled.push((action.clone(), body.clone()));
    match receipts.is_empty() || receipts.iter().any(is_good) {
        true => Json(json!({"results": results})).into_response(),
        false => (StatusCode::GONE, Json(json!({"error": refused, "results": results}))).into_response(),
    }
}

async fn commit(State(stored): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut stored = stored.lock().unwrap();
    for position in body["positions"].as_array().unwrap() {
        let partition = position["partition"].as_u64().unwrap() as usize;
        stored.committed.insert(partition, position["offset"].as_u64().unwrap() as usize);
    }
    Json(json!({"positions": body["positions"]})).into_response()
}

async fn regions(State(stored): State<Shared>) -> Response {
    let mut stored = stored.lock().unwrap();
    let one = [json!({"name": "a", "url": "s3://a"})];
    let voters = if stored.regions.is_empty() { &one[..] } else { &stored.regions };
    let state = if stored.looks > 0 { "catching_up" } else { "in_sync" };
    let progress = json!({"shard": 0, "state": state, "accepted": 7, "behind_entries": 1_234, "behind_bytes": 2_048,
        "behind_ms": 1_500, "copies_missing": 3});
    let regions: Vec<_> = (0..)
        .zip(voters)
        .map(|(number, region)| {
            json!({"number": number, "name": region["name"], "url": region["url"], "votes": true, "state": state,
                "shards": [progress], "problem": "it was away", "hint": "wait for it"})
        })
        .collect();
    let names: Vec<_> = voters.iter().map(|region| region["name"].clone()).collect();
    let change = (stored.looks > 0).then_some("adding regions");
    let view = json!({"regions": regions, "voters": names, "quorum": voters.len() / 2 + 1, "change": change});
    stored.looks = stored.looks.saturating_sub(1);
    Json(view).into_response()
}

async fn change_regions(State(stored): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut stored = stored.lock().unwrap();
    stored.regions = body["regions"].as_array().unwrap().clone();
    stored.looks = 2;
    (StatusCode::ACCEPTED, Json(json!({"change": "adding regions"}))).into_response()
}

fn shards() -> Value {
    json!({"shards": [{"shard": 0, "state": "leading", "node": "n1", "address": "http://n1", "ballot": "1.0",
        "takeover_ms": 1_070, "committed": 9, "partitions": {"total": 4, "under_replicated": 2, "offline": 0},
        "regions": [{"name": "a", "votes": true, "state": "behind", "accepted": 7, "behind_entries": 2,
            "behind_bytes": 300, "behind_ms": 40, "copies_missing": 0}]}]})
}

async fn metrics(State(stored): State<Shared>) -> String {
    let puts = stored.lock().unwrap().puts;
    format!(
        "brigade_store_requests_total{{operation=\"put\",region=\"local\",component=\"journal\"}} {puts}\n\
         brigade_store_sent_bytes_total{{region=\"local\"}} {}\nprocess_resident_memory_bytes 1048576\n",
        puts * 400
    )
}
