//! Where a subscription starts and where it is moved.

use brigade_index::{
    command::Rejection,
    ids::{Offset, Partition, TopicId},
    state::{Subscription, Topic},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    http::error::{ApiError, kinds},
    serve::Leading,
};

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Start {
    /// At the log start.
    Earliest,
    /// At the high watermark.
    Latest,
    /// At the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
}

/// Where a subscription is moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Seek {
    /// To the log start.
    Earliest,
    /// To the high watermark.
    Latest,
    /// To the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
    /// To these positions; other partitions stay.
    Positions(Vec<Position>),
}

impl From<Start> for Seek {
    fn from(start: Start) -> Self {
        match start {
            Start::Earliest => Self::Earliest,
            Start::Latest => Self::Latest,
            Start::Timestamp(timestamp) => Self::Timestamp(timestamp),
        }
    }
}

/// The next offset of a partition.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Position {
    pub(in crate::http) partition: u32,
    /// The next offset to be read.
    pub(in crate::http) offset: u64,
}

/// Committed positions of all partitions; those added since the last commit are at their log start.
pub(in crate::http) fn committed(topic: &Topic, subscription: &Subscription) -> Vec<Offset> {
    let known = subscription.stream().unwrap_or_default();
    known.iter().copied().chain(topic.partitions.iter().skip(known.len()).map(|log| log.log_start)).collect()
}

/// Positions that a seek means at present.
pub(super) async fn resolve(node: &Leading, topic: TopicId, seek: &Seek) -> Result<Vec<(Partition, Offset)>, ApiError> {
    let bounds: Vec<_> = {
        let state = node.shard.state();
        let topic = state.topic(topic).ok_or(Rejection::TopicNotFound)?;
        topic.partitions.iter().map(|log| (log.log_start, log.high_watermark)).collect()
    };
    let partitions = (0..).map(Partition).zip(bounds);
    match seek {
        Seek::Earliest => Ok(partitions.map(|(partition, (start, _))| (partition, start)).collect()),
        Seek::Latest => Ok(partitions.map(|(partition, (_, end))| (partition, end)).collect()),
        Seek::Timestamp(timestamp) if *timestamp < 0 => Err(ApiError::parameter("timestamp", "must not be negative")),
        Seek::Timestamp(timestamp) => {
            let mut positions = Vec::new();
            for (partition, _) in partitions {
                positions.push((partition, node.ingest.offset_at(topic, partition, *timestamp).await?));
            }
            Ok(positions)
        }
        Seek::Positions(positions) => distinct(positions),
    }
}

/// Positions as the shard takes them; none may be named twice.
pub(in crate::http) fn distinct(positions: &[Position]) -> Result<Vec<(Partition, Offset)>, ApiError> {
    let mut sorted: Vec<_> =
        positions.iter().map(|position| (Partition(position.partition), Offset(position.offset))).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let problem = format!("partition {} is named twice", pair[0].0);
        return Err(ApiError::new(kinds::INVALID_POSITION, problem));
    }
    Ok(sorted)
}
