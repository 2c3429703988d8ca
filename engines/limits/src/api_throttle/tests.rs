//! Precedence, quotas, figures; and the engine against a slow reference.

use super::reference::{NaiveBucket, NaiveThrottle};
use super::*;
use model::{Era, LimitId, Overrides};
use proptest::prelude::*;
use std::time::Duration;

fn settings() -> ApiSettings {
    ApiSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &Overrides::default()).unwrap()
}

fn throttle(rate: u32, burst: u32) -> Throttle {
    Throttle { rate: Some(Rate::per_second(rate)), burst: Some(burst) }
}

const DAILY: QuotaFigures = QuotaFigures { limit: 5, offset: 0, period: QuotaPeriod::Day };

/// A method and a key with these figures from the first level to the third, and the account's.
fn levels(figures: [Throttle; 3], quota: Option<QuotaFigures>, settings: ApiSettings) -> (ApiThrottle, Way) {
    let mut throttles = ApiThrottle::new(Instant::START, settings);
    let method = throttles.add_method(Instant::START, "Api/prod GET /cart".into(), figures[2]);
    let client = throttles.add_client(Instant::START, "AppKey of Basic".into(), figures[1], quota);
    throttles.add_client_method(Instant::START, client, method, figures[0]);
    let way = throttles.way(method, Some(client));
    (throttles, way)
}

fn first_refusal(mut throttles: ApiThrottle, way: Way) -> (usize, Refusal) {
    let mut passed = 0;
    loop {
        match throttles.admit(Instant::START, &way) {
            Ok(()) => passed += 1,
            Err(refusal) => return (passed, refusal),
        }
    }
}

#[test]
fn the_smallest_level_refuses_and_among_equals_the_first() {
    // Seed S1-16: key and method, key, method of the stage, account.
    for (bursts, expected) in [
        ([10, 20, 30, 40], (10, Level::KeyMethod)),
        ([20, 10, 30, 40], (10, Level::Key)),
        ([30, 20, 10, 40], (10, Level::Stage)),
        ([40, 30, 20, 10], (10, Level::Account)),
        ([10, 10, 10, 10], (10, Level::KeyMethod)),
        ([20, 10, 10, 10], (10, Level::Key)),
        ([20, 20, 10, 10], (10, Level::Stage)),
    ] {
        let mut settings = settings();
        settings.account = ApiFigures { rate: Rate::per_second(1000), burst: bursts[3] };
        let figures = [bursts[0], bursts[1], bursts[2]].map(|burst| throttle(1000, burst));
        let (throttles, way) = levels(figures, None, settings);
        let (passed, refusal) = first_refusal(throttles, way);
        assert_eq!((passed, refusal.limit), (expected.0, expected.1.burst_id()), "{bursts:?}");
        assert_eq!((refusal.used, refusal.max), (10, 10));
        assert_eq!(refusal.retry_at, Some(Instant::from_millis(1)), "one token in a millisecond");
    }
}

#[test]
fn a_request_without_a_key_passes_only_the_stage_and_the_account() {
    let mut throttles = ApiThrottle::new(Instant::START, settings());
    let method = throttles.add_method(Instant::START, "Api/prod GET /".into(), Throttle::default());
    let client = throttles.add_client(Instant::START, "Key".into(), throttle(1, 1), Some(DAILY));
    let (free, keyed) = (throttles.way(method, None), throttles.way(method, Some(client)));
    for _ in 0..100 {
        throttles.admit(Instant::START, &free).unwrap();
    }
    throttles.admit(Instant::START, &keyed).unwrap();
    let refusal = throttles.admit(Instant::START, &keyed).unwrap_err();
    // Two came in a second of one: the rate is to blame, not the burst.
    assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::ApiKeyRate, 2, 1));
}

#[test]
fn each_method_has_a_bucket_of_its_own_and_a_key_one_for_all() {
    let mut throttles = ApiThrottle::new(Instant::START, settings());
    let methods = ["GET /a", "GET /b"]
        .map(|method| throttles.add_method(Instant::START, method.into(), throttle(1, 3)));
    let client = throttles.add_client(Instant::START, "Key".into(), throttle(1, 4), None);
    let mut passed = |client| {
        methods.map(|method| {
            let way = throttles.way(method, client);
            (0..10).filter(|_| throttles.admit(Instant::START, &way).is_ok()).count()
        })
    };
    assert_eq!(passed(Some(client)), [3, 1]);
    assert_eq!(passed(None), [0, 2]);
}

