use std::collections::BTreeMap;

use object_store::{ObjectStoreExt, path::Path};
use parking_lot::Mutex;

use super::*;
use crate::store::{
    Operation, StoreErrorKind, StoreMetrics, StoreOptions, StoreTiming,
    fault::{Answer, Fault, FaultStore, Latency, Rule},
    open as open_store,
};

const URLS: [(&str, &str); 5] =
    [("eu", "s3://eu/x"), ("us", "s3://us/x"), ("ap", "s3://ap/x"), ("sa", "s3://sa/x"), ("af", "s3://af/x")];

/// Stores by URL. A node that opens the same URL reaches the same objects.
#[derive(Clone, Default)]
struct World {
    stores: Arc<Mutex<BTreeMap<String, FaultStore>>>,
    metrics: StoreMetrics,
    /// Whether stores get the time they have outside tests.
    patient: bool,
}

fn name(text: &str) -> RegionName {
    RegionName::new(text).unwrap()
}

fn env(seed: u64) -> Env {
    Env::simulated(seed, 1_000 * i64::try_from(seed).unwrap())
}

fn named(regions: &[&str]) -> Vec<(RegionName, String)> {
    let url = |region: &str| URLS.iter().find(|(name, _)| *name == region).unwrap().1.to_owned();
    regions.iter().map(|region| (name(region), url(region))).collect()
}

/// Real time, so small.
fn quick() -> StoreTiming {
    let ms = Duration::from_millis;
    StoreTiming {
        request_timeout: ms(300),
        deadline: ms(600),
        backoff: ms(1),
        max_backoff: ms(4),
        ..StoreTiming::default()
    }
}

impl World {
    fn fault(&self, url: &str) -> FaultStore {
        let mut stores = self.stores.lock();
        let new = || FaultStore::new(open_store("memory://", &StoreOptions::default()).unwrap(), 7);
        stores.entry(url.to_owned()).or_insert_with(new).clone()
    }

    fn region(&self, region: &str) -> FaultStore {
        self.fault(&named(&[region])[0].1)
    }

    fn opener(&self) -> Opener {
        let world = self.clone();
        Arc::new(move |name, url| {
            let store = Arc::new(world.fault(url));
            let timing = if world.patient { StoreTiming::default() } else { quick() };
            Ok(RegionStore::new(name.clone(), store, world.metrics.clone(), timing, env(99)))
        })
    }

    async fn join(&self, regions: &[&str], seed: u64) -> Result<Cluster, FoundingError> {
        join(&named(regions), self.opener(), &env(seed)).await
    }

    async fn founded(regions: &[&str]) -> (Self, Cluster) {
        let world = Self::default();
        let cluster = world.join(regions, 1).await.unwrap();
        assert!(cluster.absent.is_empty() && cluster.regions.len() == regions.len(), "{cluster:?}");
        (world, cluster)
    }

    /// As if the region had taken part: an object of a journal.
    async fn journal(&self, region: &str) {
        let key = Path::from("journal/00000000/x/1");
        self.region(region).inner().put(&key, "entry".into()).await.unwrap();
    }

    async fn remove_identity(&self, region: &str) {
        self.region(region).inner().delete(&keys::identity()).await.unwrap();
    }

    async fn identity(&self, region: &str) -> Option<RegionIdentity> {
        let bytes = self.region(region).inner().get(&keys::identity()).await.ok()?.bytes().await.unwrap();
        Some(RegionIdentity::decode(&bytes).unwrap())
    }

    async fn set_identity(&self, region: &str, identity: &RegionIdentity) {
        let id = WriteId(u128::from_str_radix(&identity.region_id, 16).unwrap());
        self.region(region).inner().put(&keys::identity(), identity.encode(id).into()).await.unwrap();
    }

    fn swap(&self, a: &str, b: &str) {
        let (one, other) = (self.region(a), self.region(b));
        let mut stores = self.stores.lock();
        stores.insert(named(&[a])[0].1.clone(), other);
        stores.insert(named(&[b])[0].1.clone(), one);
    }
}

fn names(cluster: &Cluster) -> Vec<&str> {
    cluster.regions.iter().map(|region| region.record.name.as_str()).collect()
}

/// The one region that is absent, with what is said of it.
fn only_absent(cluster: &Cluster) -> (&Absence, String) {
    let [absence] = &cluster.absent[..] else { panic!("{cluster:?}") };
    assert!(absence.store.is_some());
    (absence, absence.to_string())
}

