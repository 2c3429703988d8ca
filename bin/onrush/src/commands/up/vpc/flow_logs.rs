//! Where the lines of flow logs go: a file for all of them, and one for each that the template has.

use super::physical;
use anyhow::Context as _;
use limits::network::VPC_ELSEWHERE;
use model::stack::{Link, LogFormat, Logged, Stack, TrafficType};
use network::fabric::{FlowLog, FlowLogging, Lines, Of};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines of a log that wait for the disk; what is above is lost, and the log says so (`SKIPDATA`).
const LINES_MAX: usize = 65_536;
/// Bytes of a template's log. Then it becomes `….log.1`, and the one that was called so before goes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The name of the log of every interface, which no resource of a template can have.
const EVERYTHING: &str = "--flow-logs";

/// The files of flow logs.
#[derive(Debug)]
pub struct FlowFiles {
    /// `--flow-logs FILE`.
    everything: Option<PathBuf>,
    /// Where the template's logs are.
    folder: PathBuf,
    region: String,
    /// To the writers of the files that are open.
    writers: Mutex<BTreeMap<PathBuf, SyncSender<String>>>,
}

impl FlowFiles {
    /// `given`: a file for the lines of every interface, or a folder that is there, for the template's logs in place of `folder`.
    pub fn new(given: Option<&Path>, folder: PathBuf, region: &str) -> Self {
        let (everything, folder) = match given {
            Some(path) if path.is_dir() => (None, path.to_owned()),
            given => (given.map(Path::to_owned), folder),
        };
        Self { everything, folder, region: region.to_owned(), writers: Mutex::default() }
    }

    /// The logs that there are with a template. Files that are open stay so; the others' are opened, which may take time.
    ///
    /// # Errors
    /// A file or thread of theirs cannot be made.
    pub fn open(&self, stack: &Stack) -> anyhow::Result<FlowLogging> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeMap::new();
        let mut lines = |path: PathBuf, bytes_max| -> anyhow::Result<Lines> {
            let writer = match writers.get(&path) {
                Some(writer) => writer.clone(),
                None => writer_of(&path, bytes_max)?,
            };
            now.insert(path, writer.clone());
            Ok(Box::new(move |line| writer.try_send(line.to_owned()).is_ok()))
        };
        let mut logs = Vec::new();
        if let Some(path) = &self.everything {
            logs.push(FlowLog {
                name: EVERYTHING.to_owned(),
                of: Of::All,
                traffic: TrafficType::All,
                format: LogFormat::default(),
                interval: Duration::from_secs(60),
                lines: lines(path.clone(), None)?,
            });
        }
        if !stack.flow_logs.is_empty() {
            let folder = &self.folder;
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let outside = stack.outside_vpc();
        for log in &stack.flow_logs {
            let name = |link: &Link| link.as_str().to_owned();
            logs.push(FlowLog {
                name: log.id.clone(),
                of: match &log.of {
                    Logged::Vpc(link) => {
                        let is_elsewhere = outside == Some(link.as_str());
                        let elsewhere = is_elsewhere.then(|| VPC_ELSEWHERE.to_owned());
                        Of::Vpc(std::iter::once(name(link)).chain(elsewhere).collect())
                    }
                    Logged::Subnet(link) => Of::Subnet(name(link)),
                    Logged::NetworkInterface(link) => Of::Interface(name(link)),
                },
                traffic: log.traffic,
                format: log.format.clone(),
                interval: log.interval,
                lines: lines(self.folder.join(format!("{}.log", log.id)), Some(FILE_BYTES_MAX))?,
            });
        }
        let vpcs = stack.vpcs.iter().map(|vpc| (vpc.id.clone(), vpc.vpc_id.clone()));
        let subnets = stack.subnets.iter().map(|subnet| {
            let link = Link::Logical(subnet.id.clone());
            (subnet.id.clone(), physical(stack, &link))
        });
        let elsewhere = outside.map(|id| (VPC_ELSEWHERE.to_owned(), id.to_owned()));
        *writers = now;
        Ok(FlowLogging {
            logs,
            account: model::name::DEFAULT_ACCOUNT.to_owned(),
            region: self.region.clone(),
            ids: vpcs.chain(subnets).chain(elsewhere).collect(),
        })
    }

