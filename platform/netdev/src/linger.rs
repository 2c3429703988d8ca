//! What outlives programs in a network namespace and would be met by the next: TCP connections, orphans that still say
//! goodbye and those in TIME_WAIT, and what TCP has learnt of its peers.
//!
//! Source: Linux, include/uapi/linux/{sock_diag,inet_diag,genetlink,tcp_metrics}.h.

use std::io;
use std::sync::OnceLock;

use crate::netlink::{Batch, DUMP, Socket, attributes};

/// The family that knows all others.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const DELETE_METRICS: u8 = 2;

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// Every state but LISTEN (10); numbers of include/net/tcp_states.h, 1 to 12.
const CONNECTIONS: u32 = 0x1ffe & !(1 << 10);
/// `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;
/// Most that are ended in one go; a namespace with more is not worth keeping.
const ENDED_MAX: usize = 4_096;

/// Ends every TCP connection of the calling thread's network namespace; listeners stay.
///
/// # Errors
/// Of the kernel: no right, or built without `INET_DIAG_DESTROY`; `OutOfMemory` when there are more than 4,096.
pub fn end_connections() -> io::Result<()> {
    let socket = Socket::diagnosis()?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; 8 + ID_BYTES];
        request[0] = family as u8;
        request[1] = libc::IPPROTO_TCP as u8;
        request[4..8].copy_from_slice(&CONNECTIONS.to_ne_bytes());
        let mut batch = Batch::default();
        batch.message(BY_FAMILY, DUMP, &request);
        let mut found = Vec::new();
        socket.dump(&batch, |_, body| {
            // struct inet_diag_msg: four bytes, then the id.
            if let Some(id) = body.get(4..4 + ID_BYTES) {
                found.push(id.to_vec());
            }
        })?;
        if found.len() > ENDED_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        for id in found {
            request[8..].copy_from_slice(&id);
            let mut batch = Batch::default();
            batch.message(DESTROY, 0, &request);
            match socket.send(batch) {
                // It has ended by itself meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                ended => ended?,
            }
        }
    }
    Ok(())
}

/// Forgets what TCP has learnt of its peers in the calling thread's network namespace: round-trip times, windows, fast-open
/// cookies. The other way, `tcp_no_metrics_save`, is a file whose name the kernel looks up among those of all namespaces:
/// with 1,000 of them 0.3 ms (measured).
///
/// # Errors
/// Of the kernel.
pub fn forget_peers() -> io::Result<()> {
    static FAMILY: OnceLock<u16> = OnceLock::new();
    let socket = Socket::generic()?;
    let family = match FAMILY.get() {
        Some(family) => *family,
        None => *FAMILY.get_or_init({
            let family = metrics_family(&socket)?;
            move || family
        }),
    };
    let mut batch = Batch::default();
    // Without an address all are meant.
    batch.message(family, 0, &[DELETE_METRICS, 1, 0, 0]);
    socket.send(batch)
}

fn metrics_family(socket: &Socket) -> io::Result<u16> {
    let mut batch = Batch::default();
    batch.message(CONTROLLER, DUMP, &[GET_FAMILY, 1, 0, 0]);
    let mut family = None;
    socket.dump(&batch, |_, body| {
        let (mut number, mut is_metrics) = (None, false);
        for (kind, value) in attributes(body.get(4..).unwrap_or(&[])) {
            match kind {
                FAMILY_ID => number = value.first_chunk::<2>().map(|bytes| u16::from_ne_bytes(*bytes)),
                FAMILY_NAME => is_metrics = value == b"tcp_metrics\0",
                _ => {}
            }
        }
        if is_metrics {
            family = number;
        }
    })?;
    family.ok_or_else(|| io::ErrorKind::Unsupported.into())
}
