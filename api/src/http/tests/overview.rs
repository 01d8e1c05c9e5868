//! Regions and shards, as views and as metrics.

use super::*;

#[tokio::test]
async fn regions_and_shards_are_shown() {
    let node = node().await;
    let router = router(node.clone());
    let answer = call(&router, Method::PUT, "/v1/topics/t", r#"{"partitions":3}"#).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let regions = get(&router, "/v1/regions").await.json();
    assert_eq!((&regions["voters"], &regions["quorum"]), (&json!(["local"]), &json!(1)));
    assert_eq!(regions["change"], Value::Null);
    let region = &regions["regions"][0];
    assert_eq!((&region["name"], &region["url"]), (&json!("local"), &json!("memory://")));
    assert_eq!((&region["votes"], &region["state"]), (&json!(true), &json!("in_sync")));
    let committed = node.seat.lead().unwrap().shard.status().committed.0;
    assert_eq!((&region["shards"][0]["shard"], &region["shards"][0]["accepted"]), (&json!(0), &json!(committed)));

    let shards = get(&router, "/v1/shards").await.json();
    let shard = &shards["shards"][0];
    assert_eq!((&shard["state"], &shard["node"]), (&json!("leading"), &json!(node.name.to_string())));
    assert_eq!(shard["committed"], json!(committed));
    assert_eq!(shard["partitions"], json!({"total": 3, "under_replicated": 0, "offline": 0}));
    assert_eq!((&shard["regions"][0]["name"], &shard["regions"][0]["behind_entries"]), (&json!("local"), &json!(0)));
}

#[tokio::test]
async fn a_node_that_leads_no_more_knows_of_no_leader() {
    let node = node().await;
    let router = router(node.clone());
    call(&router, Method::PUT, "/v1/topics/t", r#"{"partitions":3}"#).await;
    node.shut_down().await;
    let shards = get(&router, "/v1/shards").await.json();
    assert_eq!((&shards["shards"][0]["state"], &shards["shards"][0]["node"]), (&json!("stopped"), &Value::Null));
    assert_eq!(shards["shards"][0]["partitions"]["offline"], 3);
    assert_eq!(get(&router, "/v1/regions").await.json()["regions"][0]["state"], "deposed");
    let metrics = get(&router, "/metrics").await;
    let text = std::str::from_utf8(&metrics.body).unwrap();
    assert!(text.contains("brigade_offline_partitions{shard=\"0\"} 3"), "{text}");
}

#[tokio::test]
async fn overviews_refuse_like_all_other_routes() {
    let router = router(node().await);
    for path in ["/v1/regions", "/v1/shards"] {
        let answer = call(&router, Method::DELETE, path, Body::empty()).await;
        assert_eq!(answer.error(), (405, "method_not_allowed".to_owned()));
        let allowed = if path == "/v1/regions" { "GET,HEAD,PUT" } else { "GET,HEAD" };
        assert_eq!(answer.headers[header::ALLOW], allowed);
        assert_eq!(call(&router, Method::OPTIONS, path, Body::empty()).await.status, StatusCode::NO_CONTENT);
        assert_eq!(get(&router, &format!("{path}?x=1")).await.error(), (400, "invalid_parameter".to_owned()));
    }
}

#[tokio::test]
async fn metrics_tell_what_the_views_tell() {
    let node = node().await;
    let router = router(node.clone());
    call(&router, Method::PUT, "/v1/topics/t", r#"{"partitions":3}"#).await;
    let committed = node.seat.lead().unwrap().shard.status().committed.0;
    let metrics = get(&router, "/metrics").await;
    let text = std::str::from_utf8(&metrics.body).unwrap();
    for line in [
        "brigade_shard_is_leader{shard=\"0\"} 1",
        &format!("brigade_shard_committed{{shard=\"0\"}} {committed}"),
        "brigade_shard_takeovers_total{shard=\"0\"} 1",
        "brigade_under_replicated_partitions{shard=\"0\"} 0",
        "brigade_offline_partitions{shard=\"0\"} 0",
        "brigade_region_in_sync{region=\"local\",shard=\"0\"} 1",
        "brigade_region_state{region=\"local\",shard=\"0\",state=\"in_sync\"} 1",
        "brigade_region_state{region=\"local\",shard=\"0\",state=\"refused\"} 0",
        "brigade_region_behind_entries{region=\"local\",shard=\"0\"} 0",
        "brigade_region_behind_bytes{region=\"local\",shard=\"0\"} 0",
        "brigade_region_behind_seconds{region=\"local\",shard=\"0\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line || found == format!("{line}.0")), "{line} is not in\n{text}");
    }
}
