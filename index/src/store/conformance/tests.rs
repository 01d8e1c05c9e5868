use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt,
    PutMultipartOptions, PutPayload, PutResult, Result as StoreResult, memory::InMemory,
};

use super::*;
use crate::store::{
    StoreErrorKind, StoreOptions,
    fault::{Answer, Fault, FaultStore, Rule},
    open,
};

fn options() -> ConformanceOptions {
    ConformanceOptions { listed_keys: 60, rounds: 5, ..ConformanceOptions::new(Env::simulated(5, 0)) }
}

/// How a store can break its promise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    IgnoresConditions,
    ChecksThenPuts,
    ForgetsToList,
    DeletesNothing,
    TellsTheWinnerThatItLost,
}

#[derive(Debug)]
struct Broken(InMemory, Flaw);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(&self, key: &Path, payload: PutPayload, mut options: PutOptions) -> StoreResult<PutResult> {
        match self.1 {
            Flaw::IgnoresConditions => options.mode = PutMode::Overwrite,
            Flaw::ChecksThenPuts => {
                if self.0.head(key).await.is_ok() {
                    return Err(Error::AlreadyExists { path: key.to_string(), source: "taken".into() });
                }
                tokio::task::yield_now().await;
                options.mode = PutMode::Overwrite;
            }
            Flaw::TellsTheWinnerThatItLost if key.as_ref().contains("race") => {
                self.0.put_opts(key, payload, options).await?;
                return Err(Error::AlreadyExists { path: key.to_string(), source: "taken".into() });
            }
            _ => {}
        }
        self.0.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.0.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        if self.1 == Flaw::DeletesNothing { keys } else { self.0.delete_stream(keys) }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let hidden = usize::from(self.1 == Flaw::ForgetsToList);
        self.0.list(prefix).skip(hidden).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn memory_conforms_and_is_left_empty() {
    let store = open("memory://", &StoreOptions::default()).unwrap();
    let options = ConformanceOptions::new(Env::simulated(5, 0));
    let report = check(store.clone(), &Path::from("some/where"), options).await.unwrap();
    assert_eq!(report.promises.len(), 8);
    assert_eq!(report.to_string().lines().count(), 8);
    assert_eq!(store.list(None).count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}", directory.path().display()), &StoreOptions::default()).unwrap();
    check(store, &Path::default(), options()).await.unwrap();
}

#[tokio::test]
async fn every_broken_store_is_refused_with_its_reason() {
    let flaws = [
        (Flaw::IgnoresConditions, "conditions are ignored"),
        (Flaw::ChecksThenPuts, "32 of 32 concurrent creates of one key were told that they won"),
        (Flaw::ForgetsToList, "60 objects were written and 59 are listed"),
        (Flaw::DeletesNothing, "can be read after its deletion"),
        (Flaw::TellsTheWinnerThatItLost, "the writer that won was told that it lost"),
    ];
    for (flaw, problem) in flaws {
        let failure = check(Arc::new(Broken(InMemory::new(), flaw)), &Path::default(), options()).await.unwrap_err();
        assert!(failure.to_string().contains(problem), "{flaw:?}: {failure}");
        assert!(failure.source.is_none() && failure.hint().contains("do not keep data"), "{flaw:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_not_called_broken() {
    let store = FaultStore::new(open("memory://", &StoreOptions::default()).unwrap(), 1);
    let fault = Fault::Fail { applied: false, answer: Answer::Status(403) };
    store.add(Rule::always(super::super::Operation::Get, fault));
    let failure = check(Arc::new(store), &Path::default(), options()).await.unwrap_err();
    assert_eq!(failure.source.map(|error| error.kind), Some(StoreErrorKind::Denied));
}
