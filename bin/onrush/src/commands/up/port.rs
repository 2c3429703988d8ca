//! The port, and who holds it when it is taken.

use crate::Stop;
use anyhow::anyhow;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted: a burst of a thousand arrives before the first is taken.
const BACKLOG: i32 = 4_096;

/// Listens on `address`, or says who else does.
pub fn bind(address: SocketAddr) -> Result<TcpListener, Stop> {
    match listen(address) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let port = address.port();
            let holder = holder(port).map_or_else(String::new, |holder| format!(" by {holder}"));
            let free = "take another with --port, or any free one with --port 0";
            Err(Stop::Failed(anyhow!("port {port} is held{holder}; {free}")))
        }
        Err(error) => {
            let cure = match error.kind() {
                io::ErrorKind::PermissionDenied => privileged_below(),
                io::ErrorKind::AddrNotAvailable => "; --host takes an address of this machine".to_owned(),
                _ => String::new(),
            };
            Err(Stop::Failed(anyhow!("cannot listen on {address}: {error}{cure}")))
        }
    }
}

/// What lets an ordinary user listen: another port, or another figure of the kernel's for the least of them.
fn privileged_below() -> String {
    let least = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let least = least.ok().and_then(|text| text.trim().parse::<u16>().ok()).unwrap_or(1_024);
    format!("; ports below {least} are root's: take one from {least} on with --port")
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait for the last run's closed connections.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The process that listens on a local port: `process 4711 (onrush)`.
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| listening_inode(&table, port).map(str::to_owned))?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |entry: fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        };
        if descriptors.flatten().any(holds) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim()));
        }
    }
    None
}

/// The inode of the listening socket in one of the kernel's tables.
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let matches = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        matches.then(|| fields.get(9).copied()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:11D6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41234 1 0 100 0 0 10 0\n   1: 0100007F:11D7 0100007F:11D6 01 00000000:00000000 00:00000000 00000000     0        0 41235 1 0 20 0 0 10 -1\n";
        assert_eq!(listening_inode(table, 4566), Some("41234"));
        assert_eq!(listening_inode(table, 4567), None);
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let Err(Stop::Failed(error)) = bind(first.local_addr().unwrap()) else { panic!("it was free") };
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }
}
