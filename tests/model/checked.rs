//! The checker itself: what it must let pass, and what it must find.

use crate::history::{Action, Condition, Event, Histories, Value};

fn value(number: u32) -> Value {
    Value { writer: 1, number, length: 100 + number }
}

fn event(begin: u64, end: u64, action: Action) -> Event {
    Event { client: 0, begin, end: (end > 0).then_some(end), action }
}

fn write(begin: u64, end: u64, number: u32) -> Event {
    event(begin, end, Action::Write(value(number), Condition::Always))
}

fn read(begin: u64, end: u64, number: u32) -> Event {
    event(begin, end, Action::Read((number > 0).then(|| value(number))))
}

fn can_be(keys: &[Vec<Event>]) -> bool {
    let histories = Histories::new(keys);
    (0..keys.len()).all(|key| histories.check(key).is_ok())
}

#[test]
fn what_can_be() {
    let absent = |begin, end, number| event(begin, end, Action::Write(value(number), Condition::Absent));
    for history in [
        vec![],
        vec![read(1, 2, 0), write(3, 4, 1), read(5, 6, 1)],
        // Side by side either may be first.
        vec![write(1, 10, 1), write(2, 9, 2), read(11, 12, 1)],
        vec![write(1, 10, 1), read(2, 3, 1), read(4, 5, 1)],
        vec![write(1, 10, 1), read(2, 3, 0), read(4, 5, 1), write(6, 12, 2), read(7, 8, 2), read(9, 13, 2)],
        // Nobody knows of the first one: it may be, late, or never.
        vec![write(1, 0, 1), read(2, 3, 0), write(4, 5, 2), read(6, 7, 2), read(8, 9, 1)],
        vec![write(1, 0, 1), write(4, 5, 2), read(6, 7, 2)],
        vec![
            write(1, 2, 1),
            event(3, 0, Action::Delete),
            read(4, 5, 1),
            read(6, 7, 0),
            absent(8, 9, 2),
            read(10, 11, 2),
        ],
        vec![write(1, 2, 1), event(3, 4, Action::Write(value(2), Condition::Is(value(1)))), read(5, 6, 2)],
        vec![write(1, 2, 1), event(3, 4, Action::Present)],
        vec![absent(1, 10, 1), event(2, 9, Action::Present), read(11, 12, 1)],
        // Of two unknown ones the second needs the first.
        vec![write(1, 2, 1), event(3, 0, Action::Delete), absent(4, 0, 2), read(5, 6, 2)],
    ] {
        assert!(can_be(std::slice::from_ref(&history)), "{history:#?}");
    }
}

#[test]
fn what_cannot_be() {
    let absent = |begin, end, number| event(begin, end, Action::Write(value(number), Condition::Absent));
    for history in [
        // A write that was told is lost.
        vec![write(1, 2, 1), read(3, 4, 0)],
        vec![write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)],
        // What nobody wrote, or nobody had written yet.
        vec![read(1, 2, 1)],
        vec![read(1, 2, 1), write(3, 4, 1)],
        // Back and forth.
        vec![write(1, 10, 1), read(2, 3, 1), read(4, 5, 0)],
        vec![write(1, 10, 1), write(2, 9, 2), read(11, 12, 1), read(13, 14, 2)],
        vec![write(1, 0, 1), write(2, 3, 2), read(4, 5, 1), read(6, 7, 2)],
        // What was deleted comes back.
        vec![write(1, 2, 1), event(3, 4, Action::Delete), read(5, 6, 1)],
        // Conditions that did not hold.
        vec![write(1, 2, 1), absent(3, 4, 2)],
        vec![absent(1, 10, 1), absent(2, 9, 2)],
        vec![write(1, 2, 1), write(3, 4, 2), event(5, 6, Action::Write(value(3), Condition::Is(value(1))))],
        vec![event(1, 2, Action::Present)],
    ] {
        assert!(!can_be(std::slice::from_ref(&history)), "{history:#?}");
    }
}

#[test]
fn copies_bring_what_was_there() {
    let copy = |begin, end| event(begin, end, Action::Copy(0));
    let source = vec![write(1, 2, 1), write(11, 12, 2)];
    assert!(can_be(&[source.clone(), vec![copy(5, 6), read(7, 8, 1), read(9, 10, 1)]]));
    assert!(can_be(&[source.clone(), vec![copy(5, 11), read(12, 13, 2)]]));
    assert!(can_be(&[source.clone(), vec![copy(5, 0), read(12, 13, 2)]]));
    assert!(!can_be(&[source.clone(), vec![copy(5, 6), read(7, 8, 2)]]), "not written yet");
    assert!(!can_be(&[source.clone(), vec![copy(13, 14), read(15, 16, 1)]]), "replaced before");
    assert!(
        !can_be(&[source.clone(), vec![copy(5, 20), read(21, 22, 1), read(23, 24, 2)]]),
        "one or the other"
    );
    assert!(!can_be(&[source, vec![copy(5, 6), read(7, 8, 0)]]), "lost");
}

#[test]
fn bytes_name_their_value() {
    let (one, two) = (value(1), value(2));
    let (bytes, other) = (one.bytes(), two.bytes());
    assert_eq!(Value::of(&bytes, 0), Some(one));
    for (from, to) in [(0, 31), (1, 40), (15, 46), (16, 32), (60, 101)] {
        assert_eq!(Value::of(&bytes[from..to], from), Some(one), "{from} to {to}");
        assert_eq!(Value::of(&bytes[from..to], from + 1), None);
    }
    let mixed = [&bytes[..48], &other[48..]].concat();
    assert_eq!(Value::of(&mixed, 0), None);
    assert_eq!(Value::of(&[&bytes[..16], &bytes[..]].concat(), 0), None);
}
