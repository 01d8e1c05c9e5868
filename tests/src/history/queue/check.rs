//! The checker: a pure function of what consumers saw and of what is left at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, Delivery, Held, Letter, Moment, Place, Poll, QueueHistory, Remains, Rules, Settle, Span, Verdict, receipts,
};

/// A history without fault, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSummary {
    /// Deliveries that were seen.
    pub deliveries: usize,
    /// Messages that were acknowledged for certain.
    pub acknowledged: usize,
    /// Dead letters.
    pub dead: usize,
    /// Deliveries that only a leader can have made which was overtaken: it cannot know better.
    pub stale: usize,
}

/// Everything, looked up by what it belongs to.
pub(super) struct View<'a> {
    pub(super) rules: Rules,
    pub(super) history: &'a QueueHistory,
    /// Deliveries of each message, in the order in which their answers came.
    pub(super) deliveries: BTreeMap<Place, Vec<usize>>,
    /// What was asked for each message.
    pub(super) settles: BTreeMap<Place, Vec<&'a Settle>>,
    /// The same for each delivery.
    of_delivery: BTreeMap<usize, Vec<&'a Settle>>,
    pub(super) held: BTreeMap<Place, &'a Held>,
    pub(super) dead: BTreeMap<Place, &'a Letter>,
}

/// Checks everything that a queue promises:
///
/// - a message whose receipt was answered as acknowledged or rejected is not delivered by a poll that begins later (I14);
/// - at the end each message is acknowledged, a dead letter, expired or not wanted; none of them is two of these (I15);
/// - a message comes only when all before it in its group are settled, and while none of them is in flight (I16);
/// - a message in flight is not delivered again;
/// - delivery counts rise, and end where the settings say;
/// - receipts are refused for reasons that are true.
///
/// # Errors
/// Every violation, in words.
pub fn check(rules: Rules, history: &QueueHistory, remains: &Remains) -> Result<QueueSummary, Vec<String>> {
    let view = View::new(rules, history, remains);
    let mut violations = Vec::new();
    let mut summary = QueueSummary {
        deliveries: history.deliveries.len(),
        dead: remains.dead.len(),
        acknowledged: 0,
        stale: settled_is_settled(&view, &mut violations),
    };
    counts_rise(&view, &mut violations);
    summary.acknowledged = nothing_is_forgotten(&view, &mut violations);
    in_flight_once(&view, &mut violations);
    if rules.ordered {
        groups_keep_order(&view, remains, &mut violations);
    }
    receipts::are_refused_rightly(&view, &mut violations);
    if violations.is_empty() { Ok(summary) } else { Err(violations) }
}

impl<'a> View<'a> {
    fn new(rules: Rules, history: &'a QueueHistory, remains: &'a Remains) -> Self {
        let (mut deliveries, mut settles) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        let mut of_delivery = BTreeMap::<_, Vec<_>>::new();
        for (number, delivery) in history.deliveries.iter().enumerate() {
            deliveries.entry(delivery.place).or_default().push(number);
        }
        for settle in &history.settles {
            settles.entry(history.deliveries[settle.delivery].place).or_default().push(settle);
            of_delivery.entry(settle.delivery).or_default().push(settle);
        }
        let held = remains.held.iter().map(|held| (held.place, held)).collect();
        let dead = remains.dead.iter().map(|letter| (letter.place, letter)).collect();
        Self { rules, history, deliveries, settles, of_delivery, held, dead }
    }

