//! Whom to believe about the home's address: pure.
//!
//! A service on the internet is a stranger. One that lies, or is broken, must not point the home elsewhere: a change is
//! believed when two services say the same. An interface of this machine is believed at once. If only one service
//! answers at all, there is nobody to contradict it, and a home with one source has to trust it.

use std::net::IpAddr;

/// One round of questions.
#[derive(Debug)]
pub(super) struct Poll {
    /// What was believed before.
    believed: Option<IpAddr>,
    /// What services have said that nobody has confirmed.
    told: Vec<IpAddr>,
}

/// What a round has brought if no answer decided it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Address(IpAddr),
    /// Each says something else: what was believed goes on to hold.
    Disputed,
    /// Nobody has answered.
    Silence,
}

impl Poll {
    pub fn new(believed: Option<IpAddr>) -> Self {
        Self { believed, told: Vec::new() }
    }

    /// A service has said `address`; returns whether that settles it.
    pub fn hear(&mut self, address: IpAddr) -> bool {
        let settled = self.believed == Some(address) || self.told.contains(&address);
        self.told.push(address);
        settled
    }

    /// There is nobody left to ask.
    pub fn end(&self) -> Outcome {
        match self.told[..] {
            [] => Outcome::Silence,
            [only] => Outcome::Address(only),
            _ => Outcome::Disputed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(believed: Option<u8>, answers: &[u8]) -> (Outcome, usize) {
        let address = |last| IpAddr::from([203, 0, 113, last]);
        let mut poll = Poll::new(believed.map(address));
        for (asked, answer) in answers.iter().enumerate() {
            if poll.hear(address(*answer)) {
                return (Outcome::Address(address(*answer)), asked + 1);
            }
        }
        (poll.end(), answers.len())
    }

    #[test]
    fn an_unchanged_address_takes_one_question_and_a_change_two() {
        let is = |last| Outcome::Address(IpAddr::from([203, 0, 113, last]));
        assert_eq!(round(Some(1), &[1, 2, 2]), (is(1), 1));
        assert_eq!(round(Some(1), &[2, 2, 3]), (is(2), 2));
        assert_eq!(round(None, &[2, 2, 3]), (is(2), 2));
        // Two of three.
        assert_eq!(round(Some(1), &[9, 2, 2]), (is(2), 3));
        assert_eq!(round(Some(1), &[2, 9, 2]), (is(2), 3));
    }

    #[test]
    fn a_liar_alone_moves_nothing() {
        assert_eq!(round(Some(1), &[9, 1]), (Outcome::Address(IpAddr::from([203, 0, 113, 1])), 2));
        assert_eq!(round(Some(1), &[9, 2]), (Outcome::Disputed, 2));
        assert_eq!(round(None, &[9, 2, 3]), (Outcome::Disputed, 3));
    }

    #[test]
    fn who_is_the_only_one_to_answer_is_believed() {
        assert_eq!(round(Some(1), &[2]), (Outcome::Address(IpAddr::from([203, 0, 113, 2])), 1));
        assert_eq!(round(Some(1), &[]), (Outcome::Silence, 0));
    }
}
