//! A store that goes away: clear 503s, and recovery by itself. As root no permission stops a write, so the data
//! directory is moved away and a file put in its place.

use std::{fs, time::Duration};

use brigade_tests::{
    http::{Answer, Http},
    process::{Options, Process},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

async fn publish(http: &Http, value: &str) -> Answer {
    http.json("POST", "/v1/topics/t/messages", &json!({"messages": [{"value": value}]})).await
}

#[tokio::test]
async fn publishes_are_refused_while_the_store_is_away_and_taken_when_it_is_back() {
    let env = vec![("BRIGADE_REQUEST_TIMEOUT_MS".to_owned(), "2000".to_owned())];
    let node = Process::start_with(Options { env, ..Options::default() }).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    publish(&http, "before").await.expect(200);

    let away = node.scratch().join("away");
    fs::rename(node.data(), &away).unwrap();
    fs::write(node.data(), "no directory").unwrap();
    let mut codes = Vec::new();
    for number in 0..6 {
        let answer = publish(&http, &format!("during {number}")).await.expect(503);
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!(wait >= 1);
        codes.push(answer.code());
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(codes.last().unwrap(), "store_unavailable", "{codes:?}");
    assert!(codes.iter().all(|code| code == "store_unavailable" || code == "outcome_unknown"), "{codes:?}");
    http.get("/readyz").await.expect_error(503, "store_unavailable");
    http.get("/healthz").await.expect(200);
    http.get("/v1/topics/t").await.expect(200);

    fs::remove_file(node.data()).unwrap();
    fs::rename(&away, node.data()).unwrap();
    let back = Instant::now();
    while http.get("/readyz").await.status != 200 {
        assert!(back.elapsed() < Duration::from_secs(30), "it recovers by itself");
        sleep(Duration::from_millis(50)).await;
    }
    publish(&http, "after").await.expect(200);
    let values: Vec<_> =
        http.read_all("t", 0).await.iter().map(|message| message["value"].as_str().unwrap().to_owned()).collect();
    assert_eq!((values.first().unwrap().as_str(), values.last().unwrap().as_str()), ("before", "after"));
    for (number, code) in codes.iter().enumerate() {
        let copies = values.iter().filter(|value| **value == format!("during {number}")).count();
        assert!(copies == 0 || (copies == 1 && code == "outcome_unknown"), "{number}: {copies} copies after {code}");
    }
}

#[tokio::test]
async fn a_request_of_unknown_outcome_may_be_repeated_with_its_key() {
    let env = vec![("BRIGADE_REQUEST_TIMEOUT_MS".to_owned(), "700".to_owned())];
    let node = Process::start_with(Options { env, ..Options::default() }).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    let away = node.scratch().join("away");
    fs::rename(node.data(), &away).unwrap();
    fs::write(node.data(), "no directory").unwrap();
    let send = || {
        let request = http.request("POST", "/v1/topics/t/messages").header("idempotency-key", "once");
        http.send(request.json(&json!({"messages": [{"value": "x"}]})))
    };
    send().await.expect(503);
    fs::remove_file(node.data()).unwrap();
    fs::rename(&away, node.data()).unwrap();
    let back = Instant::now();
    let answer = loop {
        let answer = send().await;
        if answer.status == 200 {
            break answer;
        }
        assert!(answer.status == 503 && back.elapsed() < Duration::from_secs(30), "{}", answer.text());
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(answer.placed(), [(0, 0)]);
    assert_eq!(http.read_all("t", 0).await.len(), 1);
}
