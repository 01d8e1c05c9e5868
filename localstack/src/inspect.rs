//! Looking for settings of a bucket that would hurt.

use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    types::{BucketVersioningStatus, ExpirationStatus, LifecycleRule, TransitionStorageClass},
};
use brigade_index::store::StoreOptions;

use crate::{
    BucketError, BucketErrorKind,
    client::{Target, connect},
};

const ACTION: &str = "inspect";

/// A setting that would hurt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable name: `versioning`, `lifecycle_expiration`, `lifecycle_archive`, `object_lock`, `not_readable`.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Looks at versioning, lifecycle rules and object lock of the bucket of an `s3://bucket/prefix` URL. Changes nothing.
/// No findings means that nothing would hurt.
///
/// # Errors
/// When the bucket cannot be reached at all. What credentials may not see becomes a finding.
pub async fn inspect_bucket(url: &str, options: &StoreOptions) -> Result<Vec<Finding>, BucketError> {
    let target = connect(ACTION, url, options)?;
    let Target { client, bucket, .. } = &target;
    client.head_bucket().bucket(bucket).send().await.map_err(|error| BucketError::from_sdk(ACTION, bucket, &error))?;
    let mut findings = Vec::new();
    versioning(&target, &mut findings).await?;
    lifecycle(&target, &mut findings).await?;
    object_lock(&target, &mut findings).await?;
    Ok(findings)
}

/// What may not be seen, or does not exist in this service, is worth a finding and no failure.
fn not_readable(what: &str, error: BucketError, findings: &mut Vec<Finding>) -> Result<(), BucketError> {
    match error.kind {
        BucketErrorKind::Unreachable | BucketErrorKind::OtherRegion => Err(error),
        _ => {
            findings.push(Finding {
                code: "not_readable",
                message: format!("{what} could not be read: {}", error.message),
                hint: "see for yourself that no rule deletes, archives or locks objects, or permit reading the setting",
            });
            Ok(())
        }
    }
}

async fn versioning(target: &Target, findings: &mut Vec<Finding>) -> Result<(), BucketError> {
    match target.client.get_bucket_versioning().bucket(&target.bucket).send().await {
        Ok(answer) if answer.status() == Some(&BucketVersioningStatus::Enabled) => findings.push(Finding {
            code: "versioning",
            message: "versioning is on: deleted objects stay and are paid for".into(),
            hint: "suspend versioning, or add a lifecycle rule that expires noncurrent versions after a day",
        }),
        Ok(_) => {}
        Err(error) => {
            not_readable("versioning", BucketError::from_sdk(ACTION, &target.bucket, &error), findings)?;
        }
    }
    Ok(())
}

async fn lifecycle(target: &Target, findings: &mut Vec<Finding>) -> Result<(), BucketError> {
    match target.client.get_bucket_lifecycle_configuration().bucket(&target.bucket).send().await {
        Ok(answer) => findings.extend(answer.rules().iter().filter_map(|rule| judge(rule, &target.prefix))),
        Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => {}
        Err(error) => {
            not_readable("lifecycle rules", BucketError::from_sdk(ACTION, &target.bucket, &error), findings)?;
        }
    }
    Ok(())
}

async fn object_lock(target: &Target, findings: &mut Vec<Finding>) -> Result<(), BucketError> {
    match target.client.get_object_lock_configuration().bucket(&target.bucket).send().await {
        Ok(answer) => {
            let rule = answer.object_lock_configuration().and_then(|lock| lock.rule());
            if rule.is_some_and(|rule| rule.default_retention().is_some()) {
                findings.push(Finding {
                    code: "object_lock",
                    message: "object lock retains every new object: retention of messages cannot delete".into(),
                    hint: "use a bucket without a default retention",
                });
            }
        }
        Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => {}
        Err(error) => not_readable("object lock", BucketError::from_sdk(ACTION, &target.bucket, &error), findings)?,
    }
    Ok(())
}

/// What a lifecycle rule would do to keys under `prefix`.
fn judge(rule: &LifecycleRule, prefix: &str) -> Option<Finding> {
    if rule.status() != &ExpirationStatus::Enabled || !concerns(rule, prefix) {
        return None;
    }
    let name = rule.id().unwrap_or("without a name");
    let expires =
        rule.expiration().is_some_and(|expiration| expiration.days().is_some() || expiration.date().is_some());
    if expires {
        return Some(Finding {
            code: "lifecycle_expiration",
            message: format!("lifecycle rule {name:?} deletes objects by age: messages and the journal would be lost"),
            hint: "remove the rule, or restrict it to a prefix that Brigade does not use; retention is a topic's setting",
        });
    }
    let archives = rule.transitions().iter().any(|transition| {
        let class = transition.storage_class();
        matches!(class, Some(TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive))
    });
    archives.then(|| Finding {
        code: "lifecycle_archive",
        message: format!("lifecycle rule {name:?} moves objects to a class from which they cannot be read at once"),
        hint: "remove the transition, or use a class with instant retrieval",
    })
}

fn concerns(rule: &LifecycleRule, ours: &str) -> bool {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and());
    // Our objects carry no tags.
    if filter.is_some_and(|filter| filter.tag().is_some()) || and.is_some_and(|and| !and.tags().is_empty()) {
        return false;
    }
    #[expect(deprecated, reason = "services and old configurations still use it")]
    let old = rule.prefix();
    let theirs = old.or_else(|| filter.and_then(|filter| filter.prefix())).or_else(|| and.and_then(|and| and.prefix()));
    let theirs = theirs.unwrap_or_default();
    ours.starts_with(theirs) || theirs.starts_with(ours)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleFilter, Tag, Transition};

    use super::*;

    fn rule(filter: LifecycleRuleFilter, expires: bool, status: ExpirationStatus) -> LifecycleRule {
        let rule = LifecycleRule::builder().id("old").filter(filter).status(status);
        let rule = if expires {
            rule.expiration(LifecycleExpiration::builder().days(30).build())
        } else {
            rule.transitions(Transition::builder().storage_class(TransitionStorageClass::Glacier).build())
        };
        rule.build().unwrap()
    }

    #[test]
    fn only_rules_that_touch_our_keys_are_reported() {
        let prefix = |prefix: &str| LifecycleRuleFilter::builder().prefix(prefix).build();
        let code = |rule: &LifecycleRule| judge(rule, "queue").map(|finding| finding.code);
        let on = ExpirationStatus::Enabled;
        for theirs in ["", "q", "queue", "queue/journal"] {
            assert_eq!(code(&rule(prefix(theirs), true, on.clone())), Some("lifecycle_expiration"), "{theirs}");
            assert_eq!(code(&rule(prefix(theirs), false, on.clone())), Some("lifecycle_archive"), "{theirs}");
        }
        assert_eq!(code(&rule(prefix("logs/"), true, on.clone())), None);
        assert_eq!(code(&rule(prefix(""), true, ExpirationStatus::Disabled)), None);
        let tagged = Tag::builder().key("k").value("v").build().unwrap();
        assert_eq!(code(&rule(LifecycleRuleFilter::builder().tag(tagged).build(), true, on)), None);
    }
}
