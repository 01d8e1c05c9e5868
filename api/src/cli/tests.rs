use std::io;

use clap::{CommandFactory, Parser};

use super::{Cli, CliError, Command, OutputFormat, read::PartitionArg};
use crate::client::{ClientError, Refusal, Start};

fn parse(arguments: &[&str]) -> Result<Command, clap::error::ErrorKind> {
    Cli::try_parse_from(["brigade"].iter().chain(arguments)).map(|cli| cli.command).map_err(|e| e.kind())
}

fn refused(status: u16) -> CliError {
    let refusal = Refusal {
        status,
        code: "some_code".to_owned(),
        message: "what was wrong".to_owned(),
        hint: "what to do".to_owned(),
        retry_after: None,
        log_start: None,
    };
    CliError::Client(ClientError::Refused(Box::new(refusal)))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn exit_codes_are_as_documented() {
    let code = |status| refused(status).exit_code();
    assert_eq!([400, 409, 413, 416].map(code), [4; 4]);
    assert_eq!([404, 405, 410, 500].map(code), [3, 4, 4, 1]);
    assert_eq!([408, 429, 502, 503, 504].map(code), [5; 5]);
    assert_eq!(CliError::Usage(String::new()).exit_code(), 2);
    let io = |kind: io::ErrorKind| CliError::Io { what: String::new(), source: kind.into() }.exit_code();
    assert_eq!((io(io::ErrorKind::NotFound), io(io::ErrorKind::PermissionDenied)), (3, 1));
    assert_eq!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit_code(), 0);
}

#[test]
fn serve_takes_settings_and_leaves_the_rest_open() {
    let Ok(Command::Serve(args)) = parse(&[
        "serve",
        "--listen",
        "[::1]:80",
        "--region",
        "a=s3://bucket/prefix",
        "--region",
        "b=file:///srv/b",
        "--linger-ms",
        "0",
        "--log-format",
        "json",
    ]) else {
        panic!("refused")
    };
    assert_eq!(args.listen.unwrap().to_string(), "[::1]:80");
    let regions: Vec<_> = args.region.iter().map(|region| (region.name.as_str(), region.url.as_str())).collect();
    assert_eq!(regions, [("a", "s3://bucket/prefix"), ("b", "file:///srv/b")]);
    assert_eq!((args.linger_ms, args.cache_mib, args.drain_seconds), (Some(0), None, None));
    assert!(args.data.is_none() && args.config.is_none() && args.advertise.is_none());
    let Ok(Command::Serve(args)) = parse(&["serve", "--dev-regions", "3", "--data", "d"]) else { panic!("refused") };
    assert_eq!(args.dev_regions, Some(3));
    for wrong in [
        &["--listen", "nowhere"][..],
        &["--region", "no-url"],
        &["--region", "a b=file:///"],
        &["--region", "a=ftp://x"],
        &["--cache-mib", "-1"],
        &["--dev-regions", "x"],
        &["--dev-regions", "3", "--region", "a=memory://"],
        &["--data", "d", "--region", "a=memory://"],
    ] {
        assert!(parse(&[&["serve"], wrong].concat()).is_err(), "{wrong:?}");
    }
}

#[test]
fn publish_arguments() {
    let Ok(Command::Publish(args)) = parse(&["publish", "t", "a", "b", "-k", "key", "-H", "x=1", "-H", "y="]) else {
        panic!("refused")
    };
    assert_eq!((args.values.len(), args.key.as_deref(), args.header.len()), (2, Some("key"), 2));
    assert_eq!((args.in_flight, args.batch_messages, args.batch_bytes), (8, 1_000, 1_048_576));
    for wrong in [
        &["a", "--file", "f"][..],
        &["a", "--ndjson"],
        &["--ndjson", "--key", "k"],
        &["--key", "k", "--key-field", "/k"],
        &["--header", "x"],
        &["--in-flight", "0"],
        &["--in-order", "--in-flight", "2"],
        &["--batch-messages", "0"],
    ] {
        assert!(parse(&[&["publish", "t"], wrong].concat()).is_err(), "{wrong:?}");
    }
}

