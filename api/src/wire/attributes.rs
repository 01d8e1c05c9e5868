//! Attributes of a message as clients give them: times also relative to now, numbers of any size.

use brigade_index::{
    batch::Attributes,
    limits::{MAX_AHEAD_MS, MAX_PRIORITY},
};

use super::error::{Refusal, codes};

/// What a client says of how its message is to be delivered. All of it is optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenAttributes<'a> {
    /// Group.
    pub group: Option<&'a str>,
    /// Priority.
    pub priority: Option<i64>,
    /// Not delivered before so many milliseconds from now. Not together with `deliver_at`.
    pub delay_ms: Option<i64>,
    /// Not delivered before, milliseconds since the Unix epoch.
    pub deliver_at: Option<i64>,
    /// Not delivered from so many milliseconds from now on. Not together with `expires_at`.
    pub ttl_ms: Option<i64>,
    /// Not delivered from then on, milliseconds since the Unix epoch.
    pub expires_at: Option<i64>,
}

impl<'a> GivenAttributes<'a> {
    /// The attributes with times counted from `now_ms`, milliseconds since the Unix epoch. A delay of 0 is none.
    pub(super) fn resolve(&self, now_ms: i64) -> Result<Attributes<'a>, Refusal> {
        let Self { group, priority, delay_ms, deliver_at, ttl_ms, expires_at } = *self;
        let priority = priority.map(priority_of).transpose()?;
        let deliver_at_ms = match (delay_ms, deliver_at) {
            (Some(_), Some(_)) => return Err(both("delay_ms and deliver_at")),
            (Some(0), None) => None,
            (Some(delay_ms), None) => Some(ahead(now_ms, delay_ms, "delay_ms", codes::DELAY_OUT_OF_RANGE)?),
            (None, deliver_at) => deliver_at,
        };
        let expires_at_ms = match (ttl_ms, expires_at) {
            (Some(_), Some(_)) => return Err(both("ttl_ms and expires_at")),
            (Some(ttl_ms), None) => Some(ahead(now_ms, ttl_ms, "ttl_ms", codes::TTL_OUT_OF_RANGE)?),
            (None, expires_at) => expires_at,
        };
        Ok(Attributes { group, priority, deliver_at_ms, expires_at_ms })
    }
}

fn priority_of(number: i64) -> Result<u8, Refusal> {
    u8::try_from(number).ok().filter(|priority| *priority <= MAX_PRIORITY).ok_or_else(|| {
        let message = format!("priority {number} does not exist, they are 0 to {MAX_PRIORITY}");
        Refusal::new(codes::INVALID_PRIORITY, message, "Leave it out for priority 4; 9 comes first.")
    })
}

fn both(which: &str) -> Refusal {
    Refusal::invalid(format!("the message has both {which}"), "Give the time span or the time, not both.")
}

fn ahead(now_ms: i64, span_ms: i64, name: &str, code: &'static str) -> Result<i64, Refusal> {
    if (0..=MAX_AHEAD_MS).contains(&span_ms) {
        return Ok(now_ms.saturating_add(span_ms));
    }
    let message = format!("{name} is {span_ms}, it must be 0 to {MAX_AHEAD_MS}, which is 366 days");
    Err(Refusal::new(code, message, "Give milliseconds from now, at most 366 days."))
}
