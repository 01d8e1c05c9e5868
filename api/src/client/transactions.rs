//! Calls about transactions.

use reqwest::{Method, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::{Client, ClientError};

/// The answer to a transaction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Transacted {
    /// Its id.
    pub id: String,
    /// `committed`, `prepared` or `rolled_back`.
    pub state: String,
    /// Once it is committed: where its messages are, in the order in which they were sent.
    #[serde(default)]
    pub messages: Vec<TransactionMessage>,
}

/// Where a message of a transaction is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TransactionMessage {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Whether it was not stored because one with the same deduplication id was, which is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// What is known of a transaction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Transaction {
    /// Its id.
    pub id: String,
    /// `prepared`, `committed` or `rolled_back`.
    pub state: String,
    /// While it waits: when it came, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_at: Option<i64>,
    /// While it waits: when it is rolled back unless it is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// While it waits: who is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_back: Option<CheckBack>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<i64>,
    /// Its messages.
    #[serde(default)]
    pub publish: Vec<TransactionPart>,
    /// While it waits: what it acknowledges.
    #[serde(default)]
    pub ack: Vec<TransactionAck>,
}

/// Who is asked about a transaction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckBack {
    /// The URL, its query hidden.
    pub url: String,
    /// Time between two questions, in milliseconds.
    pub every_ms: u32,
}

/// Messages of a transaction in one partition.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TransactionPart {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Offset of the first, once it is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Number of messages.
    pub messages: u64,
}

/// Messages of a queue that a transaction acknowledges.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TransactionAck {
    /// The topic.
    pub topic: String,
    /// The subscription.
    pub subscription: String,
    /// Number of messages.
    pub messages: u64,
}

/// A page of transactions.
#[derive(Clone, Debug, Deserialize)]
pub struct TransactionPage {
    /// In the order of their ids.
    pub transactions: Vec<Transaction>,
    /// Ask with this as `after` for the next page.
    pub next: Option<String>,
}

impl Client {
    /// Sends a transaction: JSON as `POST /v1/transactions` takes it. One with an id may be sent again, and happens once.
    ///
    /// # Errors
    /// What is wrong with it; code `outcome_unknown`; an unreachable server.
    pub async fn transact(&self, body: &str) -> Result<Transacted, ClientError> {
        let request = self.request(Method::POST, self.url(&["v1", "transactions"]));
        self.send_for_json(request.header(CONTENT_TYPE, "application/json").body(body.to_owned())).await
    }

    /// What has become of a transaction.
    ///
    /// # Errors
    /// Code `transaction_not_found`; an unreachable server.
    pub async fn transaction(&self, id: &str) -> Result<Transaction, ClientError> {
        self.send_for_json(self.request(Method::GET, self.url(&["v1", "transactions", id]))).await
    }

    /// One page of at most `limit` transactions that wait for a decision, after the id `after`.
    ///
    /// # Errors
    /// Invalid values; an unreachable server.
    pub async fn undecided(&self, after: Option<&str>, limit: u32) -> Result<TransactionPage, ClientError> {
        let mut url = self.url(&["v1", "transactions"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("state", "prepared").append_pair("limit", &limit.to_string());
            if let Some(after) = after {
                query.append_pair("after", after);
            }
        }
        self.send_for_json(self.request(Method::GET, url)).await
    }

    /// Decides a prepared transaction; deciding alike once more changes nothing.
    ///
    /// # Errors
    /// Code `transaction_not_found`, `transaction_decided`; an unreachable server.
    pub async fn decide(&self, id: &str, commit: bool) -> Result<Transaction, ClientError> {
        let decision = if commit { "commit" } else { "rollback" };
        self.send_for_json(self.request(Method::POST, self.url(&["v1", "transactions", id, decision]))).await
    }
}
