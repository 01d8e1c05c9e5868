//! A directory as a store: what a read shows is durable.
//!
//! The library's own fsyncs cover a write that ends well. One that fails or is given up half-way can leave a file that
//! is visible but whose directory entry is not on disk yet; whoever then reads it and believes in it could lose it with
//! the power. So the keys of such writes are remembered, and reading one syncs its directory first.

use std::{
    collections::BTreeSet,
    fmt, fs,
    future::ready,
    io,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    local::LocalFileSystem, path::Path,
};
use parking_lot::Mutex;

use super::{StoreError, StoreErrorKind, readers::Readers};

const STORE: &str = "directory";

/// A directory, every write of which is fsynced.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    files: LocalFileSystem,
    doubtful: Mutex<BTreeSet<Path>>,
    /// Size of `doubtful`, so that a read takes no lock while there is none.
    doubts: AtomicUsize,
    readers: Readers,
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.root.display())
    }
}

impl Directory {
    pub(super) fn open(url: &str, path: &FilePath) -> std::result::Result<Self, StoreError> {
        create_synced(path).map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
                _ => StoreErrorKind::Invalid,
            };
            StoreError::open(url, kind, error)
        })?;
        let files = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| StoreError::open(url, StoreErrorKind::Invalid, error))?
            .with_fsync(true);
        // Absolute, so that a later change of the working directory moves nothing.
        let root = fs::canonicalize(path).map_err(|error| StoreError::open(url, StoreErrorKind::Invalid, error))?;
        Ok(Self { root, files, doubtful: Mutex::default(), doubts: AtomicUsize::new(0), readers: Readers::default() })
    }

    /// A directory that vanished as a whole (an unmounted disk) must not look like an empty store, nor be made anew.
    fn check_root(&self) -> Result<()> {
        if self.root.is_dir() {
            return Ok(());
        }
        let source =
            io::Error::new(io::ErrorKind::NotConnected, format!("the directory {} is gone", self.root.display()));
        Err(Error::Generic { store: STORE, source: Box::new(source) })
    }

    async fn settle(&self, key: &Path) -> Result<()> {
        if self.doubts.load(Ordering::Acquire) == 0 || !self.doubtful.lock().contains(key) {
            return Ok(());
        }
        let file = self.files.path_to_filesystem(key)?;
        let synced = tokio::task::spawn_blocking(move || match file.parent() {
            Some(parent) if parent.exists() => sync(parent),
            _ => Ok(()),
        });
        synced.await?.map_err(|source| Error::Generic { store: STORE, source: Box::new(source) })?;
        self.believe(key);
        Ok(())
    }

    /// Reads a range at once, where the library goes to another thread for the file and once more for its bytes: a recovery
    /// reads one small object an entry. `None` for everything that is not plain; the library knows it better.
    async fn read_plain(&self, key: &Path, options: &GetOptions) -> Result<Option<GetResult>> {
        let conditional = options.if_match.is_some()
            || options.if_none_match.is_some()
            || options.if_modified_since.is_some()
            || options.if_unmodified_since.is_some()
            || options.version.is_some();
        let Some(GetRange::Bounded(range)) = options.range.clone() else { return Ok(None) };
        let bytes = range.end.saturating_sub(range.start);
        if conditional || options.head || bytes > LARGEST {
            return Ok(None);
        }
        let (file, key) = (self.files.path_to_filesystem(key)?, key.clone());
        let read = move || read_range(&file, key, range);
        if bytes > SMALL {
            return Ok(self.readers.run(read).await.flatten());
        }
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    fn believe(&self, key: &Path) {
        if self.doubts.load(Ordering::Acquire) > 0 {
            let mut doubtful = self.doubtful.lock();
            doubtful.remove(key);
            self.doubts.store(doubtful.len(), Ordering::Release);
        }
    }
}

/// Puts its key in doubt unless the write ended well, also when its future is dropped.
struct Doubt<'a> {
    directory: &'a Directory,
    key: &'a Path,
    settled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let mut doubtful = self.directory.doubtful.lock();
            doubtful.insert(self.key.clone());
            self.directory.doubts.store(doubtful.len(), Ordering::Release);
        }
    }
}

/// Most bytes that are read on any thread.
const SMALL: u64 = 64 << 10;

/// Most bytes that are read in one go.
const LARGEST: u64 = 64 << 20;

