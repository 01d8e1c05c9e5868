//! Push subscriptions: a node as a process, and endpoints on the loopback address.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use brigade::push::SigningSecret;
use brigade_index::env::Env;
use brigade_tests::{
    http::{Answer, Http},
    process::{Options, Process},
    webhook::{Received, Webhook},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATH: &str = "/v1/topics/t/subscriptions/s";

/// How long something may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !done().await {
        assert!(started.elapsed() < PATIENCE, "{what} takes too long");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Creates the subscription `s` of topic `t`, pushed to `hook` with further settings.
async fn subscribe(http: &Http, hook: &Webhook, push: Value, settings: Value) -> Answer {
    let mut body = json!({"kind": "queue", "push": {"url": hook.url()}});
    let merge = |into: &mut Value, from: Value| {
        into.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
    };
    merge(&mut body["push"], push);
    merge(&mut body, settings);
    http.json("PUT", PATH, &body).await.expect(201)
}

async fn lag(http: &Http) -> u64 {
    http.get(PATH).await.expect(200).json()["lag"].as_u64().unwrap()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:04}")).collect()
}

#[tokio::test]
async fn every_message_is_delivered_signed_and_acknowledged_and_then_nothing_happens() {
    let hook = Webhook::start(|_| (204, Duration::from_millis(20))).await;
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 3).await;
    let early = numbers(150);
    http.publish("t", &early[..75]).await;
    let created = subscribe(&http, &hook, json!({"max_in_flight": 4}), json!({})).await.json();
    http.publish("t", &early[75..]).await;
    until("delivering", async || hook.accepted().len() >= 150 && lag(&http).await == 0).await;
    assert_eq!(hook.accepted(), early, "each once");

    let secret = created["settings"]["push"]["secret"].as_str().unwrap();
    assert!(!http.get(PATH).await.text().contains(secret) && !node.log().contains(secret));
    assert!(!http.get("/v1/topics/t/subscriptions").await.text().contains("whsec_"));
    let secret: SigningSecret = secret.parse().unwrap();
    let (now, mut ids) = (Env::system().clock.now_ms() / 1_000, BTreeSet::new());
    for received in hook.received() {
        let header = |name| received.header(name);
        let (id, time, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        assert!(secret.verify(id, time, signature, &received.body, now), "{received:?}");
        assert!(!secret.verify(id, time, signature, b"{}", now));
        assert!(ids.insert(id.to_owned()), "{id} is another message's too");
        let shown = |name: &str| received.message[name].clone();
        assert_eq!(
            (shown("topic"), shown("subscription"), shown("delivery_count")),
            (json!("t"), json!("s"), json!(1))
        );
    }
    // Each answer takes 20 ms: whatever came within that time of another was in flight with it.
    let times: Vec<_> = hook.received().iter().map(|received| received.at).collect();
    let with = |(at, time): (usize, &Instant)| {
        times[..=at].iter().filter(|before| time.duration_since(**before) < Duration::from_millis(20)).count()
    };
    let most = times.iter().enumerate().map(with).max().unwrap_or(0);
    assert!((2..=4).contains(&most), "{most} at once");

    sleep(Duration::from_millis(1_500)).await;
    let before = http.metric("brigade_store_requests_total", &[]).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(http.metric("brigade_store_requests_total", &[]).await, before, "an idle subscription costs nothing");
    assert!(http.metric("brigade_push_posts_total", &["outcome=\"Accepted\""]).await >= 150.0);
    let published = Instant::now();
    http.publish("t", &["late"]).await;
    until("waking", async || hook.accepted().len() == 151).await;
    assert!(published.elapsed() < Duration::from_secs(5), "{:?}", published.elapsed());
}

