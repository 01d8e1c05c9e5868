//! The checker itself: it accepts what is right and finds each kind of fault.

use super::*;

const RULES: Rules = Rules { ordered: true, max_deliveries: 2, keeps_expired: false };
const VISIBILITY_US: u64 = 1_000_000;

/// A history that is told step by step: each moment is a step and a millisecond behind the one before.
struct Story {
    recorder: QueueRecorder,
    now: Moment,
}

impl Story {
    fn new() -> Self {
        let now = Moment { lowest: (1, 1), highest: (1, 1), ..Moment::default() };
        Self { recorder: QueueRecorder::default(), now }
    }

    fn moment(&mut self) -> Moment {
        self.now.step += 1;
        self.now.time_us += 1_000;
        self.now
    }

    fn wait_us(&mut self, us: u64) {
        self.now.time_us += us;
    }

    /// Somebody else leads, and nobody thinks any more that it is he.
    fn takeover(&mut self) {
        self.now.highest.0 += 1;
        self.now.lowest = self.now.highest;
    }

    /// A message of group `g` is delivered for the `count`th time by this life of a dispatcher.
    fn deliver(&mut self, offset: u64, count: u64, life: u64) -> usize {
        let start = self.moment();
        let poll = self.recorder.poll(start, VISIBILITY_US);
        let delivery = Delivery { poll, place: at(offset), group: Some("g".to_owned()), count, life };
        let end = self.moment();
        self.recorder.polled(poll, end, [delivery])[0]
    }

    fn settle(&mut self, action: Action, delivery: usize, verdict: Verdict) {
        let start = self.moment();
        let settle = self.recorder.settle(start, action, &[delivery]);
        let end = self.moment();
        if verdict != Verdict::Unknown {
            self.recorder.settled(settle, end, verdict);
        }
    }

    fn ack(&mut self, delivery: usize) {
        self.settle(Action::Ack, delivery, Verdict::Done);
    }

    fn judge(&self, remains: &Remains) -> Result<QueueSummary, Vec<String>> {
        check(RULES, &self.recorder.history(), remains)
    }

    #[track_caller]
    fn is_wrong(&self, remains: &Remains, what: &str) {
        let violations = self.judge(remains).unwrap_err();
        assert!(violations.iter().any(|violation| violation.contains(what)), "{what:?} in {violations:#?}");
    }
}

fn at(offset: u64) -> Place {
    Place { partition: 0, offset }
}

/// So many messages of group `g`, and these dead letters.
fn remains(held: u64, dead: &[(u64, &str, u64)]) -> Remains {
    let message = |offset| Held { place: at(offset), group: Some("g".to_owned()), wanted: true, expires: false };
    let letter = |(offset, reason, count): &(u64, &str, u64)| Letter {
        place: at(*offset),
        reason: (*reason).to_owned(),
        count: *count,
    };
    Remains { held: (0..held).map(message).collect(), dead: dead.iter().map(letter).collect() }
}

#[test]
fn what_is_right_passes() {
    let mut story = Story::new();
    let first = story.deliver(0, 1, 7);
    story.settle(Action::Nack, first, Verdict::Done);
    let first = story.deliver(0, 2, 7);
    story.settle(Action::Ack, first, Verdict::Unknown);
    story.settle(Action::Ack, first, Verdict::AlreadySettled);
    let second = story.deliver(1, 1, 7);
    story.settle(Action::Extend(2 * VISIBILITY_US), second, Verdict::Done);
    story.wait_us(3 * VISIBILITY_US);
    story.settle(Action::Ack, second, Verdict::Expired);
    let again = story.deliver(1, 2, 7);
    story.settle(Action::Ack, second, Verdict::Superseded);
    story.settle(Action::Reject, again, Verdict::Done);
    let third = story.deliver(2, 1, 7);
    story.takeover();
    let again = story.deliver(2, 1, 8);
    story.ack(third);
    story.settle(Action::Ack, again, Verdict::AlreadySettled);
    let summary = story.judge(&remains(3, &[(1, "rejected", 2)])).unwrap();
    assert_eq!(summary, QueueSummary { deliveries: 6, acknowledged: 1, dead: 1, stale: 0 });
}

