//! A tiny Runtime API on loopback: hands out events one by one and keeps what the runtime says.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, SystemTime},
};

/// A runtime that says nothing for this long has failed the test.
const PATIENCE: Duration = Duration::from_secs(30);
/// As AWS's: the answer to a synchronous invocation.
const RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024 + 100;
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:test";

/// One call that was not `next`.
#[derive(Debug, Clone)]
pub struct Call {
    /// Below `/2018-06-01/runtime/`.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub trailers: HashMap<String, String>,
    pub body: String,
    /// What it was answered.
    pub status: u16,
}

#[derive(Debug)]
pub struct Outcome {
    pub calls: Vec<Call>,
    /// Nothing when the runtime waited for more and was killed.
    pub exit: Option<ExitStatus>,
    pub output: String,
}

impl Outcome {
    /// The body of the only call, which must go to this path.
    pub fn body_at(&self, path: &str) -> &str {
        let [call] = self.calls.as_slice() else { panic!("one call expected: {self:#?}") };
        assert_eq!(call.path, path, "{self:#?}");
        &call.body
    }

    /// The only answer, to the first event, as JSON.
    pub fn answer(&self) -> serde_json::Value {
        serde_json::from_str(self.body_at("invocation/id-1/response")).expect("JSON")
    }
}

enum Message {
    Called(Call),
    Idle,
    Ended(String),
}

struct State {
    events: Vec<String>,
    handed_out: usize,
    current: Option<String>,
}

/// Runs a program against the API until it has answered all events and asks for more, or ends by itself.
/// `{api}` in a variable's value becomes the API's address.
pub fn run(program: &[String], environment: &[(String, String)], folder: &Path, events: &[&str]) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound").to_string();
    let (send, receive) = channel();
    let state = State {
        events: events.iter().map(|event| event.to_string()).collect(),
        handed_out: 0,
        current: None,
    };
    let state = Arc::new(Mutex::new(state));
    let accepting = send.clone();
    // Ends with the test's process; a thread blocked in accept costs nothing until then.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (state, send) = (state.clone(), accepting.clone());
            thread::spawn(move || serve(stream, &state, &send));
        }
    });
    let environment = environment.iter().map(|(name, value)| (name, value.replace("{api}", &address)));
    let (mut out, writer) = io::pipe().expect("a pipe");
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).env_clear().envs(environment).current_dir(folder);
    command.stdin(Stdio::null()).stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    drop(command);
    thread::spawn(move || {
        let mut output = Vec::new();
        let _ = out.read_to_end(&mut output);
        let _ = send.send(Message::Ended(String::from_utf8_lossy(&output).into_owned()));
    });
    let mut calls = Vec::new();
    let mut exit = None;
    loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(Message::Called(call)) => calls.push(call),
            Ok(Message::Idle) => child.kill().expect("killed"),
            Ok(Message::Ended(output)) => {
                let status = child.wait().expect("waited");
                let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
                exit = (!killed).then_some(status).or(exit);
                return Outcome { calls, exit, output };
            }
            Err(_) => {
                let _ = child.kill();
                panic!("{program:?} said nothing for {PATIENCE:?}; before: {calls:#?}");
            }
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, send: &Sender<Message>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let first = line(&mut stream)?;
        let headers = headers(&mut stream)?;
        let (body, trailers) = body(&mut stream, &headers)?;
        let path = first.split(' ').nth(1)?.trim_start_matches("/2018-06-01/runtime/").to_owned();
        let answer = if path == "invocation/next" {
            match next(&mut state.lock().expect("not poisoned")) {
                Some(answer) => answer,
                None => {
                    let _ = send.send(Message::Idle);
                    // Unanswered for good, as on an idle Lambda: until the runtime is killed.
                    return stream.read(&mut [0]).ok().map(drop);
                }
            }
        } else {
            let status = accept(&mut state.lock().expect("not poisoned"), &path, body.len());
            let body = String::from_utf8_lossy(&body).into_owned();
            let _ =
                send.send(Message::Called(Call { path, headers: headers.clone(), trailers, body, status }));
            let (reason, text) = match status {
                202 => ("Accepted", r#"{"status":"OK"}"#),
                413 => ("Too Large", r#"{"errorMessage":"Exceeded","errorType":"RequestEntityTooLarge"}"#),
                _ => {
                    ("Bad Request", r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#)
                }
            };
            format!("HTTP/1.1 {status} {reason}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        };
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn next(state: &mut State) -> Option<String> {
    let event = state.events.get(state.handed_out)?.clone();
    state.handed_out += 1;
    let id = format!("id-{}", state.handed_out);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let deadline = (now + Duration::from_secs(60)).as_millis();
    state.current = Some(id.clone());
    Some(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {id}\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline}\r\nLambda-Runtime-Invoked-Function-Arn: {ARN}\r\n\
         Lambda-Runtime-Trace-Id: Root=1-{id}\r\n\
         Lambda-Runtime-Client-Context: {{\"custom\":{{\"k\":\"v\"}}}}\r\nContent-Length: {}\r\n\r\n{event}",
        event.len()
    ))
}

fn accept(state: &mut State, path: &str, bytes: usize) -> u16 {
    let is_init = path == "init/error";
    let id = path.split('/').nth(1).map(str::to_owned);
    match bytes {
        _ if is_init => 202,
        _ if id != state.current => 400,
        _ if bytes > RESPONSE_BYTES_MAX => 413,
        _ => {
            state.current = None;
            202
        }
    }
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn headers(stream: &mut impl BufRead) -> Option<HashMap<String, String>> {
    let mut headers = HashMap::new();
    loop {
        match line(stream)?.split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Some(headers),
        };
    }
}

type Body = (Vec<u8>, HashMap<String, String>);

fn body(stream: &mut impl BufRead, about: &HashMap<String, String>) -> Option<Body> {
    let mut body = Vec::new();
    if about.get("transfer-encoding").is_some_and(|it| it == "chunked") {
        loop {
            let size = usize::from_str_radix(&line(stream)?, 16).ok()?;
            if size == 0 {
                return Some((body, headers(stream)?));
            }
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..]).ok()?;
            line(stream)?;
        }
    }
    body.resize(about.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0), 0);
    stream.read_exact(&mut body).ok()?;
    Some((body, HashMap::new()))
}
