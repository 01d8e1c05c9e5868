//! Requests that are wrong: each gets a 4xx with a stable code, and nothing changes.

use super::*;

/// A node with topics `t`, `u` and `v`, a queue `q` of `t` whose dead letters go to `u`, and a stream `s` of `t`.
async fn node() -> (Process, Http) {
    let (node, http) = queue(json!({"filter": "h exists"})).await;
    http.create_topic("u", 1).await;
    http.create_topic("v", 1).await;
    http.json("PATCH", PATH, &json!({"dead_letter_topic": "u"})).await.expect(200);
    http.json("PUT", "/v1/topics/t/subscriptions/s", &json!({"kind": "stream"})).await.expect(201);
    publish(&http, json!([{"value": "a", "headers": {"h": "1"}}])).await;
    (node, http)
}

/// Everything that a client can see of the node's subscriptions.
async fn seen(http: &Http) -> Vec<Value> {
    let mut all = Vec::new();
    for topic in ["t", "u", "v"] {
        all.push(http.get(&format!("/v1/topics/{topic}/subscriptions")).await.expect(200).json());
        all.push(http.get(&format!("/v1/topics/{topic}")).await.expect(200).json());
    }
    all
}

async fn refused(http: &Http, cases: &[(&str, &str, Value, u16, &str, &str)]) {
    let before = seen(http).await;
    for (method, path, body, status, code, says) in cases {
        let answer = http.json(method, path, body).await;
        let text = answer.text();
        let right = answer.status == *status && answer.code() == *code && text.contains(says);
        assert!(right, "{method} {path} {body}: expected {status} {code} with {says:?}, got {} {text}", answer.status);
    }
    assert_eq!(seen(http).await, before, "nothing changed");
}

#[tokio::test]
async fn wrong_settings_are_refused() {
    let (_node, http) = node().await;
    let wrong = [
        (json!({"filter": "a = "}), "invalid_filter", "byte"),
        (json!({"filter": "a == 1"}), "invalid_filter", "byte 2"),
        (json!({"filter": "a = 1 and"}), "invalid_filter", "byte 9"),
        (json!({"filter": "(".repeat(33) + "a exists" + &")".repeat(33)}), "invalid_filter", "byte"),
        (json!({"filter": "x".repeat(4_097)}), "invalid_filter", ""),
        (json!({"dead_letter_topic": "t"}), "invalid_dead_letter_topic", "itself"),
        (json!({"dead_letter_topic": "nothing"}), "invalid_dead_letter_topic", "no such"),
        (json!({"dead_letter_topic": "a b"}), "invalid_name", ""),
        (json!({"visibility_timeout_ms": 0}), "invalid_settings", "visibility_timeout_ms"),
        (json!({"visibility_timeout_ms": 43_200_001}), "invalid_settings", "43200000"),
        (json!({"visibility_timeout_ms": -5}), "invalid_json", "-5"),
        (json!({"retry_delay_ms": 43_200_001}), "invalid_settings", "retry_delay_ms"),
        (json!({"max_deliveries": 1_001}), "invalid_settings", "max_deliveries"),
        (json!({"fair_by": "everybody"}), "invalid_settings", "fair_by"),
        (json!({"expired": "ignore"}), "invalid_json", "ignore"),
        (json!({"push": {"url": "http://169.254.169.254/latest"}}), "forbidden_address", "169.254.169.254"),
        (json!({"push": {"url": "file:///etc/passwd"}}), "invalid_push_url", "http"),
        (json!({"push": {"url": "http://h/", "secret": "x"}}), "invalid_push_secret", "whsec_"),
        (json!({"push": {"url": "http://h/", "timeout_ms": 0}}), "invalid_settings", "timeout_ms"),
        (json!({"orderd": true}), "invalid_json", "orderd"),
    ];
    let mut cases = Vec::new();
    for (settings, code, says) in wrong {
        cases.push(("PATCH", PATH, settings.clone(), 400, code, says));
        let mut new = settings;
        new["kind"] = json!("queue");
        cases.push(("PUT", "/v1/topics/t/subscriptions/new", new, 400, code, says));
    }
    refused(&http, &cases).await;
}

#[tokio::test]
async fn dead_letters_never_lead_back() {
    let (_node, http) = node().await;
    let queue = |target: &str| json!({"kind": "queue", "dead_letter_topic": target});
    // From t to u by q. From u to v is no circle yet.
    http.json("PUT", "/v1/topics/u/subscriptions/q", &queue("v")).await.expect(201);
    let circle = "invalid_dead_letter_topic";
    refused(
        &http,
        &[
            ("PUT", "/v1/topics/u/subscriptions/back", queue("t"), 400, circle, "back"),
            ("PUT", "/v1/topics/v/subscriptions/back", queue("t"), 400, circle, "back"),
            ("PUT", "/v1/topics/v/subscriptions/back", queue("u"), 400, circle, "back"),
            ("PATCH", "/v1/topics/u/subscriptions/q", json!({"dead_letter_topic": "t"}), 400, circle, "back"),
        ],
    )
    .await;
    http.json("PATCH", PATH, &json!({"dead_letter_topic": null})).await.expect(200);
    http.json("PUT", "/v1/topics/v/subscriptions/on", &queue("t")).await.expect(201);
    http.json("PATCH", PATH, &json!({"dead_letter_topic": "u"})).await.expect_error(400, circle);
}

