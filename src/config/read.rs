//! Typed reading of the tree, with every problem collected.
//!
//! A [`Section`] gives out its keys one by one and knows in the end which nobody asked for. A bad
//! value is reported and read as absent, so that one mistake does not hide the next; contradictions
//! between keys are reported only if those keys were readable. Whoever holds the [`Reader`] asks at
//! the end whether anything was found.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::error::Finding;
use super::lookup::{self, Environment, Lookup};
use super::node::{self, Kind, Node};
use super::source::{self, Source};
use super::suggest::{is_close, suggestion};
use super::values::{Form, Input, Origin, quoted};
use super::{ConfigError, Secret};

/// What is shared by all sections of one file.
pub(super) struct Reader<'a> {
    directory: PathBuf,
    lookup: Lookup<'a>,
    drafts: RefCell<Vec<Draft>>,
    masked: RefCell<Vec<MaskedValue>>,
    #[cfg(test)]
    pub known_keys: RefCell<std::collections::BTreeSet<String>>,
}

/// A finding whose place is still the number of a node.
struct Draft {
    node: usize,
    path: String,
    message: String,
    /// The node that this one repeats.
    first: Option<usize>,
}

struct MaskedValue {
    node: usize,
    end: usize,
    text: Option<String>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &Path, environment: Environment<'a>) -> Self {
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        Self {
            lookup: Lookup::new(&directory, environment),
            directory,
            drafts: RefCell::default(),
            masked: RefCell::default(),
            #[cfg(test)]
            known_keys: RefCell::default(),
        }
    }

    /// Reports a problem at a node.
    pub fn problem(&self, node: usize, path: &str, message: impl Into<String>) {
        self.drafts.borrow_mut().push(Draft { node, path: path.to_owned(), message: message.into(), first: None });
    }

    /// Reports that a node repeats another; the message gets the line of the first one.
    pub fn repetition(&self, node: usize, path: &str, message: impl Into<String>, first: usize) {
        let draft = Draft { node, path: path.to_owned(), message: message.into(), first: Some(first) };
        self.drafts.borrow_mut().push(draft);
    }

    /// Keeps a value out of all snippets.
    pub fn mask(&self, value: &Node) {
        let text = value.text().map(str::to_owned);
        self.masked.borrow_mut().push(MaskedValue { node: value.id, end: value.end, text });
    }

    pub fn is_clean(&self) -> bool {
        self.drafts.borrow().is_empty()
    }

    /// The whole document as a section.
    pub fn root<'r>(&'r self, root: &'r Node) -> Section<'r> {
        Section::new(self, String::new(), root.id, root)
    }

    /// Turns what was found into the error; `text` is the file that was read.
    pub fn into_error(self, file: &Path, text: &str) -> ConfigError {
        let masked = self.masked.into_inner();
        // Hiding costs two parses for each value: rather no snippets at all than too many of those.
        let mut source = Source::new(if masked.len() > MAX_MASKED { "" } else { text });
        for masked in masked.into_iter().take(MAX_MASKED) {
            if let Some(start) = node::locate(text, masked.node) {
                source.mask(start, masked.text.as_deref(), node::locate(text, masked.end));
            }
        }
        let mut drafts = self.drafts.into_inner();
        let omitted = drafts.len().saturating_sub(MAX_FINDINGS);
        drafts.sort_by_key(|draft| draft.node);
        drafts.truncate(MAX_FINDINGS);
        let mut findings: Vec<Finding> = drafts.into_iter().map(|draft| draft.placed(text, &source)).collect();
        findings.sort_by_key(|finding| (finding.line, finding.column));
        findings.dedup();
        ConfigError { file: file.to_owned(), findings, omitted }
    }

    /// Reads a scalar, or reports why there is none. `key` is where a missing value is reported.
    fn input(&self, path: &str, key: usize, value: &Node) -> Option<Input> {
        let (form, text) = match &value.kind {
            Kind::Null => {
                self.problem(key, path, "no value: give it one or remove the key");
                return None;
            }
            Kind::Bool(value) => (Form::Bool, value.to_string()),
            Kind::Integer(value) => (Form::Integer, value.to_string()),
            Kind::Float(value) => (Form::Float, value.to_string()),
            Kind::Text(text) => (Form::Text, text.clone()),
            Kind::List(_) => (Form::List, String::new()),
            Kind::Map(_) => (Form::Map, String::new()),
            Kind::Tagged(tag, content) => return self.referenced(path, value.id, tag, content),
        };
        Some(Input { form, text, origin: Origin::File })
    }

    fn referenced(&self, path: &str, node: usize, tag: &str, content: &Node) -> Option<Input> {
        let text = scalar_text(content)?;
        let (name, value) = match tag {
            SECRET_TAG => (text.trim(), self.lookup.secret(text.trim())),
            VARIABLE_TAG => (lookup::split_variable(&text).0, self.lookup.variable(&text)),
            // `lint` has reported it.
            _ => return None,
        };
        let origin = Origin::Reference(format!("!{tag} {name}"));
        match value {
            Ok(text) => Some(Input { form: Form::Text, text, origin }),
            Err(message) => {
                self.problem(node, path, message);
                None
            }
        }
    }

    /// Reads one scalar that is not below a fixed key.
    pub fn value<T>(
        &self,
        path: &str,
        key: usize,
        value: &Node,
        read: impl FnOnce(&Input) -> Result<T, String>,
    ) -> Option<T> {
        let input = self.input(path, key, value)?;
        read(&input).map_err(|message| self.problem(value.id, path, message)).ok()
    }
}