#[test]
fn the_account_takes_five_thousand_at_once_and_ten_thousand_a_second() {
    let mut throttles = ApiThrottle::new(Instant::START, settings());
    let method = throttles.add_method(Instant::START, "Api/prod GET /".into(), Throttle::default());
    let way = throttles.way(method, None);
    let mut refused = [0, 0];
    // 6,000 at once: no more than the rate allows in a second, so the burst is too small.
    for _ in 0..6000 {
        if let Err(refusal) = throttles.admit(Instant::START, &way) {
            refused[usize::from(refusal.limit == LimitId::ApiAccountBurst)] += 1;
        }
    }
    assert_eq!(refused, [0, 1000]);
    // From a full bucket 20,000 a second for 10 s: the rate is too small.
    let (mut passed, mut blamed) = (0, Vec::new());
    for request in 0..200_000_u64 {
        match throttles.admit(Instant::from_nanos(10_000_000_000 + request * 50_000), &way) {
            Ok(()) => passed += 1,
            Err(refusal) => blamed.push(refusal),
        }
    }
    assert_eq!(passed, 104_999, "5,000 and ten times 10,000 less the begun one");
    // The bucket is empty after half a second, when as many came as the rate allows in a whole one.
    let bursts = blamed.iter().filter(|refusal| refusal.limit == LimitId::ApiAccountBurst).count();
    let last = blamed.last().unwrap();
    assert_eq!((bursts, last.limit, last.used, last.max), (1, LimitId::ApiAccountRate, 20_001, 10_000));
    let rows = throttles.board(Instant::from_secs(20));
    assert_eq!((rows[0].id, rows[0].peak, rows[0].refused), (LimitId::ApiAccountRate, 14_999, 95_000));
    assert_eq!((rows[1].id, rows[1].peak, rows[1].refused), (LimitId::ApiAccountBurst, 5000, 1001));
    assert_eq!(rows[1].first_refused_at, Some(Instant::START));
}

#[test]
fn a_quota_is_used_up_until_its_period_ends() {
    let (mut throttles, way) = levels([throttle(1000, 1000); 3], Some(DAILY), settings());
    let day = Duration::from_secs(86_400);
    let mut passed_on = |start: Instant| (0..9).filter(|_| throttles.admit(start, &way).is_ok()).count();
    assert_eq!(passed_on(Instant::START), 5);
    assert_eq!(passed_on(Instant::from_secs(86_399)), 0);
    assert_eq!(passed_on(Instant::START + day), 5);
    // Two days without a request are skipped at once.
    assert_eq!(passed_on(Instant::START + 4 * day), 5);
    let refusal = throttles.admit(Instant::START + 4 * day, &way).unwrap_err();
    assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::ApiKeyQuota, 5, 5));
    assert_eq!(refusal.retry_at, Some(Instant::START + 5 * day));
    assert_eq!(throttles.next_deadline(), refusal.retry_at);
    throttles.advance(Instant::START + 5 * day);
    assert_eq!(throttles.quota_left(Instant::START + 5 * day, ClientId(0)), Some(5));
    let row = throttles.board(Instant::START + 5 * day).pop().unwrap();
    assert_eq!((row.id, row.used, row.peak, row.refused), (LimitId::ApiKeyQuota, 0, 5, 4 + 9 + 4 + 4 + 1));
}

#[test]
fn the_offset_counts_in_the_first_period_alone() {
    let quota = QuotaFigures { limit: 100, offset: 70, period: QuotaPeriod::Week };
    let (mut throttles, way) = levels([throttle(1000, 1000); 3], Some(quota), settings());
    let mut passed_on = |start: Instant| (0..200).filter(|_| throttles.admit(start, &way).is_ok()).count();
    assert_eq!([0, 7, 14].map(|day| passed_on(Instant::from_secs(day * 86_400))), [30, 100, 100]);
}

