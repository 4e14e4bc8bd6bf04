//! What the file does not know yet: a bounded set of networks, and the bell that wakes the writer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::{Condvar, Mutex};

/// Networks whose records differ from the file's; several changes of one are one.
#[derive(Debug)]
pub(super) struct Pending {
    state: Mutex<State>,
    bell: Condvar,
    /// Of more single changes the file is written anew instead.
    most: usize,
}

#[derive(Debug)]
struct State {
    changes: Changes,
    /// Without a file nothing is remembered for it.
    is_tracked: bool,
    is_closing: bool,
}

/// What to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changes {
    Some(HashSet<IpNet>),
    /// Everything, over whatever the file holds.
    All,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(networks) if networks.is_empty())
    }
}

/// Why the writer woke.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Changed,
    Idle,
    Closing,
}

impl Pending {
    pub fn new(most: usize) -> Self {
        let state = State { changes: Changes::Some(HashSet::new()), is_tracked: false, is_closing: false };
        Self { state: Mutex::new(state), bell: Condvar::new(), most }
    }

    /// From now on there is a file.
    pub fn track(&self) {
        let mut state = self.state.lock();
        (state.is_tracked, state.is_closing) = (true, false);
    }

    /// There is none any more.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.is_tracked = false;
        state.changes = Changes::Some(HashSet::new());
    }

    pub fn note(&self, network: IpNet) {
        let mut state = self.state.lock();
        if !state.is_tracked {
            return;
        }
        // Who waits was rung for the first one already.
        let is_first = state.changes.is_empty();
        state.add(network, self.most);
        if is_first {
            self.bell.notify_one();
        }
    }

    pub fn note_all(&self) {
        self.state.lock().changes = Changes::All;
        self.bell.notify_one();
    }

    pub fn take(&self) -> Changes {
        std::mem::replace(&mut self.state.lock().changes, Changes::Some(HashSet::new()))
    }

    /// What could not be written is pending again, beside what has come since.
    pub fn put_back(&self, changes: Changes) {
        let mut state = self.state.lock();
        match changes {
            Changes::All => state.changes = Changes::All,
            Changes::Some(networks) => networks.into_iter().for_each(|network| state.add(network, self.most)),
        }
    }

    pub fn close(&self) {
        self.state.lock().is_closing = true;
        self.bell.notify_one();
    }

    /// Until something has changed, or for `patience`.
    pub fn wait(&self, patience: Duration) -> Wake {
        let mut state = self.state.lock();
        self.bell.wait_while_for(&mut state, |state| !state.is_closing && state.changes.is_empty(), patience);
        match (state.is_closing, state.changes.is_empty()) {
            (true, _) => Wake::Closing,
            (false, true) => Wake::Idle,
            (false, false) => Wake::Changed,
        }
    }

    /// Lets changes gather for `pause`, unless it is time to close.
    pub fn rest(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.is_closing && !self.bell.wait_until(&mut state, deadline).timed_out() {}
    }
}

impl State {
    fn add(&mut self, network: IpNet, most: usize) {
        let Changes::Some(networks) = &mut self.changes else { return };
        networks.insert(network);
        if networks.len() > most {
            self.changes = Changes::All;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(last: u8) -> IpNet {
        IpNet::new_assert([192, 0, 2, last].into(), 32)
    }

    #[test]
    fn changes_coalesce_and_too_many_are_all() {
        let pending = Pending::new(3);
        pending.note(network(1));
        assert!(pending.take().is_empty(), "nobody would take them");
        pending.track();
        for last in [1, 2, 1, 3, 3] {
            pending.note(network(last));
        }
        let taken = pending.take();
        assert_eq!(taken, Changes::Some([1, 2, 3].map(network).into()));
        pending.note(network(3));
        pending.put_back(taken);
        assert_eq!(pending.take(), Changes::Some([1, 2, 3].map(network).into()));
        (1..=4).for_each(|last| pending.note(network(last)));
        assert_eq!(pending.take(), Changes::All);
        assert!(pending.take().is_empty());
    }

    #[test]
    fn the_writer_sleeps_until_there_is_something_to_do() {
        let pending = Pending::new(3);
        pending.track();
        assert_eq!(pending.wait(Duration::ZERO), Wake::Idle);
        pending.note(network(1));
        assert_eq!(pending.wait(Duration::MAX), Wake::Changed);
        pending.close();
        assert_eq!(pending.wait(Duration::MAX), Wake::Closing);
        pending.rest(Duration::from_secs(3600));
    }
}
