//! `--debug-port`: a debugger on this machine reaches the runtime inside an environment.
//!
//! The runtime listens on its own loopback, in its own network namespace. Whoever connects to the same port here is led there by a
//! thread that enters that namespace, connects, and ends.

use crate::Stop;
use crate::arguments::{Isolation, Up};
use crate::stack::Read;
use anyhow::anyhow;
use control::{Deploy, request};
use model::stack::Function;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long a debugger waits for an environment: somebody has to invoke the function.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// Debuggers at once; what comes above waits.
const DEBUGGERS_MAX: usize = 16;
/// The function's own time-out would end it at a breakpoint. Source: Lambda quotas, "Function timeout", published.
const TIMEOUT_S: i64 = 900;
/// Tells our Python bootstrap to open the port, and whether to wait for the debugger.
const PYTHON: &str = "ONRUSH_DEBUG";

/// What is debugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debug {
    /// Logical id.
    function: String,
    /// Physical name.
    name: String,
    port: u16,
    wait: bool,
}

/// Reads `--debug-port` and `--debug-function`.
///
/// # Errors
/// No such function, several to choose from, a runtime without a debugger, or no right to enter an environment.
pub fn wanted(arguments: &Up, read: Option<&Read>) -> Result<Option<Debug>, Stop> {
    let Some(port) = arguments.debug_port else { return Ok(None) };
    let usage = |message: String| Err(Stop::Usage(format!("--debug-port: {message}")));
    let Some(read) = read else {
        return usage("there is no template whose function could be debugged".to_owned());
    };
    let functions = &read.stack.functions;
    let ids = || functions.iter().map(|function| function.id.as_str()).collect::<Vec<_>>().join(", ");
    let function = match &arguments.debug_function {
        Some(word) => read.stack.find_function(word),
        None if functions.len() == 1 => functions.first(),
        None => return usage(format!("say which function with --debug-function; there is {}", ids())),
    };
    let Some(function) = function else {
        let word = arguments.debug_function.as_deref().unwrap_or_default();
        return usage(format!("the template has no function {word}; there is {}", ids()));
    };
    let runtime = function.runtime.as_deref().unwrap_or("image");
    if !runtime.starts_with("nodejs") && !runtime.starts_with("python") {
        return usage(format!(
            "{} runs {runtime}; Node and Python have a debugger that listens",
            function.id
        ));
    }
    if arguments.isolation == Isolation::Namespaces && !rustix::process::geteuid().is_root() {
        return usage(
            "entering an environment's network takes root; or run with --isolation process".to_owned(),
        );
    }
    let (id, name) = (function.id.clone(), function.name.clone());
    Ok(Some(Debug { function: id, name, port, wait: arguments.debug_wait }))
}

impl Debug {
    /// Has the function listen for a debugger, and gives it time.
    pub fn apply(&self, function: &Function, deploy: &mut Deploy) {
        if function.id != self.function {
            return;
        }
        let environment = deploy.settings.environment.get_or_insert(request::Environment { variables: None });
        let variables = environment.variables.get_or_insert_default();
        let port = self.port;
        if function.runtime.as_deref().is_some_and(|runtime| runtime.starts_with("nodejs")) {
            let own = variables.get("NODE_OPTIONS").map(|own| format!("{own} ")).unwrap_or_default();
            let word = if self.wait { "--inspect-brk" } else { "--inspect" };
            variables.insert("NODE_OPTIONS".to_owned(), format!("{own}{word}=127.0.0.1:{port}"));
        } else {
            let wait = if self.wait { " wait" } else { "" };
            variables.insert(PYTHON.to_owned(), format!("{port}{wait}"));
        }
        deploy.settings.timeout = Some(TIMEOUT_S);
    }

    /// Leads debuggers in, until cancelled.
    ///
    /// # Errors
    /// Somebody else has the port.
    pub async fn serve(self) -> Result<(), Stop> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.map_err(|error| Stop::Failed(anyhow!("--debug-port {}: {error}", self.port)))?;
        tracing::info!(
            "{}: debuggers attach to 127.0.0.1:{}; its time-out is {TIMEOUT_S} s",
            self.function,
            self.port
        );
        let places = Arc::new(tokio::sync::Semaphore::new(DEBUGGERS_MAX));
        let debug = Arc::new(self);
        tokio::spawn(async move {
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(LOOK).await;
                    continue;
                };
                let debug = debug.clone();
                tokio::spawn(async move {
                    debug.lead(stream).await;
                    drop(place);
                });
            }
        });
        Ok(())
    }

    async fn lead(&self, mut outside: tokio::net::TcpStream) {
        let begun = tokio::time::Instant::now();
        let mut inside = loop {
            match self.reach().await {
                Some(inside) => break inside,
                None if begun.elapsed() > PATIENCE => {
                    tracing::warn!(
                        "{}: no environment listens for a debugger; invoke it first",
                        self.function
                    );
                    return;
                }
                None => tokio::time::sleep(LOOK).await,
            }
        };
        // Either end may hang up.
        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    }

    /// A connection to the youngest environment that listens.
    async fn reach(&self) -> Option<tokio::net::TcpStream> {
        let (name, port) = (self.name.clone(), self.port);
        let (done, connected) = tokio::sync::oneshot::channel();
        // A thread of its own: it never leaves the namespace again.
        let entering = move || {
            let stream = processes(&name).into_iter().find_map(|pid| connect(pid, port).ok());
            let _ = done.send(stream);
        };
        std::thread::Builder::new().name("debugger".to_owned()).spawn(entering).ok()?;
        let stream = connected.await.ok()??;
        stream.set_nonblocking(true).ok()?;
        tokio::net::TcpStream::from_std(stream).ok()
    }
}

/// The processes that run a function, the youngest first: their environment names it.
fn processes(name: &str) -> Vec<u32> {
    let wanted = format!("AWS_LAMBDA_FUNCTION_NAME={name}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let runs = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|text| text.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()))
    };
    let mut all: Vec<u32> = pids.filter(runs).collect();
    let began = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}")).map(|about| (about.ctime(), about.ctime_nsec())).ok()
    };
    all.sort_by_key(|pid| std::cmp::Reverse(began(pid)));
    all
}

fn connect(pid: u32, port: u16) -> io::Result<TcpStream> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), LOOK)
}
