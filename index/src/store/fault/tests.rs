use std::time::Duration;

use super::*;
use crate::{
    env::Env,
    format::ID_RANGE,
    ids::WriteId,
    names::RegionName,
    store::{Component, Created, Memory, RegionStore, StoreErrorKind, StoreMetrics, StoreTiming},
};

const OURS: WriteId = WriteId(0x1111_2222_3333_4444_5555_6666_7777_8888);
const THEIRS: WriteId = WriteId(!0x1111_2222_3333_4444_5555_6666_7777_8888);

struct Bench {
    fault: FaultStore,
    region: RegionStore,
    metrics: StoreMetrics,
    key: Path,
}

fn bench() -> Bench {
    let fault = FaultStore::new(Arc::new(Memory::default()), 7);
    let metrics = StoreMetrics::new();
    let ms = Duration::from_millis;
    let timing = StoreTiming {
        request_timeout: ms(20),
        attempts: 4,
        deadline: Duration::from_secs(5),
        backoff: ms(1),
        max_backoff: ms(2),
        ..StoreTiming::default()
    };
    let name = RegionName::new("r").unwrap();
    let region = RegionStore::new(name, Arc::new(fault.clone()), metrics.clone(), timing, Env::simulated(1, 0));
    Bench { fault, region, metrics, key: Path::from("shard/1") }
}

fn object(id: WriteId) -> PutPayload {
    let mut body = vec![0; 100];
    body[ID_RANGE].copy_from_slice(&id.0.to_be_bytes());
    Bytes::from(body).into()
}

impl Bench {
    async fn create(&self, id: WriteId) -> std::result::Result<Created, StoreErrorKind> {
        let created = self.region.create(Component::Journal, &self.key, object(id), id).await;
        created.map_err(|error| error.kind)
    }

    /// Whose object is really there.
    async fn really(&self) -> Option<WriteId> {
        let body = self.fault.inner().get(&self.key).await.ok()?.bytes().await.unwrap();
        Some(WriteId(u128::from_be_bytes(body[ID_RANGE].try_into().unwrap())))
    }
}

fn every_answer() -> impl Iterator<Item = Fault> {
    let answers = [
        Answer::Status(500),
        Answer::Status(503),
        Answer::Status(429),
        Answer::Status(408),
        Answer::AlreadyExists,
        Answer::Reset,
    ];
    let fails = answers.into_iter().flat_map(|answer| [true, false].map(|applied| Fault::Fail { applied, answer }));
    fails.chain([true, false].map(|applied| Fault::Hang { applied }))
}

