//! What messages say of themselves: groups, priorities, delays, lifetimes; and filters.

use super::*;

#[tokio::test]
async fn a_delayed_message_survives_a_crash_and_is_not_early() {
    let (mut node, http) = queue(json!({})).await;
    publish(&http, json!([{"value": "later", "delay_ms": 3_000}, {"value": "now"}])).await;
    let polled = next(&http).await;
    assert_eq!(values(&polled), ["now"]);
    ack(&http, &polled).await;
    node.kill_9();
    node.restart().await;
    assert!(poll(&http, json!({})).await.is_empty());
    assert_eq!(http.get(PATH).await.json()["lag"], 1);
    let polled = next(&http).await;
    assert_eq!((values(&polled), &polled[0]["delivery_count"]), (vec!["later"], &json!(1)));
    let (due, delivered) = (polled[0]["deliver_at"].as_i64(), polled[0]["first_delivered_at"].as_i64());
    assert!(due.is_some() && delivered >= due, "{polled:?}");
    ack(&http, &polled).await;
}

#[tokio::test]
async fn what_expires_is_dropped_or_becomes_a_dead_letter() {
    let (_node, http) = queue(json!({})).await;
    publish(&http, json!([{"value": "short", "ttl_ms": 300}, {"value": "long", "ttl_ms": 600_000}])).await;
    sleep(Duration::from_millis(500)).await;
    let polled = next(&http).await;
    assert_eq!(values(&polled), ["long"]);
    until(&http, "lag", 1).await;
    ack(&http, &polled).await;
    http.json("PATCH", PATH, &json!({"expired": "dead_letter"})).await.expect(200);
    publish(&http, json!([{"value": "lost", "ttl_ms": 300}])).await;
    sleep(Duration::from_millis(500)).await;
    assert!(poll(&http, json!({"wait_ms": 300})).await.is_empty());
    until(&http, "dead_letters", 1).await;
    let letter = http.get(&format!("{PATH}/dead-letters")).await.expect(200).json()["messages"][0].clone();
    assert_eq!((&letter["value"], &letter["reason"]), (&json!("lost"), &json!("expired")));
    assert_eq!((&letter["delivery_count"], &letter["first_delivered_at"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn a_group_goes_one_by_one_and_groups_side_by_side() {
    let (mut node, http) = queue(json!({"ordered": true})).await;
    let messages = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")];
    let messages: Vec<_> = messages.iter().map(|(group, value)| json!({"group": group, "value": value})).collect();
    publish(&http, json!(messages)).await;
    let first = poll(&http, json!({"max_messages": 10})).await;
    assert_eq!((values(&first), &first[0]["group"]), (vec!["a1", "b1"], &json!("a")));
    assert!(poll(&http, json!({"max_messages": 10})).await.is_empty(), "the first of each group is on its way");
    settle(&http, "nack", &first[..1]).await.expect(200);
    let again = next(&http).await;
    assert_eq!((values(&again), &again[0]["delivery_count"]), (vec!["a1"], &json!(2)), "before its successors");
    ack(&http, &again).await;
    let second = next(&http).await;
    assert_eq!(values(&second), ["a2"]);
    ack(&http, &first[1..]).await;
    assert_eq!(values(&next(&http).await), ["b2"]);
    node.kill_9();
    node.restart().await;
    // Nobody knows any more who had what; the order of each group holds all the same.
    assert_eq!(values(&poll(&http, json!({"max_messages": 10})).await), ["a2", "b2"]);
}

#[tokio::test]
async fn keys_are_groups_where_there_is_none() {
    let (_node, http) = queue(json!({"ordered": true})).await;
    publish(&http, json!([{"key": "k", "value": "1"}, {"key": "k", "value": "2"}, {"value": "3"}, {"value": "4"}]))
        .await;
    assert_eq!(values(&poll(&http, json!({"max_messages": 10})).await), ["1", "3", "4"]);
}

#[tokio::test]
async fn the_most_important_comes_first() {
    let (_node, http) = queue(json!({})).await;
    publish(
        &http,
        json!([
            {"value": "low", "priority": 0}, {"value": "normal"}, {"value": "high", "priority": 9},
            {"value": "normal too", "priority": 4}, {"value": "high too", "priority": 9},
        ]),
    )
    .await;
    let mut got = Vec::new();
    for _ in 0..5 {
        got.extend(poll(&http, json!({"max_messages": 1})).await);
    }
    assert_eq!(values(&got), ["high", "high too", "normal", "normal too", "low"]);
}

#[tokio::test]
async fn nobody_waits_for_a_tenant_with_much_to_do() {
    let (_node, http) = queue(json!({"fair_by": "header:tenant"})).await;
    let many = (0..1_000).map(|n| json!({"value": format!("many {n}"), "headers": {"tenant": "many"}}));
    publish(&http, json!(many.collect::<Vec<_>>())).await;
    publish(&http, json!([{"value": "few", "headers": {"tenant": "few"}}])).await;
    let polled = poll(&http, json!({"max_messages": 4})).await;
    assert!(values(&polled).contains(&"few"), "{:?}", values(&polled));
}

#[tokio::test]
async fn a_filter_lets_through_what_it_says() {
    let (mut node, http) = queue(json!({"filter": "type = \"order\" and (amount >= 10 or key prefix \"vip-\")"})).await;
    publish(
        &http,
        json!([
            {"value": "small", "headers": {"type": "order", "amount": "9.5"}},
            {"value": "large", "headers": {"type": "order", "amount": "10"}},
            {"value": "other", "headers": {"type": "trace", "amount": "99"}},
            {"key": "vip-1", "value": "vip", "headers": {"type": "order"}},
            {"value": "plain"},
        ]),
    )
    .await;
    let mut polled = next(&http).await;
    while polled.len() < 2 {
        polled.extend(next(&http).await);
    }
    assert_eq!(values(&polled), ["large", "vip"]);
    ack(&http, &polled).await;
    until(&http, "lag", 0).await;
    node.kill_9();
    node.restart().await;
    http.json("PATCH", PATH, &json!({"filter": null, "visibility_timeout_ms": 1_000})).await.expect(200);
    assert!(poll(&http, json!({"wait_ms": 300})).await.is_empty(), "what did not match is settled");
    publish(&http, json!([{"value": "plain"}])).await;
    assert_eq!(values(&next(&http).await), ["plain"]);
}
