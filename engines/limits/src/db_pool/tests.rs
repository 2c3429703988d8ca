//! The pool by example, and against a slow model.

use super::*;
use model::LimitId;

fn settings(connections: u32) -> PoolSettings {
    PoolSettings {
        connections,
        idle_connections: connections / 2,
        borrow_timeout: Duration::from_secs(120),
        idle_client_timeout: Duration::from_secs(1800),
        source: "test".into(),
        borrow_source: "test".into(),
    }
}

/// A pool in front of a database with room for `max` connections.
struct Bench {
    pools: Pools,
    databases: Databases,
    database: DatabaseId,
    login: LoginId,
    effects: Vec<PoolEffect>,
}

impl Bench {
    fn new(max: u32, settings: PoolSettings) -> Self {
        let mut databases = Databases::new(Duration::from_secs(350));
        let database = databases.add("Orders".into(), max, "test".into());
        let mut pools = Pools::default();
        let pool = pools.add("OrdersProxy".into(), database, settings);
        let login = pools.add_login(pool);
        Self { pools, databases, database, login, effects: Vec::new() }
    }

    fn connect(&mut self, ms: u64) -> ClientId {
        self.pools.connect(Instant::from_millis(ms), self.login, &mut self.databases)
    }

    fn borrow(&mut self, ms: u64, client: ClientId) -> Borrow {
        self.pools.borrow(Instant::from_millis(ms), client, &mut self.databases)
    }

    fn give_back(&mut self, ms: u64, client: ClientId) {
        self.pools.give_back(Instant::from_millis(ms), client, &mut self.databases);
    }

    fn disconnect(&mut self, ms: u64, client: ClientId) -> bool {
        self.pools.disconnect(Instant::from_millis(ms), client, &mut self.databases)
    }

    fn pin(&mut self, ms: u64, client: ClientId) -> bool {
        self.pools.pin(Instant::from_millis(ms), client, &mut self.databases)
    }

    fn advance(&mut self, ms: u64) {
        self.pools.advance(Instant::from_millis(ms), &mut self.databases);
    }

    fn counts(&self) -> PoolCounts {
        self.pools.counts().next().unwrap().1
    }

    fn effects(&mut self) -> Vec<PoolEffect> {
        self.effects.extend(std::iter::from_fn(|| self.pools.take_effect()));
        std::mem::take(&mut self.effects)
    }

    /// Who was lent a server connection after a wait since the last call.
    fn lent(&mut self) -> Vec<ClientId> {
        let lent = |effect| match effect {
            PoolEffect::Lent { client, .. } => Some(client),
            _ => None,
        };
        self.effects().into_iter().filter_map(lent).collect()
    }

    fn used(&self) -> u64 {
        self.databases.rows()[0].used
    }
}

fn is_lent(borrow: &Borrow) -> bool {
    matches!(borrow, Borrow::Lent { .. })
}

#[test]
fn shares_are_rounded_down() {
    assert_eq!([share(1000, 95), share(181, 80), share(75, 80), share(181, 0)], [950, 144, 60, 0]);
    assert_eq!(share(u32::MAX, 100), u32::MAX);
}

#[test]
fn clients_are_many_and_transactions_few() {
    let mut bench = Bench::new(10, settings(2));
    let clients: Vec<ClientId> = (0..5).map(|_| bench.connect(0)).collect();
    assert_eq!((bench.counts().clients, bench.counts().open, bench.used()), (5, 0, 0));
    assert!(is_lent(&bench.borrow(0, clients[0])) && is_lent(&bench.borrow(0, clients[1])));
    let Borrow::Waits(full) = bench.borrow(1, clients[2]) else { panic!("both are lent") };
    assert_eq!(full.to_string(), "db.pool-connections of OrdersProxy: 2 of 2 connections");
    assert!(!is_lent(&bench.borrow(2, clients[3])));
    assert_eq!((bench.counts().waiting, bench.used()), (2, 2));
    bench.give_back(3, clients[1]);
    assert!(!is_lent(&bench.borrow(3, clients[1])), "behind those who came before");
    bench.give_back(4, clients[0]);
    bench.give_back(5, clients[2]);
    assert_eq!(bench.lent(), [clients[2], clients[3], clients[1]]);
    bench.give_back(6, clients[1]);
    bench.give_back(6, clients[3]);
    assert_eq!(bench.counts(), PoolCounts { clients: 5, open: 2, ..PoolCounts::default() });
    let (_, totals) = bench.pools.totals().next().unwrap();
    assert_eq!((totals.opened, totals.lent, totals.waited, totals.waiting_peak), (2, 5, 3, 2));
}

