//! Random clients against a model of a few lines that shares nothing with the engine but the rules: vectors, searched
//! from end to end.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle(u64),
    Waiting(u64),
    Busy,
}

#[derive(Clone, Debug)]
struct ModelClient {
    id: ClientId,
    login: usize,
    state: State,
    has: bool,
    pinned: bool,
}

/// Milliseconds throughout.
struct Model {
    cap: usize,
    idle_cap: usize,
    borrow: u64,
    idle: u64,
    /// Room at the database that others do not take.
    room: usize,
    clients: Vec<ModelClient>,
    queue: Vec<ClientId>,
    /// Server connections that nobody has: login, when it was returned, whether it counts as idle.
    spare: Vec<(usize, u64, bool)>,
    asked: Option<u64>,
    lent: Vec<ClientId>,
    timed_out: Vec<ClientId>,
    closed: Vec<ClientId>,
}

impl Model {
    fn borrowed(&self) -> usize {
        self.clients.iter().filter(|client| client.has).count()
    }

    fn client(&mut self, id: ClientId) -> Option<&mut ModelClient> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn find(&mut self, now: u64, login: usize) -> bool {
        if let Some(at) = self.spare.iter().rposition(|spare| spare.0 == login) {
            self.spare.remove(at);
            return true;
        }
        let open = self.borrowed() + self.spare.len();
        if open < self.cap && self.asked.is_none_or(|again| again <= now) {
            if open < self.room {
                return true;
            }
            self.asked = Some(now + 1000);
        }
        // The longest idle of another login makes room; those that count as idle first.
        let settled = self.spare.iter().position(|spare| spare.2);
        let Some(at) = settled.or((!self.spare.is_empty()).then_some(0)) else { return false };
        self.spare.remove(at);
        true
    }

    fn serve(&mut self, now: u64) {
        while let Some(id) = self.queue.first().copied() {
            let login = self.client(id).unwrap().login;
            if !self.find(now, login) {
                break;
            }
            self.queue.remove(0);
            self.lent.push(id);
            let client = self.client(id).unwrap();
            (client.state, client.has) = (State::Busy, true);
        }
    }

    fn leave(&mut self, now: u64, id: ClientId) {
        let at = self.clients.iter().position(|client| client.id == id).unwrap();
        let client = self.clients.remove(at);
        self.queue.retain(|waiting| *waiting != id);
        if client.has && !client.pinned {
            self.spare.push((client.login, now, false));
        }
        if client.has {
            self.serve(now);
        }
    }

