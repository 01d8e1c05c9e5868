#![doc = include_str!("../README.md")]

mod admission;
mod ahead;
mod batcher;
mod cache;
mod chunk;
mod dispatch;
mod draft;
mod error;
mod flush;
mod log;
mod members;
mod membership;
mod metrics;
mod open;
mod pending;
mod placement;
mod plan;
mod queue;
mod reader;
mod service;
mod settings;
mod settle;
mod source;
mod transaction;

pub use admission::Admission;
pub use draft::{Draft, MAX_REQUEST_BYTES};
pub use error::{IngestError, MessageError, TransactionError};
pub use members::{Assignment, Epoch, MAX_MEMBERS, MemberStatus, Refusal, SESSION_MS};
pub use membership::{Heartbeat, MemberError, Members, PendingCommit, Turn};
pub use metrics::IngestMetrics;
pub use queue::{
    Action, DeadLetterPage, DeadLetterPick, DeadLetterQuery, Delivery, Handed, QueueCounts, QueueHandle, QueuePoll,
    ReceiptError, Settled, TransactionHold,
};
pub use reader::{PollReply, PollRequest, ReadFrom, ReadReply, ReadRequest, Slice};
pub use service::{Ingest, PublishReply};
pub use settings::IngestSettings;
pub use transaction::{
    Ask, Preparation, PreparedRecord, Question, TransactionDraft, TransactionPlace, TransactionRecord,
    TransactionReply, TransactionState,
};
