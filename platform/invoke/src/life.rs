//! One life of an environment's processes: what is known of it, how it ends, and the way to what listens inside.

use crate::environment::Environment;
use crate::output::Output;
use runtime_api::telemetry::Dial;
use runtime_api::{ExtensionFailure, ExtensionStage, Session};
use sandbox::{Ending, Exit, OutOfMemory, Programs};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the process of an extension that has reported an error may take to end, so that its end can be told: as long
/// as AWS lets external extensions take to shut down. An interpreter's end takes 250 ms where its share of a core is small.
const AFTER_AN_ERROR: Duration = Duration::from_secs(2);

/// One life of the runtime's process, and of its extensions'.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) session: Arc<Session>,
    pub(crate) output: Arc<Output>,
    /// What external extensions print, each by itself.
    pub(crate) extensions_outputs: Vec<Arc<Output>>,
    pub(crate) exit: watch::Receiver<Option<Gone>>,
    /// With external extensions: each program's end.
    pub(crate) programs: Option<watch::Receiver<Programs>>,
    /// External extensions, in the order of their processes.
    pub(crate) names: Arc<[Arc<str>]>,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl Life {
    /// Reads what was printed so far.
    pub(crate) fn drain(&self) {
        for output in &self.extensions_outputs {
            output.drain();
        }
        self.output.drain();
    }

    /// Everything ends: what was printed without a line end is a line all the same.
    pub(crate) fn end_lines(&self) {
        self.drain();
        for output in self.extensions_outputs.iter().chain([&self.output]) {
            output.end_line();
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.session.telemetry().end();
    }
}

/// Why an environment cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The runtime's process has ended.
    Runtime(Exit),
    /// It could not be executed, for this errno; only known this late where extensions start first.
    NotExecuted(i32),
    /// This host had no room for its process, or an extension's; holds errno.
    NoRoom(i32),
    /// An extension's has, or it gave up.
    Extension {
        /// `Extension.Crash`, …
        kind: &'static str,
        /// `exit code 0`, as AWS words it.
        reason: String,
    },
}

/// The end of a process that nobody saw.
pub(crate) const LOST: Exit = Exit { code: None, signal: None, out_of_memory: None };

impl Gone {
    /// Whether it is no doing of the function's: nobody saw the end, or something outside killed it, as the kernel does where
    /// the host, and not the environment, is out of memory.
    pub(crate) fn is_the_hosts(&self) -> bool {
        match self {
            Self::Runtime(exit) => {
                let was_killed = exit.signal.is_none_or(|signal| signal == libc::SIGKILL);
                exit.code.is_none() && was_killed && exit.out_of_memory != Some(OutOfMemory::Environment)
            }
            Self::NoRoom(_) => true,
            Self::NotExecuted(_) | Self::Extension { .. } => false,
        }
    }

    /// The error type of the REPORT line.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Runtime(exit) if exit.out_of_memory == Some(OutOfMemory::Environment) => {
                "Runtime.OutOfMemory"
            }
            Self::Runtime(_) => "Runtime.ExitError",
            Self::NotExecuted(_) => "Runtime.InvalidEntrypoint",
            // Never said of a function: whoever finds it tells of the host instead.
            Self::NoRoom(_) => "Runtime.Unknown",
            Self::Extension { kind, .. } => kind,
        }
    }
}

/// Waits until the environment cannot go on.
pub(crate) async fn gone(exit: &mut watch::Receiver<Option<Gone>>) -> Gone {
    let lost = Gone::Runtime(LOST);
    match exit.wait_for(Option::is_some).await {
        Ok(gone) => gone.clone().unwrap_or(lost),
        Err(_) => lost,
    }
}

