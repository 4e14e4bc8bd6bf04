//! What can still be read of a file that is refused as a whole.

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::{Config, MAX_BYTES, lookup};

impl Config {
    /// Where the gate that was started with this file, when it was still right, listens for the command line.
    ///
    /// `None` if not even that can be told; then the file is no YAML, or its socket is behind a tag.
    pub fn admin_socket_in(path: &Path) -> Option<PathBuf> {
        let bytes = lookup::read_capped(path, MAX_BYTES).ok()?;
        let tree: Value = serde_yaml::from_slice(&bytes).ok()?;
        // `as_str` looks through tags, and the name of a secret is no path.
        let text = |value: &Value| match value {
            Value::String(path) => Some(PathBuf::from(path)),
            _ => None,
        };
        let socket = match tree.get("admin").and_then(|admin| admin.get("socket")) {
            Some(socket) => text(socket)?,
            None => text(tree.get("state_directory")?)?.join("admin.sock"),
        };
        Some(path.parent()?.join(socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_in(text: &str) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hearthgate.yaml");
        std::fs::write(&file, text).unwrap();
        let socket = Config::admin_socket_in(&file)?;
        Some(socket.strip_prefix(directory.path()).unwrap_or(&socket).display().to_string())
    }

    #[test]
    fn a_wrong_file_still_tells_where_the_gate_listens() {
        for (text, expected) in [
            ("hostz: {}\nstate_directory: /x", Some("/x/admin.sock")),
            ("hostz: {}\nstate_directory: x", Some("x/admin.sock")),
            ("admin: {socket: /y/z, listen: 7}\nstate_directory: /x", Some("/y/z")),
            ("admin: {socket: !secret z}", None),
            ("hostz: {}", None),
            ("{", None),
        ] {
            assert_eq!(socket_in(text).as_deref(), expected, "{text:?}");
        }
    }
}
