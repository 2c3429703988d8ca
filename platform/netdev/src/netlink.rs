//! Netlink: messages with attributes, many in one send, and the kernel's answers.
//!
//! Source: Linux, Documentation/userspace-api/netlink/intro.rst; numbers in host order, attributes on 4 bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NLM_F_CREATE | NLM_F_EXCL`: fail when it is there already.
pub const CREATE: u16 = 0x0400 | 0x0200;
/// `NLM_F_CREATE | NLM_F_REPLACE`: take the place of what is there.
pub const REPLACE: u16 = 0x0400 | 0x0100;
/// `NLM_F_DUMP`: all of a kind.
pub const DUMP: u16 = 0x0300;
const REQUEST: u16 = 0x0001;
/// `NLM_F_ACK`: an answer that says that it was obeyed, behind what was asked for.
pub const ACKNOWLEDGE: u16 = 0x0004;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
/// Most bytes of one answer; the kernel's dumps come in pieces of at most 32 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Most pieces of one dump: a table of 100,000 routes has fewer.
const PIECES_MAX: usize = 4_096;

/// Messages that go out in one send and are obeyed one after another.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    last: usize,
    count: u32,
}

impl Batch {
    /// Begins a message: its type, `NLM_F_*` flags, and the family's own header.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8]) -> &mut Self {
        self.last = self.bytes.len();
        self.count += 1;
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.pad();
        self
    }

    /// An attribute of the last message.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(at);
        self
    }

    /// A text with the NUL that the kernel wants.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let at = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(at);
        self
    }

    /// A number in network order, as nftables has them.
    pub fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.attribute(kind, &number.to_be_bytes())
    }

    /// Bytes that stand before the attributes of a nested one.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute made of attributes.
    pub fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.open(kind | NESTED);
        inside(self);
        self.close(at);
        self
    }

    /// Where the last message begins.
    pub(crate) const fn last_message(&self) -> usize {
        self.last
    }

    fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        at
    }

    fn close(&mut self, at: usize) {
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    /// Pads to 4 bytes and writes the last message's length.
    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn acknowledge(&mut self, at: usize) {
        let flags = u16::from_ne_bytes([self.bytes[at + 6], self.bytes[at + 7]]) | ACKNOWLEDGE;
        self.bytes[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// A socket to one of the kernel's families, in the calling thread's network namespace.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Links, addresses, routes.
    ///
    /// # Errors
    /// Of the kernel; descriptors may be short.
    pub fn route() -> io::Result<Self> {
        Self::open(None, 0)
    }

    /// One that the kernel tells of changes: `groups` are the `RTMGRP_*` of links, addresses and routes. It is readable while
    /// there is something that [`Socket::was_told`] has not taken.
    ///
    /// # Errors
    /// As [`Socket::route`].
    pub fn told_of(groups: u32) -> io::Result<Self> {
        Self::open(None, groups)
    }

    /// Packet rules.
    ///
    /// # Errors
    /// As [`Socket::route`].
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER), 0)
    }

    /// Sockets.
    ///
    /// # Errors
    /// As [`Socket::route`].
    pub fn diagnosis() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::SOCK_DIAG), 0)
    }

    /// Families that have no number of their own.
    ///
    /// # Errors
    /// As [`Socket::route`].
    pub fn generic() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::GENERIC), 0)
    }

    /// Protocol 0, which the route family has, is said by none.
    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Sends the messages and waits until the last is obeyed.
    ///
    /// # Errors
    /// The kernel's first "no"; the messages after it were obeyed all the same, except in an nftables batch.
    pub fn send(&self, mut batch: Batch) -> io::Result<()> {
        let last = batch.last;
        batch.acknowledge(last);
        self.send_and_await(&batch, batch.count)
    }

    /// As [`Socket::send`] for a batch whose last message is never acknowledged, as that of nftables: the one before is
    /// waited for.
    pub(crate) fn send_transaction(&self, mut batch: Batch, acknowledged: usize) -> io::Result<()> {
        batch.acknowledge(acknowledged);
        let awaited = batch.count - 1;
        self.send_and_await(&batch, awaited)
    }

    fn send_and_await(&self, batch: &Batch, awaited: u32) -> io::Result<()> {
        self.ask(batch)?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        for _ in 0..=batch.count {
            let answer = self.receive(&mut buffer)?;
            for (kind, sequence, body) in messages(answer) {
                if kind != ERROR {
                    continue;
                }
                if let Some(error) = failure(body) {
                    return Err(error);
                }
                if sequence == awaited {
                    return Ok(());
                }
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends one message that asks for a dump, or for one thing with [`ACKNOWLEDGE`], and hands `each` the type and body of
    /// what comes.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn dump(&self, batch: &Batch, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.ask(batch)?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        for _ in 0..PIECES_MAX {
            let answer = self.receive(&mut buffer)?;
            for (kind, _, body) in messages(answer) {
                match kind {
                    DONE => return Ok(()),
                    ERROR => return failure(body).map_or(Ok(()), Err),
                    _ => each(kind, body),
                }
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    /// Whether the kernel has told of something since the last time, which is taken. Does not wait.
    pub fn was_told(&self) -> bool {
        use rustix::io::Errno;
        let mut told = false;
        loop {
            match rustix::net::recv(&self.0, &mut [0; HEADER][..], RecvFlags::DONTWAIT) {
                // Of a message the rest is thrown away; that some found no room is as good as told.
                Ok(_) | Err(Errno::NOBUFS) => told = true,
                Err(Errno::INTR) => {}
                Err(_) => return told,
            }
        }
    }

    pub(crate) fn ask(&self, batch: &Batch) -> io::Result<()> {
        Ok(rustix::net::send(&self.0, &batch.bytes, SendFlags::empty()).map(drop)?)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let received = loop {
            match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        Ok(&buffer[..received.0])
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The error of an answer; `None`: it is an acknowledgement.
fn failure(body: &[u8]) -> Option<io::Error> {
    let errno = body.first_chunk::<4>().map_or(-libc::EIO, |bytes| i32::from_ne_bytes(*bytes));
    (errno != 0).then(|| io::Error::from_raw_os_error(-errno))
}

/// Type, sequence number and body of each message; ends where the bytes make no sense.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, sequence, body))
    })
}

/// Type (without flags) and value of each attribute; ends where the bytes make no sense.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !(NESTED | 0x4000);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_read_back_as_they_were_written() {
        let mut batch = Batch::default();
        batch.message(16, CREATE, &[1; 7]).text(3, "eth0").nested(5, |inside| {
            inside.number(1, 9);
        });
        batch.message(24, 0, &[]);
        let found: Vec<_> = messages(&batch.bytes).collect();
        assert_eq!((found.len(), found[0].0, found[1].0, found[1].1), (2, 16, 24, 2));
        let attributes: Vec<_> = attributes(&found[0].2[8..]).collect();
        assert_eq!(attributes[0], (3, &b"eth0\0"[..]));
        assert_eq!(
            (attributes[1].0, super::attributes(attributes[1].1).next()),
            (5, Some((1, &[0, 0, 0, 9][..])))
        );
    }

    #[test]
    fn cut_answers_end_the_reading() {
        let mut batch = Batch::default();
        batch.message(16, 0, &[1; 8]).text(3, "eth0");
        for end in 0..batch.bytes.len() {
            for (_, _, body) in messages(&batch.bytes[..end]) {
                assert!(attributes(body).count() <= 4);
            }
        }
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(messages(&[0; 64]).count(), 0);
    }

    #[test]
    fn the_kernel_says_no_with_an_errno() {
        let mut batch = Batch::default();
        // A link that cannot be there.
        batch.message(19, 0, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0]);
        let error = Socket::route().unwrap().send(batch).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
    }
}
