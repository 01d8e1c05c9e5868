//! The identity object of a region: which cluster and region a bucket belongs to, readable by people.

use serde::{Deserialize, Serialize};

use super::frame::FrameError;
use crate::ids::WriteId;

/// Content of the identity object, as JSON. Written once, before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionIdentity {
    /// Identity of this write, which is the region's own identity: 32 hexadecimal digits.
    ///
    /// It pads the object's first bytes so that it lies in [`super::ID_RANGE`] as 16 raw bytes would; see
    /// [`Self::encode`].
    pub region_id: String,
    /// Identity of the cluster: 32 hexadecimal digits.
    pub cluster_id: String,
    /// Name of the region.
    pub region: String,
    /// Number of the region.
    #[serde(default)]
    pub number: u16,
    /// The regions that voted when this one was written: all founding regions, or those before this one was added. Empty in
    /// an object that was written before regions were counted, whose region voted alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<FoundingRegion>,
    /// The regions that the cluster was founded with, in the identity of a region that was added later: entries are applied
    /// to them from the first one on, whichever regions are left. Empty where they are the voters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub founders: Vec<FoundingRegion>,
    /// Version of all stored formats.
    pub format: u32,
    /// Milliseconds since the Unix epoch by the clock of the node that wrote it.
    pub created_ms: i64,
}

/// A region in the list of an identity object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingRegion {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub region: String,
    /// Its identity: 32 hexadecimal digits.
    pub region_id: String,
    /// URL of its store when it was added, without secrets.
    pub url: String,
}

/// First line of the object, as long as what precedes the identity in every other object.
const FIRST_LINE: &[u8; 16] = b"brigade region\n#";

impl RegionIdentity {
    /// The object: a first line that says what it is, the 16 bytes of its identity, a line break, and JSON.
    pub fn encode(&self, id: WriteId) -> Vec<u8> {
        let mut out = FIRST_LINE.to_vec();
        out.extend_from_slice(&id.0.to_be_bytes());
        out.push(b'\n');
        // Strings and numbers always serialise.
        out.extend_from_slice(&serde_json::to_vec_pretty(self).unwrap_or_default());
        out.push(b'\n');
        out
    }

    /// Decodes what [`Self::encode`] made.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let rest = bytes.strip_prefix(FIRST_LINE).and_then(|rest| rest.get(17..));
        let json = rest.ok_or(FrameError::Malformed("region identity"))?;
        let identity: Self = serde_json::from_slice(json).map_err(|_| FrameError::Malformed("region identity"))?;
        if identity.format == 1 { Ok(identity) } else { Err(FrameError::Version(identity.format as u16)) }
    }
}
