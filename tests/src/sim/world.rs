//! The world of a simulation: regions, nodes, the network between them, and what is known of all.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Body;
use brigade::{
    serve::start_node_on,
    settings::{LeaseSettings, RegionSettings, Settings},
};
use brigade_index::{
    env::{Clock, Env},
    founding::Opener,
    ids::Ballot,
    names::RegionName,
    shard::{Shard, ShardStatus},
    store::{RegionStore, StoreError, StoreMetrics, StoreOptions, StoreTiming},
};
use bytes::Bytes;
use http::Request;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    PARTITIONS, Trace,
    clock::WallClock,
    link::Link,
    lock,
    network::{Network, Wire},
    node::SimNode,
    region::{Mood, SimRegion},
    traps::Traps,
    weather::Weather,
};
use crate::history::{Recorder, Stored, queue::Moment};

/// When a simulation begins, in milliseconds since the Unix epoch.
pub(super) const START_MS: i64 = 1_760_000_000_000;

/// Clocks of machines are wrong by up to so much, and jump by so much, in milliseconds.
pub(super) const SKEW_MS: i64 = 600_000;

/// Pause before a node that could not start is started again.
const RESTART: Duration = Duration::from_millis(500);

/// The world. Cheap to clone.
#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

pub(super) struct Inner {
    pub(super) recorder: Recorder,
    pub(super) network: Arc<Network>,
    pub(super) weather: Weather,
    trace: Trace,
    seed: u64,
    began: Instant,
    /// Every region that there ever was.
    regions: Mutex<Vec<SimRegion>>,
    /// The regions that the cluster is to have.
    wanted: Mutex<Vec<SimRegion>>,
    /// The regions that nodes are told of when they start.
    told: Mutex<Vec<SimRegion>>,
    /// One that has lost what it held.
    pub(super) ruined: Mutex<Option<SimRegion>>,
    /// Nodes that live, or are being started.
    nodes: Mutex<Vec<Arc<SimNode>>>,
    lives: Mutex<BTreeMap<String, u64>>,
    machines: AtomicU64,
    /// Set while no quorum of regions can be reached by anybody: how often that was so.
    dark: Mutex<Option<u64>>,
    darkness: AtomicU64,
    problems: Mutex<Vec<String>>,
    /// Moments that were looked at.
    moments: AtomicU64,
    /// The highest ballot under which a node was seen to lead.
    highest: Mutex<Ballot>,
    /// Whether all trouble is over, so that there need not be as much load.
    calmed: AtomicBool,
    /// How often a clock has jumped.
    jumps: AtomicU64,
    /// All clocks that there ever were, and the latest time that one showed before it jumped.
    clocks: Mutex<(Vec<Arc<WallClock>>, i64)>,
    pub(super) traps: Traps,
    /// Held while the set of regions is changed, or must not be.
    pub(super) regions_held: tokio::sync::Mutex<()>,
}

