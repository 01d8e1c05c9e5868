//! Members of a subscription.

use std::time::Duration;

use super::*;

const PATH: &str = "/v1/topics/t/subscriptions/s";

/// A topic of two partitions with two messages each, and a new subscription to it.
async fn subscribed() -> Router {
    let router = router(node().await);
    // Later than the reign's first entry, so that it is known to be new.
    tokio::time::sleep(Duration::from_millis(5)).await;
    put(&router, "/v1/topics/t", r#"{"partitions":2}"#).await;
    assert_eq!(put(&router, PATH, "").await.status, StatusCode::CREATED);
    let message = |partition: u64| json!({"value": partition, "partition": partition});
    let body = json!({"messages": [message(0), message(0), message(1), message(1)]}).to_string();
    assert_eq!(post(&router, "/v1/topics/t/messages", body).await.status, StatusCode::OK);
    router
}

async fn beat(router: &Router, member: &str, body: Value) -> Answer {
    post(router, &format!("{PATH}/members/{member}"), body).await
}

async fn act(router: &Router, what: &str, body: Value) -> Answer {
    post(router, &format!("{PATH}/{what}"), body).await
}

/// What an answer says is to be read, as the next heartbeat names it.
fn owned(assignment: &Value) -> Vec<Value> {
    let owned = |assigned: &Value| json!({"partition": assigned["partition"], "epoch": assigned["epoch"]});
    assignment["partitions"].as_array().unwrap().iter().map(owned).collect()
}

#[tokio::test]
async fn members_share_partitions_and_are_fenced() {
    let router = subscribed().await;
    let a = beat(&router, "a", json!({})).await.json();
    assert_eq!((&a["member"], &a["session_timeout_ms"], &a["revoke"]), (&json!("a"), &json!(30_000), &json!([])));
    assert_eq!((&a["partitions"][1]["offset"], &a["partitions"][1]["lag"]), (&json!(0), &json!(2)));
    let first = owned(&a);
    let b = beat(&router, "b", json!({})).await.json();
    assert_eq!(b["partitions"], json!([]));
    let asked = beat(&router, "a", json!({"owned": first})).await.json();
    assert_eq!((owned(&asked), &asked["revoke"]), (first[..1].to_vec(), &json!([1])));
    let position = json!({"partition": 1, "offset": 1, "epoch": first[1]["epoch"]});
    let commit = json!({"member": "a", "positions": [position]});
    assert_eq!(act(&router, "commit", commit.clone()).await.json()["positions"][1]["offset"], 1, "it may still finish");

    beat(&router, "a", json!({"owned": first[..1]})).await;
    let b = beat(&router, "b", json!({})).await.json();
    assert_eq!((&b["partitions"][0]["partition"], &b["partitions"][0]["offset"]), (&json!(1), &json!(1)));
    assert_ne!(b["partitions"][0]["epoch"], first[1]["epoch"]);
    let refused = (409, "partition_not_assigned".to_owned());
    assert_eq!(act(&router, "commit", commit).await.error(), refused);
    let both = json!([{"partition": 0, "offset": 1}, {"partition": 1, "offset": 2}]);
    assert_eq!(act(&router, "commit", json!({"member": "a", "positions": both})).await.error(), refused);
    assert_eq!(get(&router, PATH).await.json()["lag"], 3, "nothing of it was committed");
    for (member, partition) in [("a", 0), ("b", 1)] {
        let polled = act(&router, "poll", json!({"member": member})).await.json();
        let from: Vec<_> = polled["messages"].as_array().unwrap().iter().map(|message| &message["partition"]).collect();
        assert!(!from.is_empty() && from.iter().all(|found| **found == json!(partition)), "{polled}");
    }
    let elsewhere = json!({"member": "a", "positions": [{"partition": 1, "offset": 1}]});
    assert_eq!(act(&router, "poll", elsewhere).await.error(), refused);

    let listed = get(&router, &format!("{PATH}/members")).await.json();
    let members = listed["members"].as_array().unwrap();
    let lags: Vec<_> = members.iter().map(|member| (&member["member"], &member["lag"])).collect();
    assert_eq!(lags, [(&json!("a"), &json!(2)), (&json!("b"), &json!(1))]);
    assert!(members.iter().all(|member| member["quiet_ms"].is_u64()), "{listed}");
    let leave = format!("{PATH}/members/a");
    for _ in 0..2 {
        assert_eq!(call(&router, Method::DELETE, &leave, "").await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(beat(&router, "b", json!({"owned": owned(&b)})).await.json()["partitions"].as_array().unwrap().len(), 2);
    let unknown = act(&router, "commit", json!({"member": "a", "positions": []})).await;
    assert_eq!(unknown.error(), (409, "member_unknown".to_owned()));
    // Who is no member may commit and seek as before.
    assert_eq!(act(&router, "commit", json!({"positions": both})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let router = subscribed().await;
    let bad = [
        ("a", json!({"session_timeout_ms": 999}), "invalid_parameter"),
        ("a", json!({"session_timeout_ms": 600_001}), "invalid_parameter"),
        ("a", json!({"wait_ms": 60_001}), "invalid_parameter"),
        ("a", json!({"owned": [{"partition": 0, "epoch": "x"}]}), "invalid_epoch"),
        ("a", json!({"owned": vec![json!({"partition": 0, "epoch": "1.0.1"}); 2]}), "invalid_epoch"),
        ("a", json!({"owned": [{"partition": -1, "epoch": "1.0.1"}]}), "invalid_json"),
        ("a", json!({"own": []}), "invalid_json"),
        ("-a", json!({}), "invalid_name"),
    ];
    for (member, body, code) in bad {
        assert_eq!(beat(&router, member, body.clone()).await.error(), (400, code.to_owned()), "{body}");
    }
    assert_eq!(get(&router, &format!("{PATH}/members")).await.json(), json!({"members": []}));
    let nobodys = json!({"positions": [{"partition": 0, "offset": 1, "epoch": "1.0.1"}]});
    assert_eq!(act(&router, "commit", nobodys).await.error(), (400, "invalid_epoch".to_owned()));
    assert_eq!(act(&router, "poll", json!({"member": ""})).await.error(), (400, "invalid_name".to_owned()));
    let absent = post(&router, "/v1/topics/t/subscriptions/x/members/a", "").await;
    assert_eq!(absent.error(), (404, "subscription_not_found".to_owned()));
    // A partition that nobody has, of an epoch that was never given: nothing to be owned.
    let odd = beat(&router, "a", json!({"owned": [{"partition": 77, "epoch": "1.0.1"}]})).await.json();
    assert_eq!(odd["partitions"].as_array().unwrap().len(), 2);
    call(&router, Method::PATCH, "/v1/topics/t", r#"{"partitions":3}"#).await;
    let grown = beat(&router, "a", json!({"owned": owned(&odd)})).await.json();
    assert_eq!((owned(&grown)[..2].to_vec(), grown["partitions"].as_array().unwrap().len()), (owned(&odd), 3));
    // Another subscription of the same name has other members.
    call(&router, Method::DELETE, PATH, "").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    put(&router, PATH, "").await;
    assert_eq!(get(&router, &format!("{PATH}/members")).await.json(), json!({"members": []}));
    put(&router, "/v1/topics/t/subscriptions/q", r#"{"kind":"queue"}"#).await;
    let queue = post(&router, "/v1/topics/t/subscriptions/q/members/a", "").await;
    assert_eq!(queue.error(), (409, "wrong_kind".to_owned()));
}
