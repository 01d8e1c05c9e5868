//! What the document says of each route. The match is exhaustive: a route without a description does not compile.

mod subscriptions;

use super::{JSON, Route};

/// A media type and the name of its shape, if it has one.
pub(super) type Shape = (&'static str, Option<&'static str>);
/// A parameter and what it means.
pub(super) type Field = (&'static str, &'static str);
/// A request body: what it is, and its shape in each media type.
pub(super) type Body = (&'static str, &'static [Shape]);
/// An answer: status, what it means, and its shape in each media type.
type Answer = (&'static str, &'static str, &'static [Shape]);

/// An operation.
pub(super) struct About {
    pub(super) summary: &'static str,
    pub(super) query: &'static [Field],
    pub(super) headers: &'static [Field],
    pub(super) body: Option<Body>,
    pub(super) answers: &'static [Answer],
}

const NDJSON: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";

const PLAIN: About = About { summary: "", query: &[], headers: &[], body: None, answers: &[] };

const READ_QUERY: &[Field] = &[
    ("partition", "Partition; may be left out if the topic has only one."),
    ("offset", "First offset, or `earliest` (the default) or `latest`."),
    ("timestamp", "Instead of offset: start at the first message of this time or later, in ms since the Unix epoch."),
    ("max_messages", "Most messages, 1 to 100000; 1000 by default."),
    (
        "max_bytes",
        "Most bytes of keys, values and headers; 1 MiB by default. One message is returned even if it is larger.",
    ),
    ("wait", "How long to wait when there is no message, in milliseconds; 0 by default, at most 60000."),
];

const PUBLISH_QUERY: &[Field] = &[
    ("key", "Key of the message, when the body is one message."),
    ("partition", "Partition of the message, when the body is one message."),
    ("timestamp", "Timestamp of the message in ms since the Unix epoch, when the body is one message."),
    ("group", "Group of the message, when the body is one message; this and the following as in Message."),
    ("priority", "Priority of the message, 0 to 9."),
    ("delay_ms", "Delay of the message in ms."),
    ("deliver_at", "Instead of delay_ms: when it can be delivered, in ms since the Unix epoch."),
    ("ttl_ms", "Time to live of the message in ms."),
    ("expires_at", "Instead of ttl_ms: when it expires, in ms since the Unix epoch."),
    ("deduplication_id", "Id by which the message is stored once."),
];

const PUBLISH_HEADERS: &[Field] = &[
    ("Producer-Id", "With Producer-Sequence: a repetition of the request is recognised and stored once."),
    ("Producer-Sequence", "A rising 64-bit number."),
    ("Idempotency-Key", "Instead of them: 1 to 200 visible ASCII characters by which a repetition is recognised."),
    ("Brigade-Header-NAME", "A header of the message, when the body is one message."),
];

const PUBLISH_BODY: Body = (
    "Messages: a JSON object, NDJSON with a message a line, an Arrow IPC stream, or one message as it is.",
    &[
        (JSON, Some("Publication")),
        (NDJSON, Some("Message")),
        (ARROW, None),
        ("application/octet-stream", None),
        ("text/plain", None),
    ],
);

pub(super) fn describe(route: Route) -> About {
    match route {
        Route::Index => ops("Links to everything else", &[("200", "Links.", &[(JSON, None)])]),
        Route::Health => ops("Whether the process is alive", &[("200", "It is.", &[(JSON, None)])]),
        Route::Ready => ops(
            "Whether requests would be carried out",
            &[("200", "They would.", &[(JSON, None)]), ("503", "They would not; the error says why.", ERROR)],
        ),
        Route::Metrics => ops("Metrics for Prometheus", &[("200", "Metrics.", &[("text/plain", None)])]),
        Route::OpenApi => ops("This document", &[("200", "The document.", &[(JSON, None)])]),
        Route::Cluster => ops(
            "The cluster, this node, its regions and shards",
            &[("200", "The cluster.", &[(JSON, Some("ClusterView"))])],
        ),
        Route::Regions | Route::ChangeRegions => regions(route),
        Route::Shards => ops(
            "The shards: their leaders, partitions and regions",
            &[("200", "The shards.", &[(JSON, Some("ShardList"))])],
        ),
        Route::Compactor => ops(
            "How the compactor comes on: jobs, what waits, what regions miss",
            &[("200", "The compactor.", &[(JSON, Some("CompactorView"))])],
        ),
        Route::RunCompactor => About {
            query: &[
                ("topic", "Only this topic is archived, merged and compacted; all of them by default."),
                ("run", "Instead of beginning a run: wait on for the run of this number."),
                ("wait", "How long to wait for the end of it, in milliseconds; 20000 by default, at most 60000."),
            ],
            body: Some(("What to work on; may be left out.", &[(JSON, Some("RunBody"))])),
            ..ops(
                "Archive everything now, merge and drop what can be, delete what nothing refers to",
                &[
                    ("200", "It is done.", &[(JSON, Some("RunView"))]),
                    ("202", "It goes on; wait for it with `run`.", &[(JSON, Some("RunView"))]),
                ],
            )
        },
        Route::Lease => ops(
            "What this node is to a shard, from memory; what nodes ask each other",
            &[("200", "Its part.", &[(JSON, Some("LeaseAnswer"))])],
        ),
        Route::Deposed => About {
            summary: "Tells a leader that it was deposed; it finds out by itself",
            body: Some(("The new leader.", &[(JSON, Some("DeposedBody"))])),
            answers: &[("204", "It has heard.", &[])],
            ..PLAIN
        },
        Route::ListTopics
        | Route::CreateTopic
        | Route::GetTopic
        | Route::AlterTopic
        | Route::DeleteTopic
        | Route::ListFiles
        | Route::Publish
        | Route::Read => topic(route),
        Route::ListSubscriptions
        | Route::CreateSubscription
        | Route::GetSubscription
        | Route::AlterSubscription
        | Route::DeleteSubscription
        | Route::Poll
        | Route::Commit => subscriptions::subscription(route),
        Route::Ack
        | Route::Nack
        | Route::Extend
        | Route::Reject
        | Route::DeadLetters
        | Route::Redrive
        | Route::PurgeDeadLetters => subscriptions::queue(route),
        Route::ListTransactions
        | Route::Transact
        | Route::GetTransaction
        | Route::CommitTransaction
        | Route::RollBackTransaction => transaction(route),
        Route::ListMembers | Route::Heartbeat | Route::LeaveMembers => subscriptions::member(route),
    }
}

const ERROR: &[Shape] = &[(JSON, Some("ErrorBody"))];
const TOPIC: &[Shape] = &[(JSON, Some("TopicView"))];

fn ops(summary: &'static str, answers: &'static [Answer]) -> About {
    About { summary, answers, ..PLAIN }
}

fn regions(route: Route) -> About {
    match route {
        Route::Regions => ops(
            "The regions: which of them vote, and how far each shard has come in each",
            &[("200", "The regions.", &[(JSON, Some("RegionList"))])],
        ),
        _ => About {
            body: Some(("The regions that are to be: all of them.", &[(JSON, Some("RegionsBody"))])),
            ..ops(
                "Changes which regions there are: new ones are caught up, then they vote, then others go",
                &[
                    ("200", "They are the regions already, or from now on.", &[(JSON, Some("ChangeView"))]),
                    ("202", "The change has begun.", &[(JSON, Some("ChangeView"))]),
                ],
            )
        },
    }
}

fn topic(route: Route) -> About {
    match route {
        Route::ListTopics => About {
            summary: "Topics in the order of their names, a page at a time",
            query: &[
                ("limit", "Most topics, 1 to 1000; 100 by default."),
                ("after", "Only topics after this name: `next` of the page before."),
                ("prefix", "Only topics whose name begins so."),
            ],
            answers: &[("200", "A page.", &[(JSON, Some("TopicPage"))])],
            ..PLAIN
        },
        Route::CreateTopic => About {
            summary: "Create a topic",
            body: Some(("Settings; may be left out.", &[(JSON, Some("TopicBody"))])),
            answers: &[
                ("201", "It was created.", TOPIC),
                ("200", "It exists with the same settings.", TOPIC),
                ("409", "It exists with other settings.", ERROR),
            ],
            ..PLAIN
        },
        Route::GetTopic => ops("A topic with its partitions", &[("200", "The topic.", TOPIC)]),
        Route::AlterTopic => About {
            summary: "Change the settings that are given; partitions can only grow",
            body: Some(("Settings.", &[(JSON, Some("TopicBody"))])),
            answers: &[("200", "The topic.", TOPIC)],
            ..PLAIN
        },
        Route::DeleteTopic => ops("Delete a topic with its messages and subscriptions", &[("204", "It is gone.", &[])]),
        Route::ListFiles => About {
            summary: "Archive files of a topic, in the order of partitions and offsets, a page at a time",
            query: &[
                ("partition", "Only files of this partition."),
                ("after", "Only files after this one: `next` of the page before."),
                ("limit", "Most files, 1 to 1000; 100 by default."),
            ],
            answers: &[("200", "A page.", &[(JSON, Some("FilePage"))])],
            ..PLAIN
        },
        Route::Publish => About {
            summary: "Publish messages; answered when they are durable, stored whole or not at all",
            query: PUBLISH_QUERY,
            headers: PUBLISH_HEADERS,
            body: Some(PUBLISH_BODY),
            answers: &[
                (
                    "200",
                    "Where they are. A repetition gets the original answer and `Brigade-Duplicate: true`.",
                    &[(JSON, Some("Placements"))],
                ),
                ("429", "No room now; nothing was stored. See Retry-After.", ERROR),
                ("503", "Not stored, or with code `outcome_unknown` maybe stored. See Retry-After.", ERROR),
            ],
        },
        _ => About {
            summary: "Read messages of a partition, or follow it as server-sent events",
            query: READ_QUERY,
            headers: &[("Last-Event-ID", "When following: go on after this offset.")],
            answers: &[
                (
                    "200",
                    "Messages; Brigade-Next-Offset and Brigade-High-Watermark say where to read on.",
                    &[
                        (JSON, Some("Read")),
                        (NDJSON, Some("Published")),
                        (ARROW, None),
                        ("text/event-stream", Some("Published")),
                    ],
                ),
                ("410", "The offset is no longer kept; `log_start` is the first that is.", ERROR),
                ("416", "Nothing has this offset yet.", ERROR),
            ],
            ..PLAIN
        },
    }
}

fn transaction(route: Route) -> About {
    match route {
        Route::ListTransactions => About {
            summary: "Transactions that wait for a decision, in the order of their ids",
            query: &[
                ("state", "`prepared`, the default and the only one that can be listed."),
                ("after", "Only transactions after this id: `next` of the page before."),
                ("limit", "Most transactions, 1 to 1000; 100 by default."),
            ],
            answers: &[("200", "A page.", &[(JSON, Some("TransactionList"))])],
            ..PLAIN
        },
        Route::Transact => About {
            summary: "Publish to several topics and acknowledge messages of queues, together or not at all",
            body: Some(("What is to happen.", &[(JSON, Some("TransactionBody"))])),
            answers: &[
                (
                    "200",
                    "What has become of it. A repetition gets the first answer and `Brigade-Duplicate: true`.",
                    &[(JSON, Some("Transacted"))],
                ),
                ("400", "Something in it is wrong, a receipt for example; nothing was done.", ERROR),
                ("409", "A message is settled already, or the id was used for another transaction.", ERROR),
                ("410", "The time of a receipt is over; nothing was done.", ERROR),
                ("413", "It is larger than a transaction may be; nothing was done.", ERROR),
                ("429", "No room now; nothing was done. See Retry-After.", ERROR),
                ("503", "Not done, or with code `outcome_unknown` maybe done. See Retry-After.", ERROR),
            ],
            ..PLAIN
        },
        Route::GetTransaction => ops("What has become of a transaction", TRANSACTION),
        Route::CommitTransaction => ops("Let a prepared transaction take effect; once more changes nothing", DECIDED),
        _ => ops("Give a prepared transaction up; once more changes nothing", DECIDED),
    }
}

const FOUND: Answer = ("200", "The transaction.", &[(JSON, Some("TransactionView"))]);
const FORGOTTEN: Answer = ("404", "There is none, or it was decided more than a day ago.", ERROR);
const TRANSACTION: &[Answer] = &[FOUND, FORGOTTEN];
const DECIDED: &[Answer] = &[FOUND, FORGOTTEN, ("409", "It was decided otherwise.", ERROR)];