    /// Where a template's logs are, in a few words; nothing where it has none.
    pub fn said(&self, stack: &Stack) -> String {
        match &*stack.flow_logs {
            [] => String::new(),
            [log] => format!("; flow log: {}", self.folder.join(format!("{}.log", log.id)).display()),
            logs => format!("; {} flow logs in {}", logs.len(), self.folder.display()),
        }
    }
}

/// Takes lines for a file, written by a thread of their own: a slow disk loses lines, not packets.
fn writer_of(path: &Path, bytes_max: Option<u64>) -> anyhow::Result<SyncSender<String>> {
    let mut file =
        Rolled::open(path, bytes_max).with_context(|| format!("cannot write {}", path.display()))?;
    let (lines, received) = sync_channel::<String>(LINES_MAX);
    let write = move || {
        while let Ok(mut text) = received.recv() {
            text.push('\n');
            while let Ok(line) = received.try_recv() {
                text.push_str(&line);
                text.push('\n');
            }
            if let Err(error) = file.write(text.as_bytes()) {
                tracing::warn!(%error, file = %file.path.display(), "flow log lines are lost");
            }
        }
    };
    std::thread::Builder::new().name("flow-logs".into()).spawn(write).context("cannot write flow logs")?;
    Ok(lines)
}

/// A file that is appended to, and put aside when it is full.
struct Rolled {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: Option<u64>,
}

impl Rolled {
    fn open(path: &Path, bytes_max: Option<u64>) -> io::Result<Self> {
        // A pipe would be waited for until somebody reads from it.
        let at_once = OFlags::NONBLOCK.bits().cast_signed();
        let opened = File::options().create(true).append(true).custom_flags(at_once).open(path);
        let file = opened.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NXIO) => io::Error::other("it is a pipe that nobody reads from"),
            _ => error,
        })?;
        rustix::io::ioctl_fionbio(&file, false)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes_max.is_some_and(|max| self.bytes + text.len() as u64 > max) {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            std::fs::rename(&self.path, aside)?;
            *self = Self::open(&self.path, self.bytes_max)?;
        }
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_one_before_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("All.log");
        std::fs::write(&path, "older\n").unwrap();
        let mut file = Rolled::open(&path, Some(12)).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "far too long for it\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((&*read("All.log"), &*read("All.log.1")), ("far too long for it\n", "four\n"));
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2);
    }

    #[test]
    fn a_pipe_is_written_to_where_somebody_reads_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let refused = Rolled::open(&fifo, None).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "it is a pipe that nobody reads from");
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = File::options().read(true).custom_flags(flags).open(&fifo).unwrap();
        Rolled::open(&fifo, None).unwrap().write(b"a line\n").unwrap();
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "a line\n");
    }

    #[test]
    fn a_file_that_is_open_is_written_by_one_and_outside_subnets_are_of_the_one_outside_vpc() {
        let folder = tempfile::tempdir().unwrap();
        let files = FlowFiles::new(None, folder.path().join("logs"), "us-east-1");
        let text = "Resources:
  Theirs: {Type: AWS::EC2::FlowLog, Properties: {ResourceId: vpc-9, ResourceType: VPC, TrafficType: ALL}}
";
        let read = |text: &str| template::read("t", text, &template::Inputs::default()).stack.unwrap();
        let first = files.open(&read(text)).unwrap();
        assert_eq!(first.logs[0].of, Of::Vpc(vec!["vpc-9".into(), VPC_ELSEWHERE.into()]));
        assert_eq!(first.ids.get(VPC_ELSEWHERE).map(String::as_str), Some("vpc-9"));
        // Who would open it again would find nothing.
        let path = folder.path().join("logs/Theirs.log");
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        let another = "  Own: {Type: AWS::EC2::FlowLog, Properties: {ResourceId: vpc-8, ResourceType: VPC, TrafficType: ALL}}\n";
        let mut second = files.open(&read(&format!("{text}{another}"))).unwrap();
        assert!(!path.exists() && folder.path().join("logs/Own.log").exists());
        assert_eq!(second.logs[0].of, Of::Vpc(vec!["vpc-9".into()]), "which of the two is not known");
        assert!((second.logs[0].lines)("a line"));
        drop((files, first, second));
        let begun = std::time::Instant::now();
        while std::fs::read_to_string(folder.path().join("moved")).unwrap() != "a line\n" {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
