//! Creating a bucket.

use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    types::{BucketLocationConstraint, CreateBucketConfiguration},
};
use brigade_index::store::StoreOptions;

use crate::{
    BucketError, BucketErrorKind,
    client::{Target, connect},
};

const ACTION: &str = "create";

/// How a bucket came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioned {
    /// It was created now.
    Created,
    /// It was there already and is accessible.
    Existed,
}

/// Creates the bucket that an `s3://bucket/prefix` URL names, unless it exists. Everything about it is the provider's
/// default; nothing else is needed.
///
/// # Errors
/// When the URL or settings are wrong, credentials are missing or not sufficient, the name is taken by somebody else, or
/// the service does not answer.
pub async fn create_bucket(url: &str, options: &StoreOptions) -> Result<Provisioned, BucketError> {
    let Target { client, bucket, region, .. } = connect(ACTION, url, options)?;
    // Asked first, since some services answer success to creating what exists, and others an error.
    match client.head_bucket().bucket(&bucket).send().await {
        Ok(_) => return Ok(Provisioned::Existed),
        Err(error) => {
            let error = BucketError::from_sdk(ACTION, &bucket, &error);
            if error.kind != BucketErrorKind::Missing {
                return Err(error);
            }
        }
    }
    let mut request = client.create_bucket().bucket(&bucket);
    // The oldest region is the default and must not be named.
    if region != "us-east-1" {
        let place = BucketLocationConstraint::from(region.as_str());
        request = request
            .create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(place).build());
    }
    match request.send().await {
        Ok(_) => {
            tracing::info!(%bucket, %region, "bucket created");
            Ok(Provisioned::Created)
        }
        // Somebody was faster, with our credentials.
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(Provisioned::Existed),
        Err(error) => Err(BucketError::from_sdk(ACTION, &bucket, &error)),
    }
}
