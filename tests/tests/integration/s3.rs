//! A node on a real S3 server: publish, SIGKILL, restart, read.
//!
//! Runs when `BRIGADE_TEST_S3_ENDPOINT` names a server, as `.ci/run` does; with `BRIGADE_REQUIRE_S3=1` it fails without.

use std::{env, io::Write};

use brigade_index::env::Env;
use brigade_tests::{
    history::{Recorder, check},
    load::{Identity, Sender, Stop, stored},
    process::{Options, Process},
};
use tokio::time::{Duration, sleep};

/// The server's endpoint, unless there is none.
fn endpoint() -> Option<String> {
    let endpoint = env::var("BRIGADE_TEST_S3_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    if endpoint.is_none() {
        assert_ne!(env::var("BRIGADE_REQUIRE_S3").as_deref(), Ok("1"), "BRIGADE_TEST_S3_ENDPOINT is not set");
        // Not through print!, which a passing test does not show.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: no S3 server (BRIGADE_TEST_S3_ENDPOINT); see localstack/start.sh\n"
        );
    }
    endpoint
}

fn variables(endpoint: &str) -> Vec<(String, String)> {
    let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_REGION", or("AWS_REGION", "us-east-1")),
        ("AWS_ACCESS_KEY_ID", or("AWS_ACCESS_KEY_ID", "test")),
        ("AWS_SECRET_ACCESS_KEY", or("AWS_SECRET_ACCESS_KEY", "test")),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

fn brigade(args: &[&str], endpoint: &str) -> std::process::Output {
    let mut command = std::process::Command::new(brigade_tests::binary::brigade());
    command.args(args).envs(variables(endpoint)).output().expect("the binary starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bucket_has_acknowledged_survives_kills() {
    let Some(endpoint) = endpoint() else { return };
    // A name that no earlier run has used on the same server.
    let bucket = format!("s3://brigade-test-{:016x}", Env::system().entropy.next_u64());
    let output = brigade(&["bucket", "create", &bucket], &endpoint);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = brigade(&["bucket", "check", &format!("{bucket}/check"), "--rounds", "20"], &endpoint);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let region = Some(format!("local={bucket}/data"));
    let mut node = Process::start_with(Options { region, env: variables(&endpoint), ..Options::default() }).await;
    let http = node.http();
    http.create_topic("t", 2).await;
    let (recorder, stop) = (Recorder::default(), Stop::default());
    let identities = [("producer", Identity::Producer), ("key", Identity::Key), ("plain", Identity::Plain)];
    let senders: Vec<_> = identities
        .into_iter()
        .map(|(name, identity)| Sender::new(name, http.clone(), "t", identity, recorder.clone()))
        .map(|sender| tokio::spawn(sender.run(stop.clone())))
        .collect();
    for _ in 0..5 {
        sleep(Duration::from_millis(700)).await;
        node.kill_9();
        node.restart().await;
    }
    stop.set();
    for sender in senders {
        sender.await.unwrap();
    }
    let summary = check(&recorder.history(), &stored(&http, "t", 2).await).unwrap();
    println!("{summary:?}");
    assert!(summary.acknowledged > 20, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_buckets_are_three_regions_of_two_nodes() {
    let Some(endpoint) = endpoint() else { return };
    let run = Env::system().entropy.next_u64();
    let mut args = Vec::new();
    for region in ["a", "b", "c"] {
        let bucket = format!("s3://brigade-test-{run:016x}-{region}");
        let output = brigade(&["bucket", "create", &bucket], &endpoint);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        args.extend(["--region".to_owned(), format!("{region}={bucket}/data")]);
    }
    // The first region stands where the data directory would.
    let region = Some(args.remove(1));
    args.remove(0);
    let options = Options { region, args, env: variables(&endpoint), ..Options::default() };
    let mut first = Process::start_with(options).await;
    let mut second = first.rival();
    second.restart().await;
    let nodes = [first.http(), second.http()];
    nodes[0].create_topic("t", 2).await;
    let (recorder, stop) = (Recorder::default(), Stop::default());
    let sender = Sender::among("producer", nodes.clone(), "t", Identity::Producer, recorder.clone());
    let sender = tokio::spawn(sender.run(stop.clone()));
    sleep(Duration::from_millis(1_500)).await;
    first.kill_9();
    sleep(Duration::from_millis(3_000)).await;
    stop.set();
    sender.await.unwrap();
    first.restart().await;
    second.kill_9();
    // Whatever the first node tells when it leads, it has read from the buckets.
    let mut rest = 300;
    while nodes[0].get("/v1/cluster").await.json()["shards"][0]["state"] != "leading" {
        rest -= 1;
        assert!(rest > 0, "the first node does not take over");
        sleep(Duration::from_millis(100)).await;
    }
    let summary = check(&recorder.history(), &stored(&nodes[0], "t", 2).await).unwrap();
    println!("{summary:?}");
    assert!(summary.acknowledged > 20, "{summary:?}");
    let regions = nodes[0].get("/v1/regions").await.expect(200).json();
    assert_eq!(regions["regions"].as_array().unwrap().len(), 3, "{regions}");
}
