//! Calls about the server itself.

use reqwest::Method;
use serde_json::Value;

use super::{Client, ClientError};

impl Client {
    /// Whether the process is alive.
    ///
    /// # Errors
    /// An unreachable server.
    pub async fn health(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, self.url(&["healthz"]))).await.map(drop)
    }

    /// Whether the server takes requests.
    ///
    /// # Errors
    /// Status 503 with the reason when it does not; an unreachable server.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, self.url(&["readyz"]))).await.map(drop)
    }

    /// The cluster: its id, this node, its regions and shards.
    ///
    /// # Errors
    /// An unreachable server.
    pub async fn cluster(&self) -> Result<Value, ClientError> {
        self.send_for_json(self.request(Method::GET, self.url(&["v1", "cluster"]))).await
    }

    /// The server's metrics as Prometheus text.
    ///
    /// # Errors
    /// An unreachable server.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.send(self.request(Method::GET, self.url(&["metrics"]))).await?;
        response.text().await.map_err(|e| self.unreachable(e))
    }
}
