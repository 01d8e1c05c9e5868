//! Settings of a queue as arguments.

use clap::{Args, ValueEnum};

use crate::client::{QueuePush, QueueSettings};

/// Settings of a queue.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings of a queue")]
pub(super) struct SettingsArgs {
    /// How long a receipt is good when the poll does not say otherwise [default of a new queue: 30000]
    #[arg(long, value_name = "MS")]
    visibility_timeout_ms: Option<u32>,
    /// Deliveries after which a message becomes a dead letter; 0, the default of a new queue, for no limit
    #[arg(long, value_name = "N")]
    max_deliveries: Option<u32>,
    /// Topic that dead letters are published to, besides being kept with the subscription
    #[arg(long, value_name = "TOPIC", conflicts_with = "no_dead_letter_topic")]
    dead_letter_topic: Option<String>,
    /// Publish dead letters no more
    #[arg(long)]
    no_dead_letter_topic: bool,
    /// Deliver messages of one group strictly one after the other (`--ordered=false` ends that)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ordered: Option<bool>,
    /// Who takes turns: group, header:NAME, or none
    #[arg(long, value_name = "WHO")]
    fair_by: Option<String>,
    /// What becomes of messages that expire
    #[arg(long, value_name = "WHAT")]
    expired: Option<ExpiredArg>,
    /// Pause before a message comes again [default of a new queue: 0]
    #[arg(long, value_name = "MS")]
    retry_delay_ms: Option<u32>,
    /// Which messages are wanted
    #[arg(long, value_name = "FILTER", conflicts_with = "no_filter")]
    filter: Option<String>,
    /// Want all messages
    #[arg(long)]
    no_filter: bool,
    /// URL that messages are pushed to
    #[arg(long, value_name = "URL")]
    push_url: Option<String>,
    /// Secret that pushes are signed with [default: one is made and shown once]
    #[arg(long, value_name = "SECRET", conflicts_with = "new_push_secret")]
    push_secret: Option<String>,
    /// Make a new secret, and show it once
    #[arg(long)]
    new_push_secret: bool,
    /// Time that the endpoint has to answer
    #[arg(long, value_name = "MS")]
    push_timeout_ms: Option<u32>,
    /// Most pushes at once
    #[arg(long, value_name = "N")]
    push_max_in_flight: Option<u32>,
    /// Most pushed messages a second; 0 for no limit
    #[arg(long, value_name = "N")]
    push_max_per_second: Option<u32>,
    /// Pause before the second attempt of a push; it doubles from attempt to attempt
    #[arg(long, value_name = "MS")]
    push_backoff_min_ms: Option<u32>,
    /// Longest pause between attempts of a push
    #[arg(long, value_name = "MS")]
    push_backoff_max_ms: Option<u32>,
    /// Push no more
    #[arg(
        long,
        conflicts_with_all = ["push_url", "push_secret", "new_push_secret", "push_timeout_ms", "push_max_in_flight",
            "push_max_per_second", "push_backoff_min_ms", "push_backoff_max_ms"]
    )]
    no_push: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExpiredArg {
    /// They are dropped.
    Drop,
    /// They become dead letters.
    DeadLetter,
}

impl SettingsArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.queue() == QueueSettings::default()
    }

    /// The settings that are named.
    pub(super) fn queue(&self) -> QueueSettings {
        let or_none = |given: &Option<String>, none: bool| if none { Some(None) } else { given.clone().map(Some) };
        let fair_by = self.fair_by.clone().map(|who| (who != "none").then_some(who));
        QueueSettings {
            visibility_timeout_ms: self.visibility_timeout_ms,
            max_deliveries: self.max_deliveries,
            dead_letter_topic: or_none(&self.dead_letter_topic, self.no_dead_letter_topic),
            ordered: self.ordered,
            fair_by,
            expired: self.expired.map(|expired| match expired {
                ExpiredArg::Drop => "drop".to_owned(),
                ExpiredArg::DeadLetter => "dead_letter".to_owned(),
            }),
            retry_delay_ms: self.retry_delay_ms,
            filter: or_none(&self.filter, self.no_filter),
            push: if self.no_push { Some(None) } else { self.push().map(Some) },
        }
    }

    fn push(&self) -> Option<QueuePush> {
        let push = QueuePush {
            url: self.push_url.clone(),
            secret: if self.new_push_secret { Some(None) } else { self.push_secret.clone().map(Some) },
            timeout_ms: self.push_timeout_ms,
            max_in_flight: self.push_max_in_flight,
            max_per_second: self.push_max_per_second,
            backoff_min_ms: self.push_backoff_min_ms,
            backoff_max_ms: self.push_backoff_max_ms,
        };
        (push != QueuePush::default()).then_some(push)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn sent(arguments: &[&str]) -> serde_json::Value {
        let line = Line::try_parse_from(["x"].iter().chain(arguments)).unwrap();
        json!(line.settings.queue())
    }

    #[test]
    fn arguments_become_what_is_sent() {
        assert_eq!(sent(&[]), json!({}));
        assert_eq!(
            sent(&[
                "--ordered",
                "--fair-by",
                "none",
                "--expired",
                "dead-letter",
                "--no-filter",
                "--max-deliveries",
                "0"
            ]),
            json!({"ordered": true, "fair_by": null, "expired": "dead_letter", "filter": null, "max_deliveries": 0})
        );
        assert_eq!(sent(&["--ordered=false", "--no-push"]), json!({"ordered": false, "push": null}));
        assert_eq!(
            sent(&["--push-url", "http://h", "--push-secret", "s", "--push-max-in-flight", "2"]),
            json!({"push": {"url": "http://h", "secret": "s", "max_in_flight": 2}})
        );
        assert_eq!(sent(&["--new-push-secret"]), json!({"push": {"secret": null}}));
        assert!(Line::try_parse_from(["x", "--filter", "a", "--no-filter"]).is_err());
    }
}
