//! Names and values of a message's fields, as serde reads them.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::error::{Refusal, codes};

const FIELDS: &str = "key, key_base64, value, value_base64, headers, timestamp, partition, group, priority, delay_ms, \
                      deliver_at, ttl_ms, expires_at and deduplication_id";
pub(super) const FIELDS_HINT: &str = "Fields of a message: key, key_base64, value, value_base64, headers, timestamp, partition, group, priority, \
     delay_ms, deliver_at, ttl_ms, expires_at and deduplication_id, each at most once.";

/// A field of a message.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Key,
    KeyBase64,
    Value,
    ValueBase64,
    Headers,
    Timestamp,
    Partition,
    Group,
    Priority,
    DelayMs,
    DeliverAt,
    TtlMs,
    ExpiresAt,
    DeduplicationId,
}

impl Field {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "key" => Self::Key,
            "key_base64" => Self::KeyBase64,
            "value" => Self::Value,
            "value_base64" => Self::ValueBase64,
            "headers" => Self::Headers,
            "timestamp" => Self::Timestamp,
            "partition" => Self::Partition,
            "group" => Self::Group,
            "priority" => Self::Priority,
            "delay_ms" => Self::DelayMs,
            "deliver_at" => Self::DeliverAt,
            "ttl_ms" => Self::TtlMs,
            "expires_at" => Self::ExpiresAt,
            "deduplication_id" => Self::DeduplicationId,
            _ => return None,
        })
    }
}

/// The name of a field; an unknown one is put down as refusal.
pub(super) struct FieldName<'a>(pub(super) &'a mut Option<Refusal>);

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
        Field::from_name(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            let message = format!("unknown field {shown:?}; a message has {FIELDS}");
            *self.0 = Some(Refusal::new(codes::INVALID_JSON, message, FIELDS_HINT));
            E::custom("refused")
        })
    }
}

/// A string, borrowed if it has no escapes; `null` is none.
pub(super) struct OptionalText(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for OptionalText {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OptionalText {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An integer from 0 to `max`; `null` is none.
pub(super) struct OptionalNumber {
    pub(super) what: &'static str,
    pub(super) max: u64,
}

impl<'de> DeserializeSeed<'de> for OptionalNumber {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for OptionalNumber {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and at most {}", self.what, self.max)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        if number > self.max {
            return Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self));
        }
        Ok(Some(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Any integer, brought into 64 bits: what is beyond is out of every range anyway. `null` is none.
pub(super) struct OptionalInteger(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for OptionalInteger {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for OptionalInteger {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
