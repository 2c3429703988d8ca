//! A disk for tests: it loses power, tears writes, fails a sync, and so shows what the store makes of that.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// What the kernel writes back at a time, in any order.
const PAGE: usize = 4096;

/// A disk; its clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a power cut cannot take.
    durable: Vec<u8>,
    /// What the running system sees.
    seen: Vec<u8>,
    /// Pages as they were after each write since the last sync, by page, in their order.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Calls that change something, until the power goes.
    calls_left: Option<u64>,
    is_off: bool,
    /// The next sync fails, and with it the pages that it was about are taken for clean, as by the kernel.
    fails_next_sync: Option<i32>,
    syncs: u64,
}

/// Small numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

impl Disk {
    /// The power goes after that many more writes, syncs and changes of length.
    pub fn cut_after(&self, calls: u64) {
        self.lock().calls_left = Some(calls);
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// The next sync answers that error number.
    pub fn fail_next_sync(&self, errno: i32) {
        self.lock().fails_next_sync = Some(errno);
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Power is back: of what was not synced, each page is as after one of its writes or none, and may be torn.
    pub fn power_on(&self, dice: &mut Dice) {
        let mut state = self.lock();
        let unsynced = std::mem::take(&mut state.unsynced);
        // The length is metadata: it is there early or late.
        if dice.below(2) == 0 {
            let length = state.seen.len();
            state.durable.resize(length, 0);
        }
        for (page, versions) in unsynced {
            let kept = dice.below(versions.len() as u64 + 1) as usize;
            let Some(new) = kept.checked_sub(1).map(|kept| &versions[kept]) else { continue };
            let start = page * PAGE;
            let whole = dice.below(4) != 0;
            for (number, sector) in new.chunks(SECTOR).enumerate() {
                let at = start + number * SECTOR;
                if (whole || dice.below(2) == 0) && at + sector.len() <= state.durable.len() {
                    state.durable[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        state.seen = state.durable.clone();
        (state.is_off, state.calls_left) = (false, None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.calls_left {
            if *left == 0 {
                self.is_off = true;
            }
            *left = left.saturating_sub(1);
        }
        self.powered()
    }

    fn powered(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    /// Remembers the pages that bytes lie in, as they are now.
    fn touch(&mut self, from: usize, to: usize) {
        for page in from / PAGE..to.div_ceil(PAGE) {
            let end = ((page + 1) * PAGE).min(self.seen.len());
            let now = self.seen[page * PAGE..end].to_vec();
            self.unsynced.entry(page).or_default().push(now);
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let state = self.lock();
        state.powered()?;
        Ok(state.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        state.powered()?;
        let from = offset as usize;
        let bytes = state.seen.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.call()?;
        state.seen.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.call()?;
        state.syncs += 1;
        if let Some(errno) = state.fails_next_sync.take() {
            state.unsynced.clear();
            return Err(io::Error::from_raw_os_error(errno));
        }
        state.durable = state.seen.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.call()?;
        let (from, to) = (offset as usize, offset as usize + data.len());
        if to > state.seen.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.seen[from..to].copy_from_slice(data);
        state.touch(from, to);
        Ok(())
    }
}
