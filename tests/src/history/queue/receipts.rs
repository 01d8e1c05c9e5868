//! Whether receipts are refused for reasons that are true.

use super::{
    Action, Moment, Place, Settle, Verdict,
    check::{View, deadline_us, may_end},
};

/// Every refusal has a cause that began before its answer.
pub(super) fn are_refused_rightly(view: &View<'_>, violations: &mut Vec<String>) {
    for settle in &view.history.settles {
        let place = view.delivery(settle.delivery).place;
        let right = match settle.verdict {
            Verdict::Unknown | Verdict::NotDone | Verdict::Done | Verdict::LetGo => true,
            Verdict::AlreadySettled => is_settled(view, place, settle),
            Verdict::BeingSettled => is_being_settled(view, place, settle),
            Verdict::Superseded => is_superseded(view, place, settle),
            Verdict::Expired => is_expired(view, place, settle),
        };
        if !right {
            let delivery = view.delivery(settle.delivery);
            violations.push(format!("refused without cause: {settle:?} of {delivery:?}"));
        }
    }
}

/// Other calls about the message that began before this one was answered.
fn others<'a>(view: &'a View<'_>, place: Place, settle: &'a Settle) -> impl Iterator<Item = &'a Settle> {
    let others = view.settles.get(&place).into_iter().flatten().copied();
    let end = settle.span.end_step();
    others.filter(move |other| !std::ptr::eq(*other, settle) && other.span.start.step < end)
}

fn is_settled(view: &View<'_>, place: Place, settle: &Settle) -> bool {
    let given_up = view.dead.get(&place).is_some_and(|letter| letter.reason != "rejected");
    given_up
        || view.held.get(&place).is_some_and(|held| held.expires)
        || others(view, place, settle).any(|other| view.may_settle(other))
}

/// One that is not over, or whose end is not known.
fn is_being_settled(view: &View<'_>, place: Place, settle: &Settle) -> bool {
    // A leader that was overtaken does not know of what its successor has let go.
    let overtaken = settle.span.end.is_none_or(|end| end.lowest != end.highest);
    others(view, place, settle).any(|other| {
        let open = other.verdict == Verdict::Unknown || other.span.end_step() > settle.span.start.step;
        (open || overtaken && other.verdict == Verdict::LetGo) && !matches!(other.action, Action::Extend(_))
    })
}

/// It was delivered again, or is about to be: to somebody who heard of it, or may have.
fn is_superseded(view: &View<'_>, place: Place, settle: &Settle) -> bool {
    let (first, end) = (view.poll_of(settle.delivery).span.start.step, settle.span.end_step());
    let again = view.deliveries.get(&place).into_iter().flatten().any(|number| {
        let span = view.poll_of(*number).span;
        *number != settle.delivery && span.start.step < end && span.end_step() > first
    });
    // Whoever polls at that moment, or whose answer was lost.
    let perhaps = view
        .history
        .polls
        .iter()
        .any(|poll| poll.span.start.step < end && poll.span.end_step() > settle.span.start.step);
    // Whoever leads besides has counts of his own.
    let besides = settle.span.end.is_none_or(|end| !same_reign(view, settle, &end));
    again || perhaps || besides
}

/// Whether one reign alone was there from the delivery to the answer, and everybody knew of it.
fn same_reign(view: &View<'_>, settle: &Settle, end: &Moment) -> bool {
    let start = view.poll_of(settle.delivery).span.start;
    start.lowest == start.highest && end.lowest == end.highest && start.highest == end.highest
}

/// Its time was over, or it was given back.
fn is_expired(view: &View<'_>, place: Place, settle: &Settle) -> bool {
    let (start, span) = (view.poll_of(settle.delivery).span.start, settle.span);
    let Some(end) = span.end else { return true };
    // Whoever takes over has a clock of his own, and knows nothing of what is in flight.
    !same_reign(view, settle, &end)
        || start.jumps != end.jumps
        || others(view, place, settle).any(may_end)
        || end.time_us + 2_000 >= deadline_us(view, settle.delivery, &span)
}
