//! The store on disks that lose power, fail and flip bits.

use super::disk::{Dice, Disk};
use super::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often the power goes, and how many bits flip; more with `ONRUSH_LONG`.
fn rounds(short: u64, long: u64) -> u64 {
    if std::env::var_os("ONRUSH_LONG").is_some() { long } else { short }
}

fn over(disk: &Disk) -> Result<Embedded, StoreError> {
    let disk = disk.clone();
    Embedded::over(Path::new("disk"), move || {
        Database::builder().set_check_integrity_on_open(true).create_with_backend(Synced(disk.clone()))
    })
}

/// Some changes: rows of many sizes that come, change and go, a few in each commit.
fn batch(dice: &mut Dice, round: u64) -> Vec<Write> {
    let change = |dice: &mut Dice| {
        let key = format!("row/{:03}", dice.below(60));
        match dice.below(4) {
            0 => Write::Remove(key),
            _ => {
                let size = if dice.below(8) == 0 { dice.below(30_000) } else { dice.below(300) };
                Write::Put(key, format!("{round}:").into_bytes().repeat(size as usize / 4 + 1))
            }
        }
    };
    (0..=dice.below(5)).map(|_| change(dice)).collect()
}

fn apply(rows: &Rows, batch: &[Write]) -> Rows {
    let mut rows = rows.clone();
    for write in batch {
        match write {
            Write::Put(key, value) => drop(rows.insert(key.clone(), value.clone())),
            Write::Remove(key) => drop(rows.remove(key)),
        }
    }
    rows
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    let seed = std::env::var("ONRUSH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut dice = Dice(seed);
    let disk = Disk::default();
    let (mut acknowledged, mut cuts_at_opening) = (Rows::new(), 0);
    for round in 0..rounds(300, 20_000) {
        // The power may go while the store is repaired, too.
        disk.cut_after(dice.below(60));
        let mut asked = Vec::new();
        match over(&disk) {
            Ok(store) => {
                while !disk.is_off() {
                    asked = batch(&mut dice, round);
                    if store.commit(&asked).is_ok() {
                        acknowledged = apply(&acknowledged, &std::mem::take(&mut asked));
                    }
                }
            }
            Err(error) => {
                assert!(disk.is_off(), "seed {seed}, round {round}: {error}");
                cuts_at_opening += 1;
            }
        }
        disk.power_on(&mut dice);
        let store = over(&disk).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        let found = store.load().unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        let in_flight = apply(&acknowledged, &asked);
        assert!(found == acknowledged || found == in_flight, "seed {seed}, round {round}");
        acknowledged = found;
    }
    assert!(cuts_at_opening > 0, "no cut met a repair");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    // EIO; and ENOSPC, which is no full disk when it comes this late.
    [5, 28].into_iter().for_each(after_a_failed_sync);
}

fn after_a_failed_sync(errno: i32) {
    let disk = Disk::default();
    let store = over(&disk).unwrap();
    let put = |key: &str| [Write::Put(key.to_owned(), b"1".to_vec())];
    store.commit(&put("before")).unwrap();
    disk.fail_next_sync(errno);
    assert!(matches!(store.commit(&put("failed")), Err(StoreError::ReadOnly { .. })));
    let syncs = disk.syncs();
    // The disk says that it is well again; the pages that it dropped are gone all the same.
    for _ in 0..3 {
        let error = store.commit(&put("after")).unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }));
        assert!(error.to_string().contains("read-only until Onrush is started again"), "{error}");
    }
    assert_eq!(disk.syncs(), syncs, "a failed sync is never asked again");
    assert!(store.trouble().is_some());
    drop(store);
    disk.power_on(&mut Dice(1));
    let rows = over(&disk).unwrap().load().unwrap();
    assert_eq!(rows.into_keys().collect::<Vec<_>>(), ["before"]);
}

#[test]
fn a_flipped_bit_in_a_closed_store_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut dice = Dice(7);
    let store = Embedded::open(&path).unwrap();
    let mut expected = Rows::new();
    for round in 0..40 {
        let asked = batch(&mut dice, round);
        store.commit(&asked).unwrap();
        expected = apply(&expected, &asked);
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..rounds(160, 4_000) {
        let mut flipped = whole.clone();
        // Mostly where something is, and often in the first page, which says where all else is.
        let at = match round % 4 {
            0 => dice.below(whole.len() as u64) as usize,
            1 => dice.below(400) as usize,
            _ => used[dice.below(used.len() as u64) as usize],
        };
        flipped[at] ^= 1 << dice.below(8);
        std::fs::write(&path, &flipped).unwrap();
        let read = || Embedded::open(&path).and_then(|store| store.load());
        let Ok(read) = catch_unwind(AssertUnwindSafe(read)) else { panic!("byte {at}: a panic") };
        let outcome = match read {
            Ok(rows) => {
                assert!(rows == expected, "byte {at}: wrong rows");
                "harmless"
            }
            Err(error @ (StoreError::Damaged { .. } | StoreError::DamagedRow { .. })) => {
                assert!(error.to_string().contains("damaged"), "byte {at}: {error}");
                "found"
            }
            Err(error) => panic!("byte {at}: {error:?}"),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert!(outcomes.values().all(|count| *count > 0) && outcomes.len() == 2, "{outcomes:?}");
    for length in (0..whole.len()).step_by(whole.len() / 16) {
        std::fs::write(&path, &whole[..length]).unwrap();
        match Embedded::open(&path).and_then(|store| store.load()) {
            Err(StoreError::Damaged { .. }) => {}
            // An empty file is a new store.
            Ok(rows) if length == 0 => assert!(rows.is_empty()),
            other => panic!("cut to {length} bytes: {other:?}"),
        }
    }
    // What was kept elsewhere works.
    std::fs::write(&path, &whole).unwrap();
    assert!(Embedded::open(&path).unwrap().load().unwrap() == expected);
}
