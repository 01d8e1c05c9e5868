//! One read message, borrowed from the page it came in.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A message as the server sends it in JSON and NDJSON answers.
#[derive(Debug, Deserialize)]
pub struct Message<'a> {
    /// Number of the partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp: i64,
}

impl<'a> Message<'a> {
    /// Parses one message object.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The key's bytes.
    ///
    /// # Errors
    /// When a binary key is not base64.
    pub fn key(&self) -> Result<Option<Cow<'_, [u8]>>, base64::DecodeError> {
        match (&self.key, &self.key_base64) {
            (Some(key), _) => Ok(Some(Cow::Borrowed(key.as_bytes()))),
            (None, Some(encoded)) => STANDARD.decode(encoded.as_bytes()).map(|bytes| Some(Cow::Owned(bytes))),
            (None, None) => Ok(None),
        }
    }

    /// The value's bytes: text and binary values as they were published, any other JSON as its text, nothing for a
    /// tombstone.
    ///
    /// # Errors
    /// When a binary value is not base64, or a text value is not a JSON string.
    pub fn value(&self) -> Result<Option<Cow<'_, [u8]>>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(encoded) = &self.value_base64 {
            return Ok(Some(Cow::Owned(STANDARD.decode(encoded.as_bytes())?)));
        }
        let Some(raw) = self.value.map(RawValue::get) else { return Ok(None) };
        if !raw.starts_with('"') {
            return Ok(Some(Cow::Borrowed(raw.as_bytes())));
        }
        match serde_json::from_str::<Text<'_>>(raw)?.0 {
            Cow::Borrowed(text) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
            Cow::Owned(text) => Ok(Some(Cow::Owned(text.into_bytes()))),
        }
    }
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::Message;

    fn value(json: &str) -> Option<Vec<u8>> {
        Message::parse(json.as_bytes()).unwrap().value().unwrap().map(|value| value.into_owned())
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        let with = |field: &str| format!(r#"{{"partition":0,"offset":3,"headers":{{}},"timestamp":5{field}}}"#);
        assert_eq!(value(&with(r#","value":"plain""#)), Some(b"plain".to_vec()));
        assert_eq!(value(&with(r#","value":"a \"b\" \u00e9""#)), Some("a \"b\" é".as_bytes().to_vec()));
        assert_eq!(value(&with(r#","value":{"a": [1, 2]}"#)), Some(br#"{"a": [1, 2]}"#.to_vec()));
        assert_eq!(value(&with(r#","value_base64":"/wA=""#)), Some(vec![0xff, 0]));
        assert_eq!(value(&with(r#","value":null"#)), None);
    }

    #[test]
    fn keys_may_be_text_binary_or_absent() {
        let key = |json: &str| Message::parse(json.as_bytes()).unwrap().key().unwrap().map(|key| key.into_owned());
        assert_eq!(key(r#"{"partition":0,"offset":0,"key":"k","value":1}"#), Some(b"k".to_vec()));
        assert_eq!(key(r#"{"partition":0,"offset":0,"key_base64":"/w==","value":1}"#), Some(vec![0xff]));
        assert_eq!(key(r#"{"partition":0,"offset":0,"value":1}"#), None);
    }
}
