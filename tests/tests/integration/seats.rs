//! Several nodes on one store, in virtual time, that reach each other without sockets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use brigade::{
    http::router,
    peers::{PeerError, Peers},
    serve::{Node, start_node_on},
    settings::Settings,
};
use brigade_index::{
    env::Env,
    founding::Opener,
    names::RegionName,
    store::{self, RegionStore, StoreMetrics, StoreOptions, StoreTiming},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use object_store::ObjectStore;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

/// An answer, taken apart.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> (u16, String) {
        let code = self.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn call(router: &Router, method: Method, path: &str, body: impl Into<Body>) -> Answer {
    send(router, Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
}

async fn get(router: &Router, path: &str) -> Answer {
    call(router, Method::GET, path, Body::empty()).await
}

/// A store and a network that nodes share.
#[derive(Clone)]
struct World {
    objects: Arc<dyn ObjectStore>,
    network: Arc<Network>,
}

#[derive(Default)]
struct Network(Mutex<BTreeMap<String, Link>>);

#[derive(Clone)]
enum Link {
    Up(Router),
    /// Requests arrive; answers do not.
    Deaf(Router),
    /// Nothing arrives, and nobody says so.
    Paused,
}

impl Peers for Network {
    fn send(&self, address: &str, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, PeerError>> {
        let (link, address) = (self.0.lock().unwrap().get(address).cloned(), address.to_owned());
        async move {
            match link {
                None => Err(PeerError::Unreachable { address, problem: "refused".to_owned() }),
                Some(Link::Up(router)) => Ok(router.oneshot(request).await.unwrap_or_else(|never| match never {})),
                Some(Link::Deaf(router)) => {
                    let _ = router.oneshot(request).await;
                    Err(PeerError::Broken { address, problem: "reset".to_owned() })
                }
                Some(Link::Paused) => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// A running node of the world.
struct Member {
    node: Node,
    router: Router,
    address: String,
    network: Arc<Network>,
}

impl World {
    fn new() -> Self {
        let objects = store::open("memory://", &StoreOptions::default()).unwrap();
        Self { objects, network: Arc::default() }
    }

    async fn start(&self, name: &str, seed: u64) -> Member {
        self.start_with(name, seed, |_| {}).await
    }

    async fn start_with(&self, name: &str, seed: u64, change: impl FnOnce(&mut Settings)) -> Member {
        let (objects, env, metrics) = (self.objects.clone(), Env::simulated(seed, 0), StoreMetrics::new());
        let address = format!("http://{name}");
        let mut settings = Settings::default();
        (settings.node_name, settings.advertise) = (Some(name.to_owned()), Some(address.clone()));
        change(&mut settings);
        let opener: Opener = Arc::new({
            let (env, metrics) = (env.clone(), metrics.clone());
            move |name: &RegionName, _: &str| {
                let (metrics, env) = (metrics.clone(), env.clone());
                Ok(RegionStore::new(name.clone(), objects.clone(), metrics, StoreTiming::default(), env))
            }
        });
        let node = start_node_on(settings, opener, metrics, env, self.network.clone()).await.unwrap();
        let router = router(node.clone());
        let member = Member { node, router, address, network: self.network.clone() };
        member.link(Some(Link::Up(member.router.clone())));
        member
    }
}

impl Member {
    fn link(&self, link: Option<Link>) {
        let mut network = self.network.0.lock().unwrap();
        match link {
            Some(link) => network.insert(self.address.clone(), link),
            None => network.remove(&self.address),
        };
    }

    fn leads(&self) -> bool {
        self.node.seat.lead().is_ok()
    }

    async fn publish(&self, value: &str) -> Answer {
        let body = json!({"messages": [{"value": value}]}).to_string();
        call(&self.router, Method::POST, "/v1/topics/t/messages", body).await
    }

    async fn values(&self) -> Vec<String> {
        let page = get(&self.router, "/v1/topics/t/messages?partition=0").await.json();
        let value = |message: &Value| message["value"].as_str().unwrap().to_owned();
        page["messages"].as_array().unwrap_or_else(|| panic!("{page}")).iter().map(value).collect()
    }

    async fn create(&self) {
        assert_eq!(call(&self.router, Method::PUT, "/v1/topics/t", Body::empty()).await.status, StatusCode::CREATED);
    }

    async fn lease(&self) -> Value {
        get(&self.router, "/v1/shards/0/lease").await.json()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_node_follows_and_passes_requests_on() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    assert!(first.leads() && !second.leads());
    let ready = get(&second.router, "/readyz").await;
    assert_eq!(ready.json(), json!({"status": "ready", "role": "following", "leader": "a"}));
    second.create().await;
    let answer = second.publish("one").await;
    assert_eq!(
        (answer.status, &answer.headers["brigade-leader"]),
        (StatusCode::OK, &header::HeaderValue::from_static("a"))
    );
    assert!(!first.publish("two").await.headers.contains_key("brigade-leader"));
    assert_eq!(second.values().await, ["one", "two"]);
    let absent = get(&second.router, "/v1/topics/absent").await;
    assert_eq!(absent.error(), (404, "topic_not_found".to_owned()), "errors come back as they are");
    let (of_first, of_second) = (first.lease().await, second.lease().await);
    assert_eq!((&of_first["state"], &of_second["state"]), (&json!("leading"), &json!("following")));
    assert_eq!(of_first["ballot"], of_second["ballot"]);
    assert_eq!(get(&second.router, "/v1/shards/1/lease").await.error(), (404, "shard_not_found".to_owned()));
    let cluster = get(&second.router, "/v1/cluster").await.json();
    assert_eq!(cluster["shards"][0]["leader"], json!({"node": "a", "address": "http://a"}));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_live_leave_the_seat_alone_and_the_store_too() {
    let world = World::new();
    let members = [world.start("a", 1).await, world.start("b", 2).await, world.start("c", 3).await];
    let metric = |text: &str| -> Vec<String> {
        let store = text.lines().filter(|line| line.starts_with("brigade_store_requests_total"));
        store.map(str::to_owned).collect()
    };
    let mut before = Vec::new();
    for member in &members {
        before.push(metric(std::str::from_utf8(&get(&member.router, "/metrics").await.body).unwrap()));
    }
    sleep(Duration::from_secs(3_600)).await;
    assert!(members[0].leads());
    for (member, before) in members.iter().zip(before) {
        let text = get(&member.router, "/metrics").await.body;
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(metric(text), before, "I21: nobody asks the store");
        assert!(text.contains("brigade_shard_depositions_total{shard=\"0\"} 0"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_over_when_the_leader_is_dead() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    first.create().await;
    first.publish("one").await;
    first.link(None);
    let killed = Instant::now();
    let refused = second.publish("two").await;
    assert_eq!(refused.error(), (503, "not_leader".to_owned()), "definitely not stored");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    // A request waits for the new leader.
    while second.publish("three").await.status != StatusCode::OK {
        sleep(Duration::from_millis(10)).await;
        assert!(killed.elapsed() < Duration::from_secs(3));
    }
    assert!(second.leads() && killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert_eq!(second.values().await, ["one", "three"]);
    let text = get(&second.router, "/metrics").await.body;
    assert!(std::str::from_utf8(&text).unwrap().contains("brigade_shard_takeovers_total{shard=\"0\"} 1"));

    // The first one was not dead. It does not know yet, and learns with its next write.
    assert!(first.leads());
    first.link(Some(Link::Up(first.router.clone())));
    let answer = first.publish("four").await;
    assert_eq!(answer.error(), (503, "not_leader".to_owned()));
    assert_eq!(first.publish("five").await.status, StatusCode::OK, "now it passes requests on");
    assert_eq!(first.values().await, ["one", "three", "five"]);
    sleep(Duration::from_secs(600)).await;
    assert!(second.leads() && !first.leads(), "and follows");
    // And back again.
    second.link(None);
    sleep(Duration::from_secs(3)).await;
    assert!(first.leads());
    assert_eq!(first.publish("six").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_only_out_of_reach_is_left_alone_while_it_writes() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    first.create().await;
    first.link(Some(Link::Paused));
    for at in 0..100 {
        assert_eq!(first.publish(&at.to_string()).await.status, StatusCode::OK);
        sleep(Duration::from_millis(300)).await;
    }
    assert!(first.leads() && !second.leads());
    sleep(Duration::from_secs(5)).await;
    assert!(second.leads(), "when it is still as well, it is taken for dead");
}

#[tokio::test(start_paused = true)]
async fn an_idle_leader_that_was_deposed_is_told() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    first.link(None);
    sleep(Duration::from_secs(2)).await;
    assert!(first.leads() && second.leads(), "the first has not written since");
    first.link(Some(Link::Up(first.router.clone())));
    sleep(Duration::from_secs(10)).await;
    assert!(!first.leads() && second.leads());
    assert_eq!(get(&first.router, "/readyz").await.json()["role"], "following");

    // Whoever tells lies changes nothing.
    let lie = json!({"ballot": "99.0000000000000000", "node": "x", "address": "http://x"}).to_string();
    let answer = call(&second.router, Method::POST, "/v1/shards/0/deposed", lie).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    sleep(Duration::from_secs(10)).await;
    assert!(second.leads());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_in_order_is_followed_up_soon() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    first.create().await;
    first.publish("one").await;
    first.node.shut_down().await;
    sleep(Duration::from_millis(600)).await;
    assert!(second.leads());
    assert_eq!(second.values().await, ["one"]);
    first.link(None);
    second.node.shut_down().await;
    assert_eq!(second.publish("two").await.error(), (503, "shutting_down".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_leaves_the_outcome_open() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    first.create().await;
    first.link(Some(Link::Deaf(first.router.clone())));
    assert_eq!(second.publish("one").await.error(), (503, "outcome_unknown".to_owned()));
    assert_eq!(first.values().await, ["one"], "it was stored");
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_request_is_not_forwarded_again() {
    let world = World::new();
    let (_first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    let request = Request::get("/v1/topics").header("brigade-forwarded", "x").body(Body::empty()).unwrap();
    let answer = send(&second.router, request).await;
    assert_eq!(answer.error(), (503, "not_leader".to_owned()));
    assert!(answer.json()["error"]["hint"].as_str().unwrap().contains("http://a"));
}

#[tokio::test(start_paused = true)]
async fn limits_hold_on_the_way() {
    let world = World::new();
    let first = world.start("a", 1).await;
    let second = world.start_with("b", 2, |settings| settings.publish.max_request_mib = 1).await;
    first.create().await;
    let large = Bytes::from(vec![b'x'; (1 << 20) + 1]);
    let announced = call(&second.router, Method::POST, "/v1/topics/t/messages", large.clone()).await;
    assert_eq!(announced.error(), (413, "request_too_large".to_owned()));
    let pieces = futures::stream::iter([Ok::<_, std::io::Error>(large.clone()), Ok(large)]);
    let streamed = call(&second.router, Method::POST, "/v1/topics/t/messages", Body::from_stream(pieces)).await;
    assert_eq!(streamed.error().0, 413);
    let stuck = futures::stream::pending::<Result<Bytes, std::io::Error>>();
    let late = call(&second.router, Method::POST, "/v1/topics/t/messages", Body::from_stream(stuck)).await;
    assert_eq!(late.error(), (408, "request_timeout".to_owned()));
    let many = (0..90).fold(Request::get("/v1/topics"), |request, at| request.header(format!("x-{at}"), "1"));
    assert_eq!(send(&second.router, many.body(Body::empty()).unwrap()).await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn events_are_streamed_through_a_follower() {
    let world = World::new();
    let (first, second) = (world.start("a", 1).await, world.start("b", 2).await);
    first.create().await;
    first.publish("one").await;
    let request = Request::get("/v1/topics/t/messages?partition=0").header("accept", "text/event-stream");
    let response = second.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["brigade-leader"], "a");
    let mut events = response.into_body().into_data_stream();
    let mut next = async || {
        let event = timeout(Duration::from_secs(5), events.next()).await.unwrap();
        event.map(|event| String::from_utf8(event.unwrap().to_vec()).unwrap())
    };
    assert!(next().await.unwrap().contains("one"));
    first.publish("two").await;
    assert!(next().await.unwrap().contains("two"));
    second.node.begin_drain();
    assert_eq!(next().await, None, "it ends with the node that passes it on");
}

#[tokio::test(start_paused = true)]
async fn many_followers_agree_on_a_new_leader() {
    let world = World::new();
    let mut members = vec![world.start("a", 1).await];
    for (at, name) in ["b", "c", "d", "e", "f"].into_iter().enumerate() {
        members.push(world.start(name, 10 + at as u64).await);
    }
    members[0].create().await;
    for round in 0..3 {
        let at = members.iter().position(Member::leads).unwrap();
        let dead = members.remove(at);
        dead.link(None);
        dead.node.shut_down().await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(members.iter().filter(|member| member.leads()).count(), 1, "round {round}");
        let leader = members.iter().position(Member::leads).unwrap();
        sleep(Duration::from_secs(120)).await;
        assert!(members[leader].leads(), "it stays");
        for member in &members {
            assert_eq!(member.publish("x").await.status, StatusCode::OK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_usurper_takes_over_from_a_leader_that_lives_once() {
    let world = World::new();
    let first = world.start("a", 1).await;
    let second = world.start_with("b", 2, |settings| settings.lease.usurp = true).await;
    assert!(second.leads());
    sleep(Duration::from_secs(60)).await;
    assert!(second.leads() && !first.leads());
}
