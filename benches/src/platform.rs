//! Ours: `onrush up` with a template of its own, in a data folder of its own, on any free port.

use crate::bench::Bench;
use crate::http::{self, Answer, Request};
use crate::process::{Running, bound};
use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longest start: installing what Python and Node functions may import takes a while, once.
const START_MAX: Duration = Duration::from_secs(300);

/// A function of a bench's template. Its logical id is its name.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    /// A folder; of an image, its archive.
    pub code: PathBuf,
    /// Whether it is a container image.
    pub is_image: bool,
    pub runtime: &'static str,
    pub handler: &'static str,
    pub reserved: Option<u32>,
    /// Published as `live`, with SnapStart.
    pub is_restored: bool,
    /// Whether its URL streams.
    pub streams: bool,
    pub memory_mb: u32,
    pub timeout_s: u32,
}

/// One virtual processor, so that no figure is one of the CPU quota.
const MEMORY_MB: u32 = 1_769;
/// More than anything takes that is measured.
const TIMEOUT_S: u32 = 30;

impl Function {
    /// The Rust function in `code`.
    pub fn rust(name: impl Into<String>, code: &Path) -> Self {
        let (name, code) = (name.into(), code.to_owned());
        Self {
            name,
            code,
            is_image: false,
            runtime: "provided.al2023",
            handler: "bootstrap",
            reserved: None,
            is_restored: false,
            streams: false,
            memory_mb: MEMORY_MB,
            timeout_s: TIMEOUT_S,
        }
    }

    fn resource(&self) -> Value {
        let mode = if self.streams { "RESPONSE_STREAM" } else { "BUFFERED" };
        let mut properties = json!({
            "FunctionName": self.name, "CodeUri": self.code, "Handler": self.handler, "Runtime": self.runtime,
            "MemorySize": self.memory_mb, "Timeout": self.timeout_s, "FunctionUrlConfig": { "AuthType": "NONE", "InvokeMode": mode },
        });
        if self.is_image {
            let properties = properties.as_object_mut().expect("it was made above");
            properties.retain(|name, _| !["CodeUri", "Handler", "Runtime"].contains(&name.as_str()));
            properties.insert("PackageType".to_owned(), "Image".into());
            properties.insert("ImageUri".to_owned(), json!(self.code));
        }
        if let Some(reserved) = self.reserved {
            properties["ReservedConcurrentExecutions"] = reserved.into();
        }
        if self.is_restored {
            properties["AutoPublishAlias"] = "live".into();
            properties["SnapStart"] = json!({ "ApplyOn": "PublishedVersions" });
        }
        json!({ "Type": "AWS::Serverless::Function", "Properties": properties })
    }
}

/// A template and a data folder; can be started again and again, with fresh environments each time.
#[derive(Debug)]
pub struct Site {
    program: PathBuf,
    folder: PathBuf,
}

impl Site {
    pub fn new(bench: &Bench, functions: &[Function]) -> Result<Self> {
        let resources: Map<String, Value> =
            functions.iter().map(|function| (function.name.clone(), function.resource())).collect();
        let template = json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Transform": "AWS::Serverless-2016-10-31",
            "Resources": resources,
        });
        let folder = bench.folder("site")?;
        fs::write(folder.join("template.json"), template.to_string())?;
        Ok(Self { program: bench.program("onrush")?, folder })
    }

    /// Starts the platform and waits until it says that it is ready.
    pub fn start(&self) -> Result<Platform> {
        let log = self.folder.join("platform.log");
        let mut command = bound(&self.program);
        command
            .args(["up", "template.json", "--port", "0", "--output", "json", "--data-dir", "data"])
            // A bench measures this machine, not the account's 10,000 requests a second, nor a stream's 2 MB.
            .args(["--limit", "lambda.request-rate=4000000000"])
            .args(["--limit", "lambda.response-stream-rate=4294967295"])
            .args(["--limit", "lambda.response-stream-size=1099511627776"])
            .current_dir(&self.folder)
            .env("ONRUSH_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let begun = Instant::now();
        let mut running = Running::start(&mut command)?;
        let output = running.child().stdout.take().context("its output is piped")?;
        let (sender, lines) = mpsc::channel();
        // Ends with the platform.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let failure = |why: &str| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(8).collect();
            anyhow!("onrush up {why}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "))
        };
        loop {
            let (at, line) = match lines.recv_timeout(START_MAX) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(failure("is not ready")),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(failure("ended")),
            };
            let Ok(ready) = serde_json::from_str::<Value>(&line) else { continue };
            let Some(base) = ready["ready"].as_str() else { continue };
            let address = base.strip_prefix("http://").context("the base is an http URL")?.parse()?;
            return Ok(Platform { running, address, ready_after: at - begun });
        }
    }
}

/// A running platform; stops when dropped.
#[derive(Debug)]
pub struct Platform {
    pub running: Running,
    pub address: SocketAddr,
    /// From the start of the process to the line that says so.
    pub ready_after: Duration,
}

impl Platform {
    /// Where a function's URL answers for clients that cannot resolve its name.
    pub fn door(&self, function: &str) -> String {
        format!("http://{}{}", self.address, door_path(function))
    }

    /// Where the Invoke API runs a function.
    pub fn invocations(&self, function: &str) -> String {
        format!("http://{}/2015-03-31/functions/{function}/invocations", self.address)
    }

    /// Invokes once; an error of the function is an error.
    pub fn invoke(&self, function: &str, event: &str) -> Result<Answer> {
        let answer = http::fetch(self.address, &Request::invoke(function, event))?;
        answer.expect_success().with_context(|| format!("invoking {function}"))
    }

    /// A figure of the health page.
    pub fn health(&self, figure: &str) -> Result<u64> {
        let answer =
            http::fetch(self.address, &Request::new("GET", "/_onrush/health", ""))?.expect_success()?;
        let page: Value = serde_json::from_slice(&answer.body)?;
        let Some(value) = page[figure].as_u64() else { bail!("the health page has no `{figure}`: {page}") };
        Ok(value)
    }
}

/// The path of a function's URL on the platform's own port.
pub fn door_path(function: &str) -> String {
    format!("/_onrush/door/{function}/")
}
