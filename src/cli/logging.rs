//! What the process says on standard error: `LEVEL message key=value ...`, one line per event.
//!
//! Under systemd the journal knows the time, so lines carry a priority instead. Control characters
//! are escaped: a message can quote a stranger without lending him the operator's terminal.
//!
//! `RUST_LOG` chooses levels and targets. Pingora's own messages stay off unless it names them:
//! they call every client that hangs up an error, and they quote request targets with their query.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use log::{Level, LevelFilter, Record};

/// Starts logging for the process. A second call changes nothing.
pub(super) fn start() {
    let style = if is_journal(&io::stderr()) { Style::Journal } else { Style::Terminal };
    let mut builder = env_logger::Builder::new();
    for (target, level) in QUIET {
        builder.filter_module(target, level);
    }
    builder.parse_filters(&std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()));
    builder.format(move |out, record| {
        let mut line = String::with_capacity(128);
        // Writing to memory does not fail.
        let _ = render(record, style, SystemTime::now(), &mut line);
        out.write_all(line.as_bytes())
    });
    let _ = builder.try_init();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `<6>INFO message`
    Journal,
    /// `2026-01-01T00:00:00Z INFO message`
    Terminal,
}

fn render(record: &Record<'_>, style: Style, now: SystemTime, line: &mut String) -> fmt::Result {
    match style {
        Style::Journal => write!(line, "<{}>", priority(record.level()))?,
        Style::Terminal => write!(line, "{} ", humantime::format_rfc3339_seconds(now))?,
    }
    write!(line, "{} ", record.level())?;
    // Ours speak for themselves; of other crates it helps to know which one it is.
    if !record.target().starts_with("hearthgate") {
        write!(Escaped(line), "{}: ", record.target())?;
    }
    write!(Escaped(line), "{}", record.args())?;
    line.push('\n');
    Ok(())
}

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Writes what a terminal or a line reader would act upon as `\n`, `\u{1b}` and so on.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match is_acted_upon(char) {
                true => self.0.extend(char.escape_default()),
                false => self.0.push(char),
            }
        }
        Ok(())
    }
}

/// Controls, line separators, and marks that turn the reading direction.
fn is_acted_upon(char: char) -> bool {
    char.is_control() || matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `JOURNAL_STREAM` (systemd.exec(5)) means this very stream, not one it was redirected from.
fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(variable) = std::env::var("JOURNAL_STREAM") else { return false };
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|file| is_named(&variable, file.dev(), file.ino()))
}

fn is_named(variable: &str, device: u64, inode: u64) -> bool {
    variable.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// Targets that are heard only if `RUST_LOG` names them.
const QUIET: [(&str, LevelFilter); 4] = [
    ("pingora_core", LevelFilter::Off),
    ("pingora_proxy", LevelFilter::Off),
    ("pingora_pool", LevelFilter::Error),
    // Warns of each alert it sends, that is of each scanner.
    ("rustls", LevelFilter::Error),
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn rendered(level: Level, target: &str, style: Style, message: &str) -> String {
        let mut line = String::new();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let args = format_args!("{message}");
        let record = Record::builder().level(level).target(target).args(args).build();
        render(&record, style, now, &mut line).unwrap();
        line
    }

    #[test]
    fn the_journal_gets_a_priority_and_a_terminal_the_time() {
        let table = [(Level::Error, 3), (Level::Warn, 4), (Level::Info, 6), (Level::Debug, 7), (Level::Trace, 7)];
        for (level, priority) in table {
            let line = rendered(level, "hearthgate::server", Style::Journal, "listening address=[::]:443");
            assert_eq!(line, format!("<{priority}>{level} listening address=[::]:443\n"));
        }
        let line = rendered(Level::Info, "hearthgate", Style::Terminal, "stopped");
        assert_eq!(line, "2023-11-14T22:13:20Z INFO stopped\n");
    }

    #[test]
    fn other_crates_are_named() {
        assert_eq!(rendered(Level::Warn, "h2::server", Style::Journal, "x"), "<4>WARN h2::server: x\n");
    }

    #[test]
    fn a_message_stays_one_harmless_line() {
        let line = rendered(Level::Info, "hearthgate", Style::Journal, "name=a\r\n<0>b\t\u{1b}[2J\u{9b}\u{202e}é");
        assert_eq!(line, "<6>INFO name=a\\r\\n<0>b\\t\\u{1b}[2J\\u{9b}\\u{202e}é\n");
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_named("8:4711", 8, 4711));
        for other in ["8:4712", "9:4711", "8", "", ":", "8:4711:1", "8:x"] {
            assert!(!is_named(other, 8, 4711), "{other}");
        }
    }
}