    /// Everything that is due up to `now`, in steps of one millisecond.
    fn advance(&mut self, from: u64, now: u64) {
        for at in from..=now {
            if self.asked == Some(at) && !self.queue.is_empty() {
                self.asked = None;
                self.serve(at);
            }
            while let Some(id) = self.queue.first().copied() {
                let borrow = self.borrow;
                let client = self.client(id).unwrap();
                let State::Waiting(since) = client.state else { panic!("it waits") };
                if since + borrow > at {
                    break;
                }
                client.state = State::Idle(at);
                self.timed_out.push(id);
                self.queue.remove(0);
            }
            loop {
                let idle = self.idle;
                let due =
                    |client: &&ModelClient| matches!(client.state, State::Idle(since) if since + idle <= at);
                // The longest idle first; of equals any, as counts are compared.
                let Some(id) = self.clients.iter().find(due).map(|client| client.id) else { break };
                self.closed.push(id);
                self.leave(at, id);
            }
            while let Some(index) = self.spare.iter().position(|spare| !spare.2 && spare.1 + 300_000 <= at) {
                if self.spare.iter().filter(|spare| spare.2).count() < self.idle_cap {
                    self.spare[index].2 = true;
                } else {
                    self.spare.remove(index);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_agrees_with_the_model(
        cap in 0u32..5, idle_cap in 0u32..3, max in 0u32..7, others in 0u32..3, borrow in 0u64..40, idle in 20u64..200,
        steps in prop::collection::vec((0u8..8, any::<usize>(), 0u64..12), 1..150),
    ) {
        let mut bench = Bench::new(max, PoolSettings {
            idle_connections: idle_cap,
            borrow_timeout: Duration::from_millis(borrow),
            idle_client_timeout: Duration::from_millis(idle),
            ..settings(cap)
        });
        let logins = [bench.login, bench.pools.add_login(PoolId(0))];
        let direct = (0..others).filter(|_| bench.databases.open(Instant::START, bench.database).is_ok()).count();
        let mut model = Model {
            cap: cap as usize, idle_cap: idle_cap as usize, borrow, idle, room: max as usize - direct,
            clients: vec![], queue: vec![], spare: vec![], asked: None, lent: vec![], timed_out: vec![], closed: vec![],
        };
        let mut now = 0;
        for (kind, index, wait) in steps {
            let at = Instant::from_millis(now);
            let some = (!model.clients.is_empty()).then(|| model.clients[index % model.clients.len().max(1)].clone());
            match (kind, some) {
                (0 | 1, _) => {
                    let login = index % 2;
                    let id = bench.pools.connect(at, logins[login], &mut bench.databases);
                    model.clients.push(ModelClient { id, login, state: State::Idle(now), has: false, pinned: false });
                }
                (2..=4, Some(client)) if client.state != State::Busy => {
                    let answer = bench.borrow(now, client.id);
                    let waits = matches!(client.state, State::Waiting(_));
                    let lent = !waits && (client.has || (model.queue.is_empty() && model.find(now, client.login)));
                    prop_assert_eq!(is_lent(&answer), lent);
                    prop_assert_eq!(matches!(answer, Borrow::Refused(_)), !lent && borrow == 0);
                    let entry = model.client(client.id).unwrap();
                    if lent {
                        (entry.state, entry.has) = (State::Busy, true);
                    } else if borrow == 0 {
                        entry.state = State::Idle(now);
                    } else if !waits {
                        entry.state = State::Waiting(now);
                        model.queue.push(client.id);
                    }
                }
                (5 | 6, Some(client)) if client.state == State::Busy => {
                    if index % 7 == 0 {
                        prop_assert!(bench.pin(now, client.id));
                    }
                    bench.give_back(now, client.id);
                    let entry = model.client(client.id).unwrap();
                    entry.state = State::Idle(now);
                    entry.pinned |= index % 7 == 0;
                    if !entry.pinned {
                        entry.has = false;
                        model.spare.push((client.login, now, false));
                        model.serve(now);
                    }
                }
                (7, Some(client)) => {
                    prop_assert!(bench.disconnect(now, client.id) && !bench.disconnect(now, client.id));
                    model.leave(now, client.id);
                }
                _ => {}
            }
            bench.advance(now + wait);
            model.advance(now + 1, now + wait);
            now += wait;
            let (mut lent, mut timed_out, mut closed) = (vec![], vec![], vec![]);
            for effect in bench.effects() {
                match effect {
                    PoolEffect::Lent { client, .. } => lent.push(client),
                    PoolEffect::TimedOut { client, .. } => timed_out.push(client),
                    PoolEffect::CloseClient(client) => closed.push(client),
                    PoolEffect::CloseServer(_) => {}
                }
            }
            prop_assert_eq!(&lent, &std::mem::take(&mut model.lent), "in the order of coming");
            prop_assert_eq!(&timed_out, &std::mem::take(&mut model.timed_out));
            closed.sort_unstable();
            model.closed.sort_unstable();
            prop_assert_eq!(closed, std::mem::take(&mut model.closed));
            let counts = bench.counts();
            prop_assert_eq!(counts.clients as usize, model.clients.len());
            prop_assert_eq!(counts.waiting as usize, model.queue.len());
            prop_assert_eq!(counts.borrowed as usize, model.borrowed());
            prop_assert_eq!(counts.open as usize, model.borrowed() + model.spare.len());
            prop_assert_eq!(counts.pinned as usize, model.clients.iter().filter(|client| client.pinned).count());
            prop_assert_eq!(bench.used() as usize, direct + counts.open as usize);
            prop_assert!(counts.borrowed <= counts.open && counts.open <= cap && bench.used() <= u64::from(max));
            if counts.waiting > 0 {
                prop_assert_eq!(counts.open, counts.borrowed, "nobody waits beside an idle connection");
            }
            prop_assert!(bench.pools.next_deadline().is_none_or(|at| at > Instant::from_millis(now)));
        }
        // Whoever still waits is told within the borrow time-out, and everybody leaves in the end.
        bench.advance(now + borrow);
        prop_assert_eq!(bench.counts().waiting, 0);
        bench.effects();
        for client in &model.clients {
            bench.disconnect(now + borrow, client.id);
        }
        bench.advance(now + borrow + 400_000);
        prop_assert_eq!((bench.counts().clients, bench.counts().borrowed), (0, 0));
        prop_assert!(bench.counts().open <= idle_cap && bench.used() as usize >= bench.counts().open as usize);
    }
}
