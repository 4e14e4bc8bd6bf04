//! A value that must not be seen.
//!
//! [`Secret`] promises that neither `Debug` nor a comparison tells what it holds; only
//! [`Secret::expose`] does, so that every use can be found by its name. It does not wipe memory.

use std::fmt;

/// Text that is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Shows the text to the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Looks at every byte even after the first difference; only the length shows in the time taken.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (self.0.as_bytes(), other.0.as_bytes());
        left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_text() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(***)");
    }

    #[test]
    fn equality_is_that_of_the_text() {
        for (left, right, equal) in
            [("a", "a", true), ("", "", true), ("a", "b", false), ("a", "aa", false), ("ab", "aa", false)]
        {
            assert_eq!(Secret::new(left.into()) == Secret::new(right.into()), equal, "{left} {right}");
        }
    }
}
