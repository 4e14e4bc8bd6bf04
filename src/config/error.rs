//! What is wrong with a configuration file, all of it at once.
//!
//! A [`Finding`] is complete as it stands: its message names what to write instead and its snippet
//! is already free of secrets. How findings come about is the business of `read`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// A refused configuration file. `Display` shows every finding with its source line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    #[serde(serialize_with = "as_shown")]
    pub file: PathBuf,
    /// In the order of the file; at least one, at most 100.
    pub findings: Vec<Finding>,
    /// Problems beyond those in `findings`.
    pub omitted: usize,
}

/// One problem and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Counted from 1; `None` if the problem is the file as a whole.
    pub line: Option<usize>,
    /// Counted from 1, in characters.
    pub column: Option<usize>,
    /// The dotted path of the key, such as `hosts.ha.example.org.upstream.url`; empty for the whole file.
    pub path: String,
    /// What is wrong and what to write instead, without the value of any secret.
    pub message: String,
    /// The source line above a row of carets, secrets masked.
    pub snippet: Option<String>,
}

impl ConfigError {
    /// Refuses a file as a whole.
    pub(super) fn whole_file(file: &Path, message: String) -> Self {
        let finding = Finding { line: None, column: None, path: String::new(), message, snippet: None };
        Self { file: file.to_owned(), findings: vec![finding], omitted: 0 }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            write!(f, "{}:", self.file.display())?;
            if let (Some(line), Some(column)) = (finding.line, finding.column) {
                write!(f, "{line}:{column}:")?;
            }
            writeln!(f, " {finding}")?;
        }
        let count = self.findings.len() + self.omitted;
        write!(f, "{count} problem{} found", if count == 1 { "" } else { "s" })?;
        if self.omitted > 0 { write!(f, ", the first {} shown", self.findings.len()) } else { Ok(()) }
    }
}

/// Shows path, message and snippet; the place is left to the caller, who knows the file.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.snippet {
            Some(snippet) => write!(f, "\n{snippet}"),
            None => Ok(()),
        }
    }
}

/// A path that is not UTF-8 must not keep the rest of the report from being printed.
fn as_shown<S: Serializer>(file: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&file.display())
}
