//! Where `!secret` and `!env_var` values come from.
//!
//! `secrets.yaml` beside the configuration is read once, and only if something asks for it. The
//! messages of this module name secrets, variables and files; they never hold a value, nor a line
//! of `secrets.yaml`.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::node::{self, Kind};
use super::suggest::suggestion;

/// Finds an environment variable; injected so that tests leave the process environment alone.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) struct Lookup<'a> {
    secrets_file: PathBuf,
    secrets: OnceCell<Result<BTreeMap<String, String>, String>>,
    environment: Environment<'a>,
}

impl<'a> Lookup<'a> {
    pub fn new(directory: &Path, environment: Environment<'a>) -> Self {
        Self { secrets_file: directory.join(SECRETS_FILE), secrets: OnceCell::new(), environment }
    }

    /// The value of `!secret name`.
    pub fn secret(&self, name: &str) -> Result<String, String> {
        let secrets = self.secrets.get_or_init(|| load(&self.secrets_file));
        let secrets = secrets.as_ref().map_err(Clone::clone)?;
        secrets.get(name).cloned().ok_or_else(|| {
            let similar = suggestion(name, secrets.keys().map(String::as_str));
            format!("no secret `{name}` in {}{similar}", self.secrets_file.display())
        })
    }

    /// The value of `!env_var NAME [default]`.
    pub fn variable(&self, name_and_default: &str) -> Result<String, String> {
        let (name, default) = split_variable(name_and_default);
        let value = (self.environment)(name).or_else(|| default.map(str::to_owned));
        value.ok_or_else(|| {
            format!("environment variable `{name}` is not set (or not UTF-8); `!env_var {name} x` has the default x")
        })
    }
}

/// Splits `NAME default words`.
pub(super) fn split_variable(text: &str) -> (&str, Option<&str>) {
    match text.trim().split_once(char::is_whitespace) {
        Some((name, default)) => (name, Some(default.trim())),
        None => (text.trim(), None),
    }
}

/// Reads a file up to `limit` bytes; the error is a message without the path.
pub(super) fn read_capped(file: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    // Through `take`, because a device or a pipe has no length to ask for.
    let read = File::open(file).and_then(|file| file.take(limit + 1).read_to_end(&mut content));
    match read {
        Err(error) => Err(reason(&error)),
        Ok(length) if length as u64 > limit => Err(format!("larger than {limit} bytes")),
        Ok(_) => Ok(content),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied for the user of this process".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn load(file: &Path) -> Result<BTreeMap<String, String>, String> {
    let refuse = |why: String| format!("cannot read {}: {why}", file.display());
    let text = read_capped(file, MAX_BYTES).map_err(&refuse)?;
    let text = String::from_utf8(text).map_err(|_| refuse("it is not UTF-8".to_owned()))?;
    // The message stays behind: around a mistake in this file there is nothing but secrets.
    let root = node::parse(&text).map_err(|malformed| match malformed.place {
        Some(place) => refuse(format!("not valid YAML at line {} column {}", place.line, place.column)),
        None => refuse("not valid YAML".to_owned()),
    })?;
    match root.kind {
        Kind::Null => Ok(BTreeMap::new()),
        Kind::Map(entries) => collect(entries).map_err(refuse),
        Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) | Kind::List(_) | Kind::Tagged(..) => {
            Err(refuse("it must hold `name: value` lines".to_owned()))
        }
    }
}

fn collect(entries: Vec<(node::Node, node::Node)>) -> Result<BTreeMap<String, String>, String> {
    let mut secrets = BTreeMap::new();
    for (key, value) in entries {
        let Some(name) = key.text() else { return Err("a name in it is not text".to_owned()) };
        let value = match value.kind {
            Kind::Text(text) => text,
            Kind::Integer(number) => number.to_string(),
            Kind::Bool(switch) => switch.to_string(),
            // Others share this file with Home Assistant: what is not asked for may have any form.
            Kind::Null | Kind::Float(_) | Kind::List(_) | Kind::Map(_) | Kind::Tagged(..) => continue,
        };
        if secrets.insert(name.to_owned(), value).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(secrets)
}

const SECRETS_FILE: &str = "secrets.yaml";
const MAX_BYTES: u64 = 1 << 20;
