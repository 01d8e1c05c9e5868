//! Settings of a subscription as clients give them: judged here, so that what is committed can be worked with.

use brigade_index::{
    command::{Expired, Fairness, PushSettings, QueuePatch, QueueSettings},
    filter::Filter,
    names::TopicName,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::place::{Seek, Start};
use crate::{
    http::{
        body::given,
        error::{ApiError, kinds},
    },
    push::SigningSecret,
    serve::Leading,
    settings::redact_url,
};

/// What of push settings holds when a client does not say otherwise: an endpoint that does its work within the request has
/// time for it, and one that is down for a while is asked often enough to be found back soon.
static PUSH_DEFAULTS: PushSettings = PushSettings {
    url: String::new(),
    secret: String::new(),
    timeout_ms: 30_000,
    max_in_flight: 10,
    max_per_second: 0,
    backoff_min_ms: 1_000,
    backoff_max_ms: 600_000,
};

/// A subscription as a client creates, changes or moves it. Settings are those of a queue.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SubscriptionBody {
    /// `stream`, the default, or `queue`. When it is created.
    pub(super) kind: Option<String>,
    /// Where it starts, when it is created; by default at the earliest message.
    pub(super) start: Option<Start>,
    /// Where it is moved to, when it exists. Not together with settings.
    pub(super) seek: Option<Seek>,
    /// How long a receipt is good when the poll does not say otherwise; 30000 by default, 1 to 43200000.
    visibility_timeout_ms: Option<u32>,
    /// Deliveries after which a message becomes a dead letter; 0, the default, for no limit; at most 1000.
    max_deliveries: Option<u32>,
    /// Topic that dead letters are published to, besides being kept with the subscription.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    dead_letter_topic: Option<Option<String>>,
    /// Whether messages of one group (or else key) are delivered strictly one after the other.
    ordered: Option<bool>,
    /// Who takes turns: `group`, or `header:NAME`. Nobody by default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    fair_by: Option<Option<String>>,
    /// What becomes of messages that expire: `drop`, the default, or `dead_letter`.
    #[schema(value_type = Option<String>)]
    expired: Option<ExpiredField>,
    /// Pause before a message whose time is over, or that was given back without a delay, comes again; 0 by default, at
    /// most 43200000.
    retry_delay_ms: Option<u32>,
    /// Which messages are wanted: `type = "order" and amount >= 10`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    filter: Option<Option<String>>,
    /// Where messages are pushed to; `null` ends that. Consumers may poll all the same: each message goes to one of them
    /// or to the endpoint.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<PushBody>)]
    push: Option<Option<PushBody>>,
}

/// Where messages are pushed to, and how. What is left out of a change stays as it is.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PushBody {
    /// URL that messages are posted to, one at a time, as a poll shows them. Any 2xx acknowledges the message; after any
    /// other answer, or none, it is posted again later, until `max_deliveries`. Its query is never shown again.
    url: Option<String>,
    /// Secret that posts are signed with: `whsec_` and 24 to 64 bytes in base64. One is made when there is none yet, and
    /// when this is `null`. It is shown in the answer to the request that set it, and never again.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<String>>,
    /// Time that the endpoint has to answer; 30000 by default, 1 to 3600000.
    timeout_ms: Option<u32>,
    /// Most posts at once; 10 by default, 1 to 1000.
    max_in_flight: Option<u32>,
    /// Most messages a second; 0, the default, for no limit.
    max_per_second: Option<u32>,
    /// Pause before the second attempt, which doubles from attempt to attempt; 1000 by default.
    backoff_min_ms: Option<u32>,
    /// Longest pause between attempts; 600000 by default, at most 3600000.
    backoff_max_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpiredField {
    Drop,
    DeadLetter,
}

/// Settings as they will be.
pub(super) struct Given {
    pub(super) settings: QueueSettings,
    /// What turns the present ones into them.
    pub(super) patch: QueuePatch,
    /// The secret of pushes, if it is a new one.
    pub(super) secret: Option<String>,
}

