use std::{collections::BTreeMap, fs};

use super::*;
use crate::cli::serve::{RegionArg, ServeArgs};

fn load_with(file: &str, variables: &[(&str, &str)], mut args: ServeArgs) -> Result<Settings, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("brigade.toml");
    fs::write(&path, file).unwrap();
    args.config = Some(path);
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    load(&args, |name| variables.get(name).map(|value| (*value).to_owned()))
}

fn refusal(file: &str, variables: &[(&str, &str)]) -> String {
    load_with(file, variables, ServeArgs::default()).unwrap_err().to_string()
}

#[test]
fn without_any_source_the_defaults_hold() {
    let settings = load(&ServeArgs::default(), |_| None).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(settings.regions()[0].url, "file://./brigade-data");
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let file = "drain_seconds = 1\n[publish]\nlinger_ms = 1\nmemory_mib = 100\n[read]\ncache_mib = 1\n";
    let variables = [("BRIGADE_LINGER_MS", "2"), ("BRIGADE_CACHE_MIB", "2"), ("BRIGADE_SERVICE_HOST", "10.0.0.1")];
    let args = ServeArgs { linger_ms: Some(3), ..ServeArgs::default() };
    let settings = load_with(file, &variables, args).unwrap();
    assert_eq!((settings.publish.linger_ms, settings.read.cache_mib, settings.drain_seconds), (3, 2, 1));
    assert_eq!((settings.publish.memory_mib, settings.publish.max_request_mib), (100, 32));
}

#[test]
fn a_region_keeps_the_store_of_the_file_when_its_url_changes() {
    let file = "[[regions]]\nname = \"a\"\nurl = \"s3://one\"\nstore.endpoint = \"http://[::1]:4566\"\n";
    let region = RegionArg { name: "a".to_owned(), url: "s3://two/x".parse().unwrap() };
    let settings = load_with(file, &[], ServeArgs { region: vec![region], ..ServeArgs::default() }).unwrap();
    assert_eq!(settings.regions[0].url, "s3://two/x");
    assert_eq!(settings.regions[0].store.endpoint.as_deref(), Some("http://[::1]:4566"));
    let settings = load_with(file, &[("BRIGADE_REGION", "b=memory://")], ServeArgs::default()).unwrap();
    assert_eq!((settings.regions[0].name.as_str(), &settings.regions[0].store.endpoint), ("b", &None));
}

#[test]
fn what_is_unknown_or_wrong_is_refused_with_its_name_and_place() {
    let unknown = refusal("listen = \"127.0.0.1:1\"\n[publish]\nlinger = 1\n", &[]);
    assert!(unknown.contains("linger") && unknown.contains("line 3") && unknown.contains("brigade.toml"), "{unknown}");
    assert!(refusal("drain_seconds = -1", &[]).contains("line 1"));
    assert!(refusal("", &[("BRIGADE_LINGER_MS", "-5")]).contains("BRIGADE_LINGER_MS"));
    assert!(refusal("", &[("BRIGADE_LINGER_MS", "99999")]).contains("publish.linger_ms"));
    assert!(refusal("", &[("BRIGADE_REGION", "memory://")]).contains("NAME=URL"));
    assert!(refusal("[publish]\nmemory_mib = 8", &[]).contains("publish.max_request_mib"));
    assert!(refusal("data = \"x\"", &[("BRIGADE_REGION", "a=memory://")]).contains("either"));
    assert!(refusal("", &[("BRIGADE_REGION", "a=memory://,b=memory://")]).contains("give 1, 3 or 5"));
    assert!(refusal("", &[("BRIGADE_REGION", "../a=memory://")]).contains("name"));
    assert!(refusal("", &[("BRIGADE_ADVERTISE", "http://u:p@host")]).contains("password"));
    assert!(refusal("[lease]\nprobe_ms = 800", &[]).contains("lease.probe_ms"));
    assert!(refusal("", &[("BRIGADE_LEASE_TIMEOUT_MS", "0")]).contains("lease.timeout_ms"));
    assert!(refusal("[lease]\nusurp = true", &[]).contains("usurp"));
    assert!(refusal("[push]\nforbid = [\"local\"]", &[]).contains("push.forbid"));
    assert!(refusal("", &[("BRIGADE_PUSH_ALLOW", "10.0.0.0/8,private")]).contains("push.allow"));
    assert!(refusal("[compact]\nmemory_mib = 1", &[]).contains("compact.memory_mib"));
    assert!(refusal("[compact]\nfile_mib = 512", &[]).contains("compact.max_file_mib"));
    assert!(refusal("", &[("BRIGADE_COMPACT_ENABLED", "maybe")]).contains("neither true nor false"));
    assert!(refusal("[log]\nfilter = \"a=loud\"", &[]).contains("log.filter"));
    let missing = ServeArgs { config: Some("/nonexistent/brigade.toml".into()), ..ServeArgs::default() };
    assert!(load(&missing, |_| None).unwrap_err().to_string().contains("/nonexistent/brigade.toml"));
}

#[test]
fn addresses_that_are_not_posted_to_come_from_file_and_variables() {
    let file = "[push]\nforbid = [\"private\"]\nmemory_mib = 8\n";
    let variables = [("BRIGADE_PUSH_ALLOW", "10.1.0.0/16, fd00::/8")];
    let push = load_with(file, &variables, ServeArgs::default()).unwrap().push;
    assert_eq!(
        (push.forbid, push.allow, push.memory_mib),
        (vec!["private".to_owned()], vec!["10.1.0.0/16".to_owned(), "fd00::/8".to_owned()], 8)
    );
    let push = load_with(file, &[("BRIGADE_PUSH_FORBID", "loopback")], ServeArgs::default()).unwrap().push;
    assert_eq!(push.forbid, ["loopback"]);
}

