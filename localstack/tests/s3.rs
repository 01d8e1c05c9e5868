//! Against a real S3 server: `eval "$(localstack/start.sh)" && cargo test -p brigade-localstack`.

use brigade_index::{
    env::Env,
    store::{
        Secret, StoreErrorKind, StoreOptions,
        conformance::{ConformanceOptions, check},
        open,
    },
};
use brigade_localstack::{BucketErrorKind, Provisioned, create_bucket, inspect_bucket};

/// Settings for every region given; none when there is none to test against and that is permitted.
fn regions() -> Vec<StoreOptions> {
    let given = std::env::var("BRIGADE_TEST_S3_ENDPOINTS").or_else(|_| std::env::var("BRIGADE_TEST_S3_ENDPOINT"));
    let given = given.unwrap_or_default();
    if given.trim().is_empty() {
        assert_ne!(
            std::env::var("BRIGADE_REQUIRE_S3").as_deref(),
            Ok("1"),
            "BRIGADE_REQUIRE_S3=1, but BRIGADE_TEST_S3_ENDPOINT names no server: run localstack/start.sh first"
        );
        eprintln!("SKIPPED: not tested against an S3 server, since BRIGADE_TEST_S3_ENDPOINT is not set.");
        eprintln!("SKIPPED: to test, run: eval \"$(localstack/start.sh)\"");
    }
    let or_test = |name| std::env::var(name).unwrap_or_else(|_| "test".into());
    let options = |endpoint: &str| StoreOptions {
        endpoint: Some(endpoint.into()),
        provider_region: Some(std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".into())),
        access_key_id: Some(or_test("AWS_ACCESS_KEY_ID")),
        secret_access_key: Some(Secret::new(or_test("AWS_SECRET_ACCESS_KEY"))),
        ..StoreOptions::default()
    };
    given.split_whitespace().map(options).collect()
}

fn fresh_bucket() -> String {
    format!("brigade-test-{:016x}", Env::system().entropy.next_u64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_conforms() {
    for options in regions() {
        let url = format!("s3://{}/some/prefix", fresh_bucket());
        assert_eq!(create_bucket(&url, &options).await.unwrap(), Provisioned::Created);
        assert_eq!(create_bucket(&url, &options).await.unwrap(), Provisioned::Existed);
        assert_eq!(inspect_bucket(&url, &options).await.unwrap(), []);
        let store = open(&url, &options).unwrap();
        let report = check(store, &"check".into(), ConformanceOptions::new(Env::system())).await.unwrap();
        eprintln!("{}\n{report}", options.endpoint.as_deref().unwrap_or_default());
    }
}

#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_object() {
    for options in regions() {
        let url = format!("s3://{}", fresh_bucket());
        let failure = check(open(&url, &options).unwrap(), &"check".into(), ConformanceOptions::new(Env::system()))
            .await
            .unwrap_err();
        assert_eq!(failure.source.map(|error| error.kind), Some(StoreErrorKind::MissingBucket));
        assert_eq!(inspect_bucket(&url, &options).await.unwrap_err().kind, BucketErrorKind::Missing);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    // Bound and never listened on, so that nobody else gets the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let options = StoreOptions {
        endpoint: Some(format!("http://{}", socket.local_addr().unwrap())),
        access_key_id: Some("test".into()),
        secret_access_key: Some(Secret::new("hunter2")),
        ..StoreOptions::default()
    };
    let error = create_bucket("s3://bucket", &options).await.unwrap_err();
    assert_eq!(error.kind, BucketErrorKind::Unreachable, "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    let store = open("s3://bucket", &options).unwrap();
    let failure = check(store, &"check".into(), ConformanceOptions::new(Env::system())).await.unwrap_err();
    assert_eq!(failure.source.map(|error| error.kind), Some(StoreErrorKind::Unreachable));
}

#[tokio::test]
async fn urls_of_other_providers_are_explained() {
    for (url, kind) in [
        ("gs://b", BucketErrorKind::Unsupported),
        ("az://b", BucketErrorKind::Unsupported),
        ("file:///tmp", BucketErrorKind::Invalid),
        ("s3://", BucketErrorKind::Invalid),
    ] {
        let error = create_bucket(url, &StoreOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{url}: {error}");
    }
}