#[test]
fn what_a_refused_request_spends_is_a_setting() {
    // The stage refuses; whether the key's tokens are gone shows when the stage has filled again.
    for (spending, left) in [(Spending::OnlyIfAdmitted, 9), (Spending::AsAsked, 5)] {
        let settings = ApiSettings { spending, ..settings() };
        let figures = [Throttle::default(), throttle(0, 10), throttle(1, 1)];
        let (mut throttles, way) = levels(figures, None, settings);
        let passed = (0..5).filter(|_| throttles.admit(Instant::START, &way).is_ok()).count();
        assert_eq!(passed, 1);
        let passed = (1..100).filter(|second| throttles.admit(Instant::from_secs(*second), &way).is_ok());
        assert_eq!(passed.count(), left, "{spending:?}");
    }
}

#[test]
fn a_quota_may_be_asked_before_or_after_the_throttles() {
    for (order, limit) in
        [(Order::QuotaFirst, LimitId::ApiKeyQuota), (Order::ThrottlesFirst, LimitId::ApiKeyMethodRate)]
    {
        let settings = ApiSettings { order, ..settings() };
        let (throttles, way) = levels([throttle(1, 5); 3], Some(DAILY), settings);
        let (passed, refusal) = first_refusal(throttles, way);
        assert_eq!((passed, refusal.limit), (5, limit));
    }
}

#[test]
fn a_missing_half_is_the_accounts_and_zero_stops_everything() {
    let only_rate = Throttle { rate: Some(Rate::per_second(2)), burst: None };
    let (throttles, way) = levels([Throttle::default(), Throttle::default(), only_rate], None, settings());
    assert_eq!(first_refusal(throttles, way).0, 5000);
    let (throttles, way) =
        levels([Throttle::default(), Throttle::default(), throttle(0, 0)], None, settings());
    let (passed, refusal) = first_refusal(throttles, way);
    assert_eq!((passed, refusal.limit, refusal.retry_at), (0, LimitId::ApiStageRate, None));
    assert_eq!((refusal.used, refusal.max), (1, 0));
}

#[test]
fn every_era_has_the_accounts_figures() {
    for name in Era::names() {
        let settings = ApiSettings::from_era(&Era::named(name).unwrap(), "us-east-1", &Overrides::default());
        assert_eq!(settings.unwrap().account, ApiFigures { rate: Rate::per_second(10_000), burst: 5000 });
    }
}

#[test]
fn fractions_of_a_request_count() {
    assert_eq!(Rate::from_f64(0.5), Some(Rate::from_thousandths(500)));
    assert_eq!([f64::NAN, -1.0].map(Rate::from_f64), [None, None]);
    assert_eq!(Rate::from_f64(f64::INFINITY).unwrap().whole(), u64::from(u32::MAX));
    let half = Throttle { rate: Rate::from_f64(0.5), burst: Some(1) };
    let (mut throttles, way) = levels([Throttle::default(), Throttle::default(), half], None, settings());
    let passed = (0..100).filter(|second| throttles.admit(Instant::from_secs(*second), &way).is_ok());
    assert_eq!(passed.count(), 50);
    assert_eq!(Rate::per_second(5_000_000).refill().tokens, 5_000_000);
}

#[test]
fn the_users_figures_replace_the_templates() {
    let mut overrides = Overrides::default();
    for text in ["apigw.stage-rate=2", "apigw.stage-burst=3", "apigw.key-burst=7", "apigw.key-quota=4"] {
        overrides.read(text).unwrap();
    }
    let settings = ApiSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &overrides).unwrap();
    let (throttles, way) =
        levels([Throttle::default(), throttle(9, 9), Throttle::default()], Some(DAILY), settings);
    let rows = throttles.board(Instant::START);
    let max = |id| rows.iter().find(|row| row.id == id).map(|row| row.max);
    assert_eq!((max(LimitId::ApiKeyRate), max(LimitId::ApiKeyBurst)), (Some(9), Some(7)));
    assert_eq!((max(LimitId::ApiStageRate), max(LimitId::ApiStageBurst)), (Some(2), Some(3)));
    assert_eq!(max(LimitId::ApiKeyQuota), Some(4));
    assert_eq!(first_refusal(throttles, way).0, 3);
    let milan = ApiSettings::from_era(&Era::named("today").unwrap(), "eu-south-1", &Overrides::default());
    assert_eq!(milan.unwrap().account, ApiFigures { rate: Rate::per_second(2500), burst: 1250 });
    overrides.read("apigw.account-rate=5000000000").unwrap();
    assert!(ApiSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &overrides).is_err());
}

