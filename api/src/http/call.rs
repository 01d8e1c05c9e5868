//! A request as handlers get it.

use axum::{body::Body, extract::RawPathParams};
use brigade_index::{
    ids::ShardId,
    names::{MemberName, SubscriptionName, TopicName, TransactionId},
};
use http::{HeaderMap, request::Parts};

use super::{error::ApiError, error::kinds, params::Query};

/// A request: its head, the parameters of its path, and a body not yet read.
pub(super) struct Call {
    pub(super) parts: Parts,
    pub(super) path: Option<RawPathParams>,
    pub(super) body: Body,
}

impl Call {
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub(super) fn query(&self) -> Result<Query<'_>, ApiError> {
        Query::parse(self.parts.uri.query().unwrap_or_default())
    }

    /// The topic in the path.
    pub(super) fn topic(&self) -> Result<TopicName, ApiError> {
        Ok(TopicName::new(self.path_parameter("topic")?)?)
    }

    /// The subscription in the path.
    pub(super) fn subscription(&self) -> Result<SubscriptionName, ApiError> {
        Ok(SubscriptionName::new(self.path_parameter("subscription")?)?)
    }

    /// The member in the path.
    pub(super) fn member(&self) -> Result<MemberName, ApiError> {
        Ok(MemberName::new(self.path_parameter("member")?)?)
    }

    /// The transaction in the path.
    pub(super) fn transaction(&self) -> Result<TransactionId, ApiError> {
        Ok(TransactionId::new(self.path_parameter("transaction")?)?)
    }

    /// Fails unless the shard in the path is the one there is.
    pub(super) fn shard(&self) -> Result<ShardId, ApiError> {
        let number = self.path_parameter("shard")?;
        if number != "0" {
            return Err(ApiError::new(kinds::SHARD_NOT_FOUND, format!("there is no shard {number:?}")));
        }
        Ok(ShardId(0))
    }

    fn path_parameter(&self, name: &str) -> Result<&str, ApiError> {
        let mut parameters = self.path.iter().flatten();
        let found = parameters.find(|(key, _)| *key == name).map(|(_, value)| value);
        // The router matched the path, so only a name that is no UTF-8 after decoding is missing.
        found.ok_or_else(|| ApiError::new(kinds::INVALID_NAME, format!("the {name} name in the path is not UTF-8")))
    }
}
