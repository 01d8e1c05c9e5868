//! How to reach a store: endpoint, credentials, time-outs. Serialisable; secrets never leave it as text.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A secret. It can be read from a settings file, but is printed and serialised as `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that signs requests.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Settings of one store beside its URL. Everything has a default; what is not set here comes from the environment
/// that the providers' own tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// Where the service listens, when it is not the provider's own: `http://[::1]:4566` for a local S3 server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The provider's name of the region (`s3://` only): `eu-central-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_region: Option<String>,
    /// `s3://`: put the bucket into the host name instead of the path. With `endpoint`, the endpoint must then already
    /// name the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_hosted_style: Option<bool>,
    /// Permit an `http://` endpoint that is not on this machine: messages then travel unencrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
    /// `s3://`: access key id. `az://`: name of the storage account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// `s3://`: secret access key. `az://`: key of the storage account. `gs://`: service account key as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// `s3://`: token of a temporary credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// Longest time to establish a connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest time of one request including its body, in milliseconds: the last resort for a connection that is stuck.
    /// [`super::StoreTiming`] gives up earlier, in proportion to the size.
    pub request_timeout_ms: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            provider_region: None,
            virtual_hosted_style: None,
            allow_http: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            connect_timeout_ms: 2_000,
            request_timeout_ms: 40_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let options = StoreOptions {
            access_key_id: Some("AKIA".into()),
            secret_access_key: Some(Secret::new("hunter2")),
            session_token: Some(Secret::new("hunter3")),
            ..StoreOptions::default()
        };
        let printed = format!("{options:?} {options:#?}");
        assert!(printed.contains("***") && printed.contains("AKIA") && !printed.contains("hunter"), "{printed}");
        assert_eq!(options.secret_access_key.as_ref().unwrap().expose(), "hunter2");
    }
}
