//! What clients did and saw of one key, and whether it can have been: is there one order of all of it, each thing at some
//! moment between its begin and its end, in which every read finds what was written last?
//!
//! After Wing and Gong, "Testing and Verifying Concurrent Objects" (1993): a search for that order, which remembers where it
//! has been. Writes of which nobody knows whether they happened have no end, and happen only where something else could not
//! be without them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

/// What is written once: by whom, as his how-manieth, and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub writer: u32,
    pub number: u32,
    pub length: u32,
}

/// Bytes that name the value, and where among its bytes they are.
const BLOCK: usize = 16;

impl Value {
    /// No value is shorter.
    pub const LEAST: usize = 64;

    pub fn bytes(self) -> Vec<u8> {
        let length = self.length as usize;
        let mut out = Vec::with_capacity(length + BLOCK);
        for block in 0..length.div_ceil(BLOCK) as u32 {
            for number in [self.writer, self.number, self.length, block] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out.truncate(length);
        out
    }

    /// The value that has these bytes from `offset` on: all of them, of it alone. They hold one block at least.
    pub fn of(bytes: &[u8], offset: usize) -> Option<Self> {
        let block = bytes.get(offset.next_multiple_of(BLOCK) - offset..)?.get(..BLOCK)?;
        let word = |at: usize| u32::from_be_bytes(block[4 * at..4 * at + 4].try_into().unwrap());
        let value = Self { writer: word(0), number: word(1), length: word(2) };
        // A length that was never written is no reason to make so many bytes.
        let whole = (value.length < 64 << 20).then(|| value.bytes())?;
        (whole.get(offset..offset + bytes.len())? == bytes).then_some(value)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} ({} bytes)", self.writer, self.number, self.length)
    }
}

/// When a write is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Always,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match` with what a read of this has given.
    Is(Value),
}

/// What was done, or seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Write(Value, Condition),
    Delete,
    /// Of whatever stands under another key.
    Copy(usize),
    /// What was there.
    Read(Option<Value>),
    /// There was something: a write to what must be absent has been refused.
    Present,
}

/// One thing that a client did, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    #[allow(dead_code)] // For whoever reads a history.
    pub client: u32,
    pub begin: u64,
    /// None: nobody knows whether it has happened, or ever will.
    pub end: Option<u64>,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Absent,
    Is(Value),
    /// What a copy, by its place among the events, has brought.
    Copied(usize),
}

/// Where the search is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// All before this have happened.
    low: usize,
    /// And these.
    done: BTreeSet<usize>,
    /// And these, whose ends are not known.
    used: BTreeSet<usize>,
    state: State,
}

/// The most places that are looked at. Histories that can be need a few for each event.
const PLACES: usize = 3_000_000;

/// The histories of all keys. A copy goes from a key to a later one only.
pub struct Histories<'a> {
    keys: &'a [Vec<Event>],
    /// Where each value was written first, and when.
    written: HashMap<Value, (usize, Event)>,
}

impl<'a> Histories<'a> {
    pub fn new(keys: &'a [Vec<Event>]) -> Self {
        let writes =
            keys.iter().enumerate().flat_map(|(key, events)| events.iter().map(move |event| (key, event)));
        let written = writes.filter_map(|(key, event)| match event.action {
            Action::Write(value, _) => Some((value, (key, *event))),
            _ => None,
        });
        let written = written.collect();
        Self { keys, written }
    }

    /// Whether the history of this key can have been.
    ///
    /// Errors: where no order goes on, in words.
    pub fn check(&self, key: usize) -> Result<(), String> {
        let mut events = self.keys[key].clone();
        events.sort_by_key(|event| event.begin);
        let (known, open): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(|event| event.end.is_some());
        Search { histories: self, known, open, plausible: RefCell::default() }.run()
    }

    /// Whether a copy from `from` may have brought this.
    fn may_bring(&self, from: usize, copy: &Event, value: Value) -> bool {
        let Some((origin, write)) = self.written.get(&value) else { return false };
        let ended = copy.end.unwrap_or(u64::MAX);
        if *origin > from || write.begin > ended {
            return false;
        }
        // It can't have come back to the key that it was written to once something else had taken its place.
        let replaced = |other: &Event| {
            let writes = matches!(other.action, Action::Write(..) | Action::Delete | Action::Copy(_));
            let after = write.end.is_some_and(|end| end < other.begin);
            writes && after && other.end.is_some_and(|end| end < copy.begin)
        };
        *origin < from || !self.keys[from].iter().any(replaced)
    }
}

struct Search<'a> {
    histories: &'a Histories<'a>,
    known: Vec<Event>,
    open: Vec<Event>,
    plausible: RefCell<HashMap<(usize, Value), bool>>,
}