#[tokio::test]
async fn new_regions_are_founded_and_found_again_with_one_read_each() {
    for regions in [&["eu"][..], &["us", "eu", "ap"], &["sa", "us", "eu", "ap", "af"]] {
        let (world, first) = World::founded(regions).await;
        let mut sorted = regions.to_vec();
        sorted.sort_unstable();
        assert_eq!(names(&first), sorted);
        for (number, record) in (0..).zip(&first.founding) {
            assert_eq!((record.number, record.name.as_str()), (RegionNo(number), sorted[usize::from(number)]));
            let identity = world.identity(record.name.as_str()).await.unwrap();
            assert_eq!((&identity.region_id, identity.number), (&record.region_id, number));
            assert_eq!((&identity.cluster_id, identity.created_ms), (&first.cluster_id, 1_000));
            assert_eq!(identity.voters.len(), regions.len());
        }
        let before = world.metrics.totals();
        let again = world.join(regions, 2).await.unwrap();
        let after = world.metrics.totals();
        assert_eq!((&again.cluster_id, &again.founding), (&first.cluster_id, &first.founding));
        assert_eq!(after.gets - before.gets, regions.len() as u64);
        assert_eq!((after.puts, after.lists), (before.puts, before.lists));
    }
}

#[tokio::test]
async fn nodes_that_found_at_the_same_time_found_one_cluster() {
    for seed in 0..40 {
        let world = World::default();
        for (region, median) in [("eu", 1), ("us", 3), ("ap", 4)] {
            let ms = Duration::from_millis;
            world.region(region).set_latency(Some(Latency { median: ms(median), p99: ms(median * 4) }));
            if seed % 2 == 1 {
                // Writes fail one way or the other now and then, and are repeated.
                for fault in [
                    Fault::Fail { applied: true, answer: Answer::Status(503) },
                    Fault::Fail { applied: false, answer: Answer::Reset },
                    Fault::Fail { applied: true, answer: Answer::AlreadyExists },
                ] {
                    world.region(region).add(Rule::always(Operation::Put, fault).with_chance(0.2));
                }
            }
        }
        let regions = ["eu", "us", "ap"];
        let (a, b, c) = tokio::join!(
            world.join(&regions, 3 * seed),
            world.join(&regions, 3 * seed + 1),
            world.join(&regions, 3 * seed + 2)
        );
        let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
        assert_eq!((&a.cluster_id, &a.founding), (&b.cluster_id, &b.founding), "seed {seed}");
        assert_eq!((&a.cluster_id, &a.founding), (&c.cluster_id, &c.founding), "seed {seed}");
        assert_eq!((a.regions.len(), b.regions.len(), c.regions.len()), (3, 3, 3), "seed {seed}");
    }
}