    pub(super) fn delivery(&self, number: usize) -> &'a Delivery {
        &self.history.deliveries[number]
    }

    pub(super) fn poll_of(&self, delivery: usize) -> &'a Poll {
        &self.history.polls[self.delivery(delivery).poll]
    }

    fn of(&self, delivery: usize) -> &[&'a Settle] {
        self.of_delivery.get(&delivery).map_or(&[], Vec::as_slice)
    }

    /// Whether what was asked for, if it is carried out, settles the message.
    pub(super) fn settles(&self, settle: &Settle) -> bool {
        let (most, count) = (self.rules.max_deliveries, self.delivery(settle.delivery).count);
        match settle.action {
            Action::Ack | Action::Reject => true,
            Action::Nack => most > 0 && count >= most,
            Action::Extend(_) => false,
        }
    }

    /// Whether it settles the message, as far as is known.
    pub(super) fn may_settle(&self, settle: &Settle) -> bool {
        self.settles(settle) && matches!(settle.verdict, Verdict::Done | Verdict::Unknown)
    }

    /// A delivery that was asked for after this moment; `None` if not, or if only a leader which was overtaken before can
    /// have made it.
    fn after(&self, delivery: usize, moment: &Moment) -> After {
        let span = &self.poll_of(delivery).span;
        if span.start.step <= moment.step {
            return After::No;
        }
        let lowest = span.end.map_or(span.start.lowest, |end| end.lowest.min(span.start.lowest));
        if lowest < moment.highest { After::Stale } else { After::Yes }
    }
}

/// Whether a delivery comes after a moment.
#[derive(PartialEq, Eq)]
enum After {
    No,
    Stale,
    Yes,
}

impl Span {
    /// When it was over; the highest step there is if it never was.
    pub(super) fn end_step(&self) -> u64 {
        self.end.map_or(u64::MAX, |end| end.step)
    }

    pub(super) fn end_us(&self) -> u64 {
        self.end.map_or(u64::MAX, |end| end.time_us)
    }
}

/// I14. Gives the number of deliveries by leaders that were overtaken.
fn settled_is_settled(view: &View<'_>, violations: &mut Vec<String>) -> usize {
    let mut stale = BTreeSet::new();
    for (place, settles) in &view.settles {
        for settle in settles {
            let is = matches!(settle.verdict, Verdict::Done) && view.settles(settle)
                || settle.verdict == Verdict::AlreadySettled;
            let Some(end) = settle.span.end.filter(|_| is) else { continue };
            for number in &view.deliveries[place] {
                match view.after(*number, &end) {
                    After::No => {}
                    After::Stale => _ = stale.insert(*number),
                    After::Yes => violations.push(format!(
                        "I14: {place:?} was settled ({:?}, {:?}) at step {} and is delivered again: {:?} at {:?}",
                        settle.action,
                        settle.verdict,
                        end.step,
                        view.delivery(*number),
                        view.poll_of(*number).span,
                    )),
                }
            }
        }
    }
    stale.len()
}

/// Counts rise within a dispatcher's life, and after a nack that was answered.
fn counts_rise(view: &View<'_>, violations: &mut Vec<String>) {
    for (place, numbers) in &view.deliveries {
        for number in numbers {
            let count = view.delivery(*number).count;
            if count == 0 || view.rules.max_deliveries > 0 && count > view.rules.max_deliveries {
                violations.push(format!("{place:?} has delivery number {count}"));
            }
        }
        for (at, first) in numbers.iter().enumerate() {
            for second in &numbers[at + 1..] {
                let (a, b) = (view.delivery(*first), view.delivery(*second));
                let ordered = view.poll_of(*first).span.end_step() < view.poll_of(*second).span.start.step;
                if a.life == b.life && (a.count == b.count || ordered && a.count > b.count) {
                    violations.push(format!("{place:?}: delivery counts do not rise: {a:?}, {b:?}"));
                }
            }
        }
        let nacks = view.settles.get(place).into_iter().flatten();
        for nack in nacks.filter(|settle| settle.action == Action::Nack && settle.verdict == Verdict::Done) {
            let (Some(end), count) = (nack.span.end, view.delivery(nack.delivery).count) else { continue };
            for number in numbers {
                let again = view.delivery(*number);
                if view.after(*number, &end) == After::Yes && again.count <= count {
                    violations.push(format!("{place:?}: given back after delivery {count}, and then {again:?}"));
                }
            }
        }
    }
}

