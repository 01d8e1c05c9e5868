//! Messages in the order in which they were found, a few bytes each.

use std::collections::VecDeque;

use super::types::{At, Found};

/// Bytes of a chunk, after which the next one begins. Small, so that what was read is given back soon.
const CHUNK: usize = 4_096;

/// What most messages of a line have in common; a message stores only in what it differs. The same for everything that
/// is pushed to and popped from a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) group: Option<u64>,
    pub(super) tenant: u64,
    pub(super) priority: u8,
}

/// First in, first out. Not a set: a message that is settled while it waits stays here until it is popped.
///
/// A message is a byte of flags and what they announce: how far it is from the one before, its group, its tenant, its
/// attributes. The message that follows the one before and has nothing of its own is that one byte.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Read from `read` on; written to while it is the only one.
    head: Vec<u8>,
    read: usize,
    tail: VecDeque<Vec<u8>>,
    popped: At,
    pushed: At,
}

/// The two lowest bits: where the message is.
const NEXT: u8 = 0;
const AHEAD: u8 = 1;
const ANYWHERE: u8 = 2;
const RUN: u8 = 3;
/// Its group: the common one, its tenant's hash, none, or another.
const GROUP_OF_TENANT: u8 = 1 << 2;
const NO_GROUP: u8 = 2 << 2;
const GROUP: u8 = 3 << 2;
/// Its tenant: the common one, its group's hash, or another.
const TENANT_OF_GROUP: u8 = 1 << 4;
const TENANT: u8 = 2 << 4;
/// A second byte follows: its priority and the flags below.
const MORE: u8 = 1 << 6;
const READY: u8 = 1 << 4;
const EXPIRES: u8 = 1 << 5;
const DELIVERED: u8 = 1 << 6;

impl Line {
    pub(super) fn push(&mut self, common: &Common, found: &Found) {
        let mut bytes = Encoded::default();
        encode(&mut bytes, common, self.pushed, found);
        self.append(bytes.as_slice());
        self.pushed = found.at;
    }

    /// `rows` messages in a row that have nothing of their own.
    pub(super) fn push_run(&mut self, first: At, rows: u64) {
        let mut bytes = Encoded::default();
        bytes.byte(RUN);
        bytes.varint(first.0);
        bytes.varint(rows);
        self.append(bytes.as_slice());
        self.pushed = At(first.0 + rows - 1);
    }

    /// The next message, and how many there are of its kind in a row.
    pub(super) fn pop(&mut self, common: &Common) -> Option<(Found, u64)> {
        if self.read == self.head.len() {
            self.head = self.tail.pop_front()?;
            self.read = 0;
        }
        let mut bytes = Decoder { bytes: &self.head, at: self.read };
        let (found, rows) = decode(&mut bytes, common, self.popped);
        self.read = bytes.at;
        self.popped = At(found.at.0 + rows - 1);
        Some((found, rows))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read == self.head.len() && self.tail.is_empty()
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.tail.is_empty() && self.read == self.head.len() {
            self.head.clear();
            self.read = 0;
        }
        let last = self.tail.back_mut().unwrap_or(&mut self.head);
        if last.len() + bytes.len() <= CHUNK {
            last.extend_from_slice(bytes);
        } else {
            self.tail.push_back(bytes.to_vec());
        }
    }
}

/// A message by itself, as a line would store it, if that is short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed([u8; 15]);

impl Packed {
    pub(super) fn of(common: &Common, found: &Found) -> Option<Self> {
        let mut bytes = Encoded::default();
        encode(&mut bytes, common, At::default(), found);
        let mut packed = [0; 15];
        packed.get_mut(..bytes.len)?.copy_from_slice(bytes.as_slice());
        Some(Self(packed))
    }

    pub(super) fn unpack(&self, common: &Common) -> Found {
        decode(&mut Decoder { bytes: &self.0, at: 0 }, common, At::default()).0
    }
}

