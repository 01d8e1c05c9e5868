//! JSON answers, written straight from the columns of stored batches.
//!
//! Stored bytes are outside data: a text value that is not UTF-8, or a JSON value that is no JSON on one line, goes out
//! as `value_base64`, so that no stored byte can break an answer.

use std::ops::Range;

use base64::{Engine, encoded_len, engine::general_purpose::STANDARD};
use brigade_index::batch::{Attributes, Messages, ValueKind};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    MessageSlice,
    document::without_line_breaks,
    escape::{write_i64, write_string, write_u64},
};

/// Writes one message as a JSON object: `partition`, `offset`, `key` or `key_base64`, `value` or `value_base64`,
/// `headers`, `timestamp`, those of `group`, `priority`, `deliver_at` and `expires_at` that it has, then what `more` writes (`,"name":value`, or nothing). A tombstone has the value `null`, and
/// so has the key of a message without one.
///
/// # Panics
/// When `messages` has no row `row`.
pub fn write_message(
    out: &mut Vec<u8>,
    partition: u32,
    offset: u64,
    messages: &Messages,
    row: usize,
    more: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(b"{\"partition\":");
    write_u64(out, u64::from(partition));
    out.extend_from_slice(b",\"offset\":");
    write_u64(out, offset);
    match messages.key(row) {
        None => out.extend_from_slice(b",\"key\":null"),
        Some(key) => write_text_or_bytes(out, key, b",\"key\":", b",\"key_base64\":\""),
    }
    write_value(out, messages, row);
    out.extend_from_slice(b",\"headers\":{");
    for (at, (name, value)) in messages.headers(row).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_string(out, value);
    }
    out.extend_from_slice(b"},\"timestamp\":");
    write_i64(out, messages.timestamps()[row]);
    if !messages.attribute_set().is_empty() {
        write_attributes(out, &messages.attributes(row));
    }
    more(out);
    out.push(b'}');
}

fn write_attributes(out: &mut Vec<u8>, attributes: &Attributes<'_>) {
    if let Some(group) = attributes.group {
        out.extend_from_slice(b",\"group\":");
        write_string(out, group);
    }
    if let Some(priority) = attributes.priority {
        out.extend_from_slice(b",\"priority\":");
        write_u64(out, u64::from(priority));
    }
    if let Some(time_ms) = attributes.deliver_at_ms {
        out.extend_from_slice(b",\"deliver_at\":");
        write_i64(out, time_ms);
    }
    if let Some(time_ms) = attributes.expires_at_ms {
        out.extend_from_slice(b",\"expires_at\":");
        write_i64(out, time_ms);
    }
}

fn write_value(out: &mut Vec<u8>, messages: &Messages, row: usize) {
    const TEXT: &[u8] = b",\"value\":";
    const BYTES: &[u8] = b",\"value_base64\":\"";
    let Some(value) = messages.value(row) else {
        out.extend_from_slice(b",\"value\":null");
        return;
    };
    match messages.kind(row) {
        ValueKind::Text => write_text_or_bytes(out, value, TEXT, BYTES),
        ValueKind::Json => match serde_json::from_slice::<&RawValue>(value) {
            Ok(json) => {
                out.extend_from_slice(TEXT);
                out.extend_from_slice(without_line_breaks(json.get()).as_bytes());
            }
            Err(_) => write_bytes(out, value, BYTES),
        },
        ValueKind::Binary => write_bytes(out, value, BYTES),
    }
}

fn write_text_or_bytes(out: &mut Vec<u8>, item: &[u8], text_name: &[u8], bytes_name: &[u8]) {
    match std::str::from_utf8(item) {
        Ok(text) => {
            out.extend_from_slice(text_name);
            write_string(out, text);
        }
        Err(_) => write_bytes(out, item, bytes_name),
    }
}

fn write_bytes(out: &mut Vec<u8>, item: &[u8], name: &[u8]) {
    out.extend_from_slice(name);
    let start = out.len();
    let len = encoded_len(item.len(), true).expect("a stored item is far smaller than memory");
    out.resize(start + len, 0);
    STANDARD.encode_slice(item, &mut out[start..]).expect("the place has the length that was computed for it");
    out.push(b'"');
}

/// About how many bytes the slices will take as JSON.
pub(super) fn estimate(slices: &[MessageSlice]) -> usize {
    let bytes_of = |slice: &MessageSlice| {
        let Range { start, end } = slice.range();
        let payload = |offsets: &[i32]| (offsets[end] - offsets[start]) as usize;
        let (keys, values) = (slice.messages.keys(), slice.messages.values());
        payload(keys.value_offsets()) + payload(values.value_offsets()) + 128 * (end - start)
    };
    let bytes: usize = slices.iter().map(bytes_of).sum();
    bytes + bytes / 16 + 128
}

