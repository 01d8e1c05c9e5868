//! Members of a stream subscription, as real consumers of real nodes: they come and go, one dies, the leader dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use brigade::client::{Client, Member, PollRequest, RetryPolicy, SubscriptionStart, is_fenced};
use brigade_index::env::Env;
use brigade_tests::{http::Http, process::Process};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

const PARTITIONS: u32 = 6;

/// Long enough for a takeover on a busy machine, short enough to wait for its end.
const SESSION: Duration = Duration::from_secs(6);

const PATIENCE: Duration = Duration::from_secs(60);

/// What consumers did: messages received, and offsets committed by partition and member.
#[derive(Default)]
struct Seen {
    received: BTreeSet<u64>,
    committed: BTreeMap<u32, Vec<(String, u64, u64)>>,
}

#[derive(Clone, Default)]
struct Record(Arc<Mutex<Seen>>);

impl Record {
    fn received(&self) -> usize {
        self.0.lock().unwrap().received.len()
    }

    /// Nobody committed what another member has committed.
    fn check(&self) {
        for (partition, ranges) in &self.0.lock().unwrap().committed {
            let mut owners = BTreeMap::new();
            for (member, from, to) in ranges {
                for offset in *from..*to {
                    let other = owners.insert(offset, member);
                    assert!(other.is_none_or(|other| other == member), "{partition}/{offset}: {member} and {other:?}");
                }
            }
        }
    }
}

fn client(http_address: std::net::SocketAddr) -> Client {
    Client::new(&format!("http://{http_address}"), Env::system()).unwrap()
}

/// A consumer that works until it is aborted, which is how it dies, or told to leave by `done`.
fn consumer(client: Client, name: &'static str, record: Record, done: Arc<Mutex<bool>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let policy = RetryPolicy::default();
        let join = || Member::join(client.clone(), "t", "s", name, SESSION);
        let (member, _) = client.retry(&policy, join).await.unwrap();
        let poll = PollRequest { max_messages: 7, max_bytes: 1 << 20, wait_ms: 500, positions: vec![], member: None };
        while !*done.lock().unwrap() {
            member.release();
            let polled = match client.retry(&policy, || member.poll(&poll)).await {
                Err(error) if is_fenced(&error) => continue,
                polled => polled.unwrap().0,
            };
            let (mut first, mut values) = (BTreeMap::new(), Vec::new());
            for message in &polled.messages {
                let message: serde_json::Value = serde_json::from_str(message.get()).unwrap();
                let partition = message["partition"].as_u64().unwrap() as u32;
                first.entry(partition).or_insert(message["offset"].as_u64().unwrap());
                values.push(message["value"].as_u64().unwrap());
            }
            sleep(Duration::from_millis(10)).await;
            // Before the commit: who is aborted while it is under way has worked on them, and nobody gets them again.
            record.0.lock().unwrap().received.extend(values);
            let (committed, _) = client.retry(&policy, || member.commit(&polled.positions)).await.unwrap();
            let mut seen = record.0.lock().unwrap();
            for position in committed {
                let range = (name.to_owned(), first[&position.partition], position.offset);
                seen.committed.entry(position.partition).or_default().push(range);
            }
        }
        member.leave().await.unwrap();
    })
}

/// Publishes numbers from 0 on, each until it is acknowledged, until told to stop. Returns how many.
async fn publish(http: Http, stop: Arc<Mutex<bool>>) -> u64 {
    let mut number = 0;
    while !*stop.lock().unwrap() {
        let message = json!({"value": number, "partition": number % u64::from(PARTITIONS)});
        let body = json!({"messages": [message]});
        let send = || http.request("POST", "/v1/topics/t/messages").header("idempotency-key", number.to_string());
        while !http.try_send(send().json(&body)).await.is_ok_and(|answer| answer.status == 200) {
            sleep(Duration::from_millis(20)).await;
        }
        number += 1;
        sleep(Duration::from_millis(5)).await;
    }
    number
}