#[tokio::test]
async fn a_node_that_looks_while_another_founds_and_leads_refuses_nothing() {
    let world = World::default();
    let regions = ["eu", "us", "ap"];
    // The late node has read that there are no identities when the other one goes through with everything.
    let rule = Rule::once(Operation::List, Fault::Delay(Duration::from_millis(200)));
    world.region("eu").add(rule);
    let late = tokio::spawn({
        let world = world.clone();
        async move { world.join(&regions, 2).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let first = world.join(&regions, 1).await.unwrap();
    for region in regions {
        world.journal(region).await;
    }
    let late = late.await.unwrap().unwrap();
    assert_eq!((&late.cluster_id, late.regions.len()), (&first.cluster_id, 3));
}

#[tokio::test]
async fn founding_that_breaks_off_anywhere_is_finished_by_the_next_start() {
    let regions = ["ap", "eu", "us"];
    for broken in regions {
        for applied in [false, true] {
            let world = World::default();
            let fault = Fault::Fail { applied, answer: Answer::Status(403) };
            world.region(broken).add(Rule::once(Operation::Put, fault));
            let result = world.join(&regions, 1).await;
            match result {
                Err(FoundingError::Write(error)) => {
                    assert_eq!(error.kind, StoreErrorKind::NotStored, "{error}");
                    assert_eq!(error.region, Some(name(broken)));
                }
                other => panic!("{other:?}"),
            }
            let left = world.identity("ap").await;
            let finished = world.join(&regions, 2).await.unwrap();
            assert_eq!((finished.regions.len(), finished.absent.len()), (3, 0));
            if let Some(left) = left {
                assert_eq!(finished.cluster_id, left.cluster_id, "the first region decided");
            }
            let again = world.join(&regions, 3).await.unwrap();
            assert_eq!((again.cluster_id, again.founding), (finished.cluster_id, finished.founding));
        }
    }
}

#[tokio::test]
async fn nodes_that_die_while_founding_leave_one_cluster() {
    let regions = ["ap", "eu", "us"];
    let ms = Duration::from_millis;
    for seed in 0..30 {
        let world = World::default();
        for region in regions {
            world.region(region).set_latency(Some(Latency { median: ms(2), p99: ms(6) }));
        }
        // Both are killed at some moment; what they had on its way may be stored or not.
        let (a, b) = (world.join(&regions, 2 * seed), world.join(&regions, 2 * seed + 1));
        let (a, b) = tokio::join!(tokio::time::timeout(ms(seed), a), tokio::time::timeout(ms(seed / 2), b));
        let first = world.identity("ap").await;
        let cluster = world.join(&regions, 100).await.unwrap();
        assert_eq!((cluster.regions.len(), cluster.absent.len()), (3, 0), "seed {seed}");
        let known = [a.ok(), b.ok()].into_iter().flatten().map(|joined| joined.unwrap().cluster_id);
        for earlier in known.chain(first.map(|first| first.cluster_id)) {
            assert_eq!(earlier, cluster.cluster_id, "seed {seed}");
        }
    }
}

#[tokio::test]
async fn an_unfinished_founding_needs_all_its_regions() {
    let regions = ["ap", "eu", "us"];
    let begin = async || {
        let world = World::default();
        let fault = Fault::Fail { applied: false, answer: Answer::Status(403) };
        world.region("eu").add(Rule::once(Operation::Put, fault));
        world.join(&regions, 1).await.unwrap_err();
        world
    };
    let world = begin().await;
    world.region("us").set_unreachable(true);
    let error = world.join(&regions, 2).await.unwrap_err();
    assert!(matches!(&error, FoundingError::Unready(absent) if absent[0].name == name("us")), "{error}");
    let world = begin().await;
    let error = world.join(&["ap", "eu"], 2).await.unwrap_err();
    assert!(error.to_string().contains("region us (s3://us/x): it is a founding region, but"), "{error}");
    assert!(world.identity("eu").await.is_none());
    // A region that a reader of the list lost sight of while founding counts as well.
    let world = World::default();
    world.region("us").add(Rule { skip: 2, ..Rule::always(Operation::Get, Fault::Hang { applied: false }) });
    let error = world.join(&regions, 2).await.unwrap_err();
    assert!(matches!(&error, FoundingError::Unready(absent) if absent[0].name == name("us")), "{error}");
    world.region("us").heal();
    world.join(&regions, 3).await.unwrap();
}

#[tokio::test]
async fn founding_needs_every_region() {
    let world = World { patient: true, ..World::default() };
    world.region("us").add(Rule::always(Operation::Get, Fault::Hang { applied: false }));
    let started = tokio::time::Instant::now();
    let error = world.join(&["eu", "us", "ap"], 1).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, FoundingError::Unready(absent) if absent.len() == 1), "{text}");
    assert!(text.contains("a cluster is founded with all its regions reachable"), "{text}");
    assert!(text.contains("region us (s3://us/x): no answer within 4 s"), "{text}");
    assert!(started.elapsed() < 2 * PATIENCE);
    assert!(world.identity("ap").await.is_none());
    world.region("us").heal();
    world.join(&["eu", "us", "ap"], 1).await.unwrap();
}

#[tokio::test]
async fn lists_of_regions_that_cannot_work_are_refused() {
    let world = World::default();
    let invalid = async |regions: Vec<(RegionName, String)>, words: &str| {
        let error = join(&regions, world.opener(), &env(1)).await.unwrap_err();
        assert!(matches!(error, FoundingError::Invalid(_)) && error.to_string().contains(words), "{error}");
    };
    invalid(vec![], "no region").await;
    invalid(named(&["eu", "us"]), "1, 3 or 5 regions, and 2 are given").await;
    invalid(named(&["eu", "us", "eu"]), "region eu is named twice").await;
    let mut twice = named(&["eu", "us", "ap"]);
    twice[1].1 = "s3://eu/x/".to_owned();
    invalid(twice, "two regions have the URL s3://eu/x").await;
    assert_eq!(world.metrics.totals().puts, 0);
    // Every store in memory is another one, whatever its URL.
    let memory: Vec<_> = ["eu", "us", "ap"].map(|region| (name(region), "memory://".to_owned())).into();
    assert!(matches!(open(&memory, &world.opener()), Ok(regions) if regions.len() == 3));
}

#[tokio::test]
async fn a_minority_out_of_reach_does_not_hold_up_the_others() {
    let (world, first) = World::founded(&["eu", "us", "ap"]).await;
    world.region("eu").set_unreachable(true);
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert_eq!((names(&cluster), &cluster.cluster_id), (vec!["ap", "us"], &first.cluster_id));
    assert_eq!(cluster.founding, first.founding);
    let (absence, text) = only_absent(&cluster);
    assert_eq!((absence.kind, absence.number), (AbsenceKind::Unreachable, Some(RegionNo(1))));
    assert!(text.contains("in region eu failed (unreachable)") && text.contains("check the endpoint"), "{text}");
    let store = absence.store.clone().unwrap();
    let record = &cluster.founding[1];
    let still = verify(record, &cluster.cluster_id, &store).await.unwrap_err();
    assert_eq!((still.kind, still.number), (AbsenceKind::Unreachable, Some(RegionNo(1))));
    world.region("eu").heal();
    verify(record, &cluster.cluster_id, &store).await.unwrap();
    // Two of three away: the cluster is known all the same, for reading.
    world.region("eu").set_unreachable(true);
    world.region("us").set_unreachable(true);
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert_eq!((names(&cluster), cluster.absent.len()), (vec!["ap"], 2));
    world.region("ap").set_unreachable(true);
    let error = world.join(&["eu", "us", "ap"], 2).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, FoundingError::NoRegion(absent) if absent.len() == 3), "{text}");
    assert!(["region ap", "region eu", "region us"].iter().all(|region| text.contains(region)), "{text}");
}

