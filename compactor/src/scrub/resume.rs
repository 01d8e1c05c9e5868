//! What was found whole already, so that scrubbing that broke off need not read it again.
//!
//! An object is known by its key and by what the store says of it (size, and its tag or the time of its last change): one
//! that was written anew is read anew.

use std::collections::BTreeMap;

use brigade_index::archive::SetHash;
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Version of the file.
const VERSION: u32 = 1;

/// What was found whole, by region and key. As JSON it has about 150 bytes an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    version: u32,
    cluster_id: String,
    regions: BTreeMap<String, BTreeMap<String, Whole>>,
}

/// An object that was found whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whole {
    /// What the store said of it.
    print: String,
    /// Hashes of the runs in an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<WholeRun>,
}

/// A run that was found whole: topic, partition, first offset, checksum of its batch, and the hash of its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WholeRun(pub(crate) u64, pub(crate) u32, pub(crate) u64, pub(crate) u32, pub(crate) String);

impl WholeRun {
    pub(crate) fn hash(&self) -> Option<SetHash> {
        u128::from_str_radix(&self.4, 16).ok().map(SetHash)
    }
}

impl Done {
    /// Whether it can be gone on from in this cluster; otherwise it begins anew.
    pub(crate) fn begin(&mut self, cluster_id: &str) {
        if self.version != VERSION || self.cluster_id != cluster_id {
            *self = Self { version: VERSION, cluster_id: cluster_id.to_owned(), regions: BTreeMap::new() };
        }
    }

    /// How many objects were found whole.
    pub fn objects(&self) -> usize {
        self.regions.values().map(BTreeMap::len).sum()
    }

    /// The runs of an object that was found whole and has not changed since.
    pub(crate) fn whole(&self, region_id: &str, key: &str, print: &str) -> Option<Vec<WholeRun>> {
        let whole = self.regions.get(region_id)?.get(key).filter(|whole| whole.print == print)?;
        Some(whole.runs.clone())
    }

    pub(crate) fn note(&mut self, region_id: &str, key: &str, print: &str, runs: Vec<WholeRun>) {
        let region = self.regions.entry(region_id.to_owned()).or_default();
        region.insert(key.to_owned(), Whole { print: print.to_owned(), runs });
    }

    /// Forgets objects that are not there any more.
    pub(crate) fn retain(&mut self, region_id: &str, there: impl Fn(&str) -> bool) {
        self.regions.entry(region_id.to_owned()).or_default().retain(|key, _| there(key));
    }
}

/// What tells one content of a key from another.
pub(crate) fn print_of(meta: &ObjectMeta) -> String {
    let tag = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.timestamp_millis().to_string());
    format!("{}:{tag}", meta.size)
}