/// I15. Gives the number of messages that were acknowledged.
fn nothing_is_forgotten(view: &View<'_>, violations: &mut Vec<String>) -> usize {
    let mut acknowledged = 0;
    for (place, held) in &view.held {
        let settles = view.settles.get(place).map_or(&[][..], Vec::as_slice);
        let done = |action: Action| settles.iter().any(|s| s.action == action && s.verdict == Verdict::Done);
        let may = |action: Action| settles.iter().any(|s| s.action == action && view.may_settle(s));
        let given_up =
            settles.iter().any(|s| s.action == Action::Nack && s.verdict == Verdict::Done && view.settles(s));
        acknowledged += usize::from(done(Action::Ack));
        let mut wrong = |what: &str| violations.push(format!("I15: {held:?} {what}: {settles:?}"));
        if !held.wanted && view.deliveries.contains_key(place) {
            wrong("is delivered and is not wanted");
        }
        if let Some(letter) = view.dead.get(place) {
            if done(Action::Ack) {
                wrong("is acknowledged and a dead letter");
            }
            let right = match letter.reason.as_str() {
                "rejected" => may(Action::Reject),
                "expired" => held.expires && view.rules.keeps_expired,
                _ => view.rules.max_deliveries > 0 && letter.count == view.rules.max_deliveries,
            };
            if !right {
                wrong(&format!("is a dead letter without cause: {letter:?}"));
            }
            continue;
        }
        if done(Action::Reject) || given_up {
            wrong("was given up and is no dead letter");
        }
        let dropped = held.expires && !view.rules.keeps_expired;
        if held.wanted && !may(Action::Ack) && !dropped {
            wrong("is settled, but nobody did that");
        }
    }
    for place in view.deliveries.keys().chain(view.dead.keys()).filter(|place| !view.held.contains_key(place)) {
        violations.push(format!("{place:?} is delivered or dead, and is not there"));
    }
    acknowledged
}

/// The clocks of machines count milliseconds, so that a time may seem shorter by so much, in microseconds.
const TOLERANCE_US: u64 = 2_000;

/// No receipt is good for longer than that, in microseconds.
const LONGEST_US: u64 = 20_000_000;

/// A message is not delivered while it is in flight (and one of a group not while any of the group is).
fn in_flight_once(view: &View<'_>, violations: &mut Vec<String>) {
    let mut alike: BTreeMap<(u64, Option<&str>, Place), Vec<usize>> = BTreeMap::new();
    for (number, delivery) in view.history.deliveries.iter().enumerate() {
        let group = delivery.group.as_deref().filter(|_| view.rules.ordered);
        let place = if group.is_some() { Place { partition: 0, offset: 0 } } else { delivery.place };
        alike.entry((delivery.life, group, place)).or_default().push(number);
    }
    for ((_, group, _), mut numbers) in alike {
        numbers.sort_by_key(|number| view.poll_of(*number).span.start.step);
        for (at, first) in numbers.iter().enumerate() {
            let horizon = view.poll_of(*first).span.end_us().saturating_add(LONGEST_US);
            let later = numbers[at + 1..].iter();
            for second in later.take_while(|second| view.poll_of(**second).span.start.time_us < horizon) {
                if !over_before(view, *first, *second) && !over_before(view, *second, *first) {
                    let (a, b) = (view.delivery(*first), view.delivery(*second));
                    let spans = (view.poll_of(*first).span, view.poll_of(*second).span);
                    violations.push(format!("I16: both in flight (group {group:?}): {a:?}, {b:?}, {spans:?}"));
                }
            }
        }
    }
}

/// Whether the first delivery can have been over when the second was made.
fn over_before(view: &View<'_>, first: usize, second: usize) -> bool {
    let (poll, by) = (view.poll_of(first), view.poll_of(second).span);
    let ended = |settle: &&Settle| may_end(settle) && settle.span.start.step < by.end_step();
    let jumped = by.end.is_none_or(|end| end.jumps != poll.span.start.jumps);
    jumped || view.of(first).iter().any(ended) || by.end_us() + TOLERANCE_US >= deadline_us(view, first, &by)
}

