//! What a topic's views are made of: the archive files of the topic and where a region has them. Pure, like all that is
//! made of it.

use std::sync::Arc;

use brigade_index::{
    archive::ArchiveFile,
    command::TopicSettings,
    ids::{Offset, Partition, RegionNo, TopicId},
    keys::Key,
    names::{RegionName, TopicName},
    state::Topic,
};

/// The archive of a topic at one moment.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) cluster: String,
    pub(super) name: TopicName,
    pub(super) topic: TopicId,
    pub(super) version: u64,
    pub(super) changed_ms: i64,
    pub(super) settings: Arc<TopicSettings>,
    /// By number.
    pub(super) partitions: Vec<Part>,
}

/// A partition of it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) log_start: Offset,
    pub(super) archived_end: Offset,
    pub(super) high_watermark: Offset,
    pub(super) files: Vec<ArchiveFile>,
}

/// A region that views are made for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) number: RegionNo,
    pub(super) name: RegionName,
    pub(super) region_id: String,
    /// Absolute URL of the store.
    pub(super) url: String,
}

impl Listing {
    pub(super) fn of(cluster: &str, topic: &Topic) -> Self {
        let partitions = topic.partitions.iter().map(|log| Part {
            log_start: log.log_start,
            archived_end: log.archived_end(),
            high_watermark: log.high_watermark,
            files: log.files().to_vec(),
        });
        Self {
            cluster: cluster.to_owned(),
            name: topic.name.clone(),
            topic: topic.id,
            version: topic.archive_version,
            changed_ms: topic.archive_changed_ms,
            settings: topic.settings.clone(),
            partitions: partitions.collect(),
        }
    }

    /// The files in the order of partitions and offsets: those that a region holds, or those that it misses.
    pub(super) fn files(&self, place: &Place, held: bool) -> impl Iterator<Item = (Partition, &ArchiveFile)> {
        let number = place.number;
        let files = (0..).map(Partition).zip(&self.partitions);
        let files = files.flat_map(|(partition, part)| part.files.iter().map(move |file| (partition, file)));
        files.filter(move |(_, file)| file.regions.contains(&number) == held)
    }

    /// Whether the region holds every file.
    pub(super) fn is_complete(&self, place: &Place) -> bool {
        self.files(place, false).next().is_none()
    }
}

impl Place {
    /// Absolute URL of an object.
    pub(super) fn url_of(&self, key: &Key) -> String {
        let slash = if self.url.ends_with('/') { "" } else { "/" };
        format!("{}{slash}{key}", self.url)
    }
}