/// Partitions of each member, from a node.
async fn shares(http: &Http) -> BTreeMap<String, usize> {
    let Ok(answer) = http.try_get("/v1/topics/t/subscriptions/s/members").await else { return BTreeMap::new() };
    let json = if answer.status == 200 { answer.json() } else { json!({}) };
    let share = |member: &serde_json::Value| {
        (member["member"].as_str().unwrap().to_owned(), member["partitions"].as_array().unwrap().len())
    };
    json["members"].as_array().map(|members| members.iter().map(share).collect()).unwrap_or_default()
}

/// Waits until these members share all partitions evenly.
async fn shared_by(http: &Http, members: &[&str]) {
    let each = PARTITIONS as usize / members.len();
    let wanted: BTreeMap<_, _> = members.iter().map(|member| ((*member).to_owned(), each)).collect();
    let started = Instant::now();
    loop {
        let found = shares(http).await;
        if found == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "wanted {wanted:?}, found {found:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_go_and_die_and_nothing_is_lost_or_worked_on_by_two() {
    let mut first = Process::start().await;
    first.http().create_topic("t", PARTITIONS).await;
    let mut second = first.rival();
    second.restart().await;
    // All of them talk to the node that will lead in the end.
    let (http, client) = (second.http(), client(second.address()));
    client.create_subscription("t", "s", SubscriptionStart::Earliest).await.unwrap();
    let (record, done, stop) = (Record::default(), Arc::default(), Arc::default());
    let publisher = tokio::spawn(publish(http.clone(), Arc::clone(&stop)));
    let start = |name| consumer(client.clone(), name, record.clone(), Arc::clone(&done));
    let (a, b, c) = (start("a"), start("b"), start("c"));
    shared_by(&http, &["a", "b", "c"]).await;
    c.abort();
    shared_by(&http, &["a", "b"]).await;
    let d = start("d");
    shared_by(&http, &["a", "b", "d"]).await;
    let before = record.received();
    first.kill_9();
    shared_by(&http, &["a", "b", "d"]).await;
    assert_eq!(http.get("/v1/cluster").await.json()["shards"][0]["state"], "leading");
    *stop.lock().unwrap() = true;
    let published = publisher.await.unwrap() as usize;
    let started = Instant::now();
    while record.received() < published {
        assert!(started.elapsed() < PATIENCE, "{} of {published} received", record.received());
        sleep(Duration::from_millis(50)).await;
    }
    assert!(0 < before && before < published, "the leader was killed in the middle of it");
    *done.lock().unwrap() = true;
    for consumer in [a, b, d] {
        consumer.await.unwrap();
    }
    assert_eq!(shares(&http).await, BTreeMap::new(), "all have left");
    assert_eq!(client.subscription("t", "s").await.unwrap().lag, 0);
    record.check();
}

#[tokio::test]
async fn the_command_line_is_a_member_too() {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 2).await;
    http.publish("t", &["one", "two", "three"]).await;
    let done = async |arguments: &[&str]| {
        let output = node.cli(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    done(&["subscription", "create", "t", "s"]).await;
    let mut printed: Vec<_> = done(&["poll", "t", "s", "--member", "a"]).await.lines().map(str::to_owned).collect();
    printed.sort_unstable();
    assert_eq!(printed, ["one", "three", "two"]);
    assert!(done(&["subscription", "get", "t", "s"]).await.contains("lag 0"));
    assert_eq!(shares(&http).await, BTreeMap::new(), "it has left");
    http.json("POST", "/v1/topics/t/subscriptions/s/members/x", &json!({})).await.expect(200);
    let members = done(&["subscription", "members", "t", "s"]).await;
    assert!(members.contains('x') && members.contains("0,1"), "{members}");
    assert_eq!(done(&["poll", "t", "s", "--member", "b"]).await, "", "nothing is left for it");
    let moved = done(&["--output", "json", "subscription", "seek", "t", "s", "--to", "earliest"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&moved).unwrap()["lag"], 3);
    assert!(done(&["subscription", "list", "t"]).await.contains("stream"));
    done(&["subscription", "delete", "t", "s"]).await;
    assert_eq!(node.cli(&["subscription", "members", "t", "s"]).await.status.code(), Some(3));
}
