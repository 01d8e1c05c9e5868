//! Queue subscriptions, end to end in memory.

use std::time::Duration;

use brigade_index::names::{SubscriptionName, TopicName};

use super::*;

const PATH: &str = "/v1/topics/t/subscriptions/q";

async fn patch(router: &Router, body: Value) -> Answer {
    call(router, Method::PATCH, PATH, body.to_string()).await
}

/// A node with topic `t`, and its queue `q` with these settings.
async fn queue(settings: Value) -> (Node, Router) {
    let node = node().await;
    let router = router(node.clone());
    put(&router, "/v1/topics/t", json!({"partitions": 2})).await;
    let mut body = json!({"kind": "queue"});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    assert_eq!(put(&router, PATH, body).await.status, StatusCode::CREATED);
    (node, router)
}

async fn publish(router: &Router, values: &[&str]) {
    let messages: Vec<_> = values.iter().map(|value| json!({"value": value, "partition": 0})).collect();
    assert_eq!(post(router, "/v1/topics/t/messages", json!({"messages": messages})).await.status, StatusCode::OK);
}

async fn poll(router: &Router, body: Value) -> Vec<Value> {
    let polled = post(router, &format!("{PATH}/poll"), body).await;
    assert_eq!(polled.status, StatusCode::OK, "{:?}", polled.body);
    polled.json()["messages"].as_array().unwrap().clone()
}

async fn settle(router: &Router, action: &str, body: Value) -> Answer {
    post(router, &format!("{PATH}/{action}"), body).await
}

