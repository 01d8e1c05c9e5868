//! The client: retries and errors.

use std::time::Duration;

use brigade::client::{
    Client, ClientError, ContentType, ErrorKind, Payload, PublishIdentity, ReadFormat, ReadRequest, RetryPolicy, Start,
};
use brigade_index::env::Env;
use serde_json::json;

use crate::mock::{Fault, Mock};

fn client(url: &str) -> Client {
    Client::new(url, Env::system()).unwrap()
}

fn payload() -> Payload {
    Payload { content_type: ContentType::NdJson, bytes: "{\"value\":\"a\"}\n{\"value\":\"b\"}\n".into() }
}

fn quick() -> RetryPolicy {
    RetryPolicy {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        give_up_after: Duration::from_secs(10),
    }
}

#[tokio::test]
async fn a_repeated_publish_keeps_its_identity_and_is_stored_once() {
    let mock = Mock::start().await;
    mock.fail(&[Fault::Busy, Fault::Unknown, Fault::Cut]);
    let identity = PublishIdentity::Producer { id: "p".to_owned(), sequence: 41 };
    let published = client(&mock.url).publish("t", &payload(), &identity, &quick()).await.unwrap();
    assert_eq!(mock.stored.lock().unwrap().identities, ["p/41"; 4]);
    assert_eq!(mock.values(), [json!("a"), json!("b")]);
    assert!(published.duplicate);
    assert_eq!(published.retries, 3);
    assert_eq!(published.messages.iter().map(|place| place.offset).collect::<Vec<_>>(), [0, 1]);

    mock.fail(&[Fault::Unknown]);
    let key = PublishIdentity::Key("once".to_owned());
    client(&mock.url).publish("t", &payload(), &key, &quick()).await.unwrap();
    assert_eq!(mock.stored.lock().unwrap().identities[4..], ["/once", "/once"]);
    assert_eq!(mock.values().len(), 4);
}

#[tokio::test]
async fn a_refused_publish_is_not_repeated() {
    let mock = Mock::start().await;
    mock.fail(&[Fault::Invalid]);
    let identity = PublishIdentity::Key("k".to_owned());
    let error = client(&mock.url).publish("t", &payload(), &identity, &quick()).await.unwrap_err();
    assert_eq!((error.kind(), error.code(), error.status()), (ErrorKind::Input, "invalid_json", Some(400)));
    assert_eq!((error.to_string().as_str(), error.hint()), ("line 2 is no message", "look at the mock"));
    assert_eq!(mock.stored.lock().unwrap().identities.len(), 1);
}

#[tokio::test]
async fn errors_keep_what_the_server_said() {
    let mock = Mock::start().await;
    let client = client(&mock.url);
    let error = client.topic("nowhere").await.unwrap_err();
    assert_eq!((error.kind(), error.code(), error.status()), (ErrorKind::NotFound, "topic_not_found", Some(404)));
    let request = ReadRequest {
        partition: 0,
        start: Start::Offset(5),
        max_messages: 1,
        max_bytes: 1,
        wait: Duration::ZERO,
        format: ReadFormat::NdJson,
    };
    let error = client.read("t", &request).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Input, "offset_out_of_range"));
    assert_eq!(client.ready().await.unwrap_err().kind(), ErrorKind::Unavailable);
    // An error that is not of the documented shape.
    let error = client.health().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "http_404"));
    // An answer that is not of the documented shape.
    assert!(matches!(client.subscriptions("t").await, Err(ClientError::Refused(_))));
}

#[tokio::test]
async fn an_absent_server_is_unavailable_after_the_given_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let policy = RetryPolicy { give_up_after: Duration::from_millis(20), ..quick() };
    let identity = PublishIdentity::Key("k".to_owned());
    let error = client(&url).publish("t", &payload(), &identity, &policy).await.unwrap_err();
    assert_eq!((error.kind(), error.code(), error.status()), (ErrorKind::Unavailable, "server_unreachable", None));
    assert!(Client::new("https://example.org", Env::system()).is_err());
    assert!(Client::new("nonsense", Env::system()).is_err());
}
