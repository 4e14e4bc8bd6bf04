//! What a client guessed or presented, as bytes to be hashed.
//!
//! Two guesses have the same bytes exactly if the application would read them as the same guess: each part is written
//! with its length, so that no two lists of parts run into one another. The bytes are as secret as what they are made
//! of: [`Credential::expose`] is for the keyed hash alone, and `Debug` shows nothing.

use std::fmt;

/// The ordered parts of one guess.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Vec<u8>);

impl Credential {
    /// Begins with what kind of guess it is, so that a code is never taken for a password.
    pub fn new(kind: &str) -> Self {
        Self(Vec::new()).with(Some(kind.as_bytes()))
    }

    /// Adds a part; one that is absent is not the same as an empty one.
    #[must_use]
    pub fn with(mut self, part: Option<&[u8]>) -> Self {
        match part {
            None => self.0.push(0),
            Some(part) => {
                self.0.push(1);
                self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
                self.0.extend_from_slice(part);
            }
        }
        self
    }

    /// Shows the bytes to the hash.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(parts: &[Option<Vec<u8>>]) -> Credential {
        parts.iter().fold(Credential::new("kind"), |credential, part| credential.with(part.as_deref()))
    }

    #[test]
    fn debug_hides_the_bytes() {
        assert_eq!(format!("{:?}", Credential::new("password").with(Some(b"hunter2"))), "Credential(***)");
    }

    proptest! {
        #[test]
        fn different_parts_are_different_bytes(
            left in prop::collection::vec(prop::option::of(prop::collection::vec(0..3_u8, 0..4)), 0..4),
            right in prop::collection::vec(prop::option::of(prop::collection::vec(0..3_u8, 0..4)), 0..4),
        ) {
            prop_assert_eq!(of(&left) == of(&right), left == right);
        }
    }
}
