//! The YAML file as a tree that forgets nothing.
//!
//! serde_yaml's own `Value` drops duplicate keys and gives no positions. [`Node`] keeps every entry
//! and tag in the order of the file and numbers the nodes as the parser meets them. The number is
//! also the way back: [`locate`] parses the same text again, fails on purpose at that node and takes
//! the place from serde_yaml's error. That costs a parse for each place asked for, and nothing as
//! long as the file has no problem.
//!
//! Bounds: 16 levels, 65 536 nodes with aliases expanded. serde_yaml counts only jumps to anchors,
//! not what lies behind them, so that its own limit alone would let a small file grow without end.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::source::Place;

/// One value or key. It has no `Debug`: it may hold the text of a secret.
pub(super) struct Node {
    pub id: usize,
    /// The first number after this node and all below it.
    pub end: usize,
    pub kind: Kind,
}

pub(super) enum Kind {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// The tag without its `!`.
    Tagged(String, Box<Node>),
}

impl Node {
    /// The text of a key, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::List(_)
            | Kind::Map(_)
            | Kind::Tagged(..) => None,
        }
    }
}

/// Why a text is no tree.
pub(super) struct Malformed {
    pub place: Option<Place>,
    /// Never quotes the text.
    pub message: String,
}

/// Parses one YAML document; an empty one is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Malformed> {
    if let Some(malformed) = misread(text) {
        return Err(malformed);
    }
    let walk = Walk::new(None);
    let seed = Seed { walk: &walk, depth: 0 };
    seed.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let place = place(&error);
        match walk.limit.get() {
            Some(limit) => Malformed { place, message: limit.to_owned() },
            None => explain(text, &error.to_string(), place),
        }
    })
}

/// Finds the two things that serde_yaml 0.9 reads as something else without a word: a second anchor
/// of one name makes aliases point to other anchors, and a `%TAG` prefix makes tags vanish.
fn misread(text: &str) -> Option<Malformed> {
    let mut anchors = HashSet::new();
    let mut repeated = None;
    let mut has_alias = false;
    for (index, line) in text.lines().enumerate() {
        let line_at = |column| Some(Place { line: index + 1, column });
        if line.starts_with("%TAG") {
            return Some(Malformed {
                place: line_at(1),
                message: "`%TAG` is not supported: write tags out".to_owned(),
            });
        }
        if line.trim_start().starts_with('#') {
            continue;
        }
        for (start, word) in words(line) {
            has_alias |= word.starts_with('*');
            if word.starts_with('&') && !anchors.insert(word) && repeated.is_none() {
                let message = format!("`{word}` is defined twice: give each anchor a name of its own");
                let place = line_at(line[..start].chars().count() + 1);
                repeated = Some(Malformed { place, message });
            }
        }
    }
    repeated.filter(|_| has_alias)
}

/// What may be an anchor or alias, each with its sign, and where it begins in bytes.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let separates = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | '{' | '}' | ',');
    let words = line.split(separates).map(move |word| (word.as_ptr().addr() - line.as_ptr().addr(), word));
    words.filter(|(_, word)| word.len() > 1 && word.starts_with(['&', '*']))
}

/// Finds where in `text` the node with this number begins; for what an alias stands for that is
/// the place of its anchor.
pub(super) fn locate(text: &str, id: usize) -> Option<Place> {
    let walk = Walk::new(Some(id));
    let seed = Seed { walk: &walk, depth: 0 };
    let result = seed.deserialize(serde_yaml::Deserializer::from_str(text));
    if walk.found.get() { place(&result.err()?) } else { None }
}

/// Makes the tags visible that serde_yaml drops in silence (`!!secret x`, `!<secret> x`), or `None`
/// if the text has none. Places stay the same; strings that hold `!!` change, hence this text serves
/// only to look for tags.
pub(super) fn with_visible_tags(text: &str) -> Option<String> {
    if !text.contains("!!") && !text.contains("!<") {
        return None;
    }
    let mut previous = [' ', ' '];
    let visible = text.chars().map(|c| {
        let shown = match (previous, c) {
            ([_, '!'], '!') => '_',
            (['!', '<'], c) if c.is_ascii_graphic() => '!',
            (_, c) => c,
        };
        previous = [previous[1], shown];
        shown
    });
    Some(visible.collect())
}

fn place(error: &serde_yaml::Error) -> Option<Place> {
    error.location().map(|location| Place { line: location.line(), column: location.column() })
}

/// Turns libyaml's wording into a message with advice.
fn explain(text: &str, wording: &str, place: Option<Place>) -> Malformed {
    if wording.contains("more than one document") {
        let second = text.lines().enumerate().filter(|(_, line)| line.starts_with("---")).last();
        let place = second.map(|(index, _)| Place { line: index + 1, column: 1 });
        return Malformed { place, message: "more than one YAML document: keep one, without `---` between".to_owned() };
    }
    let place = place_of_offset(text, wording).or(place);
    // serde's own messages quote the value.
    let wording = if wording.contains("invalid value") || wording.contains("invalid type") {
        "a value that its tag forbids".to_owned()
    } else {
        without_places(wording)
    };
    let advice = ADVICE.iter().find(|(part, _)| wording.contains(part)).map(|(_, advice)| *advice);
    let message = match advice {
        Some(advice) => format!("not valid YAML: {wording}; {advice}"),
        None => format!("not valid YAML: {wording}"),
    };
    Malformed { place, message }
}