#[test]
fn what_was_acknowledged_and_comes_again_is_found_unless_its_leader_cannot_know() {
    let mut story = Story::new();
    let first = story.deliver(0, 1, 7);
    story.takeover();
    story.ack(first);
    // The leader before thinks that it still leads.
    story.now.lowest = (1, 1);
    story.deliver(0, 2, 7);
    assert_eq!(story.judge(&remains(1, &[])).unwrap().stale, 1);
    story.now.lowest = story.now.highest;
    story.deliver(0, 1, 8);
    story.is_wrong(&remains(1, &[]), "I14");
}

#[test]
fn what_is_forgotten_or_two_things_at_once_is_found() {
    let mut story = Story::new();
    let first = story.deliver(0, 1, 7);
    story.ack(first);
    assert!(story.judge(&remains(1, &[])).is_ok());
    story.is_wrong(&remains(2, &[]), "nobody did that");
    story.is_wrong(&remains(1, &[(0, "rejected", 1)]), "acknowledged and a dead letter");
    story.is_wrong(&remains(2, &[(1, "rejected", 1)]), "without cause");
    story.is_wrong(&remains(2, &[(1, "max_deliveries", 1)]), "without cause");
    story.is_wrong(&remains(0, &[]), "is not there");
    let second = story.deliver(1, 2, 7);
    story.settle(Action::Nack, second, Verdict::Done);
    assert!(story.judge(&remains(2, &[(1, "max_deliveries", 2)])).is_ok());
    story.is_wrong(&remains(2, &[]), "no dead letter");
}

#[test]
fn counts_that_do_not_rise_are_found() {
    let mut story = Story::new();
    let first = story.deliver(0, 1, 7);
    story.settle(Action::Nack, first, Verdict::Done);
    let again = story.deliver(0, 1, 8);
    story.ack(again);
    story.is_wrong(&remains(1, &[]), "given back after delivery 1");
    let mut story = Story::new();
    let third = story.deliver(0, 3, 7);
    story.ack(third);
    story.is_wrong(&remains(1, &[]), "delivery number 3");
}

#[test]
fn two_of_a_group_in_flight_and_changed_order_are_found() {
    let mut story = Story::new();
    let (first, second) = (story.deliver(0, 1, 7), story.deliver(1, 1, 7));
    story.ack(first);
    story.ack(second);
    story.is_wrong(&remains(2, &[]), "both in flight");
    story.is_wrong(&remains(2, &[]), "was not settled");

    let mut story = Story::new();
    let first = story.deliver(0, 1, 7);
    story.settle(Action::Ack, first, Verdict::Unknown);
    let second = story.deliver(1, 1, 7);
    story.takeover();
    let again = story.deliver(0, 1, 8);
    story.ack(second);
    story.ack(again);
    story.is_wrong(&remains(2, &[]), "after Place");
}

#[test]
fn a_delivery_before_the_time_is_over_is_found() {
    let mut story = Story::new();
    let first = story.deliver(0, 1, 7);
    story.wait_us(VISIBILITY_US / 2);
    story.settle(Action::Extend(VISIBILITY_US), first, Verdict::Done);
    story.wait_us(VISIBILITY_US * 3 / 4);
    let again = story.deliver(0, 2, 7);
    story.ack(again);
    story.is_wrong(&remains(1, &[]), "both in flight");
}

#[test]
fn receipts_that_are_refused_without_cause_are_found() {
    for verdict in [Verdict::AlreadySettled, Verdict::Expired, Verdict::Superseded, Verdict::BeingSettled] {
        let mut story = Story::new();
        let first = story.deliver(0, 1, 7);
        story.settle(Action::Ack, first, verdict);
        story.ack(first);
        story.is_wrong(&remains(1, &[]), "refused without cause");
    }
}

#[test]
fn a_receipt_tells_the_life_of_its_dispatcher() {
    // 17 bytes, then 0x0102030405060708, then more.
    let receipt = "AQAAAAAAAAABAAAAAAAAAAABAgMEBQYHCAAA";
    assert_eq!(life_of(receipt), Some(0x0102_0304_0506_0708));
    assert_eq!(life_of("AQ"), None);
    assert_eq!(life_of("no receipt!"), None);
}
