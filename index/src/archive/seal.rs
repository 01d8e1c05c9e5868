//! The end of a file: what Parquet has no word for goes into the key-value metadata, and a checksum over it all.
//!
//! Parquet protects neither its footer nor its page index, and a reader that does not read the whole file cannot use the
//! checksum of the whole file. So one of the pairs in the metadata says where the page index begins, and has a CRC-32C of
//! everything from there to the end, which is put in at last.

use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use parquet::file::{
    metadata::{FileMetaData, KeyValue},
    page_index::offset_index::PageLocation,
    writer::SerializedFileWriter,
};

use super::{ArchiveError, head, output::Output};

/// Name of the pair, and the type and length of its value in Thrift's compact protocol.
const MARKER: &[u8] = b"brigade.footer\x18\x1c";
/// Digits of the place where the page index begins.
const BEGIN_DIGITS: usize = 19;
/// Digits of the checksum, and what is in their place when it is computed.
const PLACEHOLDER: &[u8; 8] = b"........";

/// Largest footer that is read: forty times that of a file of a gigabyte.
const MAX_FOOTER_BYTES: u64 = 64 << 20;

/// Bytes behind the footer: its length and Parquet's mark.
const TAIL: u64 = 8;

/// Output of a file that was not taken before.
pub(super) fn take(file: &mut SerializedFileWriter<Output>) -> Bytes {
    file.flush().expect("memory takes every write");
    file.inner_mut().take()
}

/// Writes page index and footer; returns the rest of the output, the size of the file, and its checksum.
pub(super) fn finish(
    mut file: SerializedFileWriter<Output>,
    metadata: Vec<KeyValue>,
) -> Result<(Bytes, u64, u32), ArchiveError> {
    let begin = file.bytes_written() as u64;
    metadata.into_iter().for_each(|pair| file.append_key_value_metadata(pair));
    let value = format!("{begin:0BEGIN_DIGITS$}:{}", String::from_utf8_lossy(PLACEHOLDER));
    file.append_key_value_metadata(KeyValue::new("brigade.footer".to_owned(), value));
    file.finish()?;
    let output = file.inner_mut();
    seal(output.tail(begin)).ok_or_else(|| ArchiveError::damaged("its footer lacks a checksum"))?;
    let rest = output.take();
    Ok((rest, output.bytes(), output.crc()))
}

/// Puts the checksum into page index and footer.
pub(super) fn seal(footer: &mut [u8]) -> Option<()> {
    let at = find_value(footer)? + BEGIN_DIGITS + 1;
    footer[at..at + PLACEHOLDER.len()].copy_from_slice(PLACEHOLDER);
    let crc = format!("{:08x}", crc32c::crc32c(footer));
    footer[at..at + PLACEHOLDER.len()].copy_from_slice(crc.as_bytes());
    Some(())
}

/// Where the value of the pair is. It is the last pair, so that no topic or cluster can have a name that looks like it.
fn find_value(footer: &[u8]) -> Option<usize> {
    let at = footer.windows(MARKER.len()).rposition(|window| window == MARKER)? + MARKER.len();
    (footer.len() - at > BEGIN_DIGITS + PLACEHOLDER.len()).then_some(at)
}

/// Which part of the file page index and footer are, or what must be read to know it; `tail` is the end of the file.
pub(super) fn locate(file_bytes: u64, tail: &[u8]) -> Result<Range<u64>, ArchiveError> {
    let end: &[u8; TAIL as usize] =
        tail.last_chunk().ok_or_else(|| ArchiveError::damaged("it is shorter than a Parquet file can be"))?;
    let [a, b, c, d, mark @ ..] = end;
    if mark != b"PAR1" {
        return Err(ArchiveError::damaged("it does not end as a Parquet file does"));
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + TAIL;
    if length > file_bytes || length > MAX_FOOTER_BYTES {
        return Err(ArchiveError::damaged("its footer is longer than it can be"));
    }
    let from = tail.len().checked_sub(length as usize);
    let Some(footer) = from.and_then(|from| tail.get(from..)) else { return Ok(file_bytes - length..file_bytes) };
    let at = find_value(footer).ok_or_else(|| ArchiveError::damaged("its footer lacks a checksum"))?;
    let begin = std::str::from_utf8(&footer[at..at + BEGIN_DIGITS]).ok().and_then(|digits| digits.parse().ok());
    let begin: u64 = begin.ok_or_else(|| ArchiveError::damaged("its footer does not say where it begins"))?;
    if begin > file_bytes - length || file_bytes - begin > MAX_FOOTER_BYTES {
        return Err(ArchiveError::damaged("its footer does not begin where it can"));
    }
    Ok(begin..file_bytes)
}

/// Checks the checksum of what [`locate`] found.
pub(super) fn check(footer: &[u8]) -> Result<(), ArchiveError> {
    let at = find_value(footer).ok_or_else(|| ArchiveError::damaged("its footer lacks a checksum"))?;
    let (before, rest) = footer.split_at(at + BEGIN_DIGITS + 1);
    let (found, after) = rest.split_at(PLACEHOLDER.len());
    let crc = [PLACEHOLDER, after].into_iter().fold(crc32c::crc32c(before), crc32c::crc32c_append);
    if found == format!("{crc:08x}").as_bytes() {
        Ok(())
    } else {
        Err(ArchiveError::damaged("the checksum of its footer differs"))
    }
}

/// First and last offsets of the pages of values of a row group whose offsets have gaps; otherwise they can be computed.
pub(super) fn page_offsets(row_group: usize, offsets: &[u64], pages: &[PageLocation]) -> Option<KeyValue> {
    let (first, last) = (offsets.first()?, offsets.last()?);
    if last - first + 1 == offsets.len() as u64 {
        return None;
    }
    let ends = pages.iter().skip(1).map(|page| page.first_row_index).chain([offsets.len() as i64]);
    let ranges = pages.iter().zip(ends).filter_map(|(page, end)| {
        let rows = offsets.get(usize::try_from(page.first_row_index).ok()?..usize::try_from(end).ok()?)?;
        Some(format!("{}-{}", rows.first()? - first, rows.last()? - first))
    });
    Some(page_offsets_pair(row_group, &ranges.collect::<Vec<_>>().join(",")))
}

pub(super) fn page_offsets_pair(row_group: usize, value: &str) -> KeyValue {
    KeyValue::new(format!("brigade.{}", page_offsets_name(row_group)), value.to_owned())
}

pub(super) fn page_offsets_name(row_group: usize) -> String {
    format!("page_offsets.{row_group}")
}

/// What [`page_offsets`] wrote for a row group that begins at offset `group_first`.
pub(super) fn read_page_offsets(
    metadata: &FileMetaData,
    row_group: usize,
    group_first: u64,
) -> Option<Vec<RangeInclusive<u64>>> {
    let text = head::lookup(metadata, &page_offsets_name(row_group))?;
    let place = |number: &str| group_first.checked_add(number.parse().ok()?);
    let range = |(first, last)| Some(place(first)?..=place(last)?);
    text.split(',').map(|pair| pair.split_once('-').and_then(range)).collect()
}
