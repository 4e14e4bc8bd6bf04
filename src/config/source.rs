//! The lines of the file, for showing.
//!
//! [`Source`] cuts out the line that a finding is about and puts carets below it. What was masked
//! before is never shown, wherever on the line the finding is. Lines break where libyaml breaks
//! them, which is in a few places more than `str::lines` knows; otherwise a mask could miss.

use super::node::Malformed;

/// A place in the file, both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

pub(super) struct Source<'t> {
    lines: Vec<&'t str>,
    /// From the first place up to, not including, the second.
    masks: Vec<(Place, Place)>,
}

impl<'t> Source<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { lines: lines(text), masks: Vec::new() }
    }

    /// Hides the value at `start`: exactly `value` if it stands there as it is, else all up to the
    /// next node, or to the end of the file if there is none.
    pub fn mask(&mut self, start: Place, value: Option<&str>, next: Option<Place>) {
        let whole_file = Place { line: usize::MAX, column: 1 };
        let end = value.and_then(|value| self.end_of(start, value));
        let end = end.unwrap_or_else(|| next.filter(|next| *next > start).unwrap_or(whole_file));
        self.masks.push((start, end));
    }

    /// The two lines of a snippet, or `None` for a place that is not in the file.
    pub fn snippet(&self, place: Place) -> Option<String> {
        let (line, column) = self.shown(place)?;
        Some(render(place.line, &line, column))
    }

    /// The same for a text that is no YAML: without a tree, secrets are told by the look of the lines.
    pub fn snippet_of(&self, malformed: &Malformed) -> Option<String> {
        let place = malformed.place?;
        let line = self.lines.get(place.line.checked_sub(1)?)?;
        let line: Vec<char> = self.guarded(place.line - 1, line).chars().collect();
        Some(render(place.line, &line, place.column.min(line.len() + 1)))
    }

    fn end_of(&self, start: Place, value: &str) -> Option<Place> {
        let line = self.lines.get(start.line.checked_sub(1)?)?;
        let rest: String = line.chars().skip(start.column.checked_sub(1)?).collect();
        let quote = if rest.starts_with(['"', '\'']) { 1 } else { 0 };
        let found = !value.is_empty() && rest.get(quote..)?.starts_with(value);
        found.then(|| Place { line: start.line, column: start.column + quote + value.chars().count() })
    }

    /// The line with its masks applied, and where the column has moved to.
    fn shown(&self, place: Place) -> Option<(Vec<char>, usize)> {
        let line = self.lines.get(place.line.checked_sub(1)?)?;
        let mut line: Vec<char> = line.chars().collect();
        let mut column = place.column.clamp(1, line.len() + 1);
        // From the right, so that the spans still to come keep their columns.
        for (start, end) in self.spans(place.line, line.len()).into_iter().rev() {
            if line[start..end].iter().all(|c| c.is_whitespace()) {
                continue;
            }
            line.splice(start..end, MASK.chars());
            if column > end {
                column = column + MASK.len() + start - end;
            } else if column > start {
                column = start + 1;
            }
        }
        Some((line, column))
    }

    /// The masked columns of a line from left to right, those that overlap as one.
    fn spans(&self, line: usize, length: usize) -> Vec<(usize, usize)> {
        let mut spans: Vec<_> = self.masks.iter().filter_map(|mask| span_on(mask, line, length)).collect();
        spans.sort_unstable();
        spans.dedup_by(|next, merged| {
            let overlap = next.0 < merged.1;
            merged.1 = if overlap { merged.1.max(next.1) } else { merged.1 };
            overlap
        });
        spans
    }

    fn guarded(&self, index: usize, line: &str) -> String {
        if let Some(owner) = self.lines[..=index].iter().rposition(|line| sensitive_value(line).is_some()) {
            let inside = |line: &&str| line.trim().is_empty() || indentation(line) > indentation(self.lines[owner]);
            let open_quote = |quote| self.lines[owner].matches(quote).count() % 2 == 1;
            if owner == index {
                return format!("{} {MASK}", &line[..sensitive_value(line).unwrap_or(0)]);
            }
            if open_quote('"') || open_quote('\'') || self.lines[owner + 1..=index].iter().all(inside) {
                return MASK.to_owned();
            }
        }
        let Some(authority) = line.find("://").map(|scheme| scheme + 3) else { return line.to_owned() };
        match (line.rfind('@'), line[authority..].find('/')) {
            (Some(at), _) if authority <= at => format!("{}{MASK}{}", &line[..authority], &line[at..]),
            // A path may hold the id of a webhook.
            (_, Some(path)) => format!("{}{MASK}", &line[..authority + path + 1]),
            _ => line.to_owned(),
        }
    }
}

/// Whether a key of this name probably holds a secret.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "secret", "passw"].iter().any(|word| key.contains(word))
}

