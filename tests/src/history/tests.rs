//! The checker itself: it accepts what is right and finds each kind of fault.

use super::*;

fn message(value: &str) -> Message {
    Message { key: Some("k".to_owned()), value: value.to_owned() }
}

fn at(offset: u64) -> Place {
    Place { partition: 0, offset }
}

fn stored(values: &[&str]) -> Vec<Stored> {
    let copy = |(offset, value): (usize, &&str)| Stored { place: at(offset as u64), message: message(value) };
    values.iter().enumerate().map(copy).collect()
}

/// Two acknowledged publishes one after the other, one unknown, one refused.
fn history() -> History {
    let recorder = Recorder::default();
    let first = recorder.start("a", None, vec![message("1"), message("2")]);
    recorder.finish(&first, Outcome::Acknowledged(vec![at(0), at(1)]));
    let second = recorder.start("b", Some("id".to_owned()), vec![message("3")]);
    recorder.finish(&second, Outcome::Acknowledged(vec![at(2)]));
    let _unknown = recorder.start("c", None, vec![message("4"), message("5")]);
    let refused = recorder.start("d", None, vec![message("6")]);
    recorder.finish(&refused, Outcome::Refused);
    recorder.observe(stored(&["1", "2"]));
    recorder.history()
}

#[test]
fn what_is_right_passes_whether_or_not_the_unknown_is_stored() {
    let summary = check(&history(), &stored(&["1", "2", "3"])).unwrap();
    assert_eq!(summary, Summary { acknowledged: 3, unknown_stored: 0, unknown_absent: 2, refused: 1 });
    let summary = check(&history(), &stored(&["1", "2", "3", "4", "5"])).unwrap();
    assert_eq!((summary.unknown_stored, summary.unknown_absent), (2, 0));
}

#[test]
fn every_kind_of_fault_is_found() {
    let faults: [(&str, &[&str]); 8] = [
        ("an acknowledged message is lost", &["1", "2"]),
        ("it is stored twice", &["1", "2", "3", "3"]),
        ("it is somewhere else", &["1", "3", "2"]),
        ("the unknown one is stored twice", &["1", "2", "3", "4", "5", "4", "5"]),
        ("only a part of it is stored", &["1", "2", "3", "4"]),
        ("the refused one is stored", &["1", "2", "3", "6"]),
        ("something else is stored", &["1", "2", "3", "x"]),
        ("nothing is stored", &[]),
    ];
    for (fault, values) in faults {
        assert!(check(&history(), &stored(values)).is_err(), "{fault}");
    }
}

#[test]
fn gaps_moved_keys_and_changed_reads_are_found() {
    let mut gap = stored(&["1", "2", "3"]);
    gap.push(Stored { place: at(4), message: message("4") });
    assert!(check(&history(), &gap).is_err());

    let mut moved = stored(&["1", "2", "3"]);
    let elsewhere = [("4", 0), ("5", 1)].map(|(v, offset)| (Place { partition: 1, offset }, message(v)));
    moved.extend(elsewhere.map(|(place, message)| Stored { place, message }));
    let violations = check(&history(), &moved).unwrap_err();
    assert!(violations.iter().all(|violation| violation.contains("partitions 0 and 1")), "{violations:?}");

    let mut changed = history();
    changed.observed.push(Stored { place: at(2), message: message("something else") });
    assert_eq!(check(&changed, &stored(&["1", "2", "3"])).unwrap_err().len(), 1);
}

#[test]
fn an_acknowledged_publish_lies_before_those_that_begin_later() {
    let recorder = Recorder::default();
    let overlapping = recorder.start("slow", None, vec![message("1")]);
    let first = recorder.start("a", None, vec![message("2")]);
    recorder.finish(&first, Outcome::Acknowledged(vec![at(1)]));
    let second = recorder.start("b", None, vec![message("3")]);
    recorder.finish(&second, Outcome::Acknowledged(vec![at(2)]));
    recorder.finish(&overlapping, Outcome::Acknowledged(vec![at(0)]));
    assert!(check(&recorder.history(), &stored(&["1", "2", "3"])).is_ok(), "what overlaps has no order");

    let mut reversed = recorder.history();
    reversed.publishes[1].outcome = Outcome::Acknowledged(vec![at(2)]);
    reversed.publishes[2].outcome = Outcome::Acknowledged(vec![at(1)]);
    let violations = check(&reversed, &stored(&["1", "3", "2"])).unwrap_err();
    assert!(violations[0].contains("began at step"), "{violations:?}");
}

#[test]
fn the_order_within_a_request_is_kept() {
    let mut history = history();
    history.publishes[0].outcome = Outcome::Acknowledged(vec![at(1), at(0)]);
    history.observed.clear();
    let violations = check(&history, &stored(&["2", "1", "3"])).unwrap_err();
    assert!(violations.iter().any(|violation| violation.contains("changed their order")), "{violations:?}");
}