#[tokio::test]
async fn a_wiped_region_is_refused() {
    let (world, first) = World::founded(&["eu", "us", "ap"]).await;
    world.journal("ap").await;
    world.remove_identity("us").await;
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert_eq!(names(&cluster), ["ap", "eu"]);
    let (absence, text) = only_absent(&cluster);
    assert_eq!((absence.kind, absence.number), (AbsenceKind::Refused, Some(RegionNo(2))));
    assert!(text.contains("it was wiped") && text.contains("brigade region replace us NEW=URL"), "{text}");
    let again = verify(&first.founding[2], &first.cluster_id, absence.store.as_ref().unwrap()).await.unwrap_err();
    assert_eq!((again.kind, again.problem.contains("wiped")), (AbsenceKind::Refused, true));
    // Its journal is back, from a copy.
    world.journal("us").await;
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert!(only_absent(&cluster).1.contains("restored or cleaned in part"), "{cluster:?}");
    assert!(world.identity("us").await.is_none(), "never made anew");
}

#[tokio::test]
async fn journals_without_any_identity_are_no_new_cluster() {
    let world = World::default();
    world.journal("us").await;
    let error = world.join(&["eu", "us", "ap"], 1).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, FoundingError::NoRegion(absent) if absent.len() == 3), "{text}");
    assert!(text.contains("region us (s3://us/x): its store holds a journal but no identity"), "{text}");
    assert!(text.contains("region eu (s3://eu/x): its store is empty, although other"), "{text}");
    assert_eq!(world.metrics.totals().puts, 0);
}

#[tokio::test]
async fn swapped_stores_are_refused() {
    let (world, first) = World::founded(&["eu", "us", "ap"]).await;
    world.swap("eu", "us");
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert_eq!((names(&cluster), &cluster.cluster_id), (vec!["ap"], &first.cluster_id));
    let texts: Vec<_> = cluster.absent.iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("region eu (s3://eu/x): its store is region us of cluster"), "{texts:?}");
    assert!(texts[1].contains("URLs of regions us and eu may be swapped"), "{texts:?}");
    let store = cluster.absent[0].store.clone().unwrap();
    let error = verify(&first.founding[1], &first.cluster_id, &store).await.unwrap_err();
    assert!(error.problem.contains("is region us"), "{error}");
    // With one region only, there is nothing else to use.
    let error = world.join(&["eu"], 2).await.unwrap_err();
    assert!(matches!(error, FoundingError::NoRegion(_)) && error.to_string().contains("is region us"), "{error}");
}