#[test]
fn fifty_six_of_two_hundred_wait_in_vain() {
    // Facts, acceptance: 200 clients in transactions of 10 s, 144 connections, a borrow time-out of 5 s.
    let mut bench =
        Bench::new(181, PoolSettings { borrow_timeout: Duration::from_secs(5), ..settings(share(181, 80)) });
    let clients: Vec<ClientId> = (0..200).map(|_| bench.connect(0)).collect();
    let lent = clients.iter().filter(|client| is_lent(&bench.borrow(0, **client))).count();
    assert_eq!((lent, bench.pools.next_deadline()), (144, Some(Instant::from_secs(5))));
    bench.advance(10_000);
    let effects = bench.effects();
    assert_eq!(effects.len(), 56);
    let PoolEffect::TimedOut { client, refusal, behind } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(*client, clients[144]);
    assert_eq!(refusal.to_string(), "db.borrow-timeout of OrdersProxy: 5 of 5 s");
    assert_eq!(behind.to_string(), "db.pool-connections of OrdersProxy: 144 of 144 connections");
    let rows = bench.pools.rows();
    assert_eq!((rows[0].max, rows[0].peak, rows[0].refused), (144, 144, 56));
    assert_eq!((rows[1].max, rows[1].peak, rows[1].refused), (5, 5, 56));
    assert_eq!(rows[1].first_refused_at, Some(Instant::from_secs(5)));
    assert!(!is_lent(&bench.borrow(10_000, clients[199])), "it is still connected and may try again");
}

#[test]
fn a_borrow_time_out_of_zero_does_not_wait() {
    let mut bench = Bench::new(9, PoolSettings { borrow_timeout: Duration::ZERO, ..settings(1) });
    let [one, two] = [bench.connect(0), bench.connect(0)];
    assert!(is_lent(&bench.borrow(0, one)));
    let Borrow::Refused(refusal) = bench.borrow(0, two) else { panic!("it may not wait") };
    assert_eq!(refusal.limit, LimitId::DbBorrowTimeout);
    bench.give_back(1, one);
    assert!(is_lent(&bench.borrow(1, two)));
}

#[test]
fn pinned_clients_keep_theirs_until_they_disconnect() {
    let mut bench = Bench::new(9, settings(2));
    let clients: Vec<ClientId> = (0..3).map(|_| bench.connect(0)).collect();
    assert!(!bench.pin(0, clients[0]), "it has nothing to keep");
    for client in &clients[..2] {
        assert!(is_lent(&bench.borrow(0, *client)) && bench.pin(0, *client) && bench.pin(0, *client));
        bench.give_back(1, *client);
    }
    assert_eq!((bench.counts().pinned, bench.counts().borrowed), (2, 2));
    assert!(!is_lent(&bench.borrow(2, clients[2])));
    let again = bench.borrow(3, clients[0]);
    assert!(matches!(again, Borrow::Lent { fresh: false, .. }), "its own, at once");
    bench.disconnect(4, clients[0]);
    let effects = bench.effects();
    let [PoolEffect::CloseServer(_), PoolEffect::Lent { client, fresh: true, .. }] = &effects[..] else {
        panic!("a session's state is not handed on: {effects:?}")
    };
    assert_eq!((*client, bench.counts().pinned, bench.used()), (clients[2], 1, 2));
}

