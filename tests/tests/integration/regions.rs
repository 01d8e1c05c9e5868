//! Several regions and several nodes as real processes: takeovers, regions that go and come, regions that are not what
//! they should be.

use std::{env, fs, path::Path, time::Duration};

use brigade_tests::{
    history::{Recorder, check},
    http::Http,
    load::{Identity, Sender, Stop, stored},
    process::{Options, Process},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long a region may take to be noticed, and to be caught up.
const PATIENCE: Duration = Duration::from_secs(60);

fn three_regions() -> Options {
    Options { args: vec!["--dev-regions".to_owned(), "3".to_owned()], ..Options::default() }
}

/// State of a region by what a node tells.
async fn state(http: &Http, region: &str) -> Value {
    let regions = http.get("/v1/regions").await.expect(200).json();
    let found = regions["regions"].as_array().unwrap().iter().find(|found| found["name"] == region);
    found.cloned().unwrap_or_default()
}

async fn until_state(http: &Http, region: &str, wanted: &str) -> Value {
    let started = Instant::now();
    loop {
        let found = state(http, region).await;
        if found["state"] == wanted {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "region {region} does not become {wanted}: {found}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A region is out of reach: a file lies where its directory was.
fn take_away(data: &Path, region: &str) {
    fs::rename(data.join(region), data.join(format!("{region}.away"))).unwrap();
    fs::write(data.join(region), "in the way").unwrap();
}

fn give_back(data: &Path, region: &str) {
    fs::remove_file(data.join(region)).unwrap();
    fs::rename(data.join(format!("{region}.away")), data.join(region)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn publish_many(http: &Http, from: u32, to: u32) {
    for number in from..to {
        http.publish("t", &[number.to_string()]).await;
    }
}

async fn values(http: &Http) -> Vec<u32> {
    let messages = http.read_all("t", 0).await;
    messages.iter().map(|message| message["value"].as_str().unwrap().parse().unwrap()).collect()
}

/// `BRIGADE_TAKEOVER_ROUNDS` (default 8) and `BRIGADE_TAKEOVER_SEED` (default 1) can be set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_leader_is_killed_another_node_takes_over_and_nothing_is_lost() {
    let setting = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rounds, seed) = (setting("BRIGADE_TAKEOVER_ROUNDS", 8), setting("BRIGADE_TAKEOVER_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let mut first = Process::start_with(three_regions()).await;
    let mut second = first.rival();
    second.restart().await;
    let nodes = [first.http(), second.http()];
    nodes[0].create_topic("t", 3).await;
    let (recorder, stop) = (Recorder::default(), Stop::default());
    let identities = [("producer", Identity::Producer), ("key", Identity::Key), ("plain", Identity::Plain)];
    let senders: Vec<_> = identities
        .into_iter()
        .map(|(name, identity)| Sender::among(name, nodes.clone(), "t", identity, recorder.clone()))
        .map(|sender| tokio::spawn(sender.run(stop.clone())))
        .collect();
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        let leads = nodes[0].get("/v1/cluster").await.json()["shards"][0]["state"] == "leading";
        let (leader, other) = if leads { (&mut first, &nodes[1]) } else { (&mut second, &nodes[0]) };
        leader.kill_9();
        let killed = Instant::now();
        while other.get("/v1/cluster").await.json()["shards"][0]["state"] != "leading" {
            assert!(killed.elapsed() < PATIENCE, "nobody takes over");
            sleep(Duration::from_millis(10)).await;
        }
        pauses.push(killed.elapsed());
        leader.restart().await;
    }
    stop.set();
    for sender in senders {
        sender.await.unwrap();
    }
    for http in &nodes {
        let summary = check(&recorder.history(), &stored(http, "t", 3).await).unwrap_or_else(|wrong| {
            panic!("seed {seed}: {} violations:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"))
        });
        println!("{rounds} takeovers, seed {seed}: {summary:?}, {pauses:?}");
        assert!(summary.acknowledged as u64 > rounds, "there was load: {summary:?}");
    }
}

#[tokio::test]
async fn a_region_that_is_away_blocks_nobody_and_is_caught_up_when_it_returns() {
    let mut node = Process::start_with(three_regions()).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    publish_many(&http, 0, 20).await;
    take_away(node.data(), "region-2");
    let started = Instant::now();
    publish_many(&http, 20, 60).await;
    println!("40 publishes with a region away: {:?}", started.elapsed());
    let away = until_state(&http, "region-2", "unreachable").await;
    assert!(away["problem"].as_str().unwrap().contains("region-2"), "{away}");
    assert!(away["shards"][0]["behind_entries"].as_u64().unwrap() >= 40, "{away}");
    assert!(http.metric("brigade_under_replicated_partitions", &[]).await > 0.0);
    give_back(node.data(), "region-2");
    until_state(&http, "region-2", "in_sync").await;
    assert_eq!(http.metric("brigade_under_replicated_partitions", &[]).await, 0.0);
    // Another region may go now, and the node with it.
    node.kill_9();
    take_away(node.data(), "region-1");
    node.restart().await;
    assert_eq!(values(&http).await, (0..60).collect::<Vec<_>>());
    publish_many(&http, 60, 70).await;
    give_back(node.data(), "region-1");
    until_state(&http, "region-1", "in_sync").await;
    assert_eq!(values(&http).await, (0..70).collect::<Vec<_>>());
}

#[tokio::test]
async fn with_too_few_regions_publishes_are_refused_and_reads_go_on_even_after_a_restart() {
    let mut node = Process::start_with(three_regions()).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    publish_many(&http, 0, 10).await;
    take_away(node.data(), "region-1");
    take_away(node.data(), "region-3");
    let started = Instant::now();
    let refused = loop {
        let body = json!({"messages": [{"value": "10"}]});
        let request = http.request("POST", "/v1/topics/t/messages").header("idempotency-key", "ten").json(&body);
        match tokio::time::timeout(Duration::from_secs(1), http.try_send(request)).await {
            Ok(Ok(answer)) if answer.status == 503 => break answer.expect_error(503, "quorum_unavailable"),
            other => assert!(started.elapsed() < PATIENCE, "{other:?}"),
        }
    };
    for region in ["region-1", "region-3"] {
        assert!(refused.text().contains(region), "{}", refused.text());
    }
    assert_eq!(values(&http).await, (0..10).collect::<Vec<_>>());
    node.kill_9();
    node.spawn();
    let started = Instant::now();
    while http.try_get("/healthz").await.is_err() {
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(values(&http).await, (0..10).collect::<Vec<_>>());
    http.json("POST", "/v1/topics/t/messages", &json!({"messages": [{"value": "x"}]}))
        .await
        .expect_error(503, "quorum_unavailable");
    let ready = http.get("/readyz").await.expect(503);
    assert!(ready.text().contains("region-1"), "{}", ready.text());
    give_back(node.data(), "region-1");
    give_back(node.data(), "region-3");
    let started = Instant::now();
    while http.get("/readyz").await.status != 200 {
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
    let body = json!({"messages": [{"value": "10"}]});
    let request = http.request("POST", "/v1/topics/t/messages").header("idempotency-key", "ten").json(&body);
    http.send(request).await.expect(200);
    assert_eq!(values(&http).await, (0..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_region_that_is_wiped_swapped_or_old_is_refused_by_name_and_never_taken_for_empty() {
    let mut node = Process::start_with(three_regions()).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    publish_many(&http, 0, 100).await;
    let data = node.data().to_owned();
    until_state(&http, "region-3", "in_sync").await;
    copy(&data.join("region-3"), &data.join("old"));
    publish_many(&http, 100, 300).await;
    until_state(&http, "region-3", "in_sync").await;
    node.kill_9();
    let whole = data.join("whole");
    fs::rename(data.join("region-3"), &whole).unwrap();

    copy(&data.join("old"), &data.join("region-3"));
    node.restart().await;
    let refused = until_state(&http, "region-3", "refused").await;
    assert!(refused["problem"].as_str().unwrap().contains("old copy"), "{refused}");
    assert_eq!(values(&http).await, (0..300).collect::<Vec<_>>());
    node.kill_9();

    fs::remove_dir_all(data.join("region-3")).unwrap();
    fs::create_dir(data.join("region-3")).unwrap();
    node.restart().await;
    let refused = until_state(&http, "region-3", "refused").await;
    assert!(refused["hint"].as_str().unwrap().contains("region replace"), "{refused}");
    assert_eq!(fs::read_dir(data.join("region-3")).unwrap().count(), 0, "nothing is written to it");
    node.kill_9();

    fs::remove_dir(data.join("region-3")).unwrap();
    fs::rename(&whole, data.join("region-3")).unwrap();
    let swap = || {
        fs::rename(data.join("region-1"), data.join("swap")).unwrap();
        fs::rename(data.join("region-2"), data.join("region-1")).unwrap();
        fs::rename(data.join("swap"), data.join("region-2")).unwrap();
    };
    swap();
    node.spawn();
    let started = Instant::now();
    while !node.log().contains("may be swapped") {
        assert!(started.elapsed() < PATIENCE, "{}", node.log());
        sleep(Duration::from_millis(20)).await;
    }
    node.kill_9();
    swap();
    node.restart().await;
    until_state(&http, "region-3", "in_sync").await;
    assert_eq!(values(&http).await, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_set_of_regions_is_changed_by_the_command_line_while_messages_flow() {
    let prepared = Process::prepare(Options::default());
    let at = |region: &str| format!("{region}=file://{}", prepared.scratch().join(region).display());
    let node = Process::start_with(Options { region: Some(at("a")), ..Options::default() }).await;
    let http = node.http();
    http.create_topic("t", 2).await;
    let (recorder, stop) = (Recorder::default(), Stop::default());
    let sender = Sender::new("producer", http.clone(), "t", Identity::Producer, recorder.clone());
    let sender = tokio::spawn(sender.run(stop.clone()));
    let run = async |args: &[&str]| {
        let output = node.cli(args).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), error)
    };
    let (ok, _, error) = run(&["region", "add", &at("b")]).await;
    assert!(!ok && error.contains("1, 3 or 5"), "two regions are none of the sizes: {error}");
    let (ok, _, error) = run(&["region", "add", &at("b"), &at("c")]).await;
    assert!(ok, "{error}");
    let (ok, _, error) = run(&["region", "replace", "a", &at("d")]).await;
    assert!(ok, "{error}");
    let (_, listed, _) = run(&["region", "list", "--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["voters"], json!(["b", "c", "d"]));
    let (ok, _, error) = run(&["region", "set", &at("d")]).await;
    assert!(ok, "{error}");
    sleep(Duration::from_millis(200)).await;
    stop.set();
    sender.await.unwrap();
    let summary = check(&recorder.history(), &stored(&http, "t", 2).await).unwrap();
    println!("{summary:?}");
    drop(node);
    // What is left in the last region is everything.
    let node = Process::start_with(Options { region: Some(at("d")), ..Options::default() }).await;
    check(&recorder.history(), &stored(&node.http(), "t", 2).await).unwrap();
}