#[tokio::test]
async fn what_is_refused_comes_again_ever_later_until_it_is_a_dead_letter() {
    let seen = std::sync::Mutex::new(BTreeMap::<String, u32>::new());
    let hook = Webhook::start(move |message| {
        let value = message["value"].as_str().unwrap_or_default().to_owned();
        let mut seen = seen.lock().unwrap();
        let attempts = seen.entry(value.clone()).or_default();
        *attempts += 1;
        let status = if value == "bad" || *attempts <= 2 { 500 } else { 200 };
        (status, Duration::ZERO)
    })
    .await;
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    let push = json!({"backoff_min_ms": 200, "backoff_max_ms": 5_000});
    subscribe(&http, &hook, push, json!({"max_deliveries": 4})).await;
    http.publish("t", &["a", "bad", "b"]).await;
    until("settling", async || lag(&http).await == 0).await;
    assert_eq!(hook.accepted(), ["a", "b"]);
    let received = hook.received();
    let of = |value: &str| received.iter().filter(|received| received.value() == value).collect::<Vec<_>>();
    for (value, posts) in [("a", 3), ("b", 3), ("bad", 4)] {
        let posted: Vec<&Received> = of(value);
        assert_eq!(posted.len(), posts, "{value}");
        let counts = (1..=posts).map(|count| json!(count));
        assert!(posted.iter().map(|received| received.message["delivery_count"].clone()).eq(counts), "{value}");
        // Half of each pause is left to chance.
        for (pair, least) in posted.windows(2).zip([100, 200, 400]) {
            let pause = pair[1].at - pair[0].at;
            assert!(pause >= Duration::from_millis(least), "{value} came again after {pause:?}");
        }
        let ids: BTreeSet<_> = posted.iter().map(|received| received.header("webhook-id")).collect();
        assert_eq!(ids.len(), 1, "each attempt has the same id");
    }
    let dead = http.get(&format!("{PATH}/dead-letters")).await.expect(200).json();
    let letters = dead["messages"].as_array().unwrap();
    assert_eq!(letters.len(), 1);
    let letter = |name: &str| letters[0][name].clone();
    assert_eq!((letter("value"), letter("delivery_count")), (json!("bad"), json!(4)));
    assert_eq!(letter("reason"), "max_deliveries");
}

#[tokio::test]
async fn of_a_group_one_message_is_pushed_at_a_time() {
    let hook = Webhook::start(|message| {
        // The first of a group is refused once, and the others wait for it.
        let again = message["delivery_count"].as_u64().unwrap_or_default() > 1;
        let first = message["value"].as_str().is_some_and(|value| value.ends_with("-00"));
        (if first && !again { 503 } else { 200 }, Duration::from_millis(15))
    })
    .await;
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 2).await;
    let push = json!({"max_in_flight": 8, "backoff_min_ms": 50, "backoff_max_ms": 100});
    subscribe(&http, &hook, push, json!({"ordered": true})).await;
    let groups = ["x", "y", "z"];
    let messages: Vec<_> = (0..20)
        .flat_map(|number| groups.map(|group| json!({"group": group, "value": format!("{group}-{number:02}")})))
        .collect();
    http.json("POST", "/v1/topics/t/messages", &json!({"messages": messages})).await.expect(200);
    until("settling", async || lag(&http).await == 0).await;
    let received = hook.received();
    for group in groups {
        let of_group: Vec<_> = received.iter().filter(|received| received.message["group"] == group).collect();
        for pair in of_group.windows(2) {
            let apart = pair[1].at - pair[0].at;
            assert!(apart >= Duration::from_millis(15), "two of group {group} within {apart:?}");
        }
        let accepted: Vec<_> = of_group.iter().filter(|received| received.answered == Some(200)).collect();
        let values: Vec<_> = accepted.iter().map(|received| received.value()).collect();
        let expected: Vec<_> = (0..20).map(|number| format!("{group}-{number:02}")).collect();
        assert_eq!(values, expected);
    }
    let overlaps = received.windows(2).filter(|pair| pair[1].at - pair[0].at < Duration::from_millis(10)).count();
    assert!(overlaps > 0, "groups do not wait for each other");
}

