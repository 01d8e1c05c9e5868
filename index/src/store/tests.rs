use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, path::Path};

use super::*;
use crate::{env::Env, format::ID_RANGE, ids::WriteId, names::RegionName};

/// An object of `size` bytes that carries `id`.
fn object(id: WriteId, size: usize) -> Bytes {
    let mut body = vec![7; size.max(ID_RANGE.end)];
    body[ID_RANGE].copy_from_slice(&id.0.to_be_bytes());
    body.into()
}

fn region(store: Arc<dyn ObjectStore>) -> (RegionStore, StoreMetrics) {
    let metrics = StoreMetrics::new();
    let name = RegionName::new("local").unwrap();
    (RegionStore::new(name, store, metrics.clone(), quick(), Env::simulated(1, 0)), metrics)
}

/// Real time, so small.
fn quick() -> StoreTiming {
    let ms = std::time::Duration::from_millis;
    StoreTiming { request_timeout: ms(200), backoff: ms(1), max_backoff: ms(4), ..StoreTiming::default() }
}

fn ours() -> WriteId {
    WriteId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)
}

fn theirs() -> WriteId {
    WriteId(0xfedc_ba98_7654_3210_fedc_ba98_7654_3210)
}

async fn basics(store: Arc<dyn ObjectStore>) {
    let (region, metrics) = region(store);
    let key = Path::from("a/b/1");
    let body = object(ours(), 100);
    assert_eq!(region.get(Component::Read, &key).await.unwrap(), None);
    assert_eq!(region.get_range(Component::Read, &key, 0..4).await.unwrap(), None);
    let before = metrics.totals();
    let created = region.create(Component::Journal, &key, body.clone().into(), ours()).await.unwrap();
    assert_eq!(created, Created::Landed);
    let after = metrics.totals();
    assert_eq!((after.puts - before.puts, after.gets - before.gets, after.bytes_put), (1, 0, 100));
    let other = region.create(Component::Journal, &key, object(theirs(), 100).into(), theirs()).await.unwrap();
    assert_eq!(other, Created::Occupied);
    let again = region.create(Component::Journal, &key, body.clone().into(), ours()).await.unwrap();
    assert_eq!(again, Created::Landed, "the same write, repeated, recognises itself");
    assert_eq!(region.get(Component::Read, &key).await.unwrap(), Some(body.clone()));
    for (range, expected) in [(0..10, 10), (90..200, 10), (100..200, 0), (500..600, 0), (5..5, 0)] {
        let got = region.get_range(Component::Read, &key, range.clone()).await.unwrap().unwrap();
        assert_eq!(got.len(), expected, "{range:?}");
    }
    for name in ["a/b/0", "a/b/10", "a/c/1", "b/1"] {
        region.create(Component::Journal, &Path::from(name), body.clone().into(), ours()).await.unwrap();
    }
    let listed = region.list(Component::Recovery, &Path::from("a/b")).await.unwrap();
    assert_eq!(listed, [Path::from("a/b/0"), Path::from("a/b/1"), Path::from("a/b/10")]);
    assert!(region.list(Component::Recovery, &Path::from("none")).await.unwrap().is_empty());
    region.delete(Component::Compactor, &key).await.unwrap();
    region.delete(Component::Compactor, &key).await.unwrap();
    assert_eq!(region.get(Component::Read, &key).await.unwrap(), None);
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = r#"brigade_store_requests_total{operation="put",region="local",component="journal",outcome="ok"} 5"#;
    assert!(text.contains(line), "{text}");
    assert!(text.contains("brigade_store_received_bytes_total{"), "{text}");
}

#[tokio::test]
async fn a_listing_counts_a_request_for_each_thousand_keys() {
    let (region, metrics) = region(open("memory://", &StoreOptions::default()).unwrap());
    let write = async |keys: std::ops::Range<u32>| {
        for key in keys {
            region.overwrite(Component::Bucket, &Path::from(format!("d/{key:06}")), Bytes::new().into()).await.unwrap();
        }
    };
    let count = async |prefix: &str| {
        let before = metrics.totals().lists;
        let listed = region.list_objects(Component::Bucket, &Path::from(prefix)).try_collect::<Vec<_>>().await.unwrap();
        (listed.len(), metrics.totals().lists - before)
    };
    assert_eq!(count("d").await, (0, 1), "an empty answer is one, too");
    write(0..1_000).await;
    assert_eq!((count("d").await, count("none").await), ((1_000, 1), (0, 1)));
    write(1_000..2_001).await;
    assert_eq!(count("d").await, (2_001, 3));
    let before = metrics.totals().lists;
    assert_eq!(region.list_metas(Component::Bucket).count().await, 2_001);
    assert_eq!(metrics.totals().lists - before, 3);
}

#[tokio::test]
async fn memory_basics() {
    basics(open("memory://", &StoreOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn directory_basics() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/new/with space", directory.path().display());
    basics(open(&url, &StoreOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn staging_files_of_a_killed_process_are_not_listed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}", directory.path().display()), &StoreOptions::default()).unwrap();
    let (region, _) = region(store);
    region.create(Component::Journal, &Path::from("d/1"), object(ours(), 1).into(), ours()).await.unwrap();
    std::fs::write(directory.path().join("d/2#1"), "half").unwrap();
    assert_eq!(region.list(Component::Recovery, &Path::from("d")).await.unwrap(), [Path::from("d/1")]);
}

#[tokio::test]
async fn a_directory_that_vanished_is_no_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}/data", directory.path().display()), &StoreOptions::default()).unwrap();
    let (region, _) = region(store);
    std::fs::remove_dir_all(directory.path().join("data")).unwrap();
    let error = region.get(Component::Read, &Path::from("a")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable);
    let error =
        region.create(Component::Journal, &Path::from("a"), object(ours(), 1).into(), ours()).await.unwrap_err();
    assert_eq!((error.kind, error.reason), (StoreErrorKind::NotStored, StoreErrorKind::Unreachable));
    let text = error.to_string();
    assert!(text.contains("put of \"a\" in region local stored nothing (unreachable)"), "{text}");
}

#[tokio::test]
async fn a_payload_without_its_identity_is_refused() {
    let (region, metrics) = region(open("memory://", &StoreOptions::default()).unwrap());
    for body in [object(theirs(), 64), Bytes::from_static(b"short")] {
        let error = region.create(Component::Journal, &Path::from("a"), body.into(), ours()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid);
    }
    assert_eq!(metrics.totals(), StoreTotals::default());
}