/// Writes all messages of the slices, with `between` written after each one but the last.
fn write_rows(out: &mut Vec<u8>, slices: &[MessageSlice], between: u8) {
    let mut first = true;
    for slice in slices {
        for row in slice.range() {
            if !std::mem::take(&mut first) {
                out.push(between);
            }
            write_message(out, slice.partition, slice.offset(row), &slice.messages, row, |_| {});
        }
    }
}

/// Writes `"messages":[…]`.
pub fn write_messages(out: &mut Vec<u8>, slices: &[MessageSlice]) {
    out.extend_from_slice(b"\"messages\":[");
    write_rows(out, slices, b',');
    out.push(b']');
}

/// Writes `[{"partition":0,"offset":5},…]`.
pub fn write_positions(out: &mut Vec<u8>, positions: impl Iterator<Item = (u32, u64)>) {
    out.push(b'[');
    for (at, position) in positions.enumerate() {
        write_position(out, at, position);
        out.push(b'}');
    }
    out.push(b']');
}

/// Writes the position number `at` of a list, but for its closing brace.
fn write_position(out: &mut Vec<u8>, at: usize, (partition, offset): (u32, u64)) {
    out.extend_from_slice(if at == 0 { b"{\"partition\":" } else { b",{\"partition\":" });
    write_u64(out, u64::from(partition));
    out.extend_from_slice(b",\"offset\":");
    write_u64(out, offset);
}

/// The answer of a read: `{"messages":[…],"next_offset":13,"high_watermark":20}`.
pub fn encode_json(slices: &[MessageSlice], next_offset: u64, high_watermark: u64) -> Bytes {
    let mut out = Vec::with_capacity(estimate(slices));
    out.push(b'{');
    write_messages(&mut out, slices);
    out.extend_from_slice(b",\"next_offset\":");
    write_u64(&mut out, next_offset);
    out.extend_from_slice(b",\"high_watermark\":");
    write_u64(&mut out, high_watermark);
    out.push(b'}');
    out.into()
}

/// The answer of a poll: `{"messages":[…],"positions":[…]}`.
pub fn encode_poll(slices: &[MessageSlice], positions: impl Iterator<Item = (u32, u64)>) -> Bytes {
    let mut out = Vec::with_capacity(estimate(slices));
    out.push(b'{');
    write_messages(&mut out, slices);
    out.extend_from_slice(b",\"positions\":");
    write_positions(&mut out, positions);
    out.push(b'}');
    out.into()
}

/// One message object a line, each line ended by LF.
pub fn encode_ndjson(slices: &[MessageSlice]) -> Bytes {
    let mut out = Vec::with_capacity(estimate(slices));
    write_rows(&mut out, slices, b'\n');
    if !out.is_empty() {
        out.push(b'\n');
    }
    out.into()
}

/// Server-sent events: one event a message, its offset as id and its JSON object as data.
pub fn encode_sse(slices: &[MessageSlice]) -> Bytes {
    let mut out = Vec::with_capacity(estimate(slices));
    for slice in slices {
        for row in slice.range() {
            out.extend_from_slice(b"id: ");
            write_u64(&mut out, slice.offset(row));
            out.extend_from_slice(b"\ndata: ");
            write_message(&mut out, slice.partition, slice.offset(row), &slice.messages, row, |_| {});
            out.extend_from_slice(b"\n\n");
        }
    }
    out.into()
}

/// The answer of a publish: `{"messages":[{"partition":0,"offset":12},…]}`. Those whose indexes are in `duplicates`, which
/// is ascending, have `"duplicate":true` besides.
pub fn encode_placements(placements: impl Iterator<Item = (u32, u64)>, duplicates: &[usize]) -> Bytes {
    let mut out = Vec::with_capacity(32 + 40 * placements.size_hint().0 + 17 * duplicates.len());
    let mut duplicates = duplicates.iter().peekable();
    out.extend_from_slice(b"{\"messages\":[");
    for (at, placement) in placements.enumerate() {
        write_position(&mut out, at, placement);
        let duplicate = duplicates.next_if(|duplicate| **duplicate == at).is_some();
        out.extend_from_slice(if duplicate { b",\"duplicate\":true}" } else { b"}" });
    }
    out.extend_from_slice(b"]}");
    out.into()
}