impl SubscriptionBody {
    /// The first setting that is given.
    pub(super) fn first_setting(&self) -> Option<&'static str> {
        let given = [
            (self.visibility_timeout_ms.is_some(), "visibility_timeout_ms"),
            (self.max_deliveries.is_some(), "max_deliveries"),
            (self.dead_letter_topic.is_some(), "dead_letter_topic"),
            (self.ordered.is_some(), "ordered"),
            (self.fair_by.is_some(), "fair_by"),
            (self.expired.is_some(), "expired"),
            (self.retry_delay_ms.is_some(), "retry_delay_ms"),
            (self.filter.is_some(), "filter"),
            (self.push.is_some(), "push"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// Fails if a setting is given: streams have none.
    pub(super) fn none_of_a_stream(&self) -> Result<(), ApiError> {
        match self.first_setting() {
            Some(name) => Err(ApiError::new(
                kinds::INVALID_SETTINGS,
                format!("{name} is a setting of queues; the subscription is a stream"),
            )),
            None => Ok(()),
        }
    }

    /// The settings, changed as the client says.
    pub(super) fn apply(self, present: &QueueSettings, node: &Leading) -> Result<Given, ApiError> {
        let push = match self.push {
            Some(Some(push)) => Some(Some(push.apply(present.push.as_ref(), node)?)),
            Some(None) => Some(None),
            None => None,
        };
        let patch = QueuePatch {
            visibility_timeout_ms: self.visibility_timeout_ms,
            max_deliveries: self.max_deliveries,
            dead_letter_topic: inner(self.dead_letter_topic, |name| Ok(TopicName::new(&name)?))?,
            ordered: self.ordered,
            fairness: self.fair_by.map(fairness).transpose()?,
            expired: self.expired.map(|expired| match expired {
                ExpiredField::Drop => Expired::Drop,
                ExpiredField::DeadLetter => Expired::DeadLetter,
            }),
            retry_delay_ms: self.retry_delay_ms,
            filter: inner(self.filter, |text| Ok(Filter::parse(&text)?.text().to_owned()))?,
            push,
        };
        let settings = present.patched(&patch);
        if let Some(problem) = settings.problem() {
            return Err(ApiError::new(kinds::INVALID_SETTINGS, problem));
        }
        let before = present.push.as_ref().map(|push| &push.secret);
        let secret = settings.push.as_ref().map(|push| &push.secret).filter(|secret| Some(*secret) != before).cloned();
        Ok(Given { settings, patch, secret })
    }
}

impl PushBody {
    fn apply(self, present: Option<&PushSettings>, node: &Leading) -> Result<PushSettings, ApiError> {
        let before = present.unwrap_or(&PUSH_DEFAULTS);
        // Given back as it was shown, it stays as it is.
        let url = self.url.filter(|url| *url != redact_url(&before.url)).unwrap_or_else(|| before.url.clone());
        if url.is_empty() {
            return Err(ApiError::new(kinds::INVALID_PUSH_URL, "push has no url"));
        }
        if url.ends_with("?***") {
            return Err(ApiError::new(kinds::INVALID_PUSH_URL, "the query of the url is hidden; give the whole url"));
        }
        node.endpoints.policy().check_url(&url)?;
        let fresh = || {
            let random = || node.env.entropy.next_u128();
            SigningSecret::from_random([random(), random()]).reveal()
        };
        let secret = match self.secret {
            Some(Some(secret)) => secret.parse::<SigningSecret>()?.reveal(),
            None if !before.secret.is_empty() => before.secret.clone(),
            Some(None) | None => fresh(),
        };
        Ok(PushSettings {
            url,
            secret,
            timeout_ms: self.timeout_ms.unwrap_or(before.timeout_ms),
            max_in_flight: self.max_in_flight.unwrap_or(before.max_in_flight),
            max_per_second: self.max_per_second.unwrap_or(before.max_per_second),
            backoff_min_ms: self.backoff_min_ms.unwrap_or(before.backoff_min_ms),
            backoff_max_ms: self.backoff_max_ms.unwrap_or(before.backoff_max_ms),
        })
    }
}

/// Converts a setting that may be taken away.
fn inner<T, U>(
    field: Option<Option<T>>,
    convert: impl FnOnce(T) -> Result<U, ApiError>,
) -> Result<Option<Option<U>>, ApiError> {
    match field {
        None => Ok(None),
        Some(None) => Ok(Some(None)),
        Some(Some(value)) => convert(value).map(|value| Some(Some(value))),
    }
}

fn fairness(text: Option<String>) -> Result<Fairness, ApiError> {
    let Some(text) = text else { return Ok(Fairness::None) };
    match (text.as_str(), text.strip_prefix("header:")) {
        ("group", _) => Ok(Fairness::Group),
        (_, Some(name)) => Ok(Fairness::Header(name.to_owned())),
        _ => Err(ApiError::new(
            kinds::INVALID_SETTINGS,
            format!("fair_by is {text:?}; use \"group\" or \"header:NAME\""),
        )),
    }
}

/// `fair_by` as clients give it.
pub(super) fn fair_by(fairness: &Fairness) -> Option<String> {
    match fairness {
        Fairness::None => None,
        Fairness::Group => Some("group".to_owned()),
        Fairness::Header(name) => Some(format!("header:{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_told_from_what_is_taken_away() {
        let parse = |text: &str| serde_json::from_str::<SubscriptionBody>(text).unwrap();
        assert_eq!(parse(r#"{"kind":"queue","start":"latest"}"#).first_setting(), None);
        let nothing = parse("{}");
        assert!(nothing.filter.is_none() && nothing.none_of_a_stream().is_ok());
        let taken = parse(r#"{"filter":null}"#);
        assert_eq!((taken.filter.clone(), taken.first_setting()), (Some(None), Some("filter")));
        assert_eq!(taken.none_of_a_stream().unwrap_err().code, "invalid_settings");
        assert!(serde_json::from_str::<SubscriptionBody>(r#"{"expired":"keep"}"#).is_err());
        assert!(serde_json::from_str::<SubscriptionBody>(r#"{"push":{"uri":"x"}}"#).is_err());
    }

    #[test]
    fn turns_are_read_as_they_are_shown() {
        for text in [None, Some("group"), Some("header:x:y"), Some("header:group")] {
            assert_eq!(fair_by(&fairness(text.map(str::to_owned)).unwrap()).as_deref(), text);
        }
        assert_eq!(fairness(Some("tenant".to_owned())).unwrap_err().code, "invalid_settings");
    }
}