/// Where on a line the value of a key begins whose name sounds like a secret.
fn sensitive_value(line: &str) -> Option<usize> {
    let colon = line.match_indices(':').map(|(index, _)| index).find(|&index| sounds_secret(&line[..index]))?;
    Some(colon + 1)
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The part of a mask on one line, as zero-based columns.
fn span_on((start, end): &(Place, Place), line: usize, length: usize) -> Option<(usize, usize)> {
    if line < start.line || line > end.line {
        return None;
    }
    let from = if line == start.line { start.column - 1 } else { 0 };
    let to = if line == end.line { (end.column - 1).min(length) } else { length };
    (from < to).then_some((from, to))
}

fn render(number: usize, line: &[char], column: usize) -> String {
    let from = if line.len() > MAX_SHOWN { column.saturating_sub(MAX_SHOWN / 2) } else { 0 };
    let shown = line.get(from..).unwrap_or_default();
    let caret = column - 1 - from.min(column - 1);
    let width = shown.get(caret..).map_or(1, width).clamp(1, MAX_SHOWN - caret.min(MAX_SHOWN - 1));
    // A tab or a control sign would move the carets, or the terminal.
    let plain = |c: &char| if c.is_control() || c.is_whitespace() { ' ' } else { *c };
    let text: String = shown.iter().take(MAX_SHOWN).map(plain).collect();
    format!("{number:>4} | {}\n{:>4} | {}{}", text.trim_end(), "", " ".repeat(caret), "^".repeat(width))
}

/// The number of characters of the key or value at the beginning of `rest`.
fn width(rest: &[char]) -> usize {
    let Some(&first) = rest.first() else { return 1 };
    if let '"' | '\'' = first {
        return rest.iter().skip(1).position(|c| *c == first).map_or(1, |end| end + 2);
    }
    if first.is_whitespace() || matches!(first, '[' | '{' | '|' | '>') {
        return 1;
    }
    let ends = |index: &usize| {
        let next_is_space = rest.get(index + 1).is_none_or(|c| c.is_whitespace());
        match rest[*index] {
            ',' | ']' | '}' => true,
            ':' => next_is_space,
            ' ' => rest.get(index + 1) == Some(&'#'),
            _ => false,
        }
    };
    let end = (0..rest.len()).find(ends).unwrap_or(rest.len());
    rest[..end].iter().rposition(|c| !c.is_whitespace()).map_or(1, |last| last + 1)
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        let (line, tail) = rest.split_at(end);
        lines.push(line);
        rest = tail.strip_prefix("\r\n").unwrap_or_else(|| {
            let mut chars = tail.chars();
            chars.next();
            chars.as_str()
        });
    }
    lines.push(rest);
    lines
}

const MASK: &str = "***";
/// A file may be one line; a terminal is not that wide.
const MAX_SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Place {
        Place { line, column }
    }

    #[test]
    fn carets_cover_the_key_or_value() {
        for (text, column, carets) in [
            ("key: value", 1, "^^^"),
            ("key: value # why", 6, "     ^^^^^"),
            ("key: 1h 30m", 6, "     ^^^^^^"),
            ("key: \"a: b\"", 6, "     ^^^^^^"),
            ("key: [a, b]", 6, "     ^"),
            ("key: [a, b]", 10, "         ^"),
            ("key: http://x:80", 6, "     ^^^^^^^^^^^"),
            ("key:", 99, "    ^"),
        ] {
            let snippet = Source::new(text).snippet(at(1, column)).unwrap();
            assert_eq!(snippet, format!("   1 | {text}\n     | {carets}"));
        }
    }

    #[test]
    fn masks_move_the_carets_behind_them() {
        let mut source = Source::new("{token: hunter2, x: 1}\nnext");
        source.mask(at(1, 9), Some("hunter2"), Some(at(1, 18)));
        assert_eq!(source.snippet(at(1, 18)).unwrap(), "   1 | {token: ***, x: 1}\n     |              ^");
        assert_eq!(source.snippet(at(2, 1)).unwrap(), "   2 | next\n     | ^^^^");
    }

    #[test]
    fn values_written_otherwise_are_masked_up_to_the_next_node() {
        let mut source = Source::new("token: |\n  hunter2\n  hunter3\nnext: 1");
        source.mask(at(1, 8), Some("hunter2\nhunter3\n"), Some(at(4, 1)));
        for (line, shown) in [(1, "token: ***"), (2, "***"), (3, "***"), (4, "next: 1")] {
            let snippet = source.snippet(at(line, 1)).unwrap();
            assert!(snippet.starts_with(&format!("   {line} | {shown}\n")), "{snippet}");
        }
    }

    #[test]
    fn overlapping_masks_hide_their_union() {
        let mut source = Source::new("token: [a@b, hunter2]\nnext");
        source.mask(at(1, 8), None, Some(at(2, 1)));
        source.mask(at(1, 9), Some("a@b"), Some(at(1, 14)));
        assert_eq!(source.snippet(at(1, 14)).unwrap(), "   1 | token: ***\n     |        ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}key{}", "a".repeat(500), " b".repeat(500));
        let snippet = Source::new(&text).snippet(at(1, 501)).unwrap();
        assert!(snippet.lines().all(|line| line.chars().count() <= 130), "{snippet}");
        assert!(snippet.contains("key"));
    }

    #[test]
    fn lines_break_where_libyaml_breaks_them() {
        assert_eq!(lines("a\r\nb\rc\u{85}d\u{2028}e\n"), ["a", "b", "c", "d", "e", ""]);
    }

    #[test]
    fn places_outside_the_text_have_no_snippet() {
        let source = Source::new("a");
        assert_eq!(source.snippet(at(2, 1)), None);
        assert_eq!(source.snippet(at(0, 0)), None);
    }
}
