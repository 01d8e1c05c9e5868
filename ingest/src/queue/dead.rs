use super::{
    DeadLetterPage, DeadLetterPick, DeadLetterQuery, QueueHandle,
    handle::{Around, Of},
};
use crate::IngestError;

pub(super) async fn list(_: &Around, _: &Of, _: DeadLetterQuery) -> Result<DeadLetterPage, IngestError> {
    Ok(DeadLetterPage { letters: Vec::new(), next: None })
}
pub(super) async fn redrive(_: &QueueHandle, _: DeadLetterPick) -> Result<u64, IngestError> {
    Ok(0)
}
pub(super) async fn purge(_: &QueueHandle, _: DeadLetterPick) -> Result<u64, IngestError> {
    Ok(0)
}