#[test]
fn the_compactor_is_set_by_every_source() {
    let file = "[compact]\nenabled = true\nbandwidth_mib = 0\nfile_mib = 8\n";
    let variables = [("BRIGADE_COMPACT_ENABLED", "false"), ("BRIGADE_COMPACT_FILE_MIB", "16")];
    let args = ServeArgs { compact_memory_mib: Some(64), compact_file_mib: Some(32), ..ServeArgs::default() };
    let compact = load_with(file, &variables, args).unwrap().compact;
    let expected = CompactSettings {
        enabled: false,
        bandwidth_mib: 0,
        file_mib: 32,
        memory_mib: 64,
        ..CompactSettings::default()
    };
    assert_eq!(compact, expected);
}

#[test]
fn no_secret_is_printed_or_quoted() {
    let file = "[[regions]]\nname = \"a\"\nurl = \"s3://user:hunter2@bucket/p?sig=hunter3\"\n[regions.store]\n\
                endpoint = \"https://user:hunter4@host/x\"\naccess_key_id = \"AKIAhunter5\"\n\
                secret_access_key = \"hunter6\"\nsession_token = \"hunter7\"\n";
    let printed = load_with(file, &[], ServeArgs::default()).unwrap().printed();
    assert!(!printed.contains("hunter") && printed.contains("AKIA***"), "{printed}");
    assert!(printed.contains("s3://***@bucket/p?***") && printed.contains("https://***@host/x"), "{printed}");
    let error = refusal(&format!("{file}secret = \"hunter8\"\n"), &[]);
    assert!(!error.contains("hunter"), "{error}");
}

#[test]
fn what_is_printed_can_be_read_again() {
    let settings = load(&ServeArgs::default(), |_| None).unwrap();
    let again: Settings = toml::from_str(&settings.printed()).unwrap();
    assert_eq!(again.regions(), settings.regions());
}

#[test]
fn one_three_or_five_regions_are_named_by_every_source() {
    let names = |settings: Settings| settings.regions().into_iter().map(|region| region.name).collect::<Vec<_>>();
    let file: String =
        ["a", "b", "c"].map(|name| format!("[[regions]]\nname = \"{name}\"\nurl = \"s3://{name}\"\n")).concat();
    assert_eq!(names(load_with(&file, &[], ServeArgs::default()).unwrap()), ["a", "b", "c"]);
    let variables = [("BRIGADE_REGIONS", "d=file:///d, e=file:///e with space,f=gs://f/p")];
    let settings = load_with(&file, &variables, ServeArgs::default()).unwrap();
    assert_eq!(settings.regions()[1].url, "file:///e with space");
    assert_eq!(names(settings), ["d", "e", "f"]);
    let region: Vec<_> = (0..5).map(|n| format!("r{n}=az://c{n}").parse::<RegionArg>().unwrap()).collect();
    let settings = load_with("", &[], ServeArgs { region, ..ServeArgs::default() }).unwrap();
    assert_eq!(settings.regions().len(), 5);
    assert!(refusal("", &[("BRIGADE_REGIONS", "a=s3://x,a=s3://y,b=s3://z")]).contains("given twice"));
    assert!(refusal("", &[("BRIGADE_REGIONS", "a=s3://x,b=s3://x/,c=s3://z")]).contains("share the store"));
    let both = refusal("", &[("BRIGADE_REGIONS", "a=s3://x"), ("BRIGADE_REGION", "a=s3://x")]);
    assert!(both.contains("name all regions in that one"), "{both}");
}

#[test]
fn development_regions_are_directories_inside_the_data_directory() {
    let settings = load_with("data = \"/d\"", &[("BRIGADE_DEV_REGIONS", "3")], ServeArgs::default()).unwrap();
    let regions: Vec<_> = settings.regions().into_iter().map(|region| (region.name, region.url)).collect();
    let expected = [1, 2, 3].map(|n| (format!("region-{n}"), format!("file:///d/region-{n}")));
    assert_eq!(regions, expected);
    let again = load_with(&settings.printed(), &[], ServeArgs::default()).unwrap();
    assert_eq!(again.regions(), settings.regions());
    let args = ServeArgs { dev_regions: Some(1), ..ServeArgs::default() };
    assert_eq!(load_with("", &[], args).unwrap().regions()[0].url, "file://./brigade-data/region-1");
    for wrong in ["0", "2", "4", "6", "300"] {
        assert!(refusal("", &[("BRIGADE_DEV_REGIONS", wrong)]).contains("give 1, 3 or 5"), "{wrong}");
    }
    let both = refusal("dev_regions = 3", &[("BRIGADE_REGIONS", "a=s3://x")]);
    assert!(both.contains("either --region") && both.contains("dev_regions"), "{both}");
}

#[test]
fn the_url_of_a_local_directory_becomes_whole() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(absolute_url("file://./d/r"), format!("file://{}/d/r", here.display()));
    for whole in ["file:///d/r", "s3://bucket/p", "memory://a"] {
        assert_eq!(absolute_url(whole), whole);
    }
}
