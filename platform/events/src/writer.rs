//! Group commit: whatever is asked for while one commit is on its way to the disk goes with the next.
//!
//! One thread commits. It answers after the commit, so an answer means that the rows are on the disk. Rows that nobody
//! waits for (an event is settled) go with the next commit, at the latest [`LINGER`] later: losing them to a crash means
//! that an event is delivered once more, which "at least once" allows.

use control::store::{Store, StoreError, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long rows that nobody waits for may wait for others.
const LINGER: Duration = Duration::from_millis(50);
/// Most bytes of one commit; beyond it the rest goes with the next.
const COMMIT_BYTES_MAX: usize = 8 << 20;
/// How long after a message that events cannot be stored the next one may come: a full disk refuses whatever comes, and
/// messages may well go to a file on it.
const MESSAGES_APART: Duration = Duration::from_secs(1);

type Answer = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

struct Asked {
    rows: Vec<Write>,
    answer: Answer,
}

#[derive(Default)]
struct Inbox {
    asked: Vec<Asked>,
    later: Vec<Write>,
    /// When the oldest of `later` came.
    later_since: Option<Instant>,
    is_closed: bool,
}

/// What of failed commits was not told yet.
#[derive(Default)]
struct Untold {
    told_at: Option<Instant>,
    refused: usize,
}

impl Untold {
    /// Notes a commit that failed at `now` with `refused` events; how many were refused since the last message, if it is time
    /// for one.
    fn failed(&mut self, now: Instant, refused: usize) -> Option<usize> {
        self.refused += refused;
        let is_time = self.told_at.is_none_or(|told_at| now - told_at >= MESSAGES_APART);
        is_time.then(|| {
            self.told_at = Some(now);
            std::mem::take(&mut self.refused)
        })
    }

    /// When what was refused since the last message is told, though no commit fails any more.
    fn due(&self) -> Option<Instant> {
        self.told_at.filter(|_| self.refused > 0).map(|told_at| told_at + MESSAGES_APART)
    }

    /// How many were refused since the last message, if that is due at `now`.
    fn rest(&mut self, now: Instant) -> Option<usize> {
        self.due().is_some_and(|due| due <= now).then(|| {
            self.told_at = Some(now);
            std::mem::take(&mut self.refused)
        })
    }
}

struct Shared {
    store: Box<dyn Store>,
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

/// The one thread that commits. Dropping it commits what it was told and ends the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { store, inbox: Mutex::default(), wake: Condvar::new() });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("events".to_owned()).spawn(move || own.commit_all())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Commits rows, all or none of them, and calls `answer` from the thread that did.
    pub fn commit(
        &self,
        rows: Vec<Write>,
        answer: impl FnOnce(Result<(), Arc<StoreError>>) + Send + 'static,
    ) {
        let mut inbox = self.shared.lock();
        inbox.asked.push(Asked { rows, answer: Box::new(answer) });
        drop(inbox);
        self.shared.wake.notify_one();
    }

    /// Commits rows that nobody waits for, soon.
    pub fn later(&self, rows: impl IntoIterator<Item = Write>) {
        let mut inbox = self.shared.lock();
        inbox.later.extend(rows);
        if inbox.later_since.is_none() && !inbox.later.is_empty() {
            inbox.later_since = Some(Instant::now());
            drop(inbox);
            self.shared.wake.notify_one();
        }
    }

    /// Why nothing can be committed at present, if that is known.
    pub fn trouble(&self) -> Option<String> {
        self.shared.store.trouble()
    }

    /// One row, as it was committed last.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.store.get(key)
    }

    /// Commits what it was told, and ends, the store with it. May wait for the disk.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last holder may be an answer that the thread itself gives.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the thread that commits events failed");
        }
        self.shared.store.close();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_all(&self) {
        let mut untold = Untold::default();
        let tell = |refused| tracing::error!(refused, "more events could not be stored until now");
        while let Some((asked, later)) = self.next(untold.due()) {
            if asked.is_empty() && later.is_empty() {
                untold.rest(Instant::now()).into_iter().for_each(tell);
                continue;
            }
            let size = asked.iter().map(|asked| asked.rows.len()).sum::<usize>() + later.len();
            let mut rows = Vec::with_capacity(size);
            // First what makes room.
            rows.extend(later);
            let of_later = rows.len();
            let mut answers = Vec::with_capacity(asked.len());
            for asked in asked {
                rows.extend(asked.rows);
                answers.push(asked.answer);
            }
            let result = self.store.commit(&rows).map_err(Arc::new);
            match &result {
                Ok(()) => untold.rest(Instant::now()).into_iter().for_each(tell),
                Err(error) => {
                    if let Some(refused) = untold.failed(Instant::now(), answers.len()) {
                        tracing::error!(%error, refused, "events could not be stored");
                    }
                    rows.truncate(of_later);
                    self.keep(rows, error, !answers.is_empty());
                }
            }
            for answer in answers {
                answer(result.clone());
            }
        }
        untold.due().and_then(|due| untold.rest(due)).into_iter().for_each(tell);
    }

    /// Rows that nobody waits for did not reach the disk.
    fn keep(&self, rows: Vec<Write>, error: &StoreError, others_too: bool) {
        if rows.is_empty() || !matches!(error, StoreError::Full { .. }) {
            return;
        }
        // They remove more than they add, so they may well fit alone.
        if others_too && self.store.commit(&rows).is_ok() {
            return;
        }
        let mut inbox = self.lock();
        let newer = std::mem::replace(&mut inbox.later, rows);
        inbox.later.extend(newer);
        inbox.later_since = Some(Instant::now());
    }

    /// Waits for something to commit, at the longest until `until`: then it is nothing. `None` at the end.
    fn next(&self, until: Option<Instant>) -> Option<(Vec<Asked>, Vec<Write>)> {
        let mut inbox = self.lock();
        loop {
            let due = inbox.later_since.map(|since| since + LINGER);
            let now = Instant::now();
            let due = [due, until].into_iter().flatten().min();
            if !inbox.asked.is_empty() || due.is_some_and(|due| due <= now) || inbox.is_closed {
                break;
            }
            inbox = match due {
                Some(due) => {
                    let waited = self.wake.wait_timeout(inbox, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
        if inbox.is_closed && inbox.asked.is_empty() && inbox.later.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = inbox.asked.iter().take_while(|asked| {
            let before = bytes;
            bytes += asked.rows.iter().map(size_of_row).sum::<usize>();
            before < COMMIT_BYTES_MAX
        });
        let count = fits.count();
        let rest = inbox.asked.split_off(count);
        let asked = std::mem::replace(&mut inbox.asked, rest);
        let later = std::mem::take(&mut inbox.later);
        inbox.later_since = None;
        // A full disk must not keep the end from coming.
        if inbox.is_closed && asked.is_empty() {
            drop(inbox);
            if let Err(error) = self.store.commit(&later) {
                tracing::error!(%error, "what became of the last events could not be stored");
            }
            return None;
        }
        Some((asked, later))
    }
}

fn size_of_row(row: &Write) -> usize {
    match row {
        Write::Put(key, value) => key.len() + value.len(),
        Write::Remove(key) => key.len(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use control::store::Rows;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    /// What a store in memory does with the next commits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum Mood {
        #[default]
        Well,
        /// Refuses whatever adds a row.
        Full,
        Broken,
    }

    /// A store in memory that counts its commits and fails when it is told to.
    #[derive(Clone, Default)]
    pub(crate) struct Memory {
        pub rows: Arc<Mutex<Rows>>,
        pub mood: Arc<Mutex<Mood>>,
        pub commits: Arc<AtomicUsize>,
        /// Held while a commit is to wait.
        pub gate: Arc<Mutex<()>>,
    }

    impl Store for Memory {
        fn load(&self) -> Result<Rows, StoreError> {
            Ok(self.rows.lock().unwrap().clone())
        }

        fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
            drop(self.gate.lock().unwrap());
            let path = PathBuf::from("events");
            match *self.mood.lock().unwrap() {
                Mood::Full if batch.iter().any(|write| matches!(write, Write::Put(..))) => {
                    return Err(StoreError::Full { path });
                }
                Mood::Broken => return Err(StoreError::ReadOnly { path, cause: "EIO".to_owned() }),
                _ => {}
            }
            self.commits.fetch_add(1, Ordering::SeqCst);
            let mut rows = self.rows.lock().unwrap();
            for write in batch {
                match write {
                    Write::Put(key, value) => drop(rows.insert(key.clone(), value.clone())),
                    Write::Remove(key) => drop(rows.remove(key)),
                }
            }
            Ok(())
        }
    }

    fn put(key: &str) -> Vec<Write> {
        vec![Write::Put(key.to_owned(), b"1".to_vec())]
    }

    fn ask(writer: &Writer, key: &str) -> mpsc::Receiver<bool> {
        let (said, heard) = mpsc::channel();
        writer.commit(put(key), move |result| {
            let _ = said.send(result.is_ok());
        });
        heard
    }

    #[test]
    fn commits_that_fail_one_after_the_other_are_told_once_a_second_with_their_number() {
        let mut untold = Untold::default();
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(untold.failed(at(0), 2), Some(2));
        assert_eq!([untold.failed(at(1), 3), untold.failed(at(999), 0)], [None, None]);
        assert_eq!(untold.failed(at(1_000), 1), Some(4));
        assert_eq!(untold.failed(at(2_500), 0), Some(0));
        assert_eq!(untold.due(), None, "all is told");
        assert_eq!(untold.failed(at(2_600), 2), None);
        assert_eq!(
            [untold.rest(at(3_499)), untold.rest(at(3_500)), untold.rest(at(9_000))],
            [None, Some(2), None]
        );
    }

    /// Keeps the numbers of refused events in messages.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u64>>>);

    impl tracing::field::Visit for Heard {
        fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
            if field.name() == "refused" {
                self.0.lock().unwrap().push(value);
            }
        }

        fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
    }

    impl tracing::Subscriber for Heard {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn the_last_events_of_a_full_disk_are_told_though_no_commit_fails_any_more() {
        let (memory, heard) = (Memory::default(), Heard::default());
        let writer =
            Shared { store: Box::new(memory.clone()), inbox: Mutex::default(), wake: Condvar::new() };
        *memory.mood.lock().unwrap() = Mood::Full;
        // A call site asks both of two subscribers; a single one it would ask of the thread that came first, another test's.
        let subscribers = [(); 2].map(|()| tracing::Dispatch::new(heard.clone()));
        let begun = Instant::now();
        let ask = |key: &str| {
            let (said, answer) = mpsc::channel();
            let answered = Box::new(move |result: Result<(), _>| {
                let _ = said.send(result.is_ok());
            });
            writer.lock().asked.push(Asked { rows: put(key), answer: answered });
            writer.wake.notify_one();
            answer.recv().unwrap()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| tracing::dispatcher::with_default(&subscribers[0], || writer.commit_all()));
            assert!(!ask("a") && !ask("b") && !ask("c"));
            *memory.mood.lock().unwrap() = Mood::Well;
            assert!(ask("d"));
            let told = || heard.0.lock().unwrap().iter().sum::<u64>();
            while told() < 3 && begun.elapsed() < MESSAGES_APART * 20 {
                std::thread::sleep(Duration::from_millis(10));
            }
            let told = told();
            writer.lock().is_closed = true;
            writer.wake.notify_one();
            assert_eq!(told, 3);
        });
    }

    #[test]
    fn what_comes_during_a_commit_goes_with_the_next() {
        let memory = Memory::default();
        let writer = Writer::start(Box::new(memory.clone())).unwrap();
        let closed = memory.gate.lock().unwrap();
        let answers: Vec<_> = (0..100).map(|number| ask(&writer, &number.to_string())).collect();
        assert!(answers[0].try_recv().is_err(), "nothing is answered before it is on the disk");
        drop(closed);
        assert!(answers.iter().all(|answer| answer.recv().unwrap()));
        let commits = memory.commits.load(Ordering::SeqCst);
        assert!(commits <= 3, "{commits}");
        assert_eq!(memory.rows.lock().unwrap().len(), 100);
    }

    #[test]
    fn what_nobody_waits_for_is_committed_at_the_end_too() {
        let memory = Memory::default();
        let writer = Writer::start(Box::new(memory.clone())).unwrap();
        assert!(ask(&writer, "a").recv().unwrap());
        writer.later([Write::Remove("a".to_owned())]);
        drop(writer);
        assert!(memory.rows.lock().unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_refuses_what_comes_and_still_takes_what_makes_room() {
        let memory = Memory::default();
        let writer = Writer::start(Box::new(memory.clone())).unwrap();
        assert!(ask(&writer, "a").recv().unwrap());
        *memory.mood.lock().unwrap() = Mood::Full;
        writer.later([Write::Remove("a".to_owned())]);
        assert!(!ask(&writer, "b").recv().unwrap());
        // The answer comes after the rest was tried alone.
        assert!(memory.rows.lock().unwrap().is_empty());
        *memory.mood.lock().unwrap() = Mood::Well;
        assert!(ask(&writer, "c").recv().unwrap());
    }

    #[test]
    fn a_failing_disk_refuses_everything() {
        let memory = Memory::default();
        let writer = Writer::start(Box::new(memory.clone())).unwrap();
        *memory.mood.lock().unwrap() = Mood::Broken;
        writer.later([Write::Remove("a".to_owned())]);
        assert!(!ask(&writer, "b").recv().unwrap());
        drop(writer);
        assert!(memory.rows.lock().unwrap().is_empty());
    }
}
