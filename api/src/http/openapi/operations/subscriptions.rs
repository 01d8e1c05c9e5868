//! What the document says of subscriptions.

use super::{About, Answer, ERROR, JSON, PLAIN, Route, Shape, ops};

const SUBSCRIPTION: &[Shape] = &[(JSON, Some("SubscriptionView"))];

pub(super) fn subscription(route: Route) -> About {
    match route {
        Route::ListSubscriptions => {
            ops("Subscriptions of a topic", &[("200", "All of them.", &[(JSON, Some("SubscriptionList"))])])
        }
        Route::CreateSubscription => About {
            summary: "Create a subscription",
            body: Some((
                "Its kind, where it starts, and settings of a queue; may be left out.",
                &[(JSON, Some("SubscriptionBody"))],
            )),
            answers: &[
                ("201", "It was created.", SUBSCRIPTION),
                ("200", "It exists with the settings that are named, and stays as it is.", SUBSCRIPTION),
                ("409", "It exists with other settings, or is of another kind.", ERROR),
            ],
            ..PLAIN
        },
        Route::GetSubscription => {
            ops("A subscription with its settings and how far it is", &[("200", "The subscription.", SUBSCRIPTION)])
        }
        Route::AlterSubscription => About {
            summary: "Change the settings of a queue that are given, or move a subscription, backwards too",
            body: Some(("Settings, or where to.", &[(JSON, Some("SubscriptionBody"))])),
            answers: &[("200", "The subscription.", SUBSCRIPTION)],
            ..PLAIN
        },
        Route::DeleteSubscription => ops("Delete a subscription", &[("204", "It is gone.", &[])]),
        Route::Poll => About {
            summary: "Receive messages; once they are processed, commit the positions of a stream, acknowledge those of a queue",
            body: Some(("How many, and how long to wait.", &[(JSON, Some("PollBody"))])),
            answers: &[
                ("200", "Messages of all partitions, or of those that the member reads.", &[(JSON, Some("Received"))]),
                ("409", "It is no member, or a partition is not assigned to it.", ERROR),
            ],
            ..PLAIN
        },
        _ => About {
            summary: "Commit positions of a stream; one below the committed position changes nothing",
            body: Some(("Positions.", &[(JSON, Some("CommitBody"))])),
            answers: &[
                ("200", "All committed positions.", &[(JSON, Some("Positions"))]),
                ("409", "It is a queue, or a partition is not assigned to the member; nothing was committed.", ERROR),
            ],
            ..PLAIN
        },
    }
}

const RESULTS: &[Answer] = &[
    ("200", "For each receipt what was done, or why not; at least one was good.", &[(JSON, Some("Results"))]),
    ("400", "All were refused, the first because it is no receipt of this subscription.", ERROR),
    (
        "409",
        "All were refused, the first because its message is settled or was delivered again; or it is a stream.",
        ERROR,
    ),
    ("410", "All were refused, the first because its time is over.", ERROR),
    ("429", "No room for so many now; nothing was done. See Retry-After.", ERROR),
];

const STREAM: Answer = ("409", "It is a stream.", ERROR);

const LETTERS_QUERY: &[super::Field] = &[
    ("after", "Only letters behind this place: `next` of the page before."),
    ("max_messages", "Most letters, 1 to 1000; 100 by default."),
    (
        "max_bytes",
        "Most bytes of keys, values and headers; 1 MiB by default. One letter is returned even if it is larger.",
    ),
    ("filter", "Only letters that it matches."),
];

pub(super) fn queue(route: Route) -> About {
    match route {
        Route::Ack => About {
            summary: "Acknowledge messages of a queue: they are done",
            body: Some(("Receipts.", &[(JSON, Some("ReceiptsBody"))])),
            answers: RESULTS,
            ..PLAIN
        },
        Route::Nack => About {
            summary: "Give messages of a queue back: they come again",
            body: Some(("Receipts, and how long to wait.", &[(JSON, Some("NackBody"))])),
            answers: RESULTS,
            ..PLAIN
        },
        Route::Extend => About {
            summary: "Take more time for messages of a queue",
            body: Some(("Receipts, and how long.", &[(JSON, Some("ExtendBody"))])),
            answers: RESULTS,
            ..PLAIN
        },
        Route::Reject => About {
            summary: "Give messages of a queue up: they become dead letters",
            body: Some(("Receipts.", &[(JSON, Some("ReceiptsBody"))])),
            answers: RESULTS,
            ..PLAIN
        },
        Route::DeadLetters => About {
            summary: "Dead letters that are kept with a queue, a page at a time",
            query: LETTERS_QUERY,
            answers: &[("200", "A page.", &[(JSON, Some("DeadLetters"))]), STREAM],
            ..PLAIN
        },
        Route::Redrive => About {
            summary: "Give dead letters back: they are delivered again as if for the first time",
            body: Some(("Which, and how fast; may be left out.", &[(JSON, Some("RedriveBody"))])),
            answers: &[("200", "How many.", &[(JSON, Some("Redriven"))]), STREAM],
            ..PLAIN
        },
        _ => About {
            summary: "Forget dead letters",
            body: Some(("Which; may be left out.", &[(JSON, Some("PickBody"))])),
            answers: &[("200", "How many.", &[(JSON, Some("Purged"))]), STREAM],
            ..PLAIN
        },
    }
}

pub(super) fn member(route: Route) -> About {
    match route {
        Route::ListMembers => ops(
            "Members of a stream, with what they read and their lag",
            &[("200", "All of them.", &[(JSON, Some("MemberList"))]), ("409", "It is a queue.", ERROR)],
        ),
        Route::LeaveMembers => {
            ops("A member goes; what it read is given to others at once", &[("204", "It is gone.", &[])])
        }
        _ => About {
            summary: "A member joins or says that it lives, and is told what to read and what to give up",
            body: Some(("What it owns, and how long its session lasts.", &[(JSON, Some("MemberBody"))])),
            answers: &[
                ("200", "What it is to do.", &[(JSON, Some("AssignmentView"))]),
                ("409", "There are too many members, or it is a queue.", ERROR),
            ],
            ..PLAIN
        },
    }
}
