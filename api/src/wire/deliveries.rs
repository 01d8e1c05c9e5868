//! JSON answers of queue subscriptions: messages with receipts, what became of receipts, dead letters.

use brigade_index::command::DeadLetter;
use brigade_ingest::Handed;
use bytes::Bytes;

use super::{
    MessageSlice,
    encode::{estimate, write_message},
    escape::{write_i64, write_string, write_u64},
};

/// What a receipt and what belongs to it take as JSON, about.
const HANDED_BYTES: usize = 192;

/// What became of a receipt.
pub enum Verdict<'a> {
    /// It was good.
    Done {
        /// What was done.
        status: &'a str,
        /// The receipt that takes its place, and until when that is good, in milliseconds since the Unix epoch.
        extended: Option<(String, i64)>,
    },
    /// It was refused.
    Refused {
        /// Stable, in snake case.
        code: &'a str,
        /// What was wrong.
        message: String,
        /// What to do.
        hint: &'a str,
    },
}

/// The answer of a poll of a queue: `{"messages":[{…message…,"receipt":"…","delivery_count":1,"first_delivered_at":5,
/// "deadline":9},…]}`. Each slice has as many rows as it has receipts; what one of them has more is left out.
pub fn encode_deliveries(deliveries: &[(MessageSlice, Vec<Handed>)]) -> Bytes {
    let sizes =
        deliveries.iter().map(|(slice, handed)| estimate(std::slice::from_ref(slice)) + HANDED_BYTES * handed.len());
    let mut out = Vec::with_capacity(16 + sizes.sum::<usize>());
    out.extend_from_slice(b"{\"messages\":[");
    let mut first = true;
    for (slice, handed) in deliveries {
        for (row, handed) in slice.range().zip(handed) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_message(&mut out, slice.partition, slice.offset(row), &slice.messages, row, |out| {
                out.extend_from_slice(b",\"receipt\":");
                write_string(out, &handed.receipt);
                write_delivery(out, handed.deliveries, handed.first_ms);
                out.extend_from_slice(b",\"deadline\":");
                write_i64(out, handed.deadline_ms);
            });
        }
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// Writes how often a message was delivered: `,"delivery_count":1,"first_delivered_at":5`, with `null` for 0, which stands for
/// never.
pub fn write_delivery(out: &mut Vec<u8>, deliveries: u32, first_ms: i64) {
    out.extend_from_slice(b",\"delivery_count\":");
    write_u64(out, u64::from(deliveries));
    out.extend_from_slice(b",\"first_delivered_at\":");
    match first_ms {
        0 => out.extend_from_slice(b"null"),
        first_ms => write_i64(out, first_ms),
    }
}

/// Writes what every error object begins with: `"code":"…","message":"…","hint":"…"`.
pub fn write_error(out: &mut Vec<u8>, code: &str, message: &str, hint: &str) {
    out.extend_from_slice(b"\"code\":");
    write_string(out, code);
    out.extend_from_slice(b",\"message\":");
    write_string(out, message);
    out.extend_from_slice(b",\"hint\":");
    write_string(out, hint);
}

/// Writes what became of receipts: `[{"receipt":"…","status":"acknowledged"},{"receipt":"…","error":{…}},…]`.
pub fn write_verdicts<'a>(out: &mut Vec<u8>, verdicts: impl Iterator<Item = (&'a str, Verdict<'a>)>) {
    out.push(b'[');
    for (at, (receipt, verdict)) in verdicts.enumerate() {
        out.extend_from_slice(if at == 0 { b"{\"receipt\":" } else { b",{\"receipt\":" });
        write_string(out, receipt);
        match verdict {
            Verdict::Done { status, extended } => {
                out.extend_from_slice(b",\"status\":");
                write_string(out, status);
                if let Some((receipt, deadline_ms)) = extended {
                    out.extend_from_slice(b",\"new_receipt\":");
                    write_string(out, &receipt);
                    out.extend_from_slice(b",\"deadline\":");
                    write_i64(out, deadline_ms);
                }
            }
            Verdict::Refused { code, message, hint } => {
                out.extend_from_slice(b",\"error\":{");
                write_error(out, code, &message, hint);
                out.push(b'}');
            }
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// A page of dead letters: `{"messages":[{…message…,"topic":"…","reason":"…","delivery_count":3,"first_delivered_at":5,
/// "dead_at":9},…],"next":"0:7"}`. A letter that was never delivered has `null` as the time of its first delivery, and so
/// has the last page as the place of the next.
pub fn encode_dead_letters(topic: &str, letters: &[(MessageSlice, DeadLetter)], next: Option<(u32, u64)>) -> Bytes {
    let sizes = letters.iter().map(|(slice, _)| estimate(std::slice::from_ref(slice)) + HANDED_BYTES + topic.len());
    let mut out = Vec::with_capacity(48 + sizes.sum::<usize>());
    out.extend_from_slice(b"{\"messages\":[");
    let mut first = true;
    for (slice, letter) in letters {
        for row in slice.range() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_message(&mut out, slice.partition, slice.offset(row), &slice.messages, row, |out| {
                write_letter(out, topic, letter);
            });
        }
    }
    out.extend_from_slice(b"],\"next\":");
    match next {
        Some((partition, offset)) => {
            out.push(b'"');
            write_u64(&mut out, u64::from(partition));
            out.push(b':');
            write_u64(&mut out, offset);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out.into()
}

fn write_letter(out: &mut Vec<u8>, topic: &str, letter: &DeadLetter) {
    out.extend_from_slice(b",\"topic\":");
    write_string(out, topic);
    out.extend_from_slice(b",\"reason\":");
    write_string(out, letter.reason.name());
    write_delivery(out, letter.deliveries, letter.first_ms);
    out.extend_from_slice(b",\"dead_at\":");
    write_i64(out, letter.time_ms);
}