#[test]
fn a_client_that_disconnects_leaves_its_transaction_or_its_wait() {
    let mut bench = Bench::new(9, settings(1));
    let [one, two, three] = [bench.connect(0), bench.connect(0), bench.connect(0)];
    bench.borrow(0, one);
    bench.borrow(1, two);
    bench.borrow(2, three);
    assert!(bench.disconnect(3_003, two) && !bench.disconnect(3_003, two));
    assert!(bench.disconnect(4_000, one));
    assert_eq!(bench.lent(), [three], "rolled back and lent on");
    let row = &bench.pools.rows()[0];
    assert_eq!((row.refused, row.first_refused_at), (1, Some(Instant::from_millis(3_003))));
    assert_eq!(bench.pools.rows()[1].peak, 3, "whole seconds");
    assert_eq!(bench.borrow(5_000, one), Borrow::Closed);
}

#[test]
fn a_client_may_leave_the_queue_and_stay() {
    let mut bench = Bench::new(9, settings(1));
    let [one, two, three] = [bench.connect(0), bench.connect(0), bench.connect(0)];
    bench.borrow(0, one);
    bench.borrow(1, two);
    bench.borrow(2, three);
    bench.pools.leave(Instant::from_millis(3), two, &mut bench.databases);
    bench.pools.leave(Instant::from_millis(3), one, &mut bench.databases);
    bench.give_back(4, one);
    assert_eq!((bench.lent(), bench.pools.rows()[0].refused), (vec![three], 1));
    assert!(!is_lent(&bench.borrow(5, two)), "it is still connected");
}

#[test]
fn a_client_without_a_request_is_closed_even_if_it_pinned() {
    let mut bench =
        Bench::new(9, PoolSettings { idle_client_timeout: Duration::from_secs(1), ..settings(1) });
    let [one, two] = [bench.connect(0), bench.connect(0)];
    bench.borrow(0, one);
    bench.pin(0, one);
    bench.give_back(500, one);
    assert!(!is_lent(&bench.borrow(900, two)));
    bench.advance(1_499);
    assert_eq!((bench.effects(), bench.counts().clients), (vec![], 2), "who waits is not idle");
    bench.advance(1_500);
    let effects = bench.effects();
    let [PoolEffect::CloseClient(closed), PoolEffect::CloseServer(_), PoolEffect::Lent { client, .. }] =
        effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((closed, client), (one, two));
    assert!(!bench.pools.is_connected(Instant::from_millis(1_500), one, &mut bench.databases));
    bench.advance(60_000);
    assert_eq!(bench.counts().clients, 1, "who is in a transaction is not idle");
    bench.give_back(60_000, two);
    bench.advance(61_000);
    assert_eq!((bench.counts().clients, bench.counts().open), (0, 1));
}

#[test]
fn what_is_idle_for_five_minutes_is_closed_down_to_a_share() {
    let mut bench = Bench::new(9, PoolSettings { idle_connections: 1, ..settings(4) });
    let clients: Vec<ClientId> = (0..3).map(|_| bench.connect(0)).collect();
    clients.iter().for_each(|client| assert!(is_lent(&bench.borrow(0, *client))));
    clients.iter().for_each(|client| bench.give_back(1_000, *client));
    bench.advance(300_999);
    assert_eq!(bench.counts().open, 3);
    // The one that was returned last is lent first, so that the others can end.
    bench.borrow(300_999, clients[0]);
    bench.give_back(300_999, clients[0]);
    bench.advance(301_000);
    assert_eq!((bench.counts().open, bench.used()), (2, 2));
    bench.advance(900_000);
    assert_eq!((bench.counts().open, bench.effects().len()), (1, 2));
    bench.advance(86_399_999);
    assert_eq!(bench.counts().open, 1);
    bench.advance(86_400_000);
    assert_eq!((bench.counts().open, bench.used()), (0, 0), "none lives for longer than a day");
}

