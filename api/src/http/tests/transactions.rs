//! Transactions over HTTP. What concerns queues is tested from outside.

use std::time::Duration;

use tokio::time::sleep;

use super::*;

async fn world() -> Router {
    let router = router(node().await);
    for topic in ["a", "b"] {
        let answer = put(&router, &format!("/v1/topics/{topic}"), r#"{"partitions":2}"#).await;
        assert_eq!(answer.status, StatusCode::CREATED);
    }
    router
}

async fn transact(router: &Router, body: &Value) -> Answer {
    post(router, "/v1/transactions", body).await
}

async fn decide(router: &Router, id: &str, decision: &str) -> Answer {
    call(router, Method::POST, &format!("/v1/transactions/{id}/{decision}"), Body::empty()).await
}

async fn messages(router: &Router, topic: &str) -> usize {
    let topic = get(router, &format!("/v1/topics/{topic}")).await.json();
    let marks = topic["partitions"].as_array().unwrap().iter().map(|it| it["high_watermark"].as_u64().unwrap());
    marks.sum::<u64>() as usize
}

fn both(id: &str) -> Value {
    json!({"id": id, "publish": [
        {"topic": "b", "messages": [{"value": 1, "partition": 1}, {"value": "x", "partition": 0}]},
        {"topic": "a", "messages": [{"key": "k", "value": {"n": 2}, "partition": 1, "headers": {"h": "v"}}]},
    ]})
}

#[tokio::test]
async fn messages_are_placed_in_the_order_sent_and_a_repetition_gets_the_same() {
    let router = world().await;
    let first = transact(&router, &both("t")).await;
    let placed = |topic: &str, partition: u32| json!({"topic": topic, "partition": partition, "offset": 0});
    let expected =
        json!({"id": "t", "state": "committed", "messages": [placed("b", 1), placed("b", 0), placed("a", 1)]});
    assert_eq!((first.status, first.json()), (StatusCode::OK, expected.clone()));
    assert!(!first.headers.contains_key("brigade-duplicate"));
    let again = transact(&router, &both("t")).await;
    assert_eq!((again.json(), again.headers["brigade-duplicate"].to_str().unwrap()), (expected, "true"));
    assert_eq!((messages(&router, "a").await, messages(&router, "b").await), (1, 2));
    let view = get(&router, "/v1/transactions/t").await.json();
    assert_eq!((&view["state"], view["publish"].as_array().unwrap().len()), (&json!("committed"), 3));
    assert!(view["decided_at"].is_i64() && view["expires_at"].is_null(), "{view}");
    // A transaction's id and a client's key are different things, though they may read alike.
    let request = Request::post("/v1/topics/a/messages").header("idempotency-key", "t");
    let answer = send(&router, request.body(Body::from(r#"{"messages":[{"value":1}]}"#)).unwrap()).await;
    assert!(answer.status.is_success() && !answer.headers.contains_key("brigade-duplicate"));
    // Without an id one is drawn.
    let mut unnamed = both("");
    unnamed.as_object_mut().unwrap().remove("id");
    let ids: Vec<_> = [transact(&router, &unnamed).await.json(), transact(&router, &unnamed).await.json()].into();
    let id = |at: usize| ids[at]["id"].as_str().unwrap();
    assert!(id(0).starts_with("tx-") && id(0).len() == 35 && id(0) != id(1), "{ids:?}");
    assert!(get(&router, &format!("/v1/transactions/{}", id(1))).await.status.is_success());
}

#[tokio::test]
async fn prepared_ones_are_listed_and_decided_once() {
    let router = world().await;
    for id in ["p2", "p1", "p3"] {
        let mut body = both(id);
        body["prepare"] = json!(true);
        body["check_back"] = json!({"url": "http://192.0.2.1:9/decide?token=secret", "every_ms": 3_600_000});
        let answer = transact(&router, &body).await;
        assert_eq!(answer.json(), json!({"id": id, "state": "prepared"}));
    }
    assert_eq!((messages(&router, "a").await, messages(&router, "b").await), (0, 0));
    let page = get(&router, "/v1/transactions?limit=2").await.json();
    let ids =
        |page: &Value| page["transactions"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&page), &page["next"]), (vec![json!("p1"), json!("p2")], &json!("p2")));
    let page = get(&router, "/v1/transactions?state=prepared&limit=2&after=p2").await.json();
    assert_eq!((ids(&page), &page["next"]), (vec![json!("p3")], &Value::Null));
    let shown = &page["transactions"][0];
    assert_eq!(shown["check_back"], json!({"url": "http://192.0.2.1:9/decide?***", "every_ms": 3_600_000}));
    let (from, to) = (shown["prepared_at"].as_i64().unwrap(), shown["expires_at"].as_i64().unwrap());
    assert!((59_000..=61_000).contains(&(to - from)), "{shown}");
    // A topic that messages wait for stays.
    let answer = call(&router, Method::DELETE, "/v1/topics/a", Body::empty()).await;
    assert_eq!(answer.error(), (409, "transaction_pending".to_owned()));
    for _ in 0..2 {
        assert_eq!(decide(&router, "p1", "commit").await.json()["state"], "committed");
        assert_eq!(decide(&router, "p2", "rollback").await.json()["state"], "rolled_back");
    }
    assert_eq!(decide(&router, "p1", "rollback").await.error(), (409, "transaction_decided".to_owned()));
    assert_eq!(decide(&router, "p2", "commit").await.error(), (409, "transaction_decided".to_owned()));
    assert_eq!(decide(&router, "p4", "commit").await.error(), (404, "transaction_not_found".to_owned()));
    assert_eq!((messages(&router, "a").await, messages(&router, "b").await), (1, 2));
    let repeated = transact(&router, &both("p1")).await.json();
    assert_eq!((&repeated["state"], repeated["messages"].as_array().unwrap().len()), (&json!("committed"), 3));
    assert_eq!(transact(&router, &both("p2")).await.json(), json!({"id": "p2", "state": "rolled_back"}));
}

#[tokio::test]
async fn one_that_nobody_decides_is_rolled_back() {
    let router = world().await;
    let mut body = both("p");
    (body["prepare"], body["timeout_ms"]) = (json!(true), json!(50));
    transact(&router, &body).await;
    for _ in 0..1_000 {
        if get(&router, "/v1/transactions/p").await.json()["state"] == "rolled_back" {
            assert_eq!(messages(&router, "a").await, 0);
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it still waits");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_is_done() {
    let router = world().await;
    put(&router, "/v1/topics/a/subscriptions/s", r#"{"kind":"stream"}"#).await;
    assert!(transact(&router, &both("used")).await.status.is_success());
    let publish = |topic: &str, messages: Value| json!([{"topic": topic, "messages": messages}]);
    let one = || publish("a", json!([{"value": 1}]));
    let prepared = |field: &str, value: Value| {
        let mut body = json!({"publish": one(), "prepare": true});
        body[field] = value;
        body
    };
    let check = |url: &str, every_ms: u32| prepared("check_back", json!({"url": url, "every_ms": every_ms}));
    let acks = |subscription: &str, receipts: Value| json!({"publish": one(), "ack": [{"topic": "a", "subscription": subscription, "receipts": receipts}]});
    let many: Vec<_> = (0..101).map(|_| one()[0].clone()).collect();
    let cases = [
        (json!([]), 400, "invalid_json", ""),
        (json!({}), 400, "invalid_transaction", "nothing"),
        (json!({"publish": one(), "acks": []}), 400, "invalid_json", "acks"),
        (json!({"id": "", "publish": one()}), 400, "invalid_name", "transaction"),
        (json!({"id": "a b", "publish": one()}), 400, "invalid_name", "transaction"),
        (json!({"publish": publish("a/b", json!([{"value": 1}]))}), 400, "invalid_name", "publish[0]"),
        (json!({"publish": publish("c", json!([{"value": 1}]))}), 404, "topic_not_found", "publish[0]"),
        (json!({"publish": publish("a", json!([]))}), 400, "no_messages", "publish[0]"),
        (json!({"publish": publish("a", json!({"value": 1}))}), 400, "invalid_message", "publish[0]"),
        (json!({"publish": publish("a", json!([{"value": 1}, {"velue": 1}]))}), 400, "invalid_json", "messages[1]"),
        (json!({"publish": publish("a", json!([{"value": 1}, {}]))}), 400, "invalid_message", "messages[1]"),
        (json!({"publish": publish("a", json!([{"value": 1, "partition": 9}]))}), 400, "partition_not_found", "9"),
        (json!({"publish": [one()[0], one()[0]]}), 400, "invalid_transaction", "topic a is named twice"),
        (json!({"publish": many}), 413, "transaction_too_large", "101 topics"),
        (json!({"publish": one(), "timeout_ms": 5}), 400, "invalid_transaction", "timeout_ms"),
        (json!({"publish": one(), "check_back": {"url": "http://x"}}), 400, "invalid_transaction", "check_back"),
        (prepared("timeout_ms", json!(0)), 400, "invalid_transaction", "timeout_ms"),
        (prepared("timeout_ms", json!(604_800_001)), 400, "invalid_transaction", "timeout_ms"),
        (check("http://192.0.2.1", 99), 400, "invalid_transaction", "every_ms"),
        (check("ftp://192.0.2.1", 1_000), 400, "invalid_push_url", ""),
        (check("http://169.254.169.254/latest", 1_000), 400, "forbidden_address", "169.254"),
        (acks("absent", json!(["r"])), 404, "subscription_not_found", "ack[0]"),
        (acks("s", json!(["r"])), 409, "wrong_kind", "ack[0]"),
        (json!({"id": "used", "publish": one()}), 409, "identity_reused", "used"),
    ];
    let before = (messages(&router, "a").await, messages(&router, "b").await);
    for (body, status, code, named) in cases {
        let answer = transact(&router, &body).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{body}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named), "{message} does not name {named}");
    }
    for path in ["/v1/transactions?state=committed", "/v1/transactions?limit=0", "/v1/transactions/t?x=1"] {
        assert_eq!(get(&router, path).await.error(), (400, "invalid_parameter".to_owned()), "{path}");
    }
    assert_eq!(get(&router, "/v1/transactions/-").await.error(), (400, "invalid_name".to_owned()));
    let text = Request::post("/v1/transactions").header(header::CONTENT_TYPE, "text/plain");
    let answer = send(&router, text.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.error(), (415, "unsupported_content_type".to_owned()));
    assert_eq!((messages(&router, "a").await, messages(&router, "b").await), before);
}
