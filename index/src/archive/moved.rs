//! Archive files that go to another cluster: their footers name it.

use bytes::Bytes;

use super::{ArchiveError, seal};

/// Footer and page index of a file, `tail`, that belongs to cluster `from`, as they are when it belongs to cluster `to`.
/// They stay as long as they were, and everything before them stays what it is. `tail` must be from where
/// [`super::Footer::decode`] says that it needs it to the end of the file, or from before.
///
/// # Errors
/// When it is damaged or another cluster's, or the identities have different lengths.
pub fn moved_footer(file_bytes: u64, tail: &Bytes, from: &str, to: &str) -> Result<Bytes, ArchiveError> {
    let range = seal::locate(file_bytes, tail)?;
    let skip = (tail.len() as u64).checked_sub(file_bytes.saturating_sub(range.start));
    let skip = skip.and_then(|skip| usize::try_from(skip).ok());
    let mut footer =
        skip.and_then(|skip| tail.get(skip..)).ok_or(ArchiveError::Missing(range.start, range.end))?.to_vec();
    seal::check(&footer)?;
    if from.len() != to.len() || from.len() >= 0x80 {
        return Err(ArchiveError::Misplaced("the identity of a cluster has another length".to_owned()));
    }
    // Name and value of the pair in Thrift's compact protocol. Pairs come behind everything that messages have a part in,
    // so that the last one is meant.
    let name = [b"brigade.cluster\x18", &[from.len() as u8][..]].concat();
    let at = footer.windows(name.len()).rposition(|window| window == name).map(|at| at + name.len());
    let value = at.and_then(|at| footer.get_mut(at..at + from.len())).filter(|value| *value == from.as_bytes());
    let value = value.ok_or_else(|| ArchiveError::damaged(format!("its footer does not name cluster {from}")))?;
    value.copy_from_slice(to.as_bytes());
    seal::seal(&mut footer).ok_or_else(|| ArchiveError::damaged("its footer lacks a checksum"))?;
    Ok(footer.into())
}

/// CRC-32C of a file whose end was exchanged for another one of the same length.
pub fn crc_with_end(crc: u32, before: &[u8], after: &[u8]) -> u32 {
    // The checksum of the end adds to that of the beginning without regard to what the beginning is.
    crc ^ crc32c::crc32c(before) ^ crc32c::crc32c(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        archive::{FileHead, FileWriter, Footer, FooterStep, WriterSettings},
        batch::{Attributes, Columns, MessageRef, Messages, ValueKind},
        ids::{FileId, Offset, Partition, TopicId},
        names::TopicName,
    };

    #[test]
    fn a_file_that_moved_belongs_to_the_other_cluster_and_has_the_same_messages() {
        let (from, to) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let topic = TopicName::new("t").unwrap();
        let mut head = FileHead {
            cluster: from.to_owned(),
            topic,
            topic_id: TopicId(1),
            partition: Partition(2),
            id: FileId(3),
            first: Offset(10),
            end: Offset(20),
        };
        let mut columns = Columns::default();
        // A key that looks like the pair.
        let key = format!("brigade.cluster\x18\x20{from}");
        for row in 0..10 {
            columns.push(&MessageRef {
                key: Some(key.as_bytes()),
                value: Some(key.as_bytes()),
                kind: ValueKind::Text,
                headers: &[],
                timestamp_ms: row,
                attributes: Attributes::default(),
            });
        }
        let messages = Messages::new(columns.into_record_batch()).unwrap();
        let mut writer = FileWriter::new(head.clone(), &WriterSettings::default()).unwrap();
        writer.push(&messages, 0..10, Offset(10)).unwrap();
        let (bytes, written) = writer.finish().unwrap();
        let mut file = written.file(&head, 0, false, Vec::new());
        let footer = moved_footer(file.bytes, &bytes, from, to).unwrap();
        let at = bytes.len() - footer.len();
        file.crc = crc_with_end(file.crc, &bytes[at..], &footer);
        let moved: Bytes = [&bytes[..at], &footer].concat().into();
        assert_eq!(crc32c::crc32c(&moved), file.crc);
        let FooterStep::Ready(footer) = Footer::decode(file.bytes, 0, moved.clone()).unwrap() else { panic!() };
        assert!(footer.check(&file, &head).is_err(), "it is the other cluster's now");
        head.cluster = to.to_owned();
        footer.check(&file, &head).unwrap();
        let rows = footer.decode_block(0, &[(0..file.bytes, moved.clone())]).unwrap();
        assert_eq!((rows.offsets.len(), rows.messages.key(9)), (10, Some(key.as_bytes())));
        assert!(moved_footer(file.bytes, &moved, from, to).is_err(), "it has moved already");
    }
}