#[tokio::test]
async fn a_create_recognises_its_own_write_under_every_single_fault() {
    for fault in every_answer() {
        let bench = bench();
        bench.fault.add(Rule::once(Operation::Put, fault));
        assert_eq!(bench.create(OURS).await, Ok(Created::Landed), "{fault:?}");
        assert_eq!(bench.really().await, Some(OURS), "{fault:?}");
        let totals = bench.metrics.totals();
        let applied = matches!(fault, Fault::Fail { applied: true, .. } | Fault::Hang { applied: true });
        assert_eq!((totals.puts, totals.gets), (if applied { 1 } else { 2 }, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_create_sees_that_another_was_first_under_every_fault() {
    for fault in every_answer() {
        let bench = bench();
        assert_eq!(bench.create(THEIRS).await, Ok(Created::Landed));
        // What is not applied for want of a free key answers with the conflict itself.
        bench.fault.add(Rule::once(Operation::Put, fault));
        assert_eq!(bench.create(OURS).await, Ok(Created::Occupied), "{fault:?}");
        assert_eq!(bench.really().await, Some(THEIRS), "{fault:?}");
    }
}

#[tokio::test]
async fn a_create_believes_no_damaged_read() {
    for damage in [Fault::Flip, Fault::Truncate, Fault::Fail { applied: true, answer: Answer::Status(500) }] {
        for id in [OURS, THEIRS] {
            let bench = bench();
            bench.create(id).await.unwrap();
            bench.fault.add(Rule::once(Operation::Get, damage));
            let expected = if id == OURS { Created::Landed } else { Created::Occupied };
            assert_eq!(bench.create(OURS).await, Ok(expected), "{damage:?}");
        }
    }
}

#[tokio::test]
async fn a_create_that_cannot_know_says_so() {
    for applied in [true, false] {
        for fault in [Fault::Hang { applied }, Fault::Fail { applied, answer: Answer::Reset }] {
            let bench = bench();
            bench.fault.add(Rule::once(Operation::Put, fault));
            bench.fault.add(Rule::always(Operation::Put, Fault::Fail { applied: false, answer: Answer::Status(503) }));
            bench.fault.add(Rule::always(Operation::Get, Fault::Fail { applied: false, answer: Answer::Status(503) }));
            assert_eq!(bench.create(OURS).await, Err(StoreErrorKind::Unknown), "{fault:?}");
            assert_eq!(bench.metrics.totals().puts, 4);
            bench.fault.heal();
            assert_eq!(bench.create(OURS).await, Ok(Created::Landed), "repeating it is safe");
        }
    }
}

#[tokio::test]
async fn nothing_stored_is_said_only_when_it_is_certain() {
    let bench = bench();
    bench.fault.set_full(true);
    let error = bench.region.create(Component::Journal, &bench.key, object(OURS), OURS).await.unwrap_err();
    assert_eq!((error.kind, error.reason), (StoreErrorKind::NotStored, StoreErrorKind::Full));
    assert!(error.hint().contains("disk space"), "{}", error.hint());
    assert_eq!(bench.metrics.totals().puts, 1, "a full disk is not asked again and again");
    bench.fault.heal();
    bench.fault.set_unreachable(true);
    let error = bench.region.create(Component::Journal, &bench.key, object(OURS), OURS).await.unwrap_err();
    assert_eq!((error.kind, error.reason), (StoreErrorKind::NotStored, StoreErrorKind::Unreachable));
    bench.fault.heal();
    // One answer lost, and the disk full ever after: the first write may yet appear.
    let lost = Fault::Fail { applied: false, answer: Answer::Reset };
    bench.fault.add(Rule::once(Operation::Put, lost));
    bench.fault.add(Rule::once(Operation::Get, Fault::Fail { applied: false, answer: Answer::Reset }));
    let (created, ()) = tokio::join!(biased; bench.create(OURS), async { bench.fault.set_full(true) });
    assert_eq!(created, Err(StoreErrorKind::Unknown));
    bench.fault.heal();
    assert_eq!(bench.create(OURS).await, Ok(Created::Landed), "it recovers by itself");
}

#[tokio::test]
async fn reads_and_deletes_are_repeated_and_refuse_damage() {
    let bench = bench();
    bench.create(OURS).await.unwrap();
    for fault in every_answer().chain([Fault::Truncate]) {
        bench.fault.add(Rule::once(Operation::Get, fault));
        let body = bench.region.get(Component::Read, &bench.key).await.unwrap().unwrap();
        assert_eq!(body.len(), 100, "{fault:?}");
        if fault != Fault::Truncate {
            bench.fault.add(Rule::once(Operation::List, fault));
            assert_eq!(
                bench.region.list(Component::Read, &Path::from("shard")).await.unwrap(),
                std::slice::from_ref(&bench.key)
            );
        }
    }
    bench.fault.set_unreachable(true);
    let error = bench.region.get(Component::Read, &bench.key).await.unwrap_err();
    assert_eq!((error.kind, error.operation), (StoreErrorKind::Unreachable, Operation::Get));
    assert!(bench.region.list(Component::Read, &Path::from("shard")).await.is_err());
    assert!(bench.region.delete(Component::Read, &bench.key).await.is_err());
    bench.fault.set_unreachable(false);
    bench.fault.add(Rule::once(Operation::Delete, Fault::Fail { applied: true, answer: Answer::Status(500) }));
    bench.region.delete(Component::Compactor, &bench.key).await.unwrap();
    assert_eq!(bench.metrics.totals().deletes, 4 + 2);
    assert_eq!(bench.really().await, None);
}

#[tokio::test]
async fn the_same_seed_strikes_the_same_operations() {
    async fn run(seed: u64) -> Vec<bool> {
        let store = FaultStore::new(Arc::new(Memory::default()), seed);
        let fault = Fault::Fail { applied: false, answer: Answer::Status(500) };
        store.add(Rule::always(Operation::Get, fault).under(Path::from("a")).with_chance(0.5));
        store.put(&Path::from("a/1"), Bytes::new().into()).await.unwrap();
        store.put(&Path::from("b/1"), Bytes::new().into()).await.unwrap();
        let mut struck = Vec::new();
        for _ in 0..64 {
            struck.push(store.get(&Path::from("a/1")).await.is_err());
            assert!(store.get(&Path::from("b/1")).await.is_ok(), "another prefix is left alone");
        }
        assert_eq!(store.struck(), struck.iter().filter(|struck| **struck).count() as u64);
        struck
    }
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
}

#[test]
fn latency_is_as_wide_as_asked() {
    let mut plan = Plan::new(3);
    plan.latency = Some(Latency { median: Duration::from_millis(30), p99: Duration::from_millis(110) });
    let key = Path::from("a");
    let mut samples: Vec<_> = (0..10_000).map(|_| plan.decide(Operation::Get, &key).unwrap().delay).collect();
    samples.sort_unstable();
    assert!((28..32).contains(&samples[5_000].as_millis()), "{:?}", samples[5_000]);
    assert!((95..125).contains(&samples[9_900].as_millis()), "{:?}", samples[9_900]);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_finished_is_forgotten() {
    let bench = bench();
    let mut upload = bench.region.upload(Component::Compactor, &bench.key).await.unwrap();
    upload.part(Bytes::from_static(b"part")).await.unwrap();
    bench.fault.add(Rule::always(Operation::Put, Fault::Fail { applied: false, answer: Answer::Status(500) }));
    bench.fault.add(Rule::always(Operation::Delete, Fault::Delay(Duration::from_millis(1))));
    assert!(upload.finish().await.is_err());
    assert_eq!(bench.fault.struck(), 2, "that it is to be finished, and that it is to be forgotten");
}
