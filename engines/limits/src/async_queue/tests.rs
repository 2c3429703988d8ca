//! The queue's rules, and that no event is lost or settled twice.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn figures() -> EventFigures {
    EventFigures { dead_letter: true, on_failure: true, ..EventFigures::new("cart".into()) }
}

fn full(max: u64) -> Refusal {
    Refusal {
        limit: LimitId::ReservedConcurrency,
        resource: "cart".into(),
        destination: None,
        used: max,
        max,
        retry_at: None,
    }
}

/// The next delivery, at the moment that the queue says.
fn next(queue: &mut AsyncQueue<u32>, settled: &mut Vec<Settled<u32>>) -> Option<(Instant, Delivery<u32>)> {
    while let Some(at) = queue.next_deadline() {
        if let Some(delivery) = queue.due(at, settled) {
            return Some((at, delivery));
        }
    }
    None
}

#[test]
fn a_failing_function_is_tried_after_one_minute_and_after_two_more() {
    let (mut queue, mut settled) = (AsyncQueue::default(), Vec::new());
    let cart = queue.add(figures());
    queue.accept(Instant::from_secs(5), cart, 7).unwrap();
    let mut times = Vec::new();
    while let Some((at, delivery)) = next(&mut queue, &mut settled) {
        times.push(at.as_nanos() / 1_000_000_000);
        assert!(queue.failed(at + Duration::from_secs(1), delivery.id, &mut settled));
        assert!(!queue.failed(at, delivery.id, &mut settled), "once");
    }
    assert_eq!(times, [5, 66, 187]);
    let [end] = settled[..] else { panic!("{settled:?}") };
    assert_eq!((end.payload, end.condition, end.invocations), (7, Condition::RetriesExhausted, 3));
    assert_eq!((end.to_destination, end.to_dead_letters), (true, true));
    let counts = queue.counts(cart);
    assert_eq!((counts.accepted, counts.retried, counts.dropped, counts.dead_lettered), (1, 2, 1, 1));
    assert_eq!((counts.pending, queue.pending(), queue.next_deadline()), (0, 0, None));
}

#[test]
fn a_throttled_event_waits_one_second_to_five_minutes_until_it_is_six_hours_old() {
    let (mut queue, mut settled) = (AsyncQueue::default(), Vec::new());
    let cart = queue.add(figures());
    queue.accept(Instant::START, cart, 7).unwrap();
    let mut times = Vec::new();
    while let Some((at, delivery)) = next(&mut queue, &mut settled) {
        times.push(at.as_nanos() / 1_000_000_000);
        queue.throttled(at, delivery.id, &full(5), &mut settled);
    }
    assert_eq!(times[..11], [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]);
    assert!(times.windows(2).skip(9).all(|pair| pair[1] - pair[0] == 300));
    assert_eq!((settled[0].condition, settled[0].invocations), (Condition::EventAgeExceeded, 0));
    let row = &queue.board(Instant::from_secs(30_000))[0];
    assert_eq!((row.id, row.max, row.used, row.refused), (LimitId::AsyncQueueAge, 21_600, 0, 1));
    assert_eq!((row.peak, row.first_refused_at), (*times.last().unwrap(), Some(Instant::from_secs(21_600))));
}

#[test]
fn a_function_that_reserves_nothing_takes_no_events() {
    let (mut queue, mut settled) = (AsyncQueue::default(), Vec::new());
    let cart = queue.add(figures());
    queue.accept(Instant::START, cart, 7).unwrap();
    let (at, delivery) = next(&mut queue, &mut settled).unwrap();
    queue.throttled(at, delivery.id, &full(0), &mut settled);
    assert_eq!((settled[0].condition, settled[0].to_dead_letters), (Condition::RetriesExhausted, true));
    assert_eq!(queue.counts(cart).retried, 0);
}