/// Waits until the runtime's process or one of the extensions' has ended, or an extension gives up.
pub(crate) async fn first_end(
    session: &Session,
    programs: &mut watch::Receiver<Programs>,
    names: &[Arc<str>],
) -> Gone {
    let ended =
        |programs: &Programs| programs.program.is_some() || programs.companions.iter().any(Option::is_some);
    let mut watched = programs.clone();
    let any_end = async { watched.wait_for(ended).await.ok().map(|found| found.clone()) };
    let found = tokio::select! {
        biased;
        _ = session.extension_failed() => None,
        found = any_end => found,
    };
    // A report comes before the end of its process, but may be heard of after.
    if let Some(failure) = session.extension_failure() {
        return given_up(&failure, programs, names).await;
    }
    // Killed altogether.
    let Some(found) = found else { return Gone::Runtime(LOST) };
    match found.program {
        Some(Ending::Exited(exit)) => return Gone::Runtime(exit),
        Some(Ending::NotExecuted(errno)) => return Gone::NotExecuted(errno),
        Some(Ending::NoRoom(errno)) => return Gone::NoRoom(errno),
        None => {}
    }
    let crashed = found.companions.iter().zip(names).find_map(|(ending, name)| Some((name, (*ending)?)));
    match crashed {
        Some((_, Ending::Exited(exit))) => Gone::Extension { kind: "Extension.Crash", reason: words(&exit) },
        Some((name, Ending::NotExecuted(errno))) => {
            let error = io::Error::from_raw_os_error(errno);
            session.extension_not_launched(name, launch_error(&error));
            let cause = crate::failure::exec_cause(&error);
            let reason = format!("fork/exec {}/{name}: {cause}", crate::extensions::FOLDER);
            Gone::Extension { kind: "Extension.LaunchError", reason }
        }
        Some((_, Ending::NoRoom(errno))) => Gone::NoRoom(errno),
        None => Gone::Runtime(LOST),
    }
}

/// An extension has said that it cannot go on. What AWS shows is how its process ended.
async fn given_up(
    failure: &ExtensionFailure,
    programs: &mut watch::Receiver<Programs>,
    names: &[Arc<str>],
) -> Gone {
    let kind = match failure.stage {
        ExtensionStage::Launch => "Extension.LaunchError",
        ExtensionStage::Init => "Extension.InitError",
        ExtensionStage::Exit => "Extension.ExitError",
    };
    // What never started has no process that could end, and an internal one has none of its own.
    let started = failure.stage != ExtensionStage::Launch;
    let ended = match names.iter().position(|name| started && *name == failure.name) {
        Some(place) => {
            let ending = |programs: &Programs| programs.companions.get(place).copied().flatten();
            let wait = programs.wait_for(|found| ending(found).is_some());
            tokio::time::timeout(AFTER_AN_ERROR, wait)
                .await
                .ok()
                .and_then(Result::ok)
                .and_then(|found| ending(&found))
        }
        None => None,
    };
    let reason = match ended {
        Some(Ending::Exited(exit)) => words(&exit),
        _ => failure.error_type.clone(),
    };
    Gone::Extension { kind, reason }
}

/// `exit code 0`, `exit status 1`, `signal: killed`, as recorded on AWS.
fn words(exit: &Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(signal), _) => format!("signal: {}", crate::failure::signal_name(signal)),
        (None, Some(code)) if code != 0 => format!("exit status {code}"),
        _ => "exit code 0".to_owned(),
    }
}

fn launch_error(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "PermissionDenied",
        _ => "UnknownError",
    }
}

/// The way into an environment's own network.
#[derive(Debug)]
pub(crate) struct Inside(pub(crate) Weak<Environment>);

