//! What a real client makes of the answers that stores give to operators' mistakes.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use object_store::path::Path;

use super::*;
use crate::{
    env::Env,
    format::ID_RANGE,
    ids::WriteId,
    store::{Component, RegionStore, Secret, StoreMetrics, StoreOptions, StoreTiming, open},
};

fn region(url: &str, endpoint: String) -> RegionStore {
    let options = StoreOptions {
        endpoint: Some(endpoint),
        provider_region: Some("us-east-1".to_owned()),
        access_key_id: Some("id".to_owned()),
        // Base64, as Azure wants it.
        secret_access_key: Some(Secret::new("aHVudGVyMg==")),
        ..StoreOptions::default()
    };
    let timing = StoreTiming { attempts: 2, backoff: Duration::from_millis(1), ..StoreTiming::default() };
    let name = RegionName::new("eu").unwrap();
    RegionStore::new(name, open(url, &options).unwrap(), StoreMetrics::new(), timing, Env::simulated(1, 0))
}

/// A server on this machine that says the same to everybody; its address.
fn server(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // The heads of requests come in one piece here, and nobody looks at them.
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

fn xml(code: &str, message: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>")
}

/// Asks in every way; all say the same, with the region's name and without secrets.
async fn kind_of(region: &RegionStore) -> StoreErrorKind {
    let key = Path::from("identity");
    let id = WriteId(7);
    let mut payload = vec![0; 64];
    payload[ID_RANGE].copy_from_slice(&id.0.to_be_bytes());
    let errors = [
        region.get(Component::Cluster, &key).await.unwrap_err(),
        region.list(Component::Cluster, &Path::from("journal")).await.unwrap_err(),
        region.holds_any(Component::Cluster, &Path::from("journal")).await.unwrap_err(),
        region.create(Component::Cluster, &key, payload.into(), id).await.unwrap_err(),
        region.delete(Component::Cluster, &key).await.unwrap_err(),
    ];
    for error in &errors {
        assert_eq!(error.region.as_ref().map(RegionName::as_str), Some("eu"));
        assert_eq!(error.reason, errors[0].kind, "{error}");
        let text = error.to_string();
        assert!(text.contains("in region eu") && !text.contains("aHVudGVyMg"), "{text}");
    }
    errors[0].kind
}

#[tokio::test]
async fn mistakes_of_operators_are_recognised() {
    use StoreErrorKind as K;
    let skewed = "The difference between the request time and the server's time is too large.";
    let too_old =
        "<AuthenticationErrorDetail>Request date header too old: 'Fri, 01 Jan 2021'</AuthenticationErrorDetail>";
    for (url, status, body, kind) in [
        ("s3://bucket", "403 Forbidden", xml("RequestTimeTooSkewed", skewed), K::ClockSkew),
        ("s3://bucket", "403 Forbidden", xml("InvalidAccessKeyId", "unknown"), K::Denied),
        ("s3://bucket", "403 Forbidden", xml("SignatureDoesNotMatch", "wrong secret"), K::Denied),
        ("s3://bucket", "400 Bad Request", xml("ExpiredToken", "expired"), K::Denied),
        ("s3://bucket", "404 Not Found", xml("NoSuchBucket", "The specified bucket does not exist"), K::MissingBucket),
        ("s3://bucket", "400 Bad Request", xml("AuthorizationHeaderMalformed", "expecting 'eu-west-1'"), K::Invalid),
        ("s3://bucket", "301 Moved Permanently", xml("PermanentRedirect", "elsewhere"), K::Invalid),
        ("s3://bucket", "503 Service Unavailable", xml("SlowDown", "slower"), K::Throttled),
        ("az://container", "403 Forbidden", xml("AuthenticationFailed", too_old), K::ClockSkew),
        ("az://container", "403 Forbidden", xml("AuthenticationFailed", "wrong key"), K::Denied),
        ("az://container", "404 Not Found", xml("ContainerNotFound", "no such container"), K::MissingBucket),
    ] {
        assert_eq!(kind_of(&region(url, server(status, &body))).await, kind, "{status} {body}");
    }
    // Nobody listens where somebody did a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(kind_of(&region("s3://bucket", format!("http://{address}"))).await, K::Unreachable);
}

#[tokio::test]
async fn an_object_that_is_not_there_is_no_missing_bucket() {
    let region = region("s3://bucket", server("404 Not Found", &xml("NoSuchKey", "The specified key does not exist.")));
    assert_eq!(region.get(Component::Cluster, &Path::from("identity")).await.unwrap(), None);
}

#[test]
fn hints_say_what_to_do_about_clocks() {
    assert!(StoreErrorKind::ClockSkew.hint().contains("NTP") && !StoreErrorKind::ClockSkew.is_transient());
}
