//! The far side: an echo for many connections on one thread, a sink and a spring with a thread for each stream.

use anyhow::Result;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with, sockopt};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 65_535;
/// Events taken at once.
const EVENTS: usize = 512;
/// Connections accepted between two looks at the others.
const ACCEPTS: usize = 256;
/// Written or read at once by a stream.
pub const CHUNK: usize = 128 << 10;
const LISTENER: u64 = u64::MAX;

pub fn run(port: u16, shared: bool) -> Result<()> {
    if !shared {
        streams(port)?;
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    sockopt::set_socket_reuseport(&listener, shared)?;
    bind(&listener, &any(port))?;
    listen(&listener, BACKLOG)?;
    println!("ready");
    echo(&listener)
}

const fn any(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

fn streams(port: u16) -> Result<()> {
    let (sink, spring) = (TcpListener::bind(any(port + 1))?, TcpListener::bind(any(port + 2))?);
    thread::spawn(move || {
        for mut stream in sink.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; CHUNK];
                while matches!(stream.read(&mut buffer), Ok(1..)) {}
            });
        }
    });
    thread::spawn(move || {
        for mut stream in spring.incoming().flatten() {
            thread::spawn(move || while stream.write_all(&[7; CHUNK]).is_ok() {});
        }
    });
    Ok(())
}

fn echo(listener: &OwnedFd) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections: HashMap<u64, OwnedFd> = HashMap::new();
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        if epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) == Err(Errno::INTR) {
            continue;
        }
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                for _ in 0..ACCEPTS {
                    let Ok(connection) = accept_with(listener, SocketFlags::NONBLOCK) else { break };
                    let token = connection.as_raw_fd() as u64;
                    let _ = sockopt::set_tcp_nodelay(&connection, true);
                    if epoll::add(&epoll, &connection, EventData::new_u64(token), EventFlags::IN).is_ok() {
                        connections.insert(token, connection);
                    }
                }
                continue;
            }
            let Some(connection) = connections.get(&token) else { continue };
            let mut buffer = [0; 4096];
            let goes_on = match read(connection, &mut buffer) {
                Ok(0) => false,
                Ok(count) => write(connection, &buffer[..count]).is_ok(),
                Err(error) => error == Errno::AGAIN,
            };
            if !goes_on {
                connections.remove(&token);
            }
        }
    }
}