#[test]
fn a_throttle_between_failures_counts_as_no_attempt() {
    let (mut queue, mut settled) = (AsyncQueue::default(), Vec::new());
    let once = EventFigures { maximum_retries: 1, on_success: true, ..figures() };
    let cart = queue.add(once);
    queue.accept(Instant::START, cart, 7).unwrap();
    let (at, delivery) = next(&mut queue, &mut settled).unwrap();
    queue.failed(at, delivery.id, &mut settled);
    let (at, delivery) = next(&mut queue, &mut settled).unwrap();
    assert_eq!(delivery.age, Duration::from_secs(60));
    queue.throttled(at, delivery.id, &full(5), &mut settled);
    let (at, delivery) = next(&mut queue, &mut settled).unwrap();
    assert_eq!(at, Instant::from_secs(61));
    assert_eq!(queue.queue_of(delivery.id), Some(cart));
    queue.succeeded(at, delivery.id, &mut settled);
    assert_eq!((settled[0].condition, settled[0].invocations), (Condition::Success, 2));
    assert_eq!((settled[0].to_destination, settled[0].to_dead_letters), (true, false));
    assert_eq!(queue.queue_of(delivery.id), None);
}

#[derive(Clone, Debug)]
enum Step {
    Accept(bool),
    Wait(u64),
    Answer(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Accept),
        4 => (0u64..400).prop_map(Step::Wait),
        5 => (any::<usize>(), 0u8..4).prop_map(|(index, how)| Step::Answer(index, how)),
    ]
}

proptest! {
    #[test]
    fn every_event_is_settled_once_and_none_is_delivered_too_old_or_too_often(
        age in 60u64..2_000, retries in 0u8..3, steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut queue: AsyncQueue<u32> = AsyncQueue::default();
        let figures = EventFigures { maximum_age: Duration::from_secs(age), maximum_retries: retries, ..figures() };
        let ids = [queue.add(figures.clone()), queue.add(figures)];
        let (mut now, mut next_payload) = (Instant::START, 0);
        let (mut settled, mut running) = (Vec::new(), Vec::new());
        // By payload: when it came, how often it failed, how often it was settled.
        let mut known: BTreeMap<u32, (Instant, u8, u8)> = BTreeMap::new();
        let steps = steps.into_iter().chain((0..40).map(|_| Step::Wait(400)));
        for step in steps {
            match step {
                Step::Accept(second) => {
                    queue.accept(now, ids[usize::from(second)], next_payload).unwrap();
                    known.insert(next_payload, (now, 0, 0));
                    next_payload += 1;
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Answer(index, how) if !running.is_empty() => {
                    let delivery: Delivery<u32> = running.remove(index % running.len());
                    let heard = match how {
                        0 => queue.succeeded(now, delivery.id, &mut settled),
                        1 => queue.throttled(now, delivery.id, &full(5), &mut settled),
                        _ => {
                            known.get_mut(&delivery.payload).unwrap().1 += 1;
                            queue.failed(now, delivery.id, &mut settled)
                        }
                    };
                    prop_assert!(heard);
                    prop_assert!(!queue.succeeded(now, delivery.id, &mut settled), "one answer to a delivery");
                }
                Step::Answer(..) => {}
            }
            while let Some(delivery) = queue.due(now, &mut settled) {
                let (came, failures, ended) = known[&delivery.payload];
                prop_assert_eq!((delivery.age, ended), (now.since(came), 0));
                prop_assert!(delivery.age < Duration::from_secs(age) && failures <= retries);
                running.push(delivery);
            }
            for end in settled.drain(..) {
                let entry = known.get_mut(&end.payload).unwrap();
                entry.2 += 1;
                prop_assert_eq!(entry.2, 1, "settled once");
                prop_assert_eq!(end.to_dead_letters, end.condition != Condition::Success);
                prop_assert_eq!(end.invocations, entry.1 + u8::from(end.condition == Condition::Success));
            }
            prop_assert!(queue.next_deadline().is_none_or(|at| at > now), "what is due was said");
            let open = known.values().filter(|entry| entry.2 == 0).count();
            prop_assert_eq!(queue.pending(), open);
            let counts = ids.map(|id| queue.counts(id));
            let sum = |of: fn(&EventCounts) -> u64| counts.iter().map(of).sum::<u64>();
            prop_assert_eq!(sum(|counts| counts.pending), open as u64);
            prop_assert_eq!(sum(|counts| counts.accepted), known.len() as u64);
            prop_assert_eq!(sum(|counts| counts.delivered + counts.dropped + counts.pending), known.len() as u64);
        }
        // Whatever waits ends: by its age at the latest.
        prop_assert_eq!(queue.pending(), running.len());
    }
}
