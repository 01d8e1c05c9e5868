//! Queue subscriptions: competing consumers, a receipt for each message.
//!
//! One task owns the [dispatcher](crate::dispatch) of each queue subscription that is used, in the node that leads. It
//! decides; what it decides is committed as [`Settle`](brigade_index::command::Settle) before anybody is told.
//!
//! | file | holds |
//! |---|---|
//! | `handle`, `types` | what others see |
//! | `hold` | messages that are held for transactions |
//! | `receipt` | receipts and their seals |
//! | `task` | the owner task: polls, settling, timers |
//! | `scan` | finding messages that are open |
//! | `load` | fetching what was picked |
//! | `pending` | what is to be committed, and who waits for it |
//! | `dead`, `copy` | dead letters: listing, giving back, copies for a topic of their own |

mod copy;
mod dead;
mod handle;
mod hold;
mod load;
mod pending;
mod receipt;
mod scan;
mod task;
mod types;

pub use handle::QueueHandle;
pub(crate) use handle::{Around, Queues};
pub use hold::TransactionHold;
pub use types::{
    Action, DeadLetterPage, DeadLetterPick, DeadLetterQuery, Delivery, Handed, QueueCounts, QueuePoll, ReceiptError,
    Settled,
};

#[cfg(test)]
mod tests;
