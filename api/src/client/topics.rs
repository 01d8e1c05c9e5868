//! Calls about topics.

use reqwest::Method;

use super::{ArchiveFilePage, Client, ClientError, Topic, TopicPage, TopicSettings};

impl Client {
    /// Creates a topic; one that exists with the same settings is no error.
    ///
    /// # Errors
    /// Code `topic_exists` when it exists with other settings; invalid names and settings; an unreachable server.
    pub async fn create_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic, ClientError> {
        let request = self.request(Method::PUT, self.url(&["v1", "topics", name])).json(settings);
        self.send_for_json(request).await
    }

    /// A topic with the state of its partitions.
    ///
    /// # Errors
    /// Code `topic_not_found`; an unreachable server.
    pub async fn topic(&self, name: &str) -> Result<Topic, ClientError> {
        self.send_for_json(self.request(Method::GET, self.url(&["v1", "topics", name]))).await
    }

    /// Changes the settings that are given.
    ///
    /// # Errors
    /// Code `topic_not_found`, `invalid_settings`; an unreachable server.
    pub async fn alter_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic, ClientError> {
        let request = self.request(Method::PATCH, self.url(&["v1", "topics", name])).json(settings);
        self.send_for_json(request).await
    }

    /// Deletes a topic with its messages and subscriptions.
    ///
    /// # Errors
    /// Code `topic_not_found`; an unreachable server.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, self.url(&["v1", "topics", name]))).await.map(drop)
    }

    /// One page of at most `limit` topics whose name begins with `prefix`, after the name `after`.
    ///
    /// # Errors
    /// Invalid values; an unreachable server.
    pub async fn topics(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<TopicPage, ClientError> {
        let mut url = self.url(&["v1", "topics"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("limit", &limit.to_string());
            if !prefix.is_empty() {
                query.append_pair("prefix", prefix);
            }
            if let Some(after) = after {
                query.append_pair("after", after);
            }
        }
        self.send_for_json(self.request(Method::GET, url)).await
    }

    /// One page of at most `limit` archive files of a topic, or of one partition of it, after the file `after`.
    ///
    /// # Errors
    /// Code `topic_not_found`; invalid values; an unreachable server.
    pub async fn topic_files(
        &self,
        name: &str,
        partition: Option<u32>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<ArchiveFilePage, ClientError> {
        let mut url = self.url(&["v1", "topics", name, "files"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("limit", &limit.to_string());
            if let Some(partition) = partition {
                query.append_pair("partition", &partition.to_string());
            }
            if let Some(after) = after {
                query.append_pair("after", after);
            }
        }
        self.send_for_json(self.request(Method::GET, url)).await
    }
}
