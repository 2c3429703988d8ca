//! What it does when told so. Answers what it saw, if it still can.

use std::{
    fs,
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs},
    process, ptr, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const MEGABYTE: usize = 1024 * 1024;
const PAGE: usize = 4096;

pub fn perform(event: &Value) -> Value {
    match event["do"].as_str().unwrap_or_default() {
        "exit0" => process::exit(0),
        "exit1" => process::exit(1),
        "panic" => panic!("told to panic"),
        "segv" => {
            // SAFETY: not safe, and meant not to be: the process ends here.
            unsafe { ptr::null_mut::<u8>().write_volatile(1) };
            Value::Null
        }
        // SAFETY: ends this very process.
        "kill" => json!(unsafe { libc::kill(libc::getpid(), libc::SIGKILL) }),
        "sleep" => {
            thread::sleep(time(event));
            Value::Null
        }
        "spin" => {
            let start = Instant::now();
            while start.elapsed() < time(event) {
                std::hint::spin_loop();
            }
            Value::Null
        }
        "allocate" => allocate(number(event, "mb", 64)),
        "tmp" => written(write_tmp(number(event, "mb", 64))),
        "files" => written(make_files(number(event, "count", 1000))),
        "fork_bomb" => fork_bomb(),
        "log" => written(log(number(event, "bytes", 1000))),
        "env" => json!(std::env::vars().collect::<std::collections::BTreeMap<_, _>>()),
        "fds" => descriptors(),
        "whoami" => text("/proc/self/status"),
        "children" => leave_child(),
        "heartbeat" => text("/tmp/heartbeat"),
        "write" => {
            let path = event["path"].as_str().unwrap_or("/tmp/x");
            written(fs::write(path, event["text"].as_str().unwrap_or_default()).map(|()| 0))
        }
        "read" => text(event["path"].as_str().unwrap_or("/tmp/x")),
        "connect" => connect(event),
        _ => Value::Null,
    }
}

pub fn number(event: &Value, name: &str, default: usize) -> usize {
    event[name].as_u64().map_or(default, |it| it as usize)
}

fn time(event: &Value) -> Duration {
    event["ms"].as_u64().map_or(Duration::MAX, Duration::from_millis)
}

fn text(path: &str) -> Value {
    match fs::read_to_string(path) {
        Ok(text) => json!({ "text": text }),
        Err(error) => failed(&error),
    }
}

fn written(result: io::Result<usize>) -> Value {
    result.map_or_else(|error| failed(&error), |bytes| json!({ "ok": bytes }))
}

fn failed(error: &io::Error) -> Value {
    json!({ "error": error.to_string(), "errno": error.raw_os_error() })
}

fn allocate(mb: usize) -> Value {
    let mut memory = vec![0u8; mb * MEGABYTE];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    let touched = memory.iter().step_by(PAGE).map(|byte| usize::from(*byte)).sum::<usize>() * PAGE / MEGABYTE;
    std::mem::forget(memory);
    json!({ "mb": touched })
}

fn write_tmp(mb: usize) -> io::Result<usize> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open("/tmp/filler")?;
    let chunk = vec![b'x'; MEGABYTE];
    for _ in 0..mb {
        file.write_all(&chunk)?;
    }
    // Some file systems say only now that there is no room.
    file.sync_all()?;
    Ok(file.metadata()?.len() as usize)
}

fn make_files(count: usize) -> io::Result<usize> {
    for n in 0..count {
        fs::File::create(format!("/tmp/file-{n}"))?;
    }
    Ok(count)
}

fn fork_bomb() -> Value {
    let mut made = 0;
    loop {
        // SAFETY: single-threaded, and the child only spins.
        match unsafe { libc::fork() } {
            0 => loop {
                std::hint::spin_loop();
            },
            -1 => return json!({ "made": made, "stopped_by": failed(&io::Error::last_os_error()) }),
            _ => made += 1,
        }
    }
}

fn log(bytes: usize) -> io::Result<usize> {
    let mut out = io::stdout().lock();
    let line = [vec![b'l'; 999], vec![b'\n']].concat();
    for left in (0..bytes).step_by(line.len()).map(|done| bytes - done) {
        out.write_all(&line[line.len() - left.min(line.len())..])?;
    }
    out.flush()?;
    Ok(bytes)
}

fn descriptors() -> Value {
    let links = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|entry| {
        let target = fs::read_link(entry.path()).map(|it| it.display().to_string()).unwrap_or_default();
        (entry.file_name().to_string_lossy().into_owned(), json!(target))
    });
    Value::Object(links.collect())
}

/// A grandchild in a session of its own, as daemons are made.
fn leave_child() -> Value {
    // SAFETY: single-threaded; the children use only what a fork may use in a single-threaded process.
    unsafe {
        match libc::fork() {
            -1 => return failed(&io::Error::last_os_error()),
            0 => {
                libc::setsid();
                if libc::fork() != 0 {
                    libc::_exit(0);
                }
                for beat in 0u64.. {
                    let _ = fs::write("/tmp/heartbeat", beat.to_string());
                    thread::sleep(Duration::from_millis(5));
                }
            }
            child => {
                libc::waitpid(child, ptr::null_mut(), 0);
            }
        }
    }
    json!({ "left": 1 })
}

fn connect(event: &Value) -> Value {
    let to = event["to"].as_str().unwrap_or("127.0.0.1:9001");
    let limit = Duration::from_millis(event["ms"].as_u64().unwrap_or(1000));
    let connected = to
        .to_socket_addrs()
        .and_then(|mut addresses| addresses.next().ok_or_else(|| io::ErrorKind::NotFound.into()))
        .and_then(|address| TcpStream::connect_timeout(&address, limit));
    written(connected.map(|_| 1))
}