/// The range of a plain file, as far as there is one.
fn read_range(file: &FilePath, location: Path, range: Range<u64>) -> Option<GetResult> {
    let mut file = fs::File::open(file).ok()?;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let (size, last_modified) = (metadata.len(), metadata.modified().ok()?.into());
    let range = range.start..range.end.min(size);
    let len = range.end.checked_sub(range.start).filter(|len| *len > 0)?;
    file.seek(SeekFrom::Start(range.start)).ok()?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).ok()?);
    file.take(len).read_to_end(&mut bytes).ok()?;
    let whole = bytes.len() as u64 == len;
    let payload = GetResultPayload::Stream(stream::once(ready(Ok(Bytes::from(bytes)))).boxed());
    let meta = ObjectMeta { location, last_modified, size, e_tag: None, version: None };
    let (attributes, extensions) = (Attributes::default(), Extensions::default());
    whole.then_some(GetResult { payload, meta, range, attributes, extensions })
}

fn sync(directory: &FilePath) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Creates a directory and its missing parents, each durable before the call returns.
fn create_synced(path: &FilePath) -> io::Result<()> {
    let mut existing = path;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => existing = parent,
            _ => {
                existing = FilePath::new(".");
                break;
            }
        }
    }
    let existing = existing.to_owned();
    fs::create_dir_all(path)?;
    let mut directory = path;
    while directory != existing {
        match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => directory = parent,
            _ => return sync(&existing),
        }
        sync(directory)?;
    }
    Ok(())
}

#[async_trait]
impl ObjectStore for Directory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check_root()?;
        let mut doubt = Doubt { directory: self, key: location, settled: false };
        let result = self.files.put_opts(location, payload, opts).await;
        doubt.settled = result.is_ok();
        drop(doubt);
        if result.is_ok() {
            self.believe(location);
        }
        result
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = match self.read_plain(location, &options).await? {
            Some(read) => Ok(read),
            None => self.files.get_opts(location, options).await,
        };
        match &result {
            // After the file has been seen, so that the sync covers what was seen.
            Ok(_) => self.settle(location).await?,
            Err(Error::NotFound { .. }) => self.check_root()?,
            Err(_) => {}
        }
        result
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, PutMode};

    use super::*;

    #[tokio::test]
    async fn a_key_in_doubt_is_settled_by_reading_it_and_by_nothing_less() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open("file://", home.path()).unwrap();
        let key = Path::from("d/1");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        directory.put_opts(&key, "one".into(), create()).await.unwrap();
        assert!(directory.doubtful.lock().is_empty(), "a write that ended well leaves no doubt");
        directory.put_opts(&key, "two".into(), create()).await.unwrap_err();
        let other = Path::from("d/2");
        // Polled once and dropped: what a time-out does.
        drop(futures::poll!(std::pin::pin!(directory.put_opts(&other, "two".into(), create()))));
        assert_eq!(directory.doubtful.lock().len(), 2);
        assert_eq!(directory.get(&key).await.unwrap().bytes().await.unwrap(), "one");
        assert_eq!(directory.doubtful.lock().iter().collect::<Vec<_>>(), [&other]);
        while directory.get(&other).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(directory.doubtful.lock().is_empty());
    }

    #[tokio::test]
    async fn a_range_is_read_as_the_library_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open("file://", home.path()).unwrap();
        let key = Path::from("d/1");
        directory.put(&key, "0123456789".into()).await.unwrap();
        for (range, fast) in [
            (0..4, true),
            (2..4, true),
            (4..99, true),
            (10..12, false),
            (20..30, false),
            (0..70_000, true),
            (1..LARGEST, true),
            (0..LARGEST + 1, false),
        ] {
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            assert_eq!(directory.read_plain(&key, &options).await.unwrap().is_some(), fast, "{range:?}");
            let ours = directory.get_opts(&key, options.clone()).await;
            let theirs = directory.files.get_opts(&key, options).await;
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{range:?}");
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                assert_eq!((&ours.range, ours.meta.size), (&theirs.range, theirs.meta.size));
                assert_eq!(ours.bytes().await.unwrap(), theirs.bytes().await.unwrap());
            }
        }
        for missing in ["d/2", "d", "e/1"] {
            let options = GetOptions { range: Some(GetRange::Bounded(0..4)), ..GetOptions::default() };
            let error = directory.get_opts(&Path::from(missing), options).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{missing}: {error}");
        }
    }

    #[test]
    fn directories_are_created_absolute_and_relative() {
        let home = tempfile::tempdir().unwrap();
        for path in [home.path().to_owned(), home.path().join("a/b/c"), PathBuf::from(".")] {
            create_synced(&path).unwrap();
            assert!(path.is_dir());
        }
        std::fs::write(home.path().join("file"), "").unwrap();
        create_synced(&home.path().join("file")).unwrap_err();
    }
}
