//! Ends TCP connections that outlive their programs and would be met by the next: orphans that still say goodbye, and
//! those in TIME_WAIT.
//!
//! Source: Linux, include/uapi/linux/{sock_diag,inet_diag}.h.

use std::io;

use crate::netlink::{Batch, DUMP, Socket};

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