/// Signs that YAML does not know come with an offset in bytes only.
fn place_of_offset(text: &str, wording: &str) -> Option<Place> {
    let offset = wording.split_once(" at position ")?.1.split([' ', ',']).next()?;
    let before = text.get(..offset.parse().ok()?)?;
    let column = before.rsplit('\n').next()?.chars().count() + 1;
    Some(Place { line: before.matches('\n').count() + 1, column })
}

/// Drops ` at line 3 column 5` and ` at position 7`; the report has its own place.
fn without_places(wording: &str) -> String {
    let mut words = wording.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let numbers = match (word, words.peek()) {
            ("at", Some(&"line")) => 4,
            ("at", Some(&"position")) => 2,
            _ => {
                kept.push(word.to_owned());
                continue;
            }
        };
        let dropped = words.by_ref().take(numbers).last().unwrap_or_default();
        if let (true, Some(last)) = (dropped.ends_with(','), kept.last_mut()) {
            last.push(',');
        }
    }
    kept.join(" ")
}

/// What one run over the text counts and looks for.
struct Walk {
    next: Cell<usize>,
    target: Option<usize>,
    found: Cell<bool>,
    limit: Cell<Option<&'static str>>,
}

impl Walk {
    fn new(target: Option<usize>) -> Self {
        Self { next: Cell::new(0), target, found: Cell::new(false), limit: Cell::new(None) }
    }

    fn exceed<E: Error>(&self, limit: &'static str) -> E {
        self.limit.set(Some(limit));
        E::custom("limit")
    }
}

#[derive(Clone, Copy)]
struct Seed<'w> {
    walk: &'w Walk,
    depth: usize,
}

impl Seed<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.walk.exceed("nested deeper than 16 levels"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let id = self.walk.next.get();
        self.walk.next.set(id + 1);
        let kind = deserializer.deserialize_any(KindVisitor { seed: self, id })?;
        Ok(Node { id, end: self.walk.next.get(), kind })
    }
}

struct KindVisitor<'w> {
    seed: Seed<'w>,
    id: usize,
}

impl KindVisitor<'_> {
    /// Every visit comes through here first: an error from a visit carries the node's place.
    fn pass<E: Error>(&self) -> Result<(), E> {
        let walk = self.seed.walk;
        if walk.target == Some(self.id) {
            walk.found.set(true);
            return Err(E::custom("found"));
        }
        if self.id >= MAX_NODES {
            return Err(walk.exceed("more than 65536 values, what aliases repeat included"));
        }
        Ok(())
    }

    fn scalar<E: Error>(self, kind: Kind) -> Result<Kind, E> {
        self.pass().map(|()| kind)
    }
}

impl<'de> Visitor<'de> for KindVisitor<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_none<E: Error>(self) -> Result<Kind, E> {
        self.scalar(Kind::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        self.scalar(Kind::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        self.scalar(Kind::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        self.scalar(Kind::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        self.scalar(Kind::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Kind, E> {
        self.scalar(Kind::Integer(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Kind, E> {
        self.scalar(Kind::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        self.scalar(Kind::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        self.scalar(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        self.pass()?;
        let below = self.seed.below()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        self.pass()?;
        let below = self.seed.below()?;
        let mut entries = Vec::new();
        while let Some(key) = access.next_key_seed(below)? {
            entries.push((key, access.next_value_seed(below)?));
        }
        Ok(Kind::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Kind, A::Error> {
        self.pass()?;
        let below = self.seed.below()?;
        let (tag, content) = access.variant::<String>()?;
        Ok(Kind::Tagged(tag, Box::new(content.newtype_variant_seed(below)?)))
    }
}

const MAX_DEPTH: usize = 16;
const MAX_NODES: usize = 65_536;

/// Parts of libyaml's messages and what usually lies behind them; the first match counts.
const ADVICE: [(&str, &str); 8] = [
    ("scanning an alias", "a name that begins with `*` needs quotes: `\"*.example.org\"`"),
    ("cannot start any token", "indent with spaces, never tabs, and put values that begin with a sign in quotes"),
    ("mapping values are not allowed", "check the indentation, and quote a value that holds `: `"),
    ("quoted scalar", "a quote is not closed"),
    ("did not find expected key", "check the indentation of this line and of those above it"),
    ("could not find expected ':'", "a key needs `: ` after it; check this line and the one above it"),
    ("did not find expected ',' or", "a bracket is not closed"),
    ("unknown anchor", "`*name` needs an `&name` above it; quote a value that begins with `*`"),
];
