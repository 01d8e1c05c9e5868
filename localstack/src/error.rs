//! Why a bucket could not be provisioned or inspected, and what to do.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketErrorKind {
    /// The URL or the settings cannot work.
    Invalid,
    /// Buckets of this provider are made with the provider's own tool.
    Unsupported,
    /// Credentials are missing, wrong or insufficient.
    Denied,
    /// The name belongs to somebody else.
    Taken,
    /// The bucket lies in another region of the provider.
    OtherRegion,
    /// The bucket does not exist.
    Missing,
    /// No connection, or no answer in time.
    Unreachable,
    /// Any other failure.
    Failed,
}

/// A failed request about a bucket.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action} bucket {bucket:?}: {message}")]
pub struct BucketError {
    /// What went wrong.
    pub kind: BucketErrorKind,
    /// What was being done.
    pub action: &'static str,
    /// The bucket or URL.
    pub bucket: String,
    /// The service's own words.
    pub message: String,
}

impl BucketError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            BucketErrorKind::Invalid => "correct the URL (s3://bucket/prefix) or the settings",
            BucketErrorKind::Unsupported => {
                "create it with the provider's own tool (gcloud storage buckets create, az storage container create), \
                 then run: brigade bucket check"
            }
            BucketErrorKind::Denied => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to credentials that may create and inspect buckets"
            }
            BucketErrorKind::Taken => "bucket names are shared by all customers of the provider; choose another one",
            BucketErrorKind::OtherRegion => {
                "set AWS_REGION (or provider_region) to the region in which the bucket lies"
            }
            BucketErrorKind::Missing => "create it first: brigade bucket create",
            BucketErrorKind::Unreachable => "check the endpoint, the network and that the service is running",
            BucketErrorKind::Failed => "try again; if it persists, look into the service's own logs",
        }
    }

    pub(crate) fn new(kind: BucketErrorKind, action: &'static str, bucket: &str, message: impl Into<String>) -> Self {
        Self { kind, action, bucket: bucket.to_owned(), message: message.into() }
    }

    pub(crate) fn from_sdk<E>(action: &'static str, bucket: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let kind = match (error.code(), status) {
            (Some("BucketAlreadyExists"), _) => BucketErrorKind::Taken,
            (Some("NoSuchBucket" | "NotFound"), _) | (_, Some(404)) => BucketErrorKind::Missing,
            (Some("InvalidBucketName"), _) => BucketErrorKind::Invalid,
            (Some("PermanentRedirect" | "IllegalLocationConstraintException"), _) | (_, Some(301)) => {
                BucketErrorKind::OtherRegion
            }
            (_, Some(401 | 403)) => BucketErrorKind::Denied,
            (_, Some(400..=499)) => BucketErrorKind::Invalid,
            (_, Some(_)) => BucketErrorKind::Failed,
            (_, None) => match error {
                SdkError::ConstructionFailure(_) => BucketErrorKind::Invalid,
                _ => BucketErrorKind::Unreachable,
            },
        };
        let mut message = match (error.message(), error.code()) {
            (Some(message), Some(code)) => format!("{message} ({code})"),
            // An answer to HEAD has no body that could say more.
            (None, Some(code)) => match status {
                Some(status) => format!("the service answers {status} ({code})"),
                None => code.to_owned(),
            },
            _ => DisplayErrorContext(error).to_string(),
        };
        // An answer to HEAD has no body, so that the header is all the service can say.
        if let Some(region) = error.raw_response().and_then(|response| response.headers().get("x-amz-bucket-region")) {
            message = format!("{message}; the bucket lies in region {region}");
        }
        Self::new(kind, action, bucket, message)
    }
}
