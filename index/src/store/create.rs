//! Put-if-absent that recognises its own success: the one conditional write, and the call that publishing waits for.

use std::sync::Arc;

use object_store::{PutMode, PutOptions, PutPayload, path::Path};
use tokio::time::timeout;

use super::{
    Component, Operation, RegionStore, StoreError, StoreErrorKind,
    error::{Effect, Failure},
    metrics::Outcome,
    region::Inner,
    timing::Budget,
};
use crate::{format::ID_RANGE, ids::WriteId};

/// Identities that differ in so few bits are one identity that was damaged on its way: two drawn at random never do.
const NEAR_MISS_BITS: u32 = 8;

/// How a create ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there and is ours.
    Landed,
    /// The key holds another writer's object, and ours will never be there.
    Occupied,
}

/// What a read after a doubtful write found.
enum Seen {
    Own,
    Other,
    Nothing,
    Unclear,
}

impl RegionStore {
    /// Creates an object unless its key is taken. `id` must lie in the payload at [`ID_RANGE`].
    ///
    /// A time-out, a conflict or an error of the server says nothing until the object has been read back. When the key
    /// is then free, the same bytes are sent again; the attempts and the deadline bound it all. Without trouble this is
    /// one PUT and nothing else.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotStored`] when certainly nothing was stored or will be, [`StoreErrorKind::Unknown`] when it
    /// may have been; [`StoreErrorKind::Invalid`] when the payload does not carry `id`.
    pub async fn create(
        &self,
        component: Component,
        key: &Path,
        payload: PutPayload,
        id: WriteId,
    ) -> Result<Created, StoreError> {
        if identity(payload.iter().map(AsRef::as_ref)) != Some(id) {
            let source = Arc::from(Box::from("the payload does not carry the identity of its write"));
            let failure = Failure { kind: StoreErrorKind::Invalid, effect: Effect::None, source };
            return Err(failure.into_error(StoreErrorKind::Invalid, self.region(), Operation::Put, key));
        }
        match self.put_once(component, key, payload.clone()).await {
            Ok(()) => Ok(Created::Landed),
            Err(failure) => Box::pin(self.resolve(component, key, payload, id, failure)).await,
        }
    }

    /// The rare path: the first attempt failed.
    async fn resolve(
        &self,
        component: Component,
        key: &Path,
        payload: PutPayload,
        id: WriteId,
        mut failure: Failure,
    ) -> Result<Created, StoreError> {
        let mut budget = Budget::new(&self.inner.timing, &self.inner.env);
        // Whether no attempt so far can have stored anything, now or later.
        let mut untouched = true;
        loop {
            tracing::debug!(
                region = %self.inner.region, %key, reason = failure.kind.as_str(), error = %failure.source,
                "create is in doubt"
            );
            untouched &= failure.effect != Effect::Unknown;
            if !untouched || failure.effect == Effect::Over {
                match self.look(component, key, id).await {
                    Seen::Own => return Ok(Created::Landed),
                    Seen::Other => return Ok(Created::Occupied),
                    Seen::Nothing => {}
                    Seen::Unclear => untouched = false,
                }
            }
            if !failure.kind.is_transient() || !budget.again().await {
                let kind = if untouched { StoreErrorKind::NotStored } else { StoreErrorKind::Unknown };
                return Err(failure.into_error(kind, self.region(), Operation::Put, key));
            }
            failure = match self.put_once(component, key, payload.clone()).await {
                Ok(()) => return Ok(Created::Landed),
                Err(failure) => failure,
            };
        }
    }

    /// One PUT.
    async fn put_once(&self, component: Component, key: &Path, payload: PutPayload) -> Result<(), Failure> {
        let Inner { store, timing, metrics, .. } = &*self.inner;
        let bytes = payload.content_length() as u64;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let attempt = metrics.begin(Operation::Put, component);
        metrics.sent(component, bytes);
        let result = match timeout(timing.request(bytes), store.put_opts(key, payload, options)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(Failure::timeout()),
        };
        attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |()| Outcome::Ok));
        result
    }

    /// Whose object is it?
    async fn look(&self, component: Component, key: &Path, id: WriteId) -> Seen {
        let mut near_miss = None;
        for _ in 0..3 {
            let head = match self.read_once(component, key, Some(0..ID_RANGE.end as u64)).await {
                Ok(Some(head)) => head,
                Ok(None) => return Seen::Nothing,
                Err(_) => return Seen::Unclear,
            };
            let found = identity([head.as_ref()].into_iter());
            match found {
                Some(found) if found == id => return Seen::Own,
                Some(found) if (found.0 ^ id.0).count_ones() <= NEAR_MISS_BITS && near_miss != Some(found) => {
                    near_miss = Some(found);
                }
                _ => return Seen::Other,
            }
        }
        Seen::Unclear
    }
}

/// The identity that a body carries, when it is long enough to carry one.
fn identity<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Option<WriteId> {
    let mut bytes = chunks.flatten().skip(ID_RANGE.start);
    let mut id = [0; ID_RANGE.end - ID_RANGE.start];
    for slot in &mut id {
        *slot = *bytes.next()?;
    }
    Some(WriteId(u128::from_be_bytes(id)))
}