/// Whether what was asked for may end the delivery. A message that is given back may be delivered again before that is
/// committed, even if it never is: nobody wants it any more.
pub(super) fn may_end(settle: &Settle) -> bool {
    match settle.action {
        Action::Ack | Action::Reject => matches!(settle.verdict, Verdict::Done | Verdict::Unknown | Verdict::LetGo),
        Action::Nack => matches!(settle.verdict, Verdict::Done | Verdict::Unknown | Verdict::NotDone),
        Action::Extend(_) => false,
    }
}

/// Before this time the receipt of a delivery does not expire, as far as it matters to somebody who asks in this span.
pub(super) fn deadline_us(view: &View<'_>, delivery: usize, by: &Span) -> u64 {
    let poll = view.poll_of(delivery);
    let mut deadline = poll.span.start.time_us + poll.visibility_us;
    for settle in view.of(delivery) {
        let Action::Extend(visibility) = settle.action else { continue };
        if settle.span.start.step >= by.end_step() {
            continue;
        }
        let moved = settle.span.start.time_us + visibility;
        match settle.verdict {
            Verdict::Done if settle.span.end_step() < by.start.step => deadline = moved,
            Verdict::Done | Verdict::Unknown => deadline = deadline.min(moved),
            _ => {}
        }
    }
    deadline
}

/// I16, order: what is before a delivered message in its group was settled by then, and stays so.
fn groups_keep_order(view: &View<'_>, remains: &Remains, violations: &mut Vec<String>) {
    let mut groups: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for held in &remains.held {
        groups.entry(held.group.as_deref().unwrap_or_default()).or_default().push(held.place);
    }
    groups.remove("");
    for (group, places) in groups {
        // The step before which something before the message was certainly not settled.
        let mut before = (0, None);
        let mut deliveries = Vec::new();
        for place in places {
            for number in view.deliveries.get(&place).into_iter().flatten() {
                if before.0 >= view.poll_of(*number).span.end_step() {
                    let delivery = view.delivery(*number);
                    violations.push(format!("I16: {delivery:?} while {:?} of {group} was not settled", before.1));
                }
                deliveries.push(*number);
            }
            let since = settled_since(view, place);
            if since > before.0 {
                before = (since, Some(place));
            }
        }
        nothing_comes_again(view, group, &deliveries, violations);
    }
}

/// The step from which on a message may have been settled.
fn settled_since(view: &View<'_>, place: Place) -> u64 {
    if view.dead.contains_key(&place) || view.held.get(&place).is_some_and(|held| held.expires || !held.wanted) {
        return 0;
    }
    let settles = view.settles.get(&place).into_iter().flatten();
    settles.filter(|settle| view.may_settle(settle)).map(|settle| settle.span.start.step).min().unwrap_or(u64::MAX)
}

/// Once a message of a group was delivered, none before it comes again.
fn nothing_comes_again(view: &View<'_>, group: &str, deliveries: &[usize], violations: &mut Vec<String>) {
    let (mut by_start, mut by_end) = (deliveries.to_vec(), deliveries.to_vec());
    by_start.sort_by_key(|number| view.poll_of(*number).span.start.step);
    by_end.sort_by_key(|number| view.poll_of(*number).span.end_step());
    let (mut ended, mut furthest) = (by_end.into_iter().peekable(), None::<(Place, Moment)>);
    for number in by_start {
        let start = view.poll_of(number).span.start.step;
        while let Some(over) = ended.next_if(|over| view.poll_of(*over).span.end_step() < start) {
            let (place, end) = (view.delivery(over).place, view.poll_of(over).span.end);
            let further = furthest.is_none_or(|(before, _)| before < place);
            furthest = end.filter(|_| further).map(|end| (place, end)).or(furthest);
        }
        let Some((place, end)) = furthest.filter(|(place, _)| *place > view.delivery(number).place) else { continue };
        if view.after(number, &end) == After::Yes {
            let delivery = view.delivery(number);
            violations.push(format!("I16: {delivery:?} after {place:?} of {group} was delivered at step {}", end.step));
        }
    }
}