impl Search<'_> {
    fn run(&self) -> Result<(), String> {
        let start = Place { low: 0, done: BTreeSet::new(), used: BTreeSet::new(), state: State::Absent };
        let (mut seen, mut next, mut farthest) = (HashSet::from([start.clone()]), vec![start.clone()], start);
        while let Some(place) = next.pop() {
            if place.low == self.known.len() {
                return Ok(());
            }
            if place.low + place.done.len() > farthest.low + farthest.done.len() {
                farthest = place.clone();
            }
            if seen.len() > PLACES {
                return Err(format!("undecided after {PLACES} places; {}", self.describe(&farthest)));
            }
            for after in self.after(&place) {
                if seen.insert(after.clone()) {
                    next.push(after);
                }
            }
        }
        Err(self.describe(&farthest))
    }

    /// The places after this one, the likeliest last.
    fn after(&self, place: &Place) -> Vec<Place> {
        let (eligible, ends) = self.eligible(place);
        let feasible = |index: &&usize| self.apply(place.state, **index).is_some();
        // What changes nothing can come first wherever it can come at all.
        let unchanging = |index: &&usize| self.apply(place.state, **index) == Some(place.state);
        if let Some(index) = eligible.iter().filter(|index| !self.writes(**index)).find(unchanging) {
            return vec![self.with(place, *index, place.state)];
        }
        let mut after = Vec::new();
        let open: Vec<usize> = (0..self.open.len())
            .filter(|open| self.open[*open].begin <= ends && !place.used.contains(open))
            .collect();
        let enables = |state: State| {
            eligible
                .iter()
                .any(|index| self.apply(place.state, *index).is_none() && self.apply(state, *index).is_some())
        };
        for one in &open {
            let Some(state) = self.apply_open(place.state, *one) else { continue };
            let mut used = place.used.clone();
            used.insert(*one);
            if enables(state) {
                after.push(Place { used, state, ..place.clone() });
                continue;
            }
            for two in open.iter().filter(|two| *two != one) {
                if let Some(state) = self.apply_open(state, *two).filter(|state| enables(*state)) {
                    let used = used.iter().copied().chain([*two]).collect();
                    after.push(Place { used, state, ..place.clone() });
                }
            }
        }
        let mut known: Vec<usize> = eligible.iter().filter(feasible).copied().collect();
        known.sort_by_key(|index| std::cmp::Reverse(self.known[*index].end));
        let known = known
            .into_iter()
            .filter_map(|index| Some(self.with(place, index, self.apply(place.state, index)?)));
        after.extend(known);
        after
    }

    /// What may be next: all that has begun before anything that is not done has ended; and when that is.
    fn eligible(&self, place: &Place) -> (Vec<usize>, u64) {
        let (mut eligible, mut ends) = (Vec::new(), u64::MAX);
        for index in (place.low..self.known.len()).filter(|index| !place.done.contains(index)) {
            let event = &self.known[index];
            if event.begin > ends {
                break;
            }
            ends = ends.min(event.end.expect("its end is known"));
            eligible.push(index);
        }
        eligible.retain(|index| self.known[*index].begin <= ends);
        (eligible, ends)
    }

    fn with(&self, place: &Place, index: usize, state: State) -> Place {
        let (mut low, mut done) = (place.low, place.done.clone());
        done.insert(index);
        while done.remove(&low) {
            low += 1;
        }
        Place { low, done, used: place.used.clone(), state }
    }

    fn writes(&self, index: usize) -> bool {
        matches!(self.known[index].action, Action::Write(..) | Action::Delete | Action::Copy(_))
    }

    fn apply(&self, state: State, index: usize) -> Option<State> {
        self.outcome(state, &self.known[index], index)
    }

    fn apply_open(&self, state: State, index: usize) -> Option<State> {
        self.outcome(state, &self.open[index], self.known.len() + index)
    }

    fn outcome(&self, state: State, event: &Event, index: usize) -> Option<State> {
        match (event.action, state) {
            (Action::Write(value, Condition::Always), _) => Some(State::Is(value)),
            (Action::Write(value, Condition::Absent), State::Absent) => Some(State::Is(value)),
            (Action::Write(value, Condition::Is(old)), _) if self.shows(state, old) => Some(State::Is(value)),
            (Action::Write(..), _) => None,
            (Action::Delete, _) => Some(State::Absent),
            (Action::Copy(_), _) => Some(State::Copied(index)),
            (Action::Read(None), State::Absent) => Some(state),
            (Action::Read(Some(value)), _) if self.shows(state, value) => Some(State::Is(value)),
            (Action::Read(_), _) | (Action::Present, State::Absent) => None,
            (Action::Present, _) => Some(state),
        }
    }

    fn shows(&self, state: State, value: Value) -> bool {
        match state {
            State::Absent => false,
            State::Is(is) => is == value,
            State::Copied(index) => *self.plausible.borrow_mut().entry((index, value)).or_insert_with(|| {
                let copy = self.known.get(index).unwrap_or_else(|| &self.open[index - self.known.len()]);
                let Action::Copy(from) = copy.action else { unreachable!("it is a copy's place") };
                self.histories.may_bring(from, copy, value)
            }),
        }
    }

    /// Where nothing went on, and what was done around it.
    fn describe(&self, place: &Place) -> String {
        let (eligible, _) = self.eligible(place);
        let (from, to) = (place.low.saturating_sub(30), (place.low + 20).min(self.known.len()));
        let mut text = format!(
            "of {} things whose end is known {} can be put in order, and then there is {:?}, and none of these can be next:\n",
            self.known.len(),
            place.low + place.done.len(),
            place.state
        );
        let line = |event: &Event| format!("  {event:?}\n");
        eligible.iter().for_each(|index| text.push_str(&line(&self.known[*index])));
        text.push_str("around it:\n");
        self.known[from..to].iter().for_each(|event| text.push_str(&line(event)));
        text.push_str("and of unknown outcome, not used:\n");
        let open = self.open.iter().enumerate().filter(|(index, _)| !place.used.contains(index));
        open.for_each(|(_, event)| text.push_str(&line(event)));
        text
    }
}
