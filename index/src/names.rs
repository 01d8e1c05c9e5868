//! Names that people choose, validated once, where they enter.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::limits::MAX_NAME_BYTES;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} name {name:?} {problem}")]
pub struct NameError {
    /// What was to be named: `topic`, `subscription`, `region`, `producer`, `member`, `transaction`.
    pub what: &'static str,
    /// The refused name, cut to a printable length.
    pub name: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "is longer than 200 bytes"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        "has a character other than A-Z a-z 0-9 . _ -"
    } else if !name.as_bytes()[0].is_ascii_alphanumeric() {
        "does not begin with a letter or digit"
    } else {
        return Ok(());
    };
    Err(NameError { what, name: name.chars().take(64).collect(), problem })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates and wraps a name.
            ///
            /// # Errors
            /// When it is empty, longer than 200 bytes, or has a character other than `A-Z a-z 0-9 . _ -`.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check($what, name).map(|()| Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a topic.
    TopicName,
    "topic"
);
name!(
    /// Name of a subscription, unique within its topic.
    SubscriptionName,
    "subscription"
);
name!(
    /// Name of a region.
    RegionName,
    "region"
);
name!(
    /// Identity that an idempotent producer chooses for itself.
    ProducerId,
    "producer"
);
name!(
    /// Name that a consumer chooses for itself as a member of a subscription.
    MemberName,
    "member"
);

name!(
    /// Identity that a client chooses for a transaction, or is given.
    TransactionId,
    "transaction"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_usual_names() {
        for name in ["a", "orders", "orders.v2", "eu-west-1", "A_b-9"] {
            assert_eq!(TopicName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_what_could_leave_its_place() {
        for name in ["", ".", "..", "../x", "a/b", "a b", "a\n", "ü", "-a", &"x".repeat(201)] {
            assert!(TopicName::new(name).is_err(), "{name:?}");
        }
    }
}