#[test]
fn read_arguments() {
    let Ok(Command::Read(args)) = parse(&["read", "t"]) else { panic!("refused") };
    assert_eq!((args.partition, args.offset, args.follow), (PartitionArg::All, Start::Earliest, false));
    let Ok(Command::Read(args)) = parse(&["read", "t", "-p", "3", "--offset", "17", "--max", "5"]) else {
        panic!("refused")
    };
    assert_eq!((args.partition, args.offset, args.max), (PartitionArg::One(3), Start::Offset(17), Some(5)));
    for wrong in [
        &["--offset", "-1"][..],
        &["--partition", "x"],
        &["--until-end", "--follow"],
        &["--offset", "1", "--timestamp", "2"],
    ] {
        assert!(parse(&[&["read", "t"], wrong].concat()).is_err(), "{wrong:?}");
    }
}

#[test]
fn global_options_stand_anywhere() {
    let cli = Cli::try_parse_from(["brigade", "status", "--output", "json", "--server", "http://h:1"]).unwrap();
    assert_eq!((cli.output, cli.server.as_str()), (Some(OutputFormat::Json), "http://h:1"));
    assert!(parse(&["status", "--output", "xml"]).is_err());
}

#[test]
fn bench_and_bucket_arguments() {
    for right in [
        &["bench", "all", "--seconds", "5", "--bare-dir", "/tmp"][..],
        &["bench", "publish", "--rate", "5000", "--messages-per-request", "1"],
        &["bench", "read", "--format", "arrow"],
        &["bench", "ack-latency", "--rounds", "10"],
        &["bench", "generate", "--messages", "3", "--message-bytes", "200", "--seed", "9"],
        &["bucket", "create", "s3://b", "--endpoint", "http://localhost:1"],
        &["bucket", "check", "file:///srv", "--rounds", "5"],
    ] {
        assert!(parse(right).is_ok(), "{right:?}");
    }
    for wrong in [&["bench"][..], &["bench", "publish", "--connections", "0"], &["bucket", "create"]] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn queue_arguments() {
    for right in [
        &["subscription", "create", "t", "s"][..],
        &["subscription", "create", "t", "s", "--kind", "queue", "--filter", "a = 1", "--ordered", "--start", "latest"],
        &["subscription", "update", "t", "s", "--no-push"],
        &["subscription", "describe", "t", "s"],
        &["subscription", "seek", "t", "s", "--position", "0:5", "--position", "1:0"],
        &["subscription", "seek", "t", "s", "--to", "1700000000000"],
        &["poll", "t", "s", "--ack", "--visibility", "5000", "--wait", "100"],
        &["ack", "t", "s", "r", "r2"],
        &["nack", "t", "s", "--delay", "43200000"],
        &["extend", "t", "s", "r", "--visibility-ms", "1"],
        &["reject", "t", "s"],
        &["dead-letters", "list", "t", "s", "--filter", "a exists"],
        &["dead-letters", "redrive", "t", "s", "--per-second", "10", "--max", "5"],
        &["dead-letters", "purge", "t", "s"],
    ] {
        assert!(parse(right).is_ok(), "{right:?}: {:?}", parse(right).err());
    }
    for wrong in [
        &["subscription", "create", "t", "s", "--kind", "heap"][..],
        &["subscription", "seek", "t", "s"],
        &["subscription", "seek", "t", "s", "--to", "latest", "--position", "0:5"],
        &["poll", "t", "s", "--ack", "--commit"],
        &["poll", "t", "s", "--visibility-ms", "0"],
        &["poll", "t", "s", "--visibility-ms", "43200001"],
        &["nack", "t", "s", "--delay-ms", "43200001"],
        &["extend", "t", "s", "r", "--visibility-ms", "0"],
        &["ack", "t"],
        &["dead-letters", "purge", "t", "s", "--per-second", "1"],
        &["dead-letters", "redrive", "t", "s", "--per-second", "0"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}