fn bucket() -> impl Strategy<Value = Option<(u64, u32)>> {
    prop::option::weighted(0.7, (0u64..20_000, 0u32..12))
}

proptest! {
    #[test]
    fn the_engine_agrees_with_a_slow_reference(
        figures in [bucket(), bucket(), bucket()], account in (1u64..50_000, 1u32..20),
        quota in prop::option::of(0u64..40), as_asked: bool, quota_first: bool,
        waits in prop::collection::vec(0u64..400_000_000, 1..120),
    ) {
        let mut settings = settings();
        settings.account = ApiFigures { rate: Rate::from_thousandths(account.0), burst: account.1 };
        settings.spending = if as_asked { Spending::AsAsked } else { Spending::OnlyIfAdmitted };
        settings.order = if quota_first { Order::QuotaFirst } else { Order::ThrottlesFirst };
        let given = figures.map(|figures| figures.map_or(Throttle::default(), |(rate, burst)| Throttle {
            rate: Some(Rate::from_thousandths(rate)), burst: Some(burst),
        }));
        let figures_of = quota.map(|limit| QuotaFigures { limit, offset: 0, period: QuotaPeriod::Month });
        let (mut throttles, way) = levels(given, figures_of, settings);
        let naive = |(rate, burst)| NaiveBucket::new(u128::from(rate), u128::from(burst));
        let mut reference = NaiveThrottle {
            buckets: figures.into_iter().chain([Some(account)]).map(|figures| figures.map(naive)).collect(),
            quota, spends_as_asked: as_asked, quota_first,
        };
        let mut now = 0;
        for wait in waits {
            now += wait;
            let expected = reference.admit(u128::from(now));
            match (throttles.admit(Instant::from_nanos(now), &way), expected) {
                (Ok(()), Ok(())) => {}
                (Err(refusal), Err(None)) => prop_assert_eq!(refusal.limit, LimitId::ApiKeyQuota),
                (Err(refusal), Err(Some(level))) => {
                    let level = Level::ALL[level];
                    prop_assert!([level.rate_id(), level.burst_id()].contains(&refusal.limit));
                    if let Some(at) = refusal.retry_at {
                        prop_assert!(at > Instant::from_nanos(now));
                    }
                }
                (found, expected) => prop_assert!(false, "{found:?}, and the reference {expected:?}"),
            }
        }
    }

    #[test]
    fn no_window_lets_more_pass_than_each_levels_burst_and_rate(
        figures in [bucket(), bucket(), bucket()],
        waits in prop::collection::vec(0u64..100_000_000, 1..200),
    ) {
        let given = figures.map(|figures| figures.map_or(Throttle::default(), |(rate, burst)| Throttle {
            rate: Some(Rate::from_thousandths(rate)), burst: Some(burst),
        }));
        let (mut throttles, way) = levels(given, None, settings());
        let mut now = 0;
        let mut passed: Vec<u64> = Vec::new();
        for wait in waits {
            now += wait;
            if throttles.admit(Instant::from_nanos(now), &way).is_ok() {
                passed.push(now);
            }
        }
        for (rate, burst) in figures.into_iter().flatten() {
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let gained = u128::from(end - start) * u128::from(rate) / 1_000_000_000_000;
                    prop_assert!((last - first + 1) as u128 <= u128::from(burst) + gained);
                }
            }
        }
    }

    #[test]
    fn asking_again_when_it_says_helps(
        rate in 1u64..20_000, burst in 1u32..12, requests in 1usize..60,
    ) {
        let stage = Throttle { rate: Some(Rate::from_thousandths(rate)), burst: Some(burst) };
        let (mut throttles, way) =
            levels([Throttle::default(), Throttle::default(), stage], None, settings());
        for _ in 0..requests {
            if let Err(refusal) = throttles.admit(Instant::START, &way) {
                let at = refusal.retry_at.unwrap();
                let before = Instant::from_nanos(at.as_nanos() - 1);
                prop_assert!(throttles.clone().admit(before, &way).is_err());
                prop_assert!(throttles.admit(at, &way).is_ok());
                return Ok(());
            }
        }
    }
}
