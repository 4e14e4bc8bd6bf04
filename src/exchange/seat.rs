//! The seat of one connection or one request among those of its client: whoever sits there unproven may have to leave for
//! a newcomer, or because of a ban.
//!
//! It is shared by the front door, which turns people out, and the proxy, which learns who they are.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::denial::Denial;

/// A seat, from the moment somebody comes.
#[derive(Debug, Default)]
pub struct Seat {
    state: AtomicU8,
    effort: AtomicU8,
    turn: Notify,
}

/// What it costs to get as far: who floods an address has most of what is cheap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A connection that has not said hello; a request beside others on its connection.
    Low,
    /// A connection in its TLS handshake, which costs the gate a signature.
    Medium,
    /// A connection behind its handshake; the only request of its connection.
    High,
}

const PROVEN: u8 = 1;
const BANNED: u8 = 2;
const MADE_ROOM: u8 = 4;

impl Seat {
    /// Somebody known sits here: from now on nobody has to leave for a newcomer. Too late for who was told to already.
    pub fn prove(&self) {
        self.set(PROVEN, MADE_ROOM);
    }

    pub fn is_proven(&self) -> bool {
        self.has(PROVEN)
    }

    /// Whoever sits here has got further.
    pub fn advance(&self, effort: Effort) {
        self.effort.store(effort as u8, SeqCst);
    }

    pub fn effort(&self) -> Effort {
        match self.effort.load(SeqCst) {
            0 => Effort::Low,
            1 => Effort::Medium,
            _ => Effort::High,
        }
    }

    /// Tells who sits here to leave for a newcomer; `false` if somebody known does.
    pub fn make_room(&self) -> bool {
        let leaves = self.set(MADE_ROOM, PROVEN);
        if leaves {
            self.turn.notify_waiters();
        }
        leaves
    }

    /// Tells who sits here to leave because of a ban.
    pub fn ban(&self) {
        self.set(BANNED, 0);
        self.turn.notify_waiters();
    }

    /// Resolves when whoever sits here has to leave, with the reason.
    pub async fn turned_out(&self) -> Denial {
        // Registered before the look: neither order of the two loses it.
        let turn = self.turn.notified();
        if !self.has(BANNED | MADE_ROOM) {
            turn.await;
        }
        if self.has(MADE_ROOM) { Denial::MadeRoom } else { Denial::Banned }
    }

    /// Resolves when it is for a newcomer.
    pub async fn made_room(&self) {
        if self.turned_out().await != Denial::MadeRoom {
            std::future::pending().await
        }
    }

    fn has(&self, any: u8) -> bool {
        self.state.load(SeqCst) & any != 0
    }

    /// Whether it was possible: one of two who come at once finds the other's `unless`.
    fn set(&self, flag: u8, unless: u8) -> bool {
        self.state.fetch_update(SeqCst, SeqCst, |state| (state & unless == 0).then_some(state | flag)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_is_known_stays_and_who_was_told_to_leave_does_not() {
        let (known, stranger) = (Seat::default(), Seat::default());
        known.prove();
        assert!(!known.make_room());
        assert_eq!(known.turned_out().now_or_never(), None);
        assert!(stranger.make_room());
        stranger.prove();
        assert!(!stranger.is_proven(), "too late");
        assert_eq!(stranger.turned_out().now_or_never(), Some(Denial::MadeRoom));
    }

    #[test]
    fn a_ban_is_another_reason() {
        let seat = Seat::default();
        seat.ban();
        assert_eq!(seat.turned_out().now_or_never(), Some(Denial::Banned));
        assert_eq!(seat.made_room().now_or_never(), None);
        assert!(seat.make_room());
        assert_eq!(seat.turned_out().now_or_never(), Some(Denial::MadeRoom));
    }

    #[test]
    fn who_waits_is_woken() {
        let seat = Seat::default();
        let mut waiting = Box::pin(seat.turned_out());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        seat.make_room();
        assert_eq!(waiting.now_or_never(), Some(Denial::MadeRoom));
    }
}
