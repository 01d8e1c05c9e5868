//! The world of a simulation: objects, nodes and what is known of both.

use std::{
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Body;
use brigade::{
    peers::{PeerError, Peers},
    serve::start_node_on,
    settings::{LeaseSettings, Settings},
};
use brigade_index::{
    env::Env,
    founding::Opener,
    names::RegionName,
    store::{
        self, Operation, RegionStore, StoreMetrics, StoreOptions, StoreTiming,
        fault::{Answer, Fault, FaultStore, Latency, Rule},
    },
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use object_store::ObjectStore;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{PARTITIONS, Trace, node::SimNode, store::Connection};
use crate::history::{Recorder, Stored};

/// When a simulation begins, in milliseconds since the Unix epoch.
const START_MS: i64 = 1_760_000_000_000;

/// Attempts to start a node before the run is given up.
const STARTS: u32 = 100;

/// Longest start that is waited for.
const START: Duration = Duration::from_secs(60);

/// Longer than any simulation, in milliseconds.
const NEVER_MS: u64 = 3_600_000;

/// Nodes that cannot reach each other.
struct NoPeers;

impl Peers for NoPeers {
    fn send(&self, address: &str, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, PeerError>> {
        let refused = PeerError::Unreachable { address: address.to_owned(), problem: "there is no network".to_owned() };
        async { Err(refused) }.boxed()
    }
}

/// How the store behaves when nothing special happens.
#[derive(Clone, Debug)]
struct Weather {
    latency: Option<Latency>,
    rules: Vec<Rule>,
}

/// The world. Cheap to clone.
#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

pub(super) struct Inner {
    pub(super) recorder: Recorder,
    trace: Trace,
    objects: Arc<dyn ObjectStore>,
    seed: u64,
    weather: Mutex<Weather>,
    started: AtomicU64,
    nodes: Mutex<Vec<Arc<SimNode>>>,
    problems: Mutex<Vec<String>>,
}

impl std::ops::Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Weather {
    fn from_seed(seed: u64) -> Self {
        let latency =
            |median, p99| Some(Latency { median: Duration::from_millis(median), p99: Duration::from_millis(p99) });
        let fail = |operation, applied, answer, chance| {
            Rule::always(operation, Fault::Fail { applied, answer }).with_chance(chance)
        };
        let own_conflicts = || {
            vec![
                fail(Operation::Put, true, Answer::AlreadyExists, 0.1),
                fail(Operation::Put, true, Answer::Reset, 0.05),
                fail(Operation::Put, true, Answer::Status(500), 0.05),
            ]
        };
        let mixed = || {
            let all = [Operation::Put, Operation::Get, Operation::List];
            let unavailable = all.map(|operation| fail(operation, false, Answer::Status(503), 0.05));
            let hang = |applied| Rule::always(Operation::Put, Fault::Hang { applied }).with_chance(0.01);
            let damage = Rule::always(Operation::Get, Fault::Truncate).with_chance(0.01);
            unavailable.into_iter().chain([hang(true), hang(false), damage]).collect()
        };
        let (latency, rules) = match seed % 6 {
            0 => (None, Vec::new()),
            1 => (latency(3, 10), Vec::new()),
            2 => (latency(30, 110), Vec::new()),
            3 => (latency(5, 50), own_conflicts()),
            4 => (latency(5, 400), mixed()),
            _ => (None, own_conflicts()),
        };
        Self { latency, rules }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        let weather = Weather::from_seed(seed);
        trace.say("world", format_args!("{weather:?}"));
        let objects = store::open("memory://", &StoreOptions::default()).expect("memory needs no settings");
        let (weather, nodes, problems) = (Mutex::new(weather), Mutex::default(), Mutex::default());
        let recorder = Recorder::default();
        Self(Arc::new(Inner { recorder, trace, objects, seed, weather, started: AtomicU64::new(0), nodes, problems }))
    }

    pub(super) fn say(&self, what: impl Display) {
        self.trace.say("world", what);
    }

    pub(super) fn trace(&self, who: &str, what: impl Display) {
        self.trace.say(who, what);
    }

    /// The store of every node behaves from now on, and of those to come.
    pub(super) fn calm(&self) {
        *lock(&self.weather) = Weather { latency: None, rules: Vec::new() };
        for node in lock(&self.nodes).iter() {
            node.faults.heal();
        }
    }

    /// Gives a node's store the usual weather again.
    pub(super) fn usual_weather(&self, faults: &FaultStore) {
        faults.heal();
        let weather = lock(&self.weather).clone();
        faults.set_latency(weather.latency);
        weather.rules.into_iter().for_each(|rule| faults.add(rule));
    }

    /// Starts a node on the objects, whoever leads. It is the newest from then on.
    pub(super) async fn start_node(&self) -> Result<Arc<SimNode>, String> {
        let mut last = String::new();
        for _ in 0..STARTS {
            match self.try_start().await {
                Ok(node) => return Ok(node),
                Err(problem) => last = problem,
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(format!("no node starts any more: {last}"))
    }

    async fn try_start(&self) -> Result<Arc<SimNode>, String> {
        let number = self.started.fetch_add(1, Relaxed) + 1;
        let name = format!("n{number}");
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(number));
        // Machines disagree about the time.
        let skew = random.random_range(-600_000..600_000);
        let env = Env::simulated(random.random(), START_MS + self.trace.elapsed_ms() + skew);
        let faults = FaultStore::new(self.objects.clone(), random.random());
        self.usual_weather(&faults);
        let connection = Connection::new(name.clone(), Arc::new(faults.clone()), self.trace.clone());
        let metrics = StoreMetrics::new();
        let region = RegionName::new("local").expect("a good name");
        let timing = StoreTiming::default();
        let store = RegionStore::new(region, Arc::new(connection.clone()), metrics.clone(), timing, env.clone());
        let mut settings = Settings { node_name: Some(name.clone()), ..Settings::default() };
        settings.publish.request_timeout_ms = 5_000;
        settings.advertise = Some(format!("http://{name}"));
        // It takes over at its start, whoever leads, and never again.
        settings.lease = LeaseSettings { timeout_ms: NEVER_MS, probe_ms: NEVER_MS, usurp: true };
        let opener: Opener = Arc::new(move |_, _| Ok(store.clone()));
        self.say(format_args!("{name} starts"));
        let started = timeout(START, start_node_on(settings, opener, metrics, env, Arc::new(NoPeers))).await;
        let problem = match started {
            Ok(Ok(node)) => {
                let node = Arc::new(SimNode::new(name, node, faults, connection));
                lock(&self.nodes).push(node.clone());
                self.say(format_args!("{} leads", node.name));
                return Ok(node);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        connection.end();
        self.say(format_args!("{name} does not start: {problem}"));
        Err(problem)
    }

    pub(super) fn newest(&self) -> Option<Arc<SimNode>> {
        lock(&self.nodes).last().cloned()
    }

    /// A node that clients know: mostly the newest, sometimes one that was overtaken.
    pub(super) fn any_node(&self, random: &mut StdRng) -> Option<Arc<SimNode>> {
        let nodes = lock(&self.nodes);
        let open: Vec<_> = nodes.iter().filter(|node| node.is_open()).collect();
        let older = open.len() > 1 && random.random_bool(0.3);
        let picked = if older { open.get(random.random_range(0..open.len())) } else { open.last() };
        picked.map(|node| Arc::clone(node))
    }

    /// Looks for nodes that have stopped for a reason that must never be: the store loses nothing here.
    pub(super) fn inspect(&self) {
        for node in lock(&self.nodes).iter().filter(|node| node.is_open()) {
            if let Some(status) = node.node.seat.status().filter(|status| status.state == "broken") {
                lock(&self.problems).push(format!("{} is broken: {status:?}", node.name));
            }
        }
    }

    /// What [`Self::inspect`] found.
    pub(super) fn problems(&self) -> Vec<String> {
        lock(&self.problems).clone()
    }

    pub(super) fn kill(&self, node: &Arc<SimNode>) {
        self.inspect();
        self.say(format_args!("{} is killed", node.name));
        node.kill();
        self.forget(node);
    }

    pub(super) fn forget(&self, gone: &Arc<SimNode>) {
        lock(&self.nodes).retain(|node| !Arc::ptr_eq(node, gone));
    }

    pub(super) fn kill_newest(&self) {
        if let Some(node) = self.newest() {
            self.kill(&node);
        }
    }

    pub(super) fn kill_all_but_newest(&self) {
        let mut nodes = lock(&self.nodes).clone();
        nodes.pop();
        nodes.iter().for_each(|node| self.kill(node));
    }

    /// A request to the newest node, repeated until it is carried out.
    pub(super) async fn insist(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut last = String::new();
        for _ in 0..100 {
            let Some(node) = self.newest() else { break };
            match node.request(request(method, path, body)).await {
                Ok((status, body)) if status < 300 => return Ok(serde_json::from_slice(&body).unwrap_or_default()),
                Ok((status, body)) => last = format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(_) => last = "no answer".to_owned(),
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{method} {path}: {last}"))
    }

    /// Everything that the topic holds.
    pub(super) async fn read_all(&self) -> Result<Vec<Stored>, String> {
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let mut offset = 0;
            loop {
                let path = format!("/v1/topics/t/messages?partition={partition}&offset={offset}&max_messages=10000");
                let page = self.insist("GET", &path, &Value::Null).await?;
                let messages = page["messages"].as_array().ok_or("no messages in a page")?;
                if messages.is_empty() {
                    break;
                }
                for message in messages {
                    all.push(Stored::from_json(message).ok_or_else(|| format!("{message} was not sent"))?);
                }
                offset = page["next_offset"].as_u64().ok_or("no next offset")?;
            }
        }
        Ok(all)
    }
}

/// A request with a JSON body, or none.
pub(super) fn request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(Body::from(body)).expect("a good request")
}