#[tokio::test]
async fn changes_take_effect_and_what_is_deleted_stops() {
    let (first, second, third) = (Webhook::accepting().await, Webhook::accepting().await, Webhook::accepting().await);
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    let secret = subscribe(&http, &first, json!({}), json!({})).await.json()["settings"]["push"]["secret"].clone();
    http.publish("t", &["1"]).await;
    until("the first", async || first.accepted() == ["1"] && lag(&http).await == 0).await;

    let moved = http.json("PATCH", PATH, &json!({"push": {"url": second.url()}})).await.expect(200).json();
    assert!(moved["settings"]["push"].get("secret").is_none());
    http.publish("t", &["2"]).await;
    until("the second", async || second.accepted() == ["2"]).await;
    let secret: SigningSecret = secret.as_str().unwrap().parse().unwrap();
    let received = second.received().remove(0);
    let header = |name| received.header(name);
    let (id, time, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let now = Env::system().clock.now_ms() / 1_000;
    assert!(secret.verify(id, time, signature, &received.body, now), "the secret has stayed");

    // Pushed no more, it is a queue like others.
    http.json("PATCH", PATH, &json!({"push": null})).await.expect(200);
    sleep(Duration::from_millis(100)).await;
    http.publish("t", &["3"]).await;
    let polled = http.json("POST", &format!("{PATH}/poll"), &json!({"wait_ms": 10_000})).await.expect(200).json();
    assert_eq!(polled["messages"][0]["value"], "3");
    let nacked = json!({"receipts": [polled["messages"][0]["receipt"]]});
    http.json("POST", &format!("{PATH}/nack"), &nacked).await.expect(200);
    http.json("PATCH", PATH, &json!({"push": {"url": third.url()}})).await.expect(200);
    until("the third", async || third.accepted() == ["3"] && lag(&http).await == 0).await;

    http.json("DELETE", PATH, &json!({})).await.expect(204);
    http.publish("t", &["4"]).await;
    // Another one of the name has a position and a number of its own.
    subscribe(&http, &first, json!({}), json!({"start": "latest"})).await;
    http.publish("t", &["5"]).await;
    until("the new one", async || first.accepted() == ["1", "5"]).await;
    http.json("DELETE", "/v1/topics/t", &json!({})).await.expect(204);
    http.create_topic("t", 1).await;
    subscribe(&http, &second, json!({}), json!({})).await;
    http.publish("t", &["6"]).await;
    until("the new topic", async || second.accepted() == ["2", "6"]).await;
    sleep(Duration::from_millis(500)).await;
    let all = [first.accepted(), second.accepted(), third.accepted()];
    assert_eq!(all, [vec!["1", "5"], vec!["2", "6"], vec!["3"]], "nothing else was pushed");
}

#[tokio::test]
async fn after_the_leader_is_killed_another_node_pushes_and_nothing_is_lost() {
    let hook = Webhook::start(|_| (200, Duration::from_millis(5))).await;
    let mut first =
        Process::start_with(Options { args: vec!["--dev-regions".into(), "3".into()], ..Options::default() }).await;
    first.http().create_topic("t", 2).await;
    subscribe(&first.http(), &hook, json!({}), json!({})).await;
    let mut second = first.rival();
    second.restart().await;
    let http = second.http();
    // The node that will lead takes the messages, and repeats what it does not know the outcome of.
    let publisher = tokio::spawn({
        let http = http.clone();
        async move {
            let mut acknowledged = Vec::new();
            for value in numbers(400) {
                let body = json!({"messages": [{"value": value}]});
                let request = http.request("POST", "/v1/topics/t/messages").json(&body);
                if http.try_send(request).await.is_ok_and(|answer| answer.status == 200) {
                    acknowledged.push(value);
                }
                sleep(Duration::from_millis(5)).await;
            }
            acknowledged
        }
    });
    until("some", async || hook.accepted().len() > 50).await;
    first.kill_9();
    let before = hook.accepted().len();
    let acknowledged: BTreeSet<_> = publisher.await.unwrap().into_iter().collect();
    assert!(acknowledged.len() > before && before < 400, "{before} of {}", acknowledged.len());
    until("the rest", async || {
        let answer = http.try_get(PATH).await;
        answer.is_ok_and(|answer| answer.status == 200 && answer.json()["lag"] == 0)
    })
    .await;
    let accepted: BTreeSet<_> = hook.accepted().into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&accepted).collect();
    assert!(lost.is_empty(), "never pushed: {lost:?}");
    assert_eq!(http.get("/v1/cluster").await.json()["shards"][0]["state"], "leading");
    // A restart of everything finds the subscription in the state.
    let pushed = hook.accepted().len();
    second.kill_9();
    second.restart().await;
    http.publish("t", &["after"]).await;
    until("the last", async || hook.accepted().contains(&"after".to_owned())).await;
    assert!(hook.accepted().len() < pushed + 20, "what was acknowledged is not pushed again");
}

