use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::events::Event;

const PACE: Pace = Pace { batch: Duration::from_secs(2), min_interval: Duration::from_secs(10) };

fn at(seconds: u64) -> Moment {
    Moment::START + Duration::from_secs(seconds)
}

/// Numbered, so that the order can be seen.
fn nth(number: u64) -> Arc<Told> {
    Arc::new(Told { at: SystemTime::UNIX_EPOCH, event: Event::ReloadAccepted { generation: number } })
}

fn numbers(message: &Message) -> Vec<u64> {
    let number = |told: &Arc<Told>| match &told.event {
        Event::ReloadAccepted { generation } => *generation,
        _ => panic!("{told:?}"),
    };
    message.events.iter().map(number).collect()
}

#[test]
fn what_comes_together_goes_together_and_messages_keep_their_distance() {
    let mut backlog = Backlog::default();
    assert_eq!(backlog.due(PACE), None);
    backlog.add(nth(1), at(100));
    backlog.add(nth(2), at(101));
    assert_eq!(backlog.due(PACE), Some(at(102)));
    assert_eq!(numbers(&backlog.take(at(102)).unwrap()), [1, 2]);
    backlog.add(nth(3), at(103));
    assert_eq!(backlog.due(PACE), None, "one at a time");
    assert_eq!(backlog.take(at(103)), None);
    assert_eq!(backlog.arrived(), 0);
    assert_eq!(backlog.due(PACE), Some(at(112)), "ten seconds after the first");
    assert_eq!(numbers(&backlog.take(at(112)).unwrap()), [3]);
    backlog.arrived();
    assert_eq!(backlog.due(PACE), None);
    backlog.add(nth(4), at(500));
    assert_eq!(backlog.due(PACE), Some(at(502)));
}

#[test]
fn what_does_not_arrive_is_tried_for_ten_minutes_and_then_counted() {
    let mut backlog = Backlog::default();
    backlog.add(nth(1), at(0));
    let mut now = at(2);
    let mut waits = Vec::new();
    let lost = loop {
        assert_eq!(numbers(&backlog.take(now).unwrap()), [1]);
        backlog.add(nth(2), now);
        match backlog.failed(now) {
            Fate::Again { after } => {
                waits.push(after.as_secs());
                assert_eq!(backlog.due(PACE), Some(now + after.max(PACE.min_interval)));
                now = now + after;
            }
            Fate::GivenUp { events } => break events,
        }
    };
    assert_eq!((lost, waits.iter().sum::<u64>()), (1, 600));
    // What has gathered meanwhile is the next message.
    assert_eq!(numbers(&backlog.take(now + PACE.min_interval).unwrap()), [2; 6]);
    assert_eq!(backlog.refused(), 6);
    assert_eq!(backlog.due(PACE), None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Add,
    Wait(u64),
    Arrive,
    Fail,
    Refuse,
}

proptest! {
    /// Whatever happens: nothing is told twice or out of order, nothing vanishes uncounted, and no two tries are closer than
    /// they may be.
    #[test]
    fn each_event_is_delivered_once_or_counted(steps in prop::collection::vec(
        prop_oneof![
            4 => Just(Step::Add), 3 => (0_u64..30).prop_map(Step::Wait), 2 => Just(Step::Arrive), 2 => Just(Step::Fail),
            1 => Just(Step::Refuse),
        ],
        0..300,
    )) {
        let (mut backlog, mut now) = (Backlog::default(), at(1000));
        let (mut added, mut delivered, mut lost) = (0, Vec::new(), 0);
        let (mut under_way, mut tried): (Option<Arc<Message>>, Option<Moment>) = (None, None);
        for step in steps {
            match step {
                Step::Add => {
                    added += 1;
                    backlog.add(nth(added), now);
                }
                Step::Wait(seconds) => now = now + Duration::from_secs(seconds),
                Step::Arrive => if let Some(message) = under_way.take() {
                    backlog.arrived();
                    delivered.extend(numbers(&message));
                    lost += message.omitted.values().sum::<u64>();
                },
                Step::Fail => if under_way.take().is_some() && let Fate::GivenUp { events } = backlog.failed(now) {
                    lost += events;
                },
                Step::Refuse => if under_way.take().is_some() {
                    lost += backlog.refused();
                },
            }
            if under_way.is_none() && backlog.due(PACE).is_some_and(|due| due <= now) {
                under_way = backlog.take(now);
                prop_assert!(under_way.is_some());
                if let Some(before) = tried.replace(now) {
                    prop_assert!(now.since(before) >= PACE.min_interval);
                }
            }
            prop_assert_eq!(under_way.is_some() && backlog.due(PACE).is_some(), false);
        }
        // What is left.
        while under_way.is_some() || backlog.due(PACE).is_some() {
            let message = under_way.take().or_else(|| backlog.take(now)).unwrap();
            backlog.arrived();
            delivered.extend(numbers(&message));
            lost += message.omitted.values().sum::<u64>();
        }
        prop_assert!(delivered.is_sorted_by(|one, next| one < next));
        prop_assert_eq!(delivered.len() as u64 + lost, added);
    }
}