#[tokio::test]
async fn settings_are_shown_as_they_were_given() {
    let router = router(node().await);
    assert_eq!(put(&router, PATH, json!({"kind": "queue"})).await.error(), (404, "topic_not_found".to_owned()));
    put(&router, "/v1/topics/t", json!({"partitions": 2})).await;
    put(&router, "/v1/topics/dead", json!({})).await;
    let settings = json!({
        "visibility_timeout_ms": 5_000, "max_deliveries": 4, "dead_letter_topic": "dead", "ordered": true,
        "fair_by": "header:tenant", "expired": "dead_letter", "retry_delay_ms": 250, "filter": "type = \"order\"",
        "push": {"url": "http://example.org/hook", "timeout_ms": 1_000, "max_in_flight": 2, "max_per_second": 9,
            "backoff_min_ms": 10, "backoff_max_ms": 20},
    });
    let mut body = settings.clone();
    body["kind"] = json!("queue");
    let created = put(&router, PATH, body.clone()).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let mut shown = created.json();
    let secret = shown["settings"]["push"].as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"), "{secret}");
    assert_eq!(shown["settings"], settings);
    assert_eq!((&shown["kind"], &shown["lag"], &shown["in_flight"]), (&json!("queue"), &json!(0), &json!(0)));
    let at = |partition| json!({"partition": partition, "floor": 0, "unsettled": 0, "high_watermark": 0});
    assert_eq!(shown["partitions"], json!([at(0), at(1)]));
    assert!(shown.get("positions").is_none());
    assert_eq!(get(&router, PATH).await.json(), shown);
    // One that exists stays as it is, and its secret is not told again.
    for body in [body.clone(), json!({"kind": "queue", "max_deliveries": 4}), json!({"kind": "queue"})] {
        let again = put(&router, PATH, body).await;
        assert_eq!((again.status, again.json()), (StatusCode::OK, shown.clone()));
    }
    body["visibility_timeout_ms"] = json!(1);
    for body in [body, json!({"kind": "stream"}), json!({})] {
        assert_eq!(put(&router, PATH, body).await.error(), (409, "subscription_exists".to_owned()));
    }
    put(&router, "/v1/topics/t/subscriptions/s", json!({"kind": "stream"})).await;
    let other = put(&router, "/v1/topics/t/subscriptions/s", json!({"kind": "queue"})).await;
    assert_eq!(other.error(), (409, "subscription_exists".to_owned()));
    let listed = get(&router, "/v1/topics/t/subscriptions").await.json();
    assert_eq!((&listed["subscriptions"][0], &listed["subscriptions"][1]["kind"]), (&shown, &json!("stream")));
    let plain = put(&router, "/v1/topics/t/subscriptions/plain", json!({"kind": "queue"})).await.json();
    let defaults = json!({
        "visibility_timeout_ms": 30_000, "max_deliveries": 0, "dead_letter_topic": null, "ordered": false,
        "fair_by": null, "expired": "drop", "retry_delay_ms": 0, "filter": null, "push": null,
    });
    assert_eq!(plain["settings"], defaults);
    assert_eq!(call(&router, Method::DELETE, PATH, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(get(&router, PATH).await.error(), (404, "subscription_not_found".to_owned()));
}

#[tokio::test]
async fn a_change_touches_only_what_it_names() {
    let (node, router) = queue(json!({"ordered": true, "filter": "a exists", "fair_by": "group"})).await;
    let before = get(&router, PATH).await.json();
    assert_eq!(patch(&router, json!({})).await.json(), before);
    let changed = patch(&router, json!({"filter": null, "max_deliveries": 3})).await.json();
    assert_eq!((&changed["settings"]["filter"], &changed["settings"]["max_deliveries"]), (&Value::Null, &json!(3)));
    assert_eq!((&changed["settings"]["ordered"], &changed["settings"]["fair_by"]), (&json!(true), &json!("group")));
    assert_eq!(patch(&router, json!({"fair_by": null})).await.json()["settings"]["fair_by"], Value::Null);

    let secret = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB";
    let pushed = json!({"push": {"url": "http://example.org/a", "secret": secret}});
    assert_eq!(patch(&router, pushed.clone()).await.json()["settings"]["push"]["secret"], secret);
    assert!(patch(&router, pushed).await.json()["settings"]["push"].get("secret").is_none(), "it is set already");
    let moved = patch(&router, json!({"push": {"url": "http://example.org/b"}})).await.json();
    assert_eq!(moved["settings"]["push"]["url"], "http://example.org/b");
    assert!(moved["settings"]["push"].get("secret").is_none(), "it stays as it is");
    let url = "http://example.org/b?token=t";
    let hidden = patch(&router, json!({"push": {"url": url}})).await.json()["settings"]["push"]["url"].clone();
    assert_eq!(hidden, "http://example.org/b?***");
    assert!(patch(&router, json!({"push": {"url": hidden, "max_in_flight": 3}})).await.status.is_success());
    let leading = node.seat.lead().unwrap();
    let queue = leading.ingest.queue(&TopicName::new("t").unwrap(), &SubscriptionName::new("q").unwrap()).unwrap();
    let push = queue.settings().unwrap().push.clone().unwrap();
    assert_eq!((push.url.as_str(), push.max_in_flight), (url, 3), "given back as it is shown it stays");
    let renewed = patch(&router, json!({"push": {"secret": null}})).await.json();
    let fresh = renewed["settings"]["push"]["secret"].as_str().unwrap();
    assert!(fresh.starts_with("whsec_") && fresh != secret, "{fresh}");
    assert_eq!(patch(&router, json!({"push": null})).await.json()["settings"]["push"], Value::Null);
}

#[tokio::test]
async fn wrong_settings_change_nothing() {
    let (_node, router) = queue(json!({"filter": "a exists"})).await;
    put(&router, "/v1/topics/t/subscriptions/s", json!({})).await;
    let before = get(&router, PATH).await.json();
    let wrong = [
        (json!({"visibility_timeout_ms": 0}), "invalid_settings"),
        (json!({"visibility_timeout_ms": 43_200_001}), "invalid_settings"),
        (json!({"visibility_timeout_ms": -1}), "invalid_json"),
        (json!({"max_deliveries": 1_001}), "invalid_settings"),
        (json!({"retry_delay_ms": 43_200_001}), "invalid_settings"),
        (json!({"fair_by": "tenant"}), "invalid_settings"),
        (json!({"fair_by": "header:"}), "invalid_settings"),
        (json!({"expired": "keep"}), "invalid_json"),
        (json!({"filter": "a ="}), "invalid_filter"),
        (json!({"filter": ""}), "invalid_filter"),
        (json!({"dead_letter_topic": "no name"}), "invalid_name"),
        (json!({"dead_letter_topic": "absent"}), "invalid_dead_letter_topic"),
        (json!({"dead_letter_topic": "t"}), "invalid_dead_letter_topic"),
        (json!({"push": {}}), "invalid_push_url"),
        (json!({"push": {"url": "ftp://h"}}), "invalid_push_url"),
        (json!({"push": {"url": "http://h/?***"}}), "invalid_push_url"),
        (json!({"push": {"url": "http://169.254.169.254/"}}), "forbidden_address"),
        (json!({"push": {"url": "http://h", "secret": "short"}}), "invalid_push_secret"),
        (json!({"push": {"url": "http://h", "max_in_flight": 0}}), "invalid_settings"),
        (json!({"push": {"url": "http://h", "backoff_min_ms": 9, "backoff_max_ms": 8}}), "invalid_settings"),
        (json!({"visibility": 1}), "invalid_json"),
    ];
    for (settings, code) in wrong {
        assert_eq!(patch(&router, settings.clone()).await.error(), (400, code.to_owned()), "{settings}");
        let mut new = settings.clone();
        new["kind"] = json!("queue");
        let created = put(&router, "/v1/topics/t/subscriptions/new", new).await;
        assert_eq!(created.error(), (400, code.to_owned()), "{settings}");
    }
    for body in [json!({"kind": "queue"}), json!({"start": "latest"}), json!({"seek": "latest", "ordered": true})] {
        assert_eq!(patch(&router, body).await.error(), (400, "invalid_settings".to_owned()));
    }
    assert_eq!(get(&router, PATH).await.json(), before);
    let created = put(&router, "/v1/topics/t/subscriptions/new", json!({"ordered": true})).await;
    assert_eq!(created.error(), (400, "invalid_settings".to_owned()), "a setting of queues");
    let created = put(&router, "/v1/topics/t/subscriptions/new", json!({"kind": "queue", "seek": "latest"})).await;
    assert_eq!(created.error(), (400, "invalid_settings".to_owned()));
    let stream = call(&router, Method::PATCH, "/v1/topics/t/subscriptions/s", r#"{"filter":null}"#).await;
    assert_eq!(stream.error(), (400, "invalid_settings".to_owned()));
    let stream = call(&router, Method::PATCH, "/v1/topics/t/subscriptions/s", "{}").await;
    assert_eq!(stream.error(), (400, "invalid_json".to_owned()));
    let absent = get(&router, "/v1/topics/t/subscriptions/new").await;
    assert_eq!(absent.error(), (404, "subscription_not_found".to_owned()));
}

#[tokio::test]
async fn what_belongs_to_the_other_kind_is_refused() {
    let (_node, router) = queue(json!({})).await;
    put(&router, "/v1/topics/t/subscriptions/s", json!({})).await;
    let wrong = (409, "wrong_kind".to_owned());
    for body in [json!({"positions": []}), json!({"positions": [{"partition": 0, "offset": 0}]})] {
        assert_eq!(settle(&router, "commit", body).await.error(), wrong);
    }
    for action in ["ack", "nack", "reject"] {
        let answer = post(&router, &format!("/v1/topics/t/subscriptions/s/{action}"), json!({"receipts": []})).await;
        assert_eq!(answer.error(), wrong, "{action}");
    }
    let extend = json!({"receipts": [], "visibility_timeout_ms": 1});
    assert_eq!(post(&router, "/v1/topics/t/subscriptions/s/extend", extend).await.error(), wrong);
    assert_eq!(get(&router, "/v1/topics/t/subscriptions/s/dead-letters").await.error(), wrong);
    for action in ["redrive", "purge"] {
        let path = format!("/v1/topics/t/subscriptions/s/dead-letters/{action}");
        assert_eq!(post(&router, &path, json!({})).await.error(), wrong, "{action}");
    }
    let parameter = (400, "invalid_parameter".to_owned());
    assert_eq!(settle(&router, "poll", json!({"positions": []})).await.error(), parameter);
    let visibility = json!({"visibility_timeout_ms": 1});
    assert_eq!(post(&router, "/v1/topics/t/subscriptions/s/poll", visibility).await.error(), parameter);
    let absent = post(&router, "/v1/topics/t/subscriptions/absent/ack", json!({"receipts": []})).await;
    assert_eq!(absent.error(), (404, "subscription_not_found".to_owned()));
}

#[tokio::test]
async fn wrong_calls_are_refused() {
    let (_node, router) = queue(json!({})).await;
    let parameter = "invalid_parameter";
    let wrong = [
        ("poll", json!({"max_messages": 0}), parameter),
        ("poll", json!({"max_messages": 1_001}), parameter),
        ("poll", json!({"wait_ms": 60_001}), parameter),
        ("poll", json!({"visibility_timeout_ms": 0}), parameter),
        ("poll", json!({"visibility_timeout_ms": 43_200_001}), parameter),
        ("ack", json!({}), "invalid_json"),
        ("ack", json!({"receipts": [1]}), "invalid_json"),
        ("ack", json!({"receipts": [], "delay_ms": 1}), "invalid_json"),
        ("ack", json!({"receipts": vec![""; 10_001]}), parameter),
        ("nack", json!({"receipts": [], "delay_ms": 43_200_001}), parameter),
        ("nack", json!({"receipts": [], "delay_ms": -1}), "invalid_json"),
        ("extend", json!({"receipts": []}), "invalid_json"),
        ("extend", json!({"receipts": [], "visibility_timeout_ms": 0}), parameter),
        ("extend", json!({"receipts": [], "visibility_timeout_ms": 43_200_001}), parameter),
        ("dead-letters/redrive", json!({"per_second": 0}), parameter),
        ("dead-letters/redrive", json!({"filter": "("}), "invalid_filter"),
        ("dead-letters/purge", json!({"per_second": 1}), "invalid_json"),
        ("dead-letters/purge", json!({"max_messages": 0}), parameter),
    ];
    for (action, body, code) in wrong {
        assert_eq!(settle(&router, action, body).await.error(), (400, code.to_owned()), "{action}");
    }
    for query in ["after=x", "max_messages=0", "max_messages=1001", "filter=%28", "more=1"] {
        let answer = get(&router, &format!("{PATH}/dead-letters?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn what_is_no_receipt_is_refused_with_the_answer_for_each() {
    let (_node, router) = queue(json!({})).await;
    for action in ["ack", "reject", "nack"] {
        let nothing = settle(&router, action, json!({"receipts": []})).await;
        assert_eq!((nothing.status, nothing.json()), (StatusCode::OK, json!({"results": []})));
        let wrong = settle(&router, action, json!({"receipts": ["", "caf\u{e9}\n\""]})).await;
        assert_eq!(wrong.error(), (400, "receipt_invalid".to_owned()));
        let results = &wrong.json()["results"];
        assert_eq!((&results[1]["receipt"], &results[1]["error"]), (&json!("caf\u{e9}\n\""), &wrong.json()["error"]));
    }
    let most = settle(&router, "ack", json!({"receipts": vec!["x".repeat(82); 10_000]})).await;
    assert_eq!(most.error(), (400, "receipt_invalid".to_owned()));
    assert_eq!(most.json()["results"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn messages_are_received_and_acknowledged() {
    let (_node, router) = queue(json!({})).await;
    publish(&router, &["a", "b", "c"]).await;
    assert_eq!(get(&router, PATH).await.json()["lag"], 3);
    let polled = poll(&router, json!({"max_messages": 2, "visibility_timeout_ms": 60_000})).await;
    let shown: Vec<_> = polled.iter().map(|message| (&message["value"], &message["delivery_count"])).collect();
    assert_eq!(shown, [(&json!("a"), &json!(1)), (&json!("b"), &json!(1))]);
    let (first, deadline) =
        (polled[0]["first_delivered_at"].as_i64().unwrap(), polled[0]["deadline"].as_i64().unwrap());
    assert_eq!(deadline - first, 60_000);
    assert_eq!(get(&router, PATH).await.json()["in_flight"], 2);
    let receipts = json!({"receipts": [polled[0]["receipt"], polled[1]["receipt"], "nonsense"]});
    let acked = settle(&router, "ack", receipts.clone()).await;
    assert_eq!(acked.status, StatusCode::OK);
    let results = acked.json()["results"].clone();
    assert_eq!(
        (&results[0]["status"], &results[2]["error"]["code"]),
        (&json!("acknowledged"), &json!("receipt_invalid"))
    );
    let again = settle(&router, "ack", receipts).await;
    assert_eq!(again.error(), (409, "already_settled".to_owned()));
    let view = get(&router, PATH).await.json();
    assert_eq!((&view["lag"], &view["in_flight"], &view["partitions"][0]["floor"]), (&json!(1), &json!(0), &json!(2)));

    let last = poll(&router, json!({})).await;
    let extended = json!({"receipts": [last[0]["receipt"]], "visibility_timeout_ms": 120_000});
    let extended = settle(&router, "extend", extended).await.json()["results"][0].clone();
    assert_eq!(extended["status"], "extended");
    assert!(extended["deadline"].as_i64() > last[0]["deadline"].as_i64(), "{extended}");
    let returned = settle(&router, "nack", json!({"receipts": [extended["new_receipt"]], "delay_ms": 0})).await;
    assert_eq!(returned.json()["results"][0]["status"], "returned");
    let second = poll(&router, json!({"wait_ms": 10_000})).await;
    assert_eq!((&second[0]["value"], &second[0]["delivery_count"]), (&json!("c"), &json!(2)));
    let late = settle(&router, "ack", json!({"receipts": [last[0]["receipt"]]})).await;
    assert_eq!(late.error(), (409, "receipt_superseded".to_owned()));
    put(&router, "/v1/topics/t/subscriptions/other", json!({"kind": "queue"})).await;
    let receipt = json!({"receipts": [second[0]["receipt"]]});
    let foreign = post(&router, "/v1/topics/t/subscriptions/other/ack", receipt.clone()).await;
    assert_eq!(foreign.error(), (400, "receipt_foreign".to_owned()));
    assert_eq!(settle(&router, "ack", receipt).await.status, StatusCode::OK);
    assert_eq!(get(&router, PATH).await.json()["lag"], 0);
}

#[tokio::test]
async fn dead_letters_are_listed_given_back_and_forgotten() {
    let (_node, router) = queue(json!({})).await;
    publish(&router, &["a", "b", "c"]).await;
    let receipts: Vec<_> = poll(&router, json!({})).await.iter().map(|message| message["receipt"].clone()).collect();
    assert_eq!(settle(&router, "reject", json!({"receipts": receipts})).await.status, StatusCode::OK);
    let page = get(&router, &format!("{PATH}/dead-letters?max_messages=2")).await.json();
    let letter = &page["messages"][0];
    assert_eq!((&letter["value"], &letter["topic"], &letter["reason"]), (&json!("a"), &json!("t"), &json!("rejected")));
    assert_eq!((&letter["delivery_count"], &page["next"]), (&json!(1), &json!("0:1")));
    assert!(letter["dead_at"].as_i64() >= letter["first_delivered_at"].as_i64());
    let rest = get(&router, &format!("{PATH}/dead-letters?after=0:1")).await.json();
    assert_eq!((&rest["messages"][0]["value"], &rest["next"]), (&json!("c"), &Value::Null));
    let redriven = settle(&router, "dead-letters/redrive", json!({"max_messages": 1})).await;
    assert_eq!(redriven.json(), json!({"redriven": 1}));
    let again = poll(&router, json!({"wait_ms": 10_000})).await;
    assert_eq!((&again[0]["value"], &again[0]["delivery_count"]), (&json!("a"), &json!(1)));
    assert_eq!(get(&router, PATH).await.json()["dead_letters"], 2);
    assert_eq!(settle(&router, "dead-letters/purge", json!({})).await.json(), json!({"purged": 2}));
    assert_eq!(get(&router, &format!("{PATH}/dead-letters")).await.json(), json!({"messages": [], "next": null}));
}

#[tokio::test]
async fn waiting_ends_with_a_message_or_with_the_node() {
    let (node, router) = queue(json!({})).await;
    let wait = |router: &Router| {
        let router = router.clone();
        tokio::spawn(async move { poll(&router, json!({"wait_ms": 60_000})).await })
    };
    let waiting = wait(&router);
    tokio::time::sleep(Duration::from_millis(20)).await;
    publish(&router, &["x"]).await;
    assert_eq!(waiting.await.unwrap()[0]["value"], "x");
    let waiting = wait(&router);
    tokio::time::sleep(Duration::from_millis(20)).await;
    node.begin_drain();
    assert_eq!(waiting.await.unwrap(), Vec::<Value>::new());
}

#[tokio::test]
async fn moving_a_queue_settles_what_lies_before() {
    let (_node, router) = queue(json!({"start": "latest"})).await;
    publish(&router, &["a", "b", "c"]).await;
    assert_eq!(get(&router, PATH).await.json()["lag"], 3);
    let moved = patch(&router, json!({"seek": {"positions": [{"partition": 0, "offset": 2}]}})).await.json();
    assert_eq!((&moved["lag"], &moved["partitions"][0]["floor"]), (&json!(1), &json!(2)));
    assert_eq!(patch(&router, json!({"seek": "earliest"})).await.json()["lag"], 3);
    assert_eq!(patch(&router, json!({"seek": "latest"})).await.json()["lag"], 0);
    let beyond = json!({"seek": {"positions": [{"partition": 0, "offset": 4}]}});
    assert_eq!(patch(&router, beyond).await.error(), (400, "invalid_position".to_owned()));
}

#[tokio::test]
async fn many_receipts_need_room_and_few_do_not() {
    let (node, router) = queue(json!({})).await;
    let all = usize::try_from(settings().publish.memory_mib << 20).unwrap();
    let full = node.seat.lead().unwrap().ingest.admit(all).unwrap();
    let receipts = |count: usize| json!({"receipts": vec!["x".repeat(82); count]});
    assert_eq!(settle(&router, "ack", receipts(2_000)).await.error(), (400, "receipt_invalid".to_owned()));
    assert_eq!(settle(&router, "ack", receipts(4_000)).await.error(), (429, "too_busy".to_owned()));
    drop(full);
    assert_eq!(settle(&router, "ack", receipts(4_000)).await.error(), (400, "receipt_invalid".to_owned()));
    assert_eq!(settle(&router, "ack", receipts(20_000)).await.error(), (413, "request_too_large".to_owned()));
}
