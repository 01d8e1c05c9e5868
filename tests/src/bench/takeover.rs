//! Scenario `takeover`: nodes as processes on one directory of three regions, publishers at each of them, and SIGKILL for
//! the leader, again and again. Afterwards everything is read back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Report,
    figures::{largest, median, rounded, smallest},
};
use crate::{
    history::{self, Message, Outcome, Recorder, Verdict},
    http::Http,
    load::{self, Stop},
    process::{Options, Process},
};

/// Median time without a leader, in seconds.
const TARGET: f64 = 3.0;

/// Longest time that is waited for a publish, or for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// See [`PATIENCE`].
const ANSWER: Duration = Duration::from_secs(10);

const TOPIC: &str = "bench";
const PARTITIONS: u32 = 4;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct TakeoverArgs {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: u32,
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..))]
    nodes: u32,
    /// Regions: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    regions: u32,
    /// Publishers at each node, with one request of one message in flight each
    #[arg(long, value_name = "N", default_value_t = 4)]
    publishers: u32,
    /// Quiet time between a restart and the next kill, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_500)]
    pause_ms: u64,
}

/// Waits for the first acknowledged publish that was sent after some moment, to another node than one.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Option<Waiting>>>);

struct Waiting {
    since: Instant,
    except: usize,
    answer: oneshot::Sender<Instant>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, since: Instant, except: usize) -> oneshot::Receiver<Instant> {
        let (answer, answered) = oneshot::channel();
        *self.lock() = Some(Waiting { since, except, answer });
        answered
    }

    fn acknowledged(&self, node: usize, sent: Instant) {
        let mut waiting = self.lock();
        if let Some(found) = waiting.take_if(|waiting| node != waiting.except && sent >= waiting.since) {
            // Whoever waited may have given up.
            let _ = found.answer.send(Instant::now());
        }
    }
}

struct Publisher {
    name: String,
    node: usize,
    http: Http,
    recorder: Recorder,
    watch: Watch,
}

impl Publisher {
    /// Publishes until told to stop, each request again and again until it is answered.
    async fn run(self, stop: Stop) {
        let mut sequence = 0_u64;
        while !stop.is_set() {
            sequence += 1;
            let message = Message { key: None, value: format!("{}-{sequence}", self.name) };
            let identity = Some(format!("{} {sequence}", self.name));
            let ticket = self.recorder.start(&self.name, identity, vec![message.clone()]);
            let outcome = loop {
                let sent = Instant::now();
                if let Some(places) = self.attempt(&message, sequence).await {
                    self.watch.acknowledged(self.node, sent);
                    break Outcome::Acknowledged(places);
                }
                sleep(Duration::from_millis(10)).await;
            };
            self.recorder.finish(&ticket, outcome);
        }
    }

    async fn attempt(&self, message: &Message, sequence: u64) -> Option<Vec<history::Place>> {
        let request = self.http.request("POST", &format!("/v1/topics/{TOPIC}/messages")).timeout(ANSWER);
        let request = request.header("producer-id", &self.name).header("producer-sequence", sequence.to_string());
        let answer = self.http.try_send(request.json(&load::body(std::slice::from_ref(message)))).await.ok()?;
        match Verdict::of(answer.status, &answer.body) {
            Verdict::Stored(places) => Some(places),
            Verdict::Wrong(answer) if !answer.starts_with("503") => panic!("{}: {answer}", self.name),
            _ => None,
        }
    }
}

/// Runs the scenario.
pub(super) async fn run(args: &TakeoverArgs) -> Report {
    let options = Options { args: vec!["--dev-regions".to_owned(), args.regions.to_string()], ..Options::default() };
    let mut nodes = vec![Process::start_with(options).await];
    for _ in 1..args.nodes {
        let mut node = nodes[0].rival();
        node.restart().await;
        nodes.push(node);
    }
    nodes[0].http().create_topic(TOPIC, PARTITIONS).await;
    let (recorder, watch, stop) = (Recorder::default(), Watch::default(), Stop::default());
    let mut publishers = JoinSet::new();
    for (node, process) in nodes.iter().enumerate() {
        for number in 0..args.publishers {
            let (name, http) = (format!("publisher-{node}-{number}"), process.http());
            let (recorder, watch) = (recorder.clone(), watch.clone());
            publishers.spawn(Publisher { name, node, http, recorder, watch }.run(stop.clone()));
        }
    }
    let mut times = Vec::new();
    for number in 0..args.kills {
        sleep(Duration::from_millis(args.pause_ms)).await;
        times.push(kill(&mut nodes, &watch, number).await);
    }
    stop.set();
    let finished = timeout(PATIENCE, async { while publishers.join_next().await.is_some_and(|done| done.is_ok()) {} });
    finished.await.expect("every publisher gets its answer");
    assert!(publishers.is_empty(), "no publisher panics");
    let stored = load::stored(&nodes[0].http(), TOPIC, PARTITIONS.into()).await;
    report(args, &times, &history::check(&recorder.history(), &stored))
}

/// Kills the leader; gives the seconds until a publish is acknowledged by another node. Then it is started again.
async fn kill(nodes: &mut [Process], watch: &Watch, number: u32) -> f64 {
    let leader = leader(nodes).await;
    let killed = Instant::now();
    nodes[leader].kill_9();
    let first = watch.wait(Instant::now(), leader);
    let first = timeout(PATIENCE, first).await.expect("publishing goes on").expect("the watch lives");
    let took = (first - killed).as_secs_f64();
    nodes[leader].restart().await;
    eprintln!("kill {number} of node {leader}: {took:.2} s");
    took
}

/// Which node leads.
async fn leader(nodes: &[Process]) -> usize {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        for (number, node) in nodes.iter().enumerate() {
            let lease = node.http().try_get("/v1/shards/0/lease").await;
            if lease.is_ok_and(|answer| answer.status == 200 && answer.json()["state"] == "leading") {
                return number;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no node leads");
}

fn report(args: &TakeoverArgs, times: &[f64], checked: &Result<history::Summary, Vec<String>>) -> Report {
    let met = median(times) <= TARGET && checked.is_ok();
    let all: Vec<_> = times.iter().map(|time| rounded(*time)).collect();
    let mut lines = vec![format!(
        "{} kills of the leader of {} nodes on {} regions: publishing went on after {:.2} s (median; best {:.2}, worst \
         {:.2}){}",
        times.len(),
        args.nodes,
        args.regions,
        median(times),
        smallest(times),
        largest(times),
        if median(times) <= TARGET { "" } else { "  <- misses its target" },
    )];
    lines.push(format!("all, in seconds: {all:?}"));
    let check = match checked {
        Ok(summary) => {
            lines.push(format!("read back: nothing lost, nothing doubled; {summary:?}"));
            json!({"acknowledged": summary.acknowledged, "violations": []})
        }
        Err(violations) => {
            lines.push(format!("read back: {} VIOLATIONS, for example {:?}", violations.len(), violations.first()));
            json!({"violations": violations})
        }
    };
    let json: Value = json!({
        "scenario": "takeover", "nodes": args.nodes, "regions": args.regions, "seconds": all,
        "median": rounded(median(times)), "worst": rounded(largest(times)), "check": check, "met": met,
    });
    Report { json, lines, met }
}