/// The longest message: two bytes of flags, seven numbers.
#[derive(Debug)]
struct Encoded {
    bytes: [u8; 80],
    len: usize,
}

impl Default for Encoded {
    fn default() -> Self {
        Self { bytes: [0; 80], len: 0 }
    }
}

impl Encoded {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// A hash: eight bytes, because its high bits are as likely set as any.
    fn word(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.byte(byte);
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }
}

#[derive(Debug)]
struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Decoder<'_> {
    fn byte(&mut self) -> u8 {
        let byte = self.bytes[self.at];
        self.at += 1;
        byte
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, at| word | u64::from(self.byte()) << (8 * at))
    }

    fn varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }
}

/// Writes a message that comes after the one at `before`.
fn encode(bytes: &mut Encoded, common: &Common, before: At, found: &Found) {
    let distance = found.at.0.checked_sub(before.0).filter(|distance| *distance > 0);
    let place = match distance {
        Some(1) => NEXT,
        Some(_) if found.at.partition() == before.partition() => AHEAD,
        _ => ANYWHERE,
    };
    let tenant = match found.group {
        _ if found.tenant == common.tenant => 0,
        Some(group) if found.tenant == group => TENANT_OF_GROUP,
        _ => TENANT,
    };
    let group = match found.group {
        group if group == common.group => 0,
        None => NO_GROUP,
        Some(group) if group == found.tenant && tenant != TENANT_OF_GROUP => GROUP_OF_TENANT,
        Some(_) => GROUP,
    };
    let (ready, delivered) = (found.ready_ms != 0, found.deliveries != 0);
    let more = ready || delivered || found.expires_ms.is_some() || found.priority != common.priority;
    bytes.byte(place | group | tenant | if more { MORE } else { 0 });
    match place {
        NEXT => {}
        AHEAD => bytes.varint(found.at.0 - before.0),
        _ => bytes.varint(found.at.0),
    }
    if tenant == TENANT {
        bytes.word(found.tenant);
    }
    if group == GROUP {
        bytes.word(found.group.unwrap_or_default());
    }
    if more {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let expires = flag(found.expires_ms.is_some(), EXPIRES);
        bytes.byte(found.priority | flag(ready, READY) | expires | flag(delivered, DELIVERED));
        if ready {
            bytes.varint(found.ready_ms as u64);
        }
        if let Some(expires_ms) = found.expires_ms {
            bytes.varint(expires_ms as u64);
        }
        if delivered {
            bytes.varint(u64::from(found.deliveries));
            bytes.varint(found.first_ms as u64);
        }
    }
}

fn decode(bytes: &mut Decoder<'_>, common: &Common, before: At) -> (Found, u64) {
    let flags = bytes.byte();
    let (at, rows) = match flags & 3 {
        NEXT => (At(before.0 + 1), 1),
        AHEAD => (At(before.0 + bytes.varint()), 1),
        ANYWHERE => (At(bytes.varint()), 1),
        _ => (At(bytes.varint()), bytes.varint()),
    };
    let own_tenant = if flags & (3 << 4) == TENANT { bytes.word() } else { common.tenant };
    let group = match flags & (3 << 2) {
        GROUP => Some(bytes.word()),
        GROUP_OF_TENANT => Some(own_tenant),
        NO_GROUP => None,
        _ => common.group,
    };
    let tenant = if flags & (3 << 4) == TENANT_OF_GROUP { group.unwrap_or(own_tenant) } else { own_tenant };
    let mut found = Found { group, tenant, priority: common.priority, ..Found::plain(at) };
    if flags & MORE != 0 {
        let more = bytes.byte();
        found.priority = more & 0x0f;
        if more & READY != 0 {
            found.ready_ms = bytes.varint() as i64;
        }
        if more & EXPIRES != 0 {
            found.expires_ms = Some(bytes.varint() as i64);
        }
        if more & DELIVERED != 0 {
            found.deliveries = bytes.varint() as u32;
            found.first_ms = bytes.varint() as i64;
        }
    }
    (found, rows)
}