impl Dial for Inside {
    fn dial(&self, port: u16) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + '_>> {
        Box::pin(async move {
            let not_there = || io::Error::from(io::ErrorKind::NotConnected);
            // Held until the connection stands: what is recycled meanwhile may be the next environment's.
            let environment = self.0.upgrade().ok_or_else(not_there)?;
            let socket = environment.socket().await?;
            let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
            socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: Option<i32>, signal: Option<i32>) -> Option<Ending> {
        Some(Ending::Exited(Exit { code, signal, out_of_memory: None }))
    }

    async fn end(programs: Programs, failure: Option<&str>) -> Gone {
        let names: [Arc<str>; 2] = ["a".into(), "b".into()];
        let session = Session::with_extensions(Arc::default(), &names, Arc::default());
        if let Some(name) = failure {
            session.extension_not_launched(&name.into(), "TooManyExtensions");
        }
        let (_sender, mut receiver) = watch::channel(programs);
        first_end(&session, &mut receiver, &names).await
    }

    #[test]
    fn an_end_that_the_function_did_not_bring_about_is_the_hosts() {
        let of = |code, signal, out_of_memory| Gone::Runtime(Exit { code, signal, out_of_memory });
        assert!(Gone::Runtime(LOST).is_the_hosts(), "the jailer is gone");
        assert!(of(None, Some(libc::SIGKILL), None).is_the_hosts(), "killed from outside");
        for (whose, is_the_hosts) in [(OutOfMemory::Environment, false), (OutOfMemory::Host, true)] {
            assert_eq!(of(None, Some(libc::SIGKILL), Some(whose)).is_the_hosts(), is_the_hosts, "{whose:?}");
        }
        assert!(!of(None, Some(libc::SIGSEGV), None).is_the_hosts());
        assert!(!of(Some(0), None, None).is_the_hosts() && !of(Some(1), None, None).is_the_hosts());
        assert!(!crash("signal: killed").is_the_hosts());
    }

    fn crash(reason: &str) -> Gone {
        Gone::Extension { kind: "Extension.Crash", reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn ends_are_told_in_lambdas_words() {
        let companions =
            |companions: [Option<Ending>; 2]| Programs { program: None, companions: companions.into() };
        assert_eq!(end(companions([None, ended(Some(0), None)]), None).await, crash("exit code 0"));
        assert_eq!(end(companions([ended(Some(2), None), None]), None).await, crash("exit status 2"));
        assert_eq!(end(companions([ended(None, Some(9)), None]), None).await, crash("signal: killed"));
        let denied = end(companions([None, Some(Ending::NotExecuted(13))]), None).await;
        let reason = "fork/exec /opt/extensions/b: permission denied".to_owned();
        assert_eq!(denied, Gone::Extension { kind: "Extension.LaunchError", reason });
        let no_room = Some(Ending::NoRoom(11));
        assert_eq!(end(companions([None, no_room]), None).await, Gone::NoRoom(11));
        let unborn = Programs { program: no_room, companions: vec![None, None] };
        assert_eq!(end(unborn, None).await, Gone::NoRoom(11));
        let runtime = Programs { program: ended(Some(1), None), companions: vec![None, None] };
        assert_eq!(end(runtime, None).await.kind(), "Runtime.ExitError");
        let unknown = end(companions([None, None]), Some("k")).await;
        let reason = "TooManyExtensions".to_owned();
        assert_eq!(unknown, Gone::Extension { kind: "Extension.LaunchError", reason });
    }

    /// A share of a core as small as a 128 MB function's stretches the few milliseconds of an interpreter's end.
    #[tokio::test]
    async fn an_extension_that_gave_up_has_time_to_end() {
        let names: [Arc<str>; 1] = ["a".into()];
        let (stage, error_type) = (ExtensionStage::Exit, "Agent.Lost".to_owned());
        let failure = ExtensionFailure { name: names[0].clone(), stage, error_type };
        let (sender, mut receiver) = watch::channel(Programs { program: None, companions: vec![None] });
        let end = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sender.send_modify(|programs| programs.companions[0] = ended(Some(9), None));
        };
        let (gone, ()) = tokio::join!(given_up(&failure, &mut receiver, &names), end);
        let reason = "exit status 9".to_owned();
        assert_eq!(gone, Gone::Extension { kind: "Extension.ExitError", reason });
    }
}