#[tokio::test]
async fn a_region_of_another_cluster_is_refused() {
    let (world, first) = World::founded(&["eu", "us", "ap"]).await;
    let (other, theirs) = World::founded(&["us"]).await;
    let second = other.join(&["us"], 5).await.unwrap();
    assert_eq!(second.cluster_id, theirs.cluster_id);
    let mut foreign = other.identity("us").await.unwrap();
    foreign.cluster_id = "c".repeat(32);
    world.set_identity("us", &foreign).await;
    world.journal("us").await;
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    let (absence, text) = only_absent(&cluster);
    assert_eq!((absence.kind, absence.number), (AbsenceKind::Refused, Some(RegionNo(2))));
    assert!(text.contains(&foreign.cluster_id) && text.contains(&first.cluster_id), "{text}");
    let error = verify(&first.founding[2], &first.cluster_id, absence.store.as_ref().unwrap()).await.unwrap_err();
    assert!(error.problem.contains("another cluster"), "{error}");
    // One against one: nobody can say who is right.
    let error = world.join(&["us", "ap"], 2).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, FoundingError::Clusters(found) if found.len() == 2), "{text}");
    assert!(text.contains(&format!("region us is of cluster {}", foreign.cluster_id)), "{text}");
}

#[tokio::test]
async fn another_store_in_the_place_of_a_region_is_refused() {
    for place in ["ap", "us"] {
        let (world, first) = World::founded(&["eu", "us", "ap"]).await;
        let mut identity = world.identity(place).await.unwrap();
        let original = identity.clone();
        identity.region_id = "d".repeat(32);
        // Even when it lists itself.
        let itself = identity.voters.iter_mut().find(|voter| voter.region == place).unwrap();
        itself.region_id.clone_from(&identity.region_id);
        world.set_identity(place, &identity).await;
        let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
        assert_eq!(cluster.founding, first.founding);
        let (absence, text) = only_absent(&cluster);
        assert_eq!((absence.name.as_str(), absence.kind), (place, AbsenceKind::Refused));
        assert!(text.contains(&identity.region_id) && text.contains(&original.region_id), "{text}");
        let record = first.founding.iter().find(|record| record.name.as_str() == place).unwrap();
        let error = verify(record, &first.cluster_id, absence.store.as_ref().unwrap()).await.unwrap_err();
        assert!(error.problem.contains("put in its place"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_identity_is_refused_and_an_altered_answer_read_again() {
    let (world, _) = World::founded(&["eu", "us", "ap"]).await;
    world.region("us").add(Rule { limit: 1, ..Rule::always(Operation::Get, Fault::Truncate) });
    assert!(world.join(&["eu", "us", "ap"], 2).await.unwrap().absent.is_empty());
    world.region("us").inner().put(&keys::identity(), "not JSON".into()).await.unwrap();
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert!(only_absent(&cluster).1.contains("identity object cannot be used"), "{cluster:?}");
    let mut newer = world.identity("eu").await.unwrap();
    newer.format = 2;
    world.set_identity("us", &newer).await;
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert!(only_absent(&cluster).1.contains("it has format 2"), "{cluster:?}");
    newer.format = 1;
    newer.cluster_id = "../".to_owned();
    world.set_identity("us", &newer).await;
    let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
    assert!(only_absent(&cluster).1.contains("not 32 hexadecimal digits"), "{cluster:?}");
}

#[tokio::test]
async fn an_identity_from_before_regions_were_counted_votes_alone() {
    let (world, first) = World::founded(&["eu"]).await;
    let mut old = world.identity("eu").await.unwrap();
    old.voters.clear();
    world.set_identity("eu", &old).await;
    let cluster = world.join(&["eu"], 2).await.unwrap();
    assert_eq!((&cluster.cluster_id, &cluster.founding), (&first.cluster_id, &first.founding));
    assert_eq!(cluster.founding[0].url, "s3://eu/x");
    // Further regions are not founded into it, whether it has a journal or not.
    for _ in 0..2 {
        let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
        assert_eq!((names(&cluster), cluster.absent.len()), (vec!["eu"], 2));
        assert!(cluster.absent.iter().all(|absence| absence.hint.contains("brigade region add")), "{cluster:?}");
        world.journal("eu").await;
    }
}

#[tokio::test]
async fn a_region_is_admitted_once_and_found_with_the_others() {
    let (world, first) = World::founded(&["eu", "us", "ap"]).await;
    world.journal("ap").await;
    let environment = env(3);
    let store = |region: &str| world.opener()(&name(region), &named(&[region])[0].1).unwrap();
    let record = |number, region: &str| RegionRecord {
        number: RegionNo(number),
        name: name(region),
        url: named(&[region])[0].1.clone(),
        region_id: new_region_id(&environment),
    };
    let add = async |record: &RegionRecord, voters: &[RegionRecord]| {
        let regions = (&first.founders[..], voters);
        admit(&first.cluster_id, record, regions, &store(record.name.as_str()), &environment).await
    };
    let fourth = record(3, "sa");
    assert_eq!(add(&fourth, &first.founding).await.unwrap(), fourth);
    // What was begun and came to nothing is gone on with, whatever number comes next, as long as the cluster gave none.
    world.journal("sa").await;
    assert_eq!(add(&record(3, "sa"), &first.founding).await.unwrap(), fourth);
    assert_eq!(add(&record(2, "sa"), &first.founding).await.unwrap(), fourth);
    verify(&fourth, &first.cluster_id, &store("sa")).await.unwrap();
    let error = add(&record(4, "sa"), &first.founding).await.unwrap_err();
    assert_eq!((error.kind, error.number), (AbsenceKind::Refused, Some(RegionNo(4))));
    assert!(error.problem.contains(&fourth.region_id), "{error}");
    let cluster = world.join(&["eu", "us", "ap", "sa"], 2).await.unwrap();
    assert_eq!((names(&cluster), &cluster.founding), (vec!["ap", "eu", "sa", "us"], &first.founding));
    // us is replaced under its name, by the voters of the moment.
    let voters = [&first.founding[..], std::slice::from_ref(&fourth)].concat();
    world.remove_identity("us").await;
    let fifth = record(4, "us");
    add(&fifth, &voters).await.unwrap();
    let cluster = world.join(&["eu", "us", "ap", "sa"], 2).await.unwrap();
    assert_eq!((names(&cluster), &cluster.founding), (vec!["ap", "eu", "sa", "us"], &voters));
    let numbers: Vec<_> = cluster.founders.iter().map(|founder| founder.number.0).collect();
    assert_eq!(numbers, [0, 1, 2], "whoever votes now, the first entry is applied to these");
    assert_eq!(cluster.regions[3].record, fifth);
    let error = verify(&first.founding[2], &first.cluster_id, &store("us")).await.unwrap_err();
    assert!(error.problem.contains("put in its place"), "{error}");
    // A store that holds a journal, or does not answer.
    world.journal("af").await;
    let error = add(&record(5, "af"), &voters).await.unwrap_err();
    assert!(error.kind == AbsenceKind::Refused && error.problem.contains("journal without an identity"), "{error}");
    world.region("af").set_unreachable(true);
    assert_eq!(add(&record(5, "af"), &voters).await.unwrap_err().kind, AbsenceKind::Unreachable);
    let one = RegionRecord { number: RegionNo(9), ..fourth };
    let error = verify(&one, &first.cluster_id, &store("sa")).await.unwrap_err();
    assert!(error.problem.contains("carries number 3"), "{error}");
}

#[tokio::test]
async fn what_a_store_complains_of_is_said_with_its_region_and_remedy() {
    let (world, _) = World::founded(&["eu", "us", "ap"]).await;
    for (status, kind, remedy) in [
        (403, "denied", "check the credentials"),
        (400, "invalid", "correct the store's URL or settings"),
        (500, "failed", "check the store's own logs"),
    ] {
        let fault = Fault::Fail { applied: false, answer: Answer::Status(status) };
        world.region("us").add(Rule::always(Operation::Get, fault));
        let cluster = world.join(&["eu", "us", "ap"], 2).await.unwrap();
        let (absence, text) = only_absent(&cluster);
        assert_eq!(absence.kind, AbsenceKind::Unreachable);
        assert!(text.contains("region us") && text.contains(kind) && text.contains(remedy), "{text}");
        world.region("us").heal();
    }
    // A URL that cannot be opened, with a secret in it.
    let opener = world.opener();
    let failing: Opener = Arc::new(move |name, url| {
        if url.contains('@') {
            open_store(url, &StoreOptions::default())?;
        }
        opener(name, url)
    });
    let mut regions = named(&["eu", "us", "ap"]);
    regions[1].1 = "s3://id:hunter2@us/x".to_owned();
    let cluster = join(&regions, failing, &env(1)).await.unwrap();
    let [absence] = &cluster.absent[..] else { panic!("{cluster:?}") };
    assert!(
        absence.store.is_none() && absence.problem.contains("\"s3://us/x\" in region us failed (invalid)"),
        "{absence}"
    );
    assert!(!format!("{cluster:?}").contains("hunter2"), "{cluster:?}");
}