#[tokio::test]
async fn forbidden_addresses_are_refused_and_nothing_is_changed() {
    let hook = Webhook::accepting().await;
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    subscribe(&http, &hook, json!({}), json!({})).await;
    let before = http.get("/v1/topics/t/subscriptions").await.json();
    let forbidden = [
        "http://169.254.169.254/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "https://METADATA.google.internal./",
        "http://0.0.0.0:7070/",
        "http://[fe80::1]/",
    ];
    for url in forbidden {
        let push = json!({"url": url});
        let created = http.json("PUT", "/v1/topics/t/subscriptions/n", &json!({"kind": "queue", "push": push})).await;
        created.expect_error(400, "forbidden_address");
        http.json("PATCH", PATH, &json!({"push": push})).await.expect_error(400, "forbidden_address");
    }
    for url in ["file:///etc/passwd", "http://user:secret@localhost/", "http://", "/hook", ""] {
        http.json("PATCH", PATH, &json!({"push": {"url": url}})).await.expect_error(400, "invalid_push_url");
    }
    assert_eq!(http.get("/v1/topics/t/subscriptions").await.json(), before);
    http.publish("t", &["x"]).await;
    until("pushing goes on", async || hook.accepted() == ["x"]).await;
}

#[tokio::test]
async fn an_operator_forbids_more_and_a_node_without_certificates_says_so() {
    let hook = Webhook::accepting().await;
    let nowhere = |name: &str| (name.to_owned(), "/nonexistent".to_owned());
    let env = vec![nowhere("SSL_CERT_FILE"), nowhere("SSL_CERT_DIR")];
    let mut node = Process::start_with(Options { env, ..Options::default() }).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    subscribe(&http, &hook, json!({}), json!({})).await;
    let secure = json!({"kind": "queue", "push": {"url": hook.url().replace("http:", "https:")}});
    http.json("PUT", "/v1/topics/t/subscriptions/secure", &secure).await.expect(201);
    http.publish("t", &["x"]).await;
    until("plain", async || hook.accepted() == ["x"]).await;
    until("the log", async || node.log().contains("https needs the system's CA certificates")).await;
    node.kill_9();

    // What is stored stands, but this node does not post there any more.
    let mut strict =
        node.rival_with(Options { env: vec![("BRIGADE_PUSH_FORBID".into(), "loopback".into())], ..Options::default() });
    strict.restart().await;
    let http = strict.http();
    http.publish("t", &["y"]).await;
    until("the warning", async || strict.log().contains("nothing is pushed")).await;
    let push = json!({"push": {"max_in_flight": 1}});
    http.json("PATCH", PATH, &push).await.expect_error(400, "forbidden_address");
    assert_eq!((hook.accepted(), lag(&http).await), (vec!["x".to_owned()], 1));
}
