//! The mark of a region that is being restored from another cluster's, readable by people.

use serde::{Deserialize, Serialize};

use super::{frame::FrameError, identity::FoundingRegion};
use crate::ids::WriteId;

/// Content of the mark, as JSON. It is written before anything else, so that a region which was restored in part is never
/// taken for an empty one, and deleted when the region has its identity. The same in all regions of the new cluster: who
/// goes on with a restore that broke off goes by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// Version of this object.
    pub format: u32,
    /// Identity of the new cluster: 32 hexadecimal digits.
    pub cluster_id: String,
    /// The regions of the new cluster.
    pub regions: Vec<FoundingRegion>,
    /// Identity of the cluster that is restored.
    pub source_cluster_id: String,
    /// Identity of the region that it is restored from.
    pub source_region_id: String,
    /// Last entry that is restored.
    pub sequence: u64,
    /// Identity of the snapshot and the truncation mark that are written: 32 hexadecimal digits.
    pub write_id: String,
    /// Milliseconds since the Unix epoch by the clock of whoever began.
    pub created_ms: i64,
}

/// First line of the object, as long as what precedes the identity of a write in every other object.
const FIRST_LINE: &[u8; 16] = b"brigade restore\n";

impl Restoring {
    /// The identity of the snapshot and the truncation mark.
    ///
    /// # Errors
    /// When it is none.
    pub fn write_id(&self) -> Result<WriteId, FrameError> {
        let id = u128::from_str_radix(&self.write_id, 16);
        id.map(WriteId).map_err(|_| FrameError::Malformed("mark of a region that is being restored"))
    }

    /// The object: a first line that says what it is, the 16 bytes of the identity of the write, a line break, and JSON.
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
        let malformed = FrameError::Malformed("mark of a region that is being restored");
        let json = bytes.strip_prefix(FIRST_LINE).and_then(|rest| rest.get(17..)).ok_or_else(|| malformed.clone())?;
        let mark: Self = serde_json::from_slice(json).map_err(|_| malformed)?;
        mark.write_id()?;
        if mark.format == 1 { Ok(mark) } else { Err(FrameError::Version(mark.format as u16)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ID_RANGE;

    #[test]
    fn a_mark_comes_back_and_other_objects_do_not() {
        let mark = Restoring {
            format: 1,
            cluster_id: "c".repeat(32),
            regions: Vec::new(),
            source_cluster_id: "d".repeat(32),
            source_region_id: "e".repeat(32),
            sequence: 7,
            write_id: format!("{:032x}", 9),
            created_ms: -1,
        };
        let bytes = mark.encode(WriteId(9));
        assert_eq!(bytes[ID_RANGE], 9_u128.to_be_bytes());
        assert_eq!(Restoring::decode(&bytes), Ok(mark.clone()));
        assert!(Restoring::decode(&Restoring { format: 2, ..mark.clone() }.encode(WriteId(9))).is_err());
        assert!(Restoring::decode(&Restoring { write_id: "x".to_owned(), ..mark }.encode(WriteId(9))).is_err());
        (0..bytes.len() - 2).for_each(|end| assert!(Restoring::decode(&bytes[..end]).is_err(), "{end}"));
    }
}
