//! The provider's client, built from the same settings and environment as the data path's.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use brigade_index::store::StoreOptions;

use crate::{BucketError, BucketErrorKind};

/// A bucket to talk about: its client, its name, the prefix of our keys in it.
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) region: String,
}

fn environment(names: &[&str]) -> Option<String> {
    names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
}

/// Understands the URL and builds a client; makes no request.
pub(crate) fn connect(action: &'static str, url: &str, options: &StoreOptions) -> Result<Target, BucketError> {
    let Some(rest) = url.strip_prefix("s3://") else {
        let kind = match url.split_once("://") {
            Some(("gs" | "az", _)) => BucketErrorKind::Unsupported,
            _ => BucketErrorKind::Invalid,
        };
        return Err(BucketError::new(kind, action, url, "only buckets of s3:// can be created and inspected"));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // The data path's own checks: the name of the bucket, and plain HTTP only where it is permitted.
    brigade_index::store::open(url, options)
        .map_err(|error| BucketError::new(BucketErrorKind::Invalid, action, url, error.source.to_string()))?;
    let region = options.provider_region.clone();
    let region = region.or_else(|| environment(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let tls = Provider::Rustls(CryptoMode::AwsLc);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(options.connect_timeout_ms.max(1)))
        .operation_attempt_timeout(Duration::from_secs(10))
        .operation_timeout(Duration::from_secs(30))
        .build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(Builder::new().tls_provider(tls).build_https())
        .region(Region::new(region.clone()))
        .credentials_provider(credentials(action, bucket, options)?)
        .force_path_style(!options.virtual_hosted_style.unwrap_or(false))
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts);
    let endpoint = options.endpoint.clone().or_else(|| environment(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    let client = Client::from_conf(config.build());
    Ok(Target { client, bucket: bucket.to_owned(), prefix: prefix.trim_end_matches('/').to_owned(), region })
}

fn credentials(action: &'static str, bucket: &str, options: &StoreOptions) -> Result<Credentials, BucketError> {
    let id = options.access_key_id.clone().or_else(|| environment(&["AWS_ACCESS_KEY_ID"]));
    let secret = options.secret_access_key.as_ref().map(|secret| secret.expose().to_owned());
    let secret = secret.or_else(|| environment(&["AWS_SECRET_ACCESS_KEY"]));
    let token = options.session_token.as_ref().map(|token| token.expose().to_owned());
    // A token belongs to its key: the environment's is of no use to a key from the settings.
    let token = token.or_else(|| match options.access_key_id {
        Some(_) => None,
        None => environment(&["AWS_SESSION_TOKEN"]),
    });
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Credentials::new(id, secret, token, None, "brigade")),
        _ => Err(BucketError::new(
            BucketErrorKind::Denied,
            action,
            bucket,
            "no access key in the settings or environment",
        )),
    }
}
