//! From a URL to a store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    path::Path,
    prefix::PrefixStore,
};
use url::Url;

use super::{Memory, StoreError, StoreErrorKind, StoreOptions, local::Directory};

/// Opens the store that a URL names. Makes no request; a directory is created when it does not exist.
///
/// | URL | store |
/// |---|---|
/// | `file:///var/lib/brigade`, `file://./data` | a directory, absolute or relative to the working directory; every write is fsynced |
/// | `memory://` | memory of this process; a new, empty store with every call |
/// | `s3://bucket/prefix` | Amazon S3, and with `endpoint` whatever speaks its protocol |
/// | `gs://bucket/prefix` | Google Cloud Storage |
/// | `az://container/prefix` | Azure Blob Storage |
///
/// The text after `file://` is a path as it is, without escapes.
///
/// # Errors
/// [`StoreErrorKind::Invalid`] for a URL or settings that cannot work, [`StoreErrorKind::Denied`] and the like for a
/// directory that cannot be created. Nothing in them shows a secret.
pub fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(invalid(url, "a store's URL begins with file://, memory://, s3://, gs:// or az://"));
    };
    match scheme {
        "file" if rest.is_empty() => Err(invalid(url, "the directory is missing after file://")),
        "file" => Ok(Arc::new(Directory::open(url, &PathBuf::from(rest))?)),
        "memory" if rest.is_empty() => Ok(Arc::new(Memory::default())),
        "memory" => Err(invalid(url, "memory:// takes no name: each one is new and empty")),
        "s3" | "gs" | "az" => bucket(url, scheme, rest, options),
        _ => Err(invalid(url, "unknown scheme; known are file://, memory://, s3://, gs:// and az://")),
    }
}

fn invalid(url: &str, problem: &str) -> StoreError {
    StoreError::open(url, StoreErrorKind::Invalid, problem)
}

fn bucket(url: &str, scheme: &str, rest: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || bucket.contains(['@', '?', '#', ':']) {
        return Err(invalid(url, "the name of the bucket is missing, or has a character that it may not have"));
    }
    let prefix = Path::parse(prefix).map_err(|error| StoreError::open(url, StoreErrorKind::Invalid, error))?;
    let store = match scheme {
        "s3" => s3(url, bucket, options)?,
        "gs" => gcs(url, bucket, options)?,
        _ => azure(url, bucket, options)?,
    };
    Ok(if prefix.is_root() { store } else { Arc::new(PrefixStore::new(store, prefix)) })
}

/// The library would repeat even conditional writes, and then mistake its own success for somebody else's.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn client(options: &StoreOptions, allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(Duration::from_millis(options.connect_timeout_ms.max(1)))
        .with_timeout(Duration::from_millis(options.request_timeout_ms.max(1)))
}

/// Whether the endpoint needs plain HTTP, which is refused unless it stays on this machine or is asked for.
fn plain_http(url: &str, endpoint: Option<&str>, permitted: bool) -> Result<bool, StoreError> {
    let Some(endpoint) = endpoint else { return Ok(false) };
    let parsed = Url::parse(endpoint)
        .map_err(|error| invalid(url, &format!("the endpoint {endpoint:?} is not a URL: {error}")))?;
    if parsed.scheme() == "https" {
        return Ok(false);
    }
    let loopback = match parsed.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if loopback || permitted {
        return Ok(true);
    }
    Err(invalid(
        url,
        &format!("the endpoint {endpoint:?} is not encrypted and not on this machine; use https, or set allow_http"),
    ))
}

fn s3(url: &str, bucket: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = AmazonS3Builder::from_env();
    // The general setting of the environment must not win over an explicit one here.
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    if let Some(region) = &options.provider_region {
        builder = builder.with_region(region);
    }
    if let Some(key) = &options.access_key_id {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = &options.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose());
    }
    if let Some(token) = &options.session_token {
        builder = builder.with_token(token.expose());
    }
    if let Some(virtual_hosted) = options.virtual_hosted_style {
        builder = builder.with_virtual_hosted_style_request(virtual_hosted);
    }
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let permitted = options.allow_http.unwrap_or_else(|| {
        let key = AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp);
        builder.get_config_value(&key).is_some_and(|value| value == "true")
    });
    let allow_http = plain_http(url, endpoint.as_deref(), permitted)?;
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(client(options, allow_http))
        .with_retry(no_retries())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Not every server has the bulk call, and a single deletion through it costs more.
        .with_disable_bulk_delete(true)
        .build()
        .map_err(|error| StoreError::open(url, StoreErrorKind::Invalid, error))?;
    Ok(Arc::new(store))
}

fn gcs(url: &str, bucket: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if let Some(key) = &options.secret_access_key {
        builder = builder.with_service_account_key(key.expose());
    }
    let allow_http = plain_http(url, options.endpoint.as_deref(), options.allow_http == Some(true))?;
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(client(options, allow_http))
        .with_retry(no_retries())
        .build()
        .map_err(|error| StoreError::open(url, StoreErrorKind::Invalid, error))?;
    Ok(Arc::new(store))
}

fn azure(url: &str, container: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if let Some(account) = &options.access_key_id {
        builder = builder.with_account(account);
    }
    if let Some(key) = &options.secret_access_key {
        builder = builder.with_access_key(key.expose());
    }
    let allow_http = plain_http(url, options.endpoint.as_deref(), options.allow_http == Some(true))?;
    let store = builder
        .with_container_name(container)
        .with_client_options(client(options, allow_http))
        .with_retry(no_retries())
        .build()
        .map_err(|error| StoreError::open(url, StoreErrorKind::Invalid, error))?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Secret;

    #[test]
    fn urls_that_cannot_work_are_refused() {
        let bad = [
            "",
            "data",
            "/data",
            "file://",
            "memory://x",
            "http://x/y",
            "s3://",
            "s3:///x",
            "s3://k:v@b/x",
            "s3://b/x//y",
        ];
        for url in bad {
            let error = open(url, &StoreOptions::default()).expect_err(url);
            assert_eq!(error.kind, StoreErrorKind::Invalid, "{url}: {error}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_asked_for() {
        let mut options = StoreOptions {
            access_key_id: Some("id".into()),
            secret_access_key: Some(Secret::new("hunter2")),
            ..StoreOptions::default()
        };
        for endpoint in ["http://[::1]:4566", "http://127.0.0.1:9000", "http://localhost:1", "https://example.org"] {
            options.endpoint = Some(endpoint.into());
            let store = open("s3://bucket/a/b", &options).expect(endpoint);
            assert!(!format!("{store:?} {store}").contains("hunter2"));
        }
        options.endpoint = Some("http://example.org".into());
        let error = open("s3://bucket", &options).expect_err("refused");
        assert!(error.to_string().contains("allow_http") && !format!("{error:?}").contains("hunter2"), "{error}");
        options.allow_http = Some(true);
        open("s3://bucket", &options).expect("asked for");
    }
}