#[test]
fn a_transaction_outlives_the_day_and_its_connection_ends_after_it() {
    let mut bench = Bench::new(9, settings(1));
    let one = bench.connect(0);
    bench.borrow(0, one);
    bench.advance(86_400_000);
    assert_eq!(bench.counts().open, 1);
    let two = bench.connect(86_400_000);
    assert!(!is_lent(&bench.borrow(86_400_001, two)));
    bench.give_back(86_400_002, one);
    let effects: Vec<PoolEffect> = bench.effects();
    assert!(matches!(effects[effects.len() - 1], PoolEffect::Lent { fresh: true, .. }), "{effects:?}");
    assert_eq!(bench.counts().open, 1);
}

#[test]
fn logins_do_not_share_connections_but_make_room_for_each_other() {
    let mut bench = Bench::new(9, settings(2));
    let pool = PoolId(0);
    let other = bench.pools.add_login(pool);
    let one = bench.connect(0);
    let two = bench.pools.connect(Instant::START, other, &mut bench.databases);
    bench.borrow(0, one);
    bench.give_back(1, one);
    assert!(matches!(bench.borrow(2, two), Borrow::Lent { fresh: true, .. }));
    assert_eq!((bench.counts().open, bench.effects().len()), (2, 0), "there was room for both");
    let three = bench.pools.connect(Instant::START, other, &mut bench.databases);
    assert!(matches!(bench.borrow(3, three), Borrow::Lent { fresh: true, .. }));
    assert!(matches!(bench.effects()[..], [PoolEffect::CloseServer(_)]));
    assert!(!is_lent(&bench.borrow(4, one)));
    bench.give_back(5, two);
    let effects = bench.effects();
    assert!(
        matches!(effects[..], [PoolEffect::CloseServer(_), PoolEffect::Lent { fresh: true, .. }]),
        "{effects:?}"
    );
    assert_eq!((bench.counts().open, bench.counts().borrowed), (2, 2));
}

#[test]
fn a_database_that_others_fill_makes_clients_wait_and_is_asked_again() {
    let mut bench = Bench::new(3, settings(3));
    let direct = [(); 2].map(|()| bench.databases.open(Instant::START, bench.database).unwrap());
    let [one, two, three] = [bench.connect(0), bench.connect(0), bench.connect(0)];
    assert!(is_lent(&bench.borrow(0, one)));
    let Borrow::Waits(full) = bench.borrow(100, two) else { panic!("the database is full") };
    assert_eq!(full.to_string(), "db.max-connections of Orders: 3 of 3 connections");
    assert_eq!(bench.borrow(200, three), Borrow::Waits(full));
    assert!(bench.databases.open(Instant::from_millis(200), bench.database).is_err());
    bench.databases.close(Instant::from_millis(300), direct[0]);
    assert_eq!((bench.lent(), bench.pools.next_deadline()), (vec![], Some(Instant::from_millis(1_100))));
    bench.advance(1_100);
    assert_eq!((bench.lent(), bench.used()), (vec![two], 3));
    bench.give_back(1_500, one);
    assert_eq!(bench.lent(), [three], "a connection of its own is lent on at once");
    assert_eq!(bench.databases.rows()[0].refused, 3, "at 100, at 200 and at 1,100 ms");
}

#[test]
fn a_lost_connection_is_replaced_and_its_client_is_free() {
    let mut bench = Bench::new(9, settings(1));
    let [one, two] = [bench.connect(0), bench.connect(0)];
    let Borrow::Lent { server, .. } = bench.borrow(0, one) else { panic!("there is room") };
    bench.pin(0, one);
    bench.borrow(1, two);
    bench.pools.lose(Instant::from_millis(2), server, &mut bench.databases);
    bench.pools.lose(Instant::from_millis(2), server, &mut bench.databases);
    assert_eq!((bench.lent(), bench.counts().pinned, bench.used()), (vec![two], 0, 1));
    assert!(!is_lent(&bench.borrow(3, one)), "it asks anew");
    bench.give_back(4, two);
    bench.give_back(5, one);
    let Borrow::Lent { server, fresh: false } = bench.borrow(6, one) else { panic!("there is an idle one") };
    bench.give_back(7, one);
    bench.pools.lose(Instant::from_millis(8), server, &mut bench.databases);
    assert_eq!((bench.counts().open, bench.used()), (0, 0));
}

mod against_a_model;