impl Draft {
    fn placed(self, text: &str, source: &Source<'_>) -> Finding {
        let place = node::locate(text, self.node);
        let mut message = self.message;
        if let Some(first) = self.first.and_then(|first| node::locate(text, first)) {
            message.push_str(&format!(", first on line {}", first.line));
        }
        Finding {
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            path: self.path,
            message,
            snippet: place.and_then(|place| source.snippet(place)),
        }
    }
}

/// One mapping of the file; call [`Section::finish`] when every key has been asked for.
#[must_use]
pub(super) struct Section<'r> {
    reader: &'r Reader<'r>,
    path: String,
    /// Where a missing key is reported.
    place: usize,
    entries: &'r [(Node, Node)],
    known: Vec<&'static str>,
    secret: Vec<&'static str>,
    /// Keys present but unreadable.
    bad: Vec<&'static str>,
    /// Not a mapping: reported once, its keys are not missing.
    broken: bool,
}

impl<'r> Section<'r> {
    pub fn new(reader: &'r Reader<'r>, path: String, place: usize, node: &'r Node) -> Self {
        let mut section = Self::absent(reader, path, place);
        match &node.kind {
            Kind::Map(entries) => section.entries = entries,
            // All keys of the section are commented out.
            Kind::Null => {}
            Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) | Kind::List(_) => {
                section.broken = true;
                reader.problem(node.id, &section.path, "expected a mapping, that is `key: value` lines below");
            }
            Kind::Tagged(tag, _) => {
                section.broken = true;
                if let SECRET_TAG | VARIABLE_TAG = tag.as_str() {
                    reader.problem(node.id, &section.path, format!("!{tag} stands for one value, not for a mapping"));
                }
            }
        }
        section
    }

    /// A section of which nothing is written.
    pub fn absent(reader: &'r Reader<'r>, path: String, place: usize) -> Self {
        Self { reader, path, place, entries: &[], known: vec![], secret: vec![], bad: vec![], broken: false }
    }

    /// The dotted path of the section itself.
    pub fn own_path(&self) -> &str {
        &self.path
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The key's and value's nodes; the key counts as known from here on.
    pub fn take(&mut self, key: &'static str) -> Option<(&'r Node, &'r Node)> {
        self.known.push(key);
        #[cfg(test)]
        self.reader.known_keys.borrow_mut().insert(self.path_of(key));
        self.entry(key)
    }

    fn entry(&self, key: &str) -> Option<(&'r Node, &'r Node)> {
        self.entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(key, value)| (key, value))
    }

    /// Reads a scalar; `None` if it is absent or was reported.
    pub fn read<T>(&mut self, key: &'static str, read: impl FnOnce(&Input) -> Result<T, String>) -> Option<T> {
        let (key_node, value) = self.take(key)?;
        let result = self.reader.value(&self.path_of(key), key_node.id, value, read);
        if result.is_none() {
            self.bad.push(key);
        }
        result
    }

    /// The same for a key that must be there.
    pub fn required<T>(&mut self, key: &'static str, read: impl FnOnce(&Input) -> Result<T, String>) -> Option<T> {
        let value = self.read(key, read);
        if self.entry(key).is_none() {
            self.missing(key);
        }
        value
    }

    /// Reports that a key is not there.
    pub fn missing(&self, key: &str) {
        if !self.broken {
            self.reader.problem(self.place, &self.path_of(key), format!("`{key}` is missing: add it"));
        }
    }

    /// Reads a list of scalars; `None` if it is absent or any of it was reported.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Input) -> Result<T, String>,
    ) -> Option<Vec<(&'r Node, T)>> {
        let (key_node, value) = self.take(key)?;
        let path = self.path_of(key);
        let Kind::List(items) = &value.kind else {
            self.bad.push(key);
            // An empty value has no place of its own.
            let node = if let Kind::Null = value.kind { key_node.id } else { value.id };
            self.reader.problem(node, &path, not_a_list(value));
            return None;
        };
        let read_item = |(index, item)| {
            let path = format!("{path}[{index}]");
            self.reader.value(&path, key_node.id, item, &read).map(|value| (item, value))
        };
        // Two steps, so that the first bad item does not hide the second.
        let items: Vec<Option<_>> = items.iter().enumerate().map(read_item).collect();
        let items: Option<Vec<_>> = items.into_iter().collect();
        if items.is_none() {
            self.bad.push(key);
        }
        items
    }

    /// Reads a path; a relative one starts at the directory of the file.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let directory = &self.reader.directory;
        self.read(key, |input| {
            let expected = "a path";
            let text = input.strict_text(expected)?;
            input.parse(expected, |_| match text {
                "" => Err("an empty path".to_owned()),
                text if text.contains('\0') => Err("a path with a NUL character".to_owned()),
                text if text.starts_with('~') => Err("`~` has no meaning here: write the whole path".to_owned()),
                text => Ok(directory.join(text)),
            })
        })
    }

    /// Reads a token; neither message nor snippet will show it.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.secret.push(key);
        self.read(key, |input| match input.form {
            Form::Text => token(&input.text),
            Form::Bool | Form::Integer | Form::Float | Form::List | Form::Map => {
                Err("expected text: put it in quotes, or better into secrets.yaml as `!secret name`".to_owned())
            }
        })
    }

    /// Reads a token from the file that the key names.
    pub fn secret_file(&mut self, key: &'static str) -> Option<Secret> {
        let file = self.path(key)?;
        let content = lookup::read_capped(&file, MAX_TOKEN_BYTES + 1);
        let content = content.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
        let secret = content.and_then(|text| token(text.strip_suffix('\n').unwrap_or(&text)));
        secret.map_err(|why| self.conflict(key, &[], format!("cannot use {}: {why}", file.display()))).ok()
    }

    /// The section below a key; empty if it is absent.
    pub fn section(&mut self, key: &'static str) -> Section<'r> {
        match self.take(key) {
            Some((key_node, value)) => Section::new(self.reader, self.path_of(key), key_node.id, value),
            None => Section::absent(self.reader, self.path_of(key), self.place),
        }
    }

    /// Every entry of a section whose keys are names that the operator chose; repeated ones once.
    pub fn named_sections(&self) -> Vec<(&'r str, &'r Node, Section<'r>)> {
        let mut sections: Vec<(&str, &Node, Section<'_>)> = Vec::new();
        for (key, value) in self.entries {
            // Merge keys and keys that are no text are `lint`'s.
            let Some(name) = key.text().filter(|name| *name != MERGE_KEY) else { continue };
            if sections.iter().all(|(seen, ..)| *seen != name) {
                sections.push((name, key, Section::new(self.reader, self.path_of(name), key.id, value)));
            }
        }
        sections
    }

    /// Reports a contradiction at a key, unless one of the keys that it involves is bad itself.
    pub fn conflict(&self, key: &str, involved: &[&str], message: impl Into<String>) {
        if involved.iter().any(|key| self.bad.contains(key)) {
            return;
        }
        let node = self.entry(key).map_or(self.place, |(key, _)| key.id);
        self.reader.problem(node, &self.path_of(key), message);
    }

    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn reader(&self) -> &'r Reader<'r> {
        self.reader
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for (key, value) in self.entries {
            let Some(name) = key.text().filter(|name| *name != MERGE_KEY && !self.known.contains(name)) else {
                continue;
            };
            if source::sounds_secret(name) || self.secret.iter().any(|secret| is_close(name, secret)) {
                self.reader.mask(value);
            }
            let similar = suggestion(name, self.known.iter().copied());
            let hint = if similar.is_empty() { format!(", known here: {}", self.known.join(", ")) } else { similar };
            self.reader.problem(key.id, &self.path_of(name), format!("unknown key{hint}"));
        }
    }
}

fn not_a_list(value: &Node) -> String {
    match &value.kind {
        Kind::Null => "no value: for an empty list write `[]`".to_owned(),
        Kind::Text(text) => format!("expected a list: write [{}]", quoted(text).replace('`', "\"")),
        Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Map(_) | Kind::Tagged(..) | Kind::List(_) => {
            "expected a list such as [a, b]".to_owned()
        }
    }
}

/// The text of a reference's argument; `None` if it is no scalar, which `lint` has reported.
fn scalar_text(content: &Node) -> Option<String> {
    match &content.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Integer(number) => Some(number.to_string()),
        Kind::Bool(value) => Some(value.to_string()),
        Kind::Null | Kind::Float(_) | Kind::List(_) | Kind::Map(_) | Kind::Tagged(..) => None,
    }
}

/// Checks that a client can send the token in a header field.
fn token(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        return Err("the token is empty".to_owned());
    }
    if text.len() as u64 > MAX_TOKEN_BYTES {
        return Err("the token is longer than 4096 bytes".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the token may hold only visible ASCII characters, no spaces".to_owned());
    }
    Ok(Secret::new(text.to_owned()))
}

pub(super) const SECRET_TAG: &str = "secret";
pub(super) const VARIABLE_TAG: &str = "env_var";
pub(super) const MERGE_KEY: &str = "<<";
const MAX_TOKEN_BYTES: u64 = 4096;
/// Each finding costs a parse of the file; nobody reads more at once.
const MAX_FINDINGS: usize = 100;
const MAX_MASKED: usize = 100;