#[tokio::test]
async fn wrong_calls_are_refused() {
    let (_node, http) = node().await;
    let at = |rest: &str| format!("{PATH}/{rest}");
    let stream = |rest: &str| format!("/v1/topics/t/subscriptions/s/{rest}");
    let (parameter, kind, json_error) = ("invalid_parameter", "wrong_kind", "invalid_json");
    let receipts = json!({"receipts": []});
    let cases = [
        (at("poll"), json!({"max_messages": 0}), 400, parameter, "max_messages"),
        (at("poll"), json!({"max_messages": 1_001}), 400, parameter, "1000"),
        (at("poll"), json!({"wait_ms": 60_001}), 400, parameter, "wait_ms"),
        (at("poll"), json!({"visibility_timeout_ms": 43_200_001}), 400, parameter, "43200000"),
        (at("poll"), json!({"positions": []}), 400, parameter, "positions"),
        (stream("poll"), json!({"visibility_timeout_ms": 1}), 400, parameter, "visibility_timeout_ms"),
        (at("nack"), json!({"receipts": [], "delay_ms": 43_200_001}), 400, parameter, "delay_ms"),
        (at("nack"), json!({"receipts": [], "delay_ms": -1}), 400, json_error, "-1"),
        (at("extend"), json!({"receipts": [], "visibility_timeout_ms": 43_200_001}), 400, parameter, "43200000"),
        (at("extend"), json!({"receipts": [], "visibility_timeout_ms": 0}), 400, parameter, "visibility_timeout_ms"),
        (at("extend"), receipts.clone(), 400, json_error, "visibility_timeout_ms"),
        (at("ack"), json!({"receipts": vec!["x"; 10_001]}), 400, parameter, "10000"),
        (at("ack"), json!({"receipts": ["x"]}), 400, "receipt_invalid", "results"),
        (at("ack"), json!({"receipt": "x"}), 400, json_error, "receipt"),
        (at("commit"), json!({"positions": []}), 409, kind, "queue"),
        (stream("ack"), receipts.clone(), 409, kind, "stream"),
        (stream("nack"), receipts.clone(), 409, kind, "stream"),
        (stream("reject"), receipts.clone(), 409, kind, "stream"),
        (stream("extend"), json!({"receipts": [], "visibility_timeout_ms": 1}), 409, kind, "stream"),
        (stream("dead-letters/redrive"), json!({}), 409, kind, "stream"),
        (stream("dead-letters/purge"), json!({}), 409, kind, "stream"),
        (at("dead-letters/redrive"), json!({"filter": "a ="}), 400, "invalid_filter", "byte"),
        (at("dead-letters/redrive"), json!({"per_second": 0}), 400, parameter, "per_second"),
        (at("dead-letters/purge"), json!({"filter": ")"}), 400, "invalid_filter", "byte 0"),
        ("/v1/topics/t/subscriptions/x/ack".to_owned(), receipts.clone(), 404, "subscription_not_found", ""),
        ("/v1/topics/x/subscriptions/q/ack".to_owned(), receipts, 404, "topic_not_found", ""),
    ];
    let cases: Vec<_> = cases
        .iter()
        .map(|(path, body, status, code, says)| ("POST", path.as_str(), body.clone(), *status, *code, *says))
        .collect();
    refused(&http, &cases).await;
    let more = [
        ("PUT", PATH, json!({"kind": "stream"}), 409, "subscription_exists", "queue"),
        ("PUT", "/v1/topics/t/subscriptions/s", json!({"kind": "queue"}), 409, "subscription_exists", "stream"),
        ("PATCH", "/v1/topics/t/subscriptions/s", json!({"ordered": true}), 400, "invalid_settings", "ordered"),
        ("PATCH", PATH, json!({"seek": "latest", "ordered": true}), 400, "invalid_settings", ""),
        ("PUT", "/v1/topics/t/subscriptions/new", json!({"filter": "a exists"}), 400, "invalid_settings", "filter"),
    ];
    refused(&http, &more).await;
    for query in ["after=7", "max_messages=0", "max_messages=1001", "filter=%3D", "limit=1"] {
        assert_eq!(http.get(&format!("{PATH}/dead-letters?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(values(&poll(&http, json!({})).await), ["a"], "it still works");
}

#[tokio::test]
async fn a_push_secret_is_shown_once() {
    let (mut node, http) = queue(json!({})).await;
    let push = json!({"push": {"url": "http://127.0.0.1:9/hook", "max_in_flight": 3}});
    let set = http.json("PATCH", PATH, &push).await.expect(200).json();
    let secret = set["settings"]["push"]["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() > 37, "{secret}");
    node.kill_9();
    node.restart().await;
    let answers = [
        http.get(PATH).await,
        http.get("/v1/topics/t/subscriptions").await,
        http.json("PATCH", PATH, &json!({"push": {"max_in_flight": 4}})).await,
        http.json("PUT", PATH, &json!({"kind": "queue"})).await,
        http.get("/metrics").await,
    ];
    for answer in answers {
        assert!(answer.status == 200 && !answer.text().contains(&secret), "{}", answer.text());
    }
    let push = http.get(PATH).await.json()["settings"]["push"].clone();
    assert_eq!((&push["max_in_flight"], &push["url"]), (&json!(4), &json!("http://127.0.0.1:9/hook")));
    assert!(!node.log().contains(&secret));
}