impl std::ops::Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl World {
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let weather = Weather::draw(&mut random);
        trace.say("world", format_args!("{weather:?}"));
        let network = Network::new(random.random());
        let world = Self(Arc::new(Inner {
            recorder: Recorder::default(),
            network,
            weather,
            trace,
            seed,
            began: Instant::now(),
            regions: Mutex::default(),
            wanted: Mutex::default(),
            told: Mutex::default(),
            ruined: Mutex::default(),
            nodes: Mutex::default(),
            lives: Mutex::default(),
            machines: AtomicU64::new(0),
            dark: Mutex::default(),
            darkness: AtomicU64::new(0),
            problems: Mutex::default(),
            moments: AtomicU64::new(0),
            highest: Mutex::default(),
            calmed: AtomicBool::new(false),
            jumps: AtomicU64::new(0),
            clocks: Mutex::default(),
            traps: Traps::default(),
            regions_held: tokio::sync::Mutex::default(),
        }));
        let founding: Vec<_> = (0..world.weather.regions).map(|_| world.add_region(&mut random)).collect();
        world.set_wanted(founding.clone());
        world.tell(founding);
        world
    }

    pub(super) fn say(&self, what: impl Display) {
        self.trace.say("world", what);
    }

    pub(super) fn trace(&self, who: &str, what: impl Display) {
        self.trace.say(who, what);
    }

    /// Something that must never be was seen.
    pub(super) fn problem(&self, what: impl Display) {
        self.say(format_args!("PROBLEM: {what}"));
        lock(&self.problems).push(what.to_string());
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let alarms = lock(&self.regions).iter().flat_map(SimRegion::alarms).collect::<Vec<_>>();
        lock(&self.problems).iter().cloned().chain(alarms).collect()
    }

    // Regions.

    /// A new, empty region, which the cluster does not know yet.
    pub(super) fn add_region(&self, random: &mut StdRng) -> SimRegion {
        let mood = self.weather.mood(random);
        let mut regions = lock(&self.regions);
        let region = SimRegion::new(regions.len() + 1, mood);
        self.say(format_args!("region {region}: {:?}", region.mood().latency));
        regions.push(region.clone());
        region
    }

    pub(super) fn regions(&self) -> Vec<SimRegion> {
        lock(&self.regions).clone()
    }

    pub(super) fn region(&self, name: &str) -> Option<SimRegion> {
        lock(&self.regions).iter().find(|region| region.name().as_str() == name).cloned()
    }

    /// The regions that the cluster is to have.
    pub(super) fn wanted(&self) -> Vec<SimRegion> {
        lock(&self.wanted).clone()
    }

    pub(super) fn set_wanted(&self, wanted: Vec<SimRegion>) {
        *lock(&self.wanted) = wanted;
    }

    /// Nodes that start from now on are told of these regions.
    pub(super) fn tell(&self, regions: Vec<SimRegion>) {
        *lock(&self.told) = regions;
    }

    pub(super) fn told(&self) -> Vec<SimRegion> {
        lock(&self.told).clone()
    }

    /// All nodes see how a region behaves now.
    pub(super) fn refresh(&self, region: &SimRegion) {
        for node in lock(&self.nodes).iter() {
            if let Some(link) = node.link(region.name().as_str()) {
                link.refresh();
            }
        }
    }

    /// Changes how a region behaves.
    pub(super) fn change_mood(&self, region: &SimRegion, change: impl FnOnce(&mut Mood)) {
        let mut mood = region.mood();
        change(&mut mood);
        region.set_mood(mood);
        self.refresh(region);
    }

    /// A region behaves as it usually does.
    pub(super) fn usual_mood(&self, region: &SimRegion) {
        region.set_mood(region.usual());
        self.refresh(region);
    }

    /// All trouble ends, for good.
    pub(super) fn calm(&self) {
        self.set_dark(false);
        self.calmed.store(true, Relaxed);
        self.network.heal();
        self.traps.clear();
        for node in self.nodes() {
            node.gate.pause(false);
            lock(&node.links).values().for_each(|link| link.set_cut(false));
        }
        for region in self.regions() {
            region.calm();
            self.refresh(&region);
        }
    }

    /// Pause of somebody who sends.
    pub(super) async fn breathe(&self, random: &mut StdRng) {
        let most = if self.calmed.load(Relaxed) { 600 } else { 90 };
        sleep(Duration::from_millis(random.random_range(1..most))).await;
    }

    /// No quorum can be reached from now on, or it can again.
    pub(super) fn set_dark(&self, on: bool) {
        *lock(&self.dark) = on.then(|| self.darkness.fetch_add(1, Relaxed));
    }

    /// Which darkness it is, if it is dark.
    pub(super) fn dark(&self) -> Option<u64> {
        *lock(&self.dark)
    }

    // Nodes.

    /// Nodes that live, those that are being started or are paused included.
    pub(super) fn nodes(&self) -> Vec<Arc<SimNode>> {
        lock(&self.nodes).clone()
    }

    /// Starts a node on a new machine.
    pub(super) fn start_fresh(&self, usurp: bool) -> Arc<SimNode> {
        let machine = self.machines.fetch_add(1, Relaxed) + 1;
        self.start(format!("m{machine}"), usurp)
    }

    /// Starts a node on a machine, again and again until it comes up. `usurp` says that it takes over, whoever leads.
    pub(super) fn start(&self, machine: String, usurp: bool) -> Arc<SimNode> {
        let life = {
            let mut lives = lock(&self.lives);
            let life = lives.entry(machine.clone()).or_default();
            *life += 1;
            *life
        };
        let mut random = StdRng::seed_from_u64(self.seed ^ hash(&format!("{machine}.{life}")));
        let clock = WallClock::new(START_MS + random.random_range(-SKEW_MS..SKEW_MS), self.began);
        lock(&self.clocks).0.push(clock.clone());
        let node = Arc::new(SimNode::new(machine, life, clock));
        self.say(format_args!("{node} starts{}", if usurp { ", to take over" } else { "" }));
        lock(&self.nodes).push(node.clone());
        self.network.add(&node);
        tokio::spawn(bring_up(self.clone(), node.clone(), random, usurp));
        node
    }

    pub(super) fn kill(&self, node: &Arc<SimNode>) {
        self.inspect();
        self.say(format_args!("{node} is killed"));
        node.kill();
        self.forget(node);
    }

    pub(super) fn forget(&self, gone: &Arc<SimNode>) {
        lock(&self.nodes).retain(|node| !Arc::ptr_eq(node, gone));
    }

    /// Any node that takes requests.
    pub(super) fn any_node(&self, random: &mut StdRng) -> Option<Arc<SimNode>> {
        let up: Vec<_> = lock(&self.nodes).iter().filter(|node| node.is_up()).cloned().collect();
        if up.is_empty() { None } else { up.get(random.random_range(0..up.len())).cloned() }
    }

    /// The node that leads with the highest ballot, as far as it knows.
    pub(super) fn leader(&self) -> Option<(Arc<SimNode>, Shard, ShardStatus)> {
        let nodes = self.nodes();
        let leading = nodes.into_iter().filter(|node| node.is_up()).filter_map(|node| {
            let (shard, status) = node.leading()?;
            Some((node, shard, status))
        });
        leading.max_by_key(|(_, _, status)| status.ballot)
    }

    /// This moment, and who thinks that he leads.
    pub(super) fn moment(&self) -> Moment {
        let nodes = self.nodes();
        let ballots = nodes.iter().filter_map(|node| node.reign());
        let (lowest, latest) = ballots.fold((None, Ballot::default()), |(lowest, latest), ballot| {
            (Some(lowest.map_or(ballot, |lowest: Ballot| lowest.min(ballot))), latest.max(ballot))
        });
        let mut highest = lock(&self.highest);
        *highest = latest.max(*highest);
        Moment {
            step: self.moments.fetch_add(1, Relaxed) + 1,
            time_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            lowest: lowest.map_or((u64::MAX, u64::MAX), |ballot| (ballot.round, ballot.nonce)),
            highest: (highest.round, highest.nonce),
            jumps: self.jumps.load(Relaxed),
        }
    }

    /// A node's clock jumps.
    pub(super) fn jump(&self, node: &SimNode, by_ms: i64) {
        self.say(format_args!("the clock of {node} jumps by {by_ms} ms"));
        self.jumps.fetch_add(1, Relaxed);
        let latest = &mut lock(&self.clocks).1;
        *latest = node.clock.now_ms().max(*latest);
        node.clock.jump(by_ms);
    }

    /// The latest time that any clock has shown so far, milliseconds since the Unix epoch.
    pub(super) fn latest_ms(&self) -> i64 {
        let (clocks, before) = &*lock(&self.clocks);
        clocks.iter().map(|clock| clock.now_ms()).fold(*before, i64::max)
    }

    /// Waits until one node leads and all others follow it.
    pub(super) async fn agreed(&self) -> Result<(), String> {
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            let nodes = self.nodes();
            let Some((leader, ..)) = self.leader() else { continue };
            let follows = |node: &Arc<SimNode>| match node.node().map(|node| node.seat.lead()) {
                Some(Err(absent)) => absent.lives && absent.leader.as_ref().is_some_and(|l| l.node == leader.machine),
                Some(Ok(_)) => Arc::ptr_eq(node, &leader),
                None => false,
            };
            if nodes.iter().all(follows) {
                return Ok(());
            }
        }
        Err("nodes do not agree who leads".to_owned())
    }

    /// Looks for nodes that have stopped for a reason that must never be: no region is damaged here, only lost.
    pub(super) fn inspect(&self) {
        for node in self.nodes().iter().filter(|node| node.is_up()) {
            let status = node.node().and_then(|node| node.seat.status());
            if let Some(status) = status.filter(|status| status.state == "broken") {
                self.problem(format_args!("{node} is broken: {status:?}"));
            }
        }
    }

    /// Forgets all nodes, which know the world: nothing is left of either.
    pub(super) fn end(&self) {
        lock(&self.nodes).clear();
    }

    // Requests.

    /// A request to any node, repeated until it is carried out.
    pub(super) async fn insist(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut last = "no node is up".to_owned();
        let mut random = StdRng::seed_from_u64(self.seed);
        for _ in 0..300 {
            if let Some(node) = self.any_node(&mut random) {
                match node.request(request(method, path, body)).await {
                    Ok((status, body)) if status < 300 => return Ok(serde_json::from_slice(&body).unwrap_or_default()),
                    Ok((status, body)) => last = format!("{node}: {status} {}", String::from_utf8_lossy(&body)),
                    Err(_) => last = format!("{node} gives no answer"),
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{method} {path}: {last}"))
    }

    /// Everything that the topic holds.
    pub(super) async fn read_all(&self) -> Result<Vec<Stored>, String> {
        let stored = |message| Stored::from_json(&message).ok_or_else(|| format!("{message} was not sent"));
        self.messages().await?.into_iter().map(stored).collect()
    }

    /// Everything that the topic holds, as it is shown.
    pub(super) async fn messages(&self) -> Result<Vec<Value>, String> {
        self.messages_of("t", PARTITIONS).await
    }

    /// Everything that a topic holds.
    pub(super) async fn messages_of(&self, topic: &str, partitions: u64) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        for partition in 0..partitions {
            let mut offset = "earliest".to_owned();
            loop {
                let path =
                    format!("/v1/topics/{topic}/messages?partition={partition}&offset={offset}&max_messages=10000");
                let page = self.insist("GET", &path, &Value::Null).await?;
                let messages = page["messages"].as_array().ok_or("no messages in a page")?;
                if messages.is_empty() {
                    break;
                }
                all.extend_from_slice(messages);
                offset = page["next_offset"].as_u64().ok_or("no next offset")?.to_string();
            }
        }
        Ok(all)
    }
}

/// Starts a node until it serves or is killed, and tells what it is to the shard from then on.
async fn bring_up(world: World, node: Arc<SimNode>, mut random: StdRng, usurp: bool) {
    let starting = async {
        loop {
            let problem = match start_once(&world, &node, &mut random, usurp).await {
                Ok(started) => break started,
                Err(problem) => problem,
            };
            world.trace(&node.name, format_args!("does not start: {problem}"));
            sleep(RESTART).await;
        }
    };
    let started = tokio::select! {
        biased;
        () = node.gate.ended() => return,
        started = starting => started,
    };
    let seat = started.seat.clone();
    node.serve(started);
    world.trace(&node.name, "serves");
    let mut before = String::new();
    loop {
        let changed = seat.changed();
        let now = match seat.lead() {
            Ok(leading) => format!("{} under {}", leading.shard.status().state, leading.shard.status().ballot),
            Err(absent) => {
                let leader = absent.leader.as_ref().map_or("nobody", |leader| &leader.node);
                format!("{}, leader {leader}, alive {}", absent.state, absent.lives)
            }
        };
        if now != before {
            world.trace(&node.name, &now);
            before = now;
        }
        tokio::select! {
            biased;
            () = node.gate.ended() => return,
            () = changed => {}
        }
    }
}

async fn start_once(
    world: &World,
    node: &Arc<SimNode>,
    random: &mut StdRng,
    usurp: bool,
) -> Result<brigade::serve::Node, String> {
    let env = node.clock.env(random.random());
    let metrics = StoreMetrics::new();
    *lock(&node.told) = world.told();
    let regions = world.told().into_iter().map(|region| RegionSettings {
        name: region.name().to_string(),
        url: region.url().to_owned(),
        store: StoreOptions::default(),
    });
    let mut settings = Settings { node_name: Some(node.machine.clone()), ..Settings::default() };
    settings.regions = regions.collect();
    settings.publish.request_timeout_ms = 5_000;
    settings.advertise = Some(node.address());
    settings.lease = LeaseSettings { usurp, ..LeaseSettings::default() };
    settings.compact.instead = Some(world.weather.compactor.clone());
    let opener = opener(world, node, metrics.clone(), env.clone());
    let wire = Wire { network: world.network.clone(), from: node.machine.clone(), gate: node.gate.clone() };
    start_node_on(settings, opener, metrics, env, Arc::new(wire)).await.map_err(|error| error.to_string())
}

/// Opens regions by their URLs, each over one connection.
fn opener(world: &World, node: &Arc<SimNode>, metrics: StoreMetrics, env: Env) -> Opener {
    let (world, node) = (world.clone(), node.clone());
    Arc::new(move |name: &RegionName, url: &str| -> Result<RegionStore, StoreError> {
        let region = world.regions().into_iter().find(|region| region.url() == url);
        // The cluster may remember only regions that there were.
        let region = region.unwrap_or_else(|| panic!("{node} opens {url}, which is nowhere"));
        let link = lock(&node.links)
            .entry(region.name().to_string())
            .or_insert_with(|| connect(&world, &node, region.clone()))
            .clone();
        let timing = StoreTiming::default();
        Ok(RegionStore::new(name.clone(), Arc::new(link), metrics.clone(), timing, env.clone()))
    })
}

fn connect(world: &World, node: &Arc<SimNode>, region: SimRegion) -> Link {
    let seed = world.seed ^ hash(&format!("{node} to {region}"));
    Link::new(node, region, seed, world.traps.clone(), world.trace.clone())
}

/// A number from a name, the same in every run (FNV-1a).
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A request with a JSON body, or none.
pub(super) fn request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(Body::from(body)).expect("a good request")
}

/// The body of a request for these regions.
pub(super) fn regions_body(wanted: &[SimRegion]) -> Value {
    let regions = wanted.iter().map(|region| json!({"name": region.name().as_str(), "url": region.url()}));
    json!({"regions": regions.collect::<Vec<_>>()})
}
