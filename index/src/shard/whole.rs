//! Whether a region still has what it accepted in this reign, before its path is cut behind it.
//!
//! A truncation mark says that a region has everything before it, and nobody looks there again. A region that was wiped or
//! restored from an old copy while this leader reigns takes its appends as before; a mark would hide for ever that others
//! are missing.

use std::sync::atomic::Ordering::Relaxed;

use super::{Shared, snapshot::CutAt};
use crate::{
    keys::{self, Slot},
    store::{Component, StoreError},
};

/// The first object before the cut that the region took and does not have any more. Objects that were found once are not
/// looked for again.
pub(super) async fn missing(shared: &Shared, cut: &CutAt) -> Result<Option<Slot>, StoreError> {
    let (view, ballot) = (&cut.view, cut.slot.ballot);
    let checked = view.checked.load(Relaxed);
    if checked == 0 {
        // Nothing of this reign is there in a copy from before it, and its Takeover neither.
        let takeover = keys::journal(shared.id, cut.parent);
        if view.store.get_range(Component::Snapshot, &takeover, 0..1).await?.is_none() {
            return Ok(Some(cut.parent));
        }
    }
    let last = checked.checked_sub(1).map(|index| keys::journal(shared.id, Slot { ballot, index }));
    let reign = keys::reign(shared.id, ballot);
    let found = view.store.list_after(Component::Snapshot, &reign, last.as_ref()).await?;
    let indexes = found.iter().filter_map(|key| keys::parse_index(shared.id, ballot, key));
    let there = indexes.fold(checked, |next, index| if index == next { next + 1 } else { next });
    if there < cut.slot.index {
        return Ok(Some(Slot { ballot, index: there }));
    }
    view.checked.store(cut.slot.index, Relaxed);
    Ok(None)
}
