//! Paths, methods, names and documents.

use super::*;

#[tokio::test]
async fn unknown_paths_and_methods_have_the_shape_of_all_errors() {
    let router = router(node().await);
    assert_eq!(get(&router, "/v2").await.error(), (404, "not_found".to_owned()));
    assert_eq!(get(&router, "/v1/topics/a/b").await.error(), (404, "not_found".to_owned()));
    assert_eq!(get(&router, "/v1/topics/").await.error(), (404, "not_found".to_owned()));
    let answer = call(&router, Method::DELETE, "/v1/topics", Body::empty()).await;
    assert_eq!(answer.error(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.headers[header::ALLOW], "GET,HEAD");
    let answer = call(&router, Method::OPTIONS, "/v1/topics/a/messages", Body::empty()).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let allowed = answer.headers[header::ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    let answer = call(&router, Method::HEAD, "/healthz", Body::empty()).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    assert_eq!(answer.headers[header::CONTENT_LENGTH], "15");
}

#[tokio::test]
async fn names_are_decoded_and_checked() {
    let router = router(node().await);
    assert_eq!(get(&router, "/v1/topics/a%2Db").await.error(), (404, "topic_not_found".to_owned()));
    for name in ["-a", "a%20b", "%2e%2e", "a%2Fb", "%ff", "caf%C3%A9", &"x".repeat(201)] {
        assert_eq!(
            get(&router, &format!("/v1/topics/{name}")).await.error(),
            (400, "invalid_name".to_owned()),
            "{name}"
        );
    }
    let answer = get(&router, "/v1/topics/a?verbose=1").await;
    assert_eq!(answer.error(), (400, "invalid_parameter".to_owned()));
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("verbose"));
}

#[tokio::test]
async fn too_many_header_fields_are_refused() {
    let router = router(node().await);
    let request = (0..91).fold(Request::get("/healthz"), |request, at| request.header(format!("x-{at}"), "1"));
    let answer = send(&router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.error(), (431, "too_many_request_headers".to_owned()));
}

#[tokio::test]
async fn the_document_lists_every_route() {
    let node = node().await;
    let router = router(node);
    let document = get(&router, "/openapi.json").await.json();
    let mut operations = 0;
    for route in Route::ALL {
        let operation = &document["paths"][route.path()][route.method().as_str().to_lowercase()];
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{route:?}");
        assert_eq!(
            operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/ErrorBody"
        );
        operations += 1;
        // And the router has it: the fallbacks would say otherwise.
        let path = ["{topic}", "{subscription}", "{member}", "{transaction}"]
            .iter()
            .fold(route.path().replace("{shard}", "0"), |path, name| path.replace(name, "absent"));
        let answer = call(&router, route.method(), &path, Body::empty()).await;
        assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{route:?}");
        if answer.status == StatusCode::NOT_FOUND {
            assert_ne!(answer.error().1, "not_found", "{route:?}");
        }
    }
    let listed = document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len());
    assert_eq!(listed.sum::<usize>(), operations);
    assert_no_dangling_reference(&document, &document);
}

/// Every reference leads to a shape.
fn assert_no_dangling_reference(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let target = document.pointer(reference.trim_start_matches('#'));
                assert!(target.is_some(), "{reference} leads nowhere");
            }
            fields.values().for_each(|field| assert_no_dangling_reference(document, field));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_no_dangling_reference(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn operations() {
    let node = node().await;
    let router = router(node.clone());
    assert_eq!(get(&router, "/healthz").await.json(), json!({"status": "ok"}));
    assert_eq!(get(&router, "/readyz").await.json(), json!({"status": "ready", "role": "leading"}));
    let links = get(&router, "/").await.json();
    for link in links["links"].as_object().unwrap().values() {
        assert_eq!(get(&router, link.as_str().unwrap()).await.status, StatusCode::OK, "{link}");
    }
    let cluster = get(&router, "/v1/cluster").await.json();
    assert_eq!((&cluster["regions"], &cluster["shards"][0]["state"]), (&json!(["local"]), &json!("leading")));
    let metrics = get(&router, "/metrics").await;
    assert_eq!(metrics.headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    let text = std::str::from_utf8(&metrics.body).unwrap();
    for name in [
        "brigade_http_requests_total{method=\"GET\",route=\"/healthz\",status=\"200\"} 2",
        "brigade_http_request_duration_seconds_bucket",
        "brigade_shard_is_leader{shard=\"0\"} 1",
        "brigade_shard_ballot_round",
        "brigade_shard_topics{shard=\"0\"} 0",
        "brigade_store_requests_total",
        "brigade_ingest_",
        "process_start_time_seconds 1700000000",
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    node.begin_drain();
    assert_eq!(get(&router, "/readyz").await.error(), (503, "shutting_down".to_owned()));
    assert_eq!(get(&router, "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_node_that_was_shut_down_takes_nothing() {
    let node = node().await;
    let router = router(node.clone());
    assert_eq!(call(&router, Method::PUT, "/v1/topics/t", Body::empty()).await.status, StatusCode::CREATED);
    node.shut_down().await;
    let answer = call(&router, Method::POST, "/v1/topics/t/messages", r#"{"messages":[{"value":"v"}]}"#).await;
    assert_eq!(answer.error(), (503, "shutting_down".to_owned()));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}
