//! Dead letters: why, where, given back and forgotten.

use super::*;

async fn letters(http: &Http, query: &str) -> Value {
    http.get(&format!("{PATH}/dead-letters?{query}")).await.expect(200).json()
}

async fn pick(http: &Http, action: &str, body: Value) -> Value {
    http.json("POST", &format!("{PATH}/dead-letters/{action}"), &body).await.expect(200).json()
}

#[tokio::test]
async fn what_cannot_be_processed_is_inspected_given_back_and_forgotten() {
    let (mut node, http) = queue(json!({"max_deliveries": 2, "visibility_timeout_ms": 300})).await;
    publish(
        &http,
        json!([
            {"key": "k", "value": "a", "headers": {"type": "order"}},
            {"value": "b", "headers": {"type": "trace"}},
            {"value": "c", "headers": {"type": "order"}},
        ]),
    )
    .await;
    let first = poll(&http, json!({})).await;
    ack(&http, &first[2..]).await;
    // One comes again because its time is over, one because it is given back.
    settle(&http, "nack", &first[1..2]).await.expect(200);
    let mut second = next(&http).await;
    while second.len() < 2 {
        second.extend(next(&http).await);
    }
    assert!(second.iter().all(|message| message["delivery_count"] == 2), "{second:?}");
    until(&http, "dead_letters", 2).await;
    assert!(poll(&http, json!({"wait_ms": 500})).await.is_empty(), "they were delivered as often as they may be");
    assert_eq!(http.get(PATH).await.json()["lag"], 0);
    node.kill_9();
    node.restart().await;
    let page = letters(&http, "").await;
    assert_eq!((values(page["messages"].as_array().unwrap()), &page["next"]), (vec!["a", "b"], &Value::Null));
    let letter = &page["messages"][0];
    let shown = ["key", "headers", "topic", "reason", "delivery_count"].map(|field| letter[field].clone());
    assert_eq!(shown, [json!("k"), json!({"type": "order"}), json!("t"), json!("max_deliveries"), json!(2)]);
    assert_eq!(letter["first_delivered_at"], first[0]["first_delivered_at"]);
    assert!(letter["dead_at"].as_i64() > letter["first_delivered_at"].as_i64(), "{letter}");
    assert_eq!(letters(&http, "filter=type+%3D+%22trace%22").await["messages"][0]["value"], "b");

    let redriven = pick(&http, "redrive", json!({"filter": "type = \"order\""})).await;
    assert_eq!(redriven, json!({"redriven": 1}));
    let again = next(&http).await;
    assert_eq!((values(&again), &again[0]["delivery_count"]), (vec!["a"], &json!(1)), "as if for the first time");
    ack(&http, &again).await;
    assert_eq!(pick(&http, "purge", json!({"filter": "type = \"order\""})).await, json!({"purged": 0}));
    assert_eq!(pick(&http, "purge", json!({})).await, json!({"purged": 1}));
    node.kill_9();
    node.restart().await;
    assert_eq!(letters(&http, "").await, json!({"messages": [], "next": null}));
    assert!(poll(&http, json!({"wait_ms": 500})).await.is_empty());
    let view = http.get(PATH).await.json();
    assert_eq!((&view["lag"], &view["dead_letters"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_poison_message_does_not_stop_the_others() {
    let (_node, http) = queue(json!({"max_deliveries": 3, "ordered": true})).await;
    publish(&http, json!([{"key": "k", "value": "poison"}, {"key": "k", "value": "good"}])).await;
    for count in 1..=3 {
        let polled = next(&http).await;
        assert_eq!((values(&polled), &polled[0]["delivery_count"]), (vec!["poison"], &json!(count)));
        settle(&http, "nack", &polled).await.expect(200);
    }
    assert_eq!(values(&next(&http).await), ["good"], "what follows it in its group");
    assert_eq!(letters(&http, "").await["messages"][0]["value"], "poison");
}

#[tokio::test]
async fn dead_letters_are_published_to_a_topic_of_their_own_once() {
    let (mut node, http) = queue(json!({})).await;
    http.create_topic("dead", 2).await;
    let changed = http.json("PATCH", PATH, &json!({"dead_letter_topic": "dead", "max_deliveries": 1})).await;
    assert_eq!(changed.expect(200).json()["settings"]["dead_letter_topic"], "dead");
    publish(&http, json!([{"key": "k", "value": "a", "headers": {"h": "1"}}, {"value": "b"}, {"value": "c"}])).await;
    let polled = poll(&http, json!({})).await;
    settle(&http, "reject", &polled[..1]).await.expect(200);
    settle(&http, "nack", &polled[1..2]).await.expect(200);
    ack(&http, &polled[2..]).await;
    until(&http, "lag", 0).await;
    for _ in 0..2 {
        let found = [http.read_all("dead", 0).await, http.read_all("dead", 1).await].concat();
        let mut found_values = values(&found);
        found_values.sort_unstable();
        assert_eq!(found_values, ["a", "b"], "each once");
        let first = found.iter().find(|message| message["value"] == "a").unwrap();
        assert_eq!((&first["key"], &first["headers"]["h"]), (&json!("k"), &json!("1")));
        assert!(poll(&http, json!({"wait_ms": 300})).await.is_empty());
        let kept = letters(&http, "").await;
        assert_eq!(values(kept["messages"].as_array().unwrap()), ["a", "b"], "they can still be looked at here");
        node.kill_9();
        node.restart().await;
    }
}

#[tokio::test]
async fn letters_are_listed_page_by_page_and_given_back_slowly() {
    let (_node, http) = queue(json!({})).await;
    let messages: Vec<_> = (0..25).map(|n| json!({"value": n.to_string()})).collect();
    publish(&http, json!(messages)).await;
    let polled = poll(&http, json!({"max_messages": 100})).await;
    let results = settle(&http, "reject", &polled).await.expect(200).json();
    assert_eq!(results["results"][24]["status"], "rejected");
    let (mut found, mut query) = (Vec::new(), "max_messages=10".to_owned());
    loop {
        let page = letters(&http, &query).await;
        found.extend(page["messages"].as_array().unwrap().clone());
        let Some(after) = page["next"].as_str() else { break };
        query = format!("max_messages=10&after={after}");
    }
    assert_eq!(values(&found), (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(letters(&http, "max_bytes=1").await["messages"].as_array().unwrap().len(), 1);
    let started = Instant::now();
    let redriven = pick(&http, "redrive", json!({"max_messages": 11, "per_second": 5})).await;
    assert_eq!(redriven, json!({"redriven": 11}));
    let mut again = 0;
    while again < 11 {
        again += next(&http).await.len();
    }
    assert!(started.elapsed() >= Duration::from_millis(1_500), "five a second: {:?}", started.elapsed());
    assert_eq!(http.get(PATH).await.json()["dead_letters"], 14);
}
