//! What is wrong with a tree whatever its keys mean.
//!
//! Duplicate and merge keys, keys that are no text, and every tag but `!secret` and `!env_var`: a
//! mistyped `!secret` must never become a literal password. Also notes which values snippets hide,
//! for the whole tree, so that a secret at the wrong place is hidden as well.

use super::node::{self, Kind, Node};
use super::read::{MERGE_KEY, Reader, SECRET_TAG, VARIABLE_TAG};
use super::source::sounds_secret;
use super::suggest::suggestion;
use super::values::quoted;

/// Reports everything of the above below `node`.
pub(super) fn lint(reader: &Reader<'_>, node: &Node, path: &str) {
    match &node.kind {
        Kind::Map(entries) => lint_map(reader, entries, path),
        Kind::List(items) => {
            for (index, item) in items.iter().enumerate() {
                lint(reader, item, &format!("{path}[{index}]"));
            }
        }
        Kind::Tagged(tag, content) => lint_tag(reader, node, tag, content, path),
        // Whatever stands before an `@` may be a password.
        Kind::Text(text) if text.contains('@') => reader.mask(node),
        Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) => {}
    }
}

/// Finds the tags that serde_yaml does not show (`!!secret`, `!<secret>`); true if there are any.
pub(super) fn has_hidden_tags(root: &Node) -> bool {
    match &root.kind {
        Kind::Tagged(tag, content) => !is_known(tag) || has_hidden_tags(content),
        Kind::List(items) => items.iter().any(has_hidden_tags),
        Kind::Map(entries) => entries.iter().any(|(key, value)| has_hidden_tags(key) || has_hidden_tags(value)),
        Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) => false,
    }
}

fn lint_map(reader: &Reader<'_>, entries: &[(Node, Node)], path: &str) {
    let mut seen = std::collections::HashMap::new();
    for (key, value) in entries {
        let Some(name) = key.text() else {
            reader.problem(key.id, path, "a key must be text: put it in quotes");
            lint(reader, value, path);
            continue;
        };
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if name == MERGE_KEY {
            reader.problem(key.id, &below, "merge keys are not supported: write the keys out");
        } else if let Some(first) = seen.insert(name, key.id) {
            reader.repetition(key.id, &below, "duplicate key", first);
            seen.insert(name, first);
        }
        if sounds_secret(name) && !name.ends_with("_file") && holds_literal(value) {
            reader.mask(value);
        }
        lint(reader, value, &below);
    }
}

fn lint_tag(reader: &Reader<'_>, node: &Node, tag: &str, content: &Node, path: &str) {
    if !is_known(tag) {
        let similar = suggestion(tag.trim_start_matches('_'), [SECRET_TAG, VARIABLE_TAG].into_iter());
        let similar = similar.replace('`', "`!").replace("`!?", "`?");
        let shown = quoted(&match tag.strip_prefix('_') {
            Some(tag) => format!("!!{tag}"),
            None => format!("!{tag}"),
        });
        let hint = if similar.is_empty() { ": only !secret and !env_var are known".to_owned() } else { similar };
        reader.problem(node.id, path, format!("unknown tag {shown}{hint}"));
        return;
    }
    match content.kind {
        Kind::Text(_) | Kind::Integer(_) | Kind::Bool(_) => {}
        Kind::Null => reader.problem(node.id, path, format!("a name is missing: write `!{tag} name`")),
        Kind::Float(_) | Kind::List(_) | Kind::Map(_) | Kind::Tagged(..) => {
            reader.problem(node.id, path, format!("!{tag} takes one name: write `!{tag} name`"));
        }
    }
}

fn is_known(tag: &str) -> bool {
    matches!(tag, SECRET_TAG | VARIABLE_TAG)
}

/// Whether the file itself holds the value, be it as the default of a variable.
fn holds_literal(value: &Node) -> bool {
    match &value.kind {
        Kind::Null => false,
        Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => true,
        Kind::Tagged(tag, content) if is_known(tag) => content.text().is_some_and(|text| text.trim().contains(' ')),
        Kind::Tagged(..) => true,
    }
}

/// The tree in which [`has_hidden_tags`] looks, and its text; `None` if no tag can be hidden.
pub(super) fn revealed(text: &str) -> Option<(String, Node)> {
    let visible = node::with_visible_tags(text)?;
    let root = node::parse(&visible).ok()?;
    Some((visible, root))
}
