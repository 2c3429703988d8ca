//! Many packets written by one system call: a ring of io_uring's, where the kernel has one for us.
//!
//! Whom a packet wakes runs when the writer's system call ends, on its core if need be. With a call for each packet that is
//! a change of tasks for each; with one for all, the others find all of them.
//!
//! Source: Linux, include/uapi/linux/io_uring.h; io_uring_setup(2), io_uring_enter(2).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::device::{Device, Kind};

/// Packets of one call.
const ENTRIES: u32 = 64;
/// An entry that the kernel does not understand stops none behind it; since Linux 5.18.
const SETUP_SUBMIT_ALL: u32 = 1 << 7;
/// Entries are taken in their order; since Linux 6.6. Kernels before 5.11 would hand writes to TUN devices to threads of
/// their own.
const SETUP_NO_SQARRAY: u32 = 1 << 16;
const OFFSET_RINGS: libc::off_t = 0;
const OFFSET_ENTRIES: libc::off_t = 0x1000_0000;
const ENTER_GETEVENTS: libc::c_uint = 1;
const OPERATION_WRITE: u8 = 23;
/// Without it the ring waits for room, for a descriptor that does not block, too.
const WRITE_NOWAIT: u32 = 8;

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    others: [u32; 7],
    sq: Offsets,
    cq: Offsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`, as far as they are alike.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    flags_or_overflow: u32,
    /// Completions, in the second.
    dropped_or_completions: u32,
    others: [u32; 4],
}

/// `struct io_uring_sqe` of a write.
#[repr(C)]
#[derive(Default)]
struct Entry {
    operation: u8,
    flags: u8,
    priority: u16,
    descriptor: i32,
    offset: u64,
    address: u64,
    length: u32,
    write_flags: u32,
    index: u64,
    others: [u64; 3],
}

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Completion {
    index: u64,
    result: i32,
    flags: u32,
}

/// Memory that is shared with the kernel.
#[derive(Debug)]
struct Shared {
    at: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the process, and only the ring's owner reaches it.
unsafe impl Send for Shared {}

impl Shared {
    fn new(ring: &OwnedFd, length: usize, offset: libc::off_t) -> io::Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: the kernel chooses where; nothing that exists is touched.
        let at = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, ring.as_raw_fd(), offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { at: NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?, length })
    }

    /// A counter there.
    fn counter(&self, offset: u32) -> &AtomicU32 {
        debug_assert!(offset as usize + size_of::<u32>() <= self.length);
        // SAFETY: within the memory, aligned as the kernel promises, and shared by atomic operations alone.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().add(offset as usize).cast()) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    // Unmapped before the descriptor is closed.
    rings: Shared,
    entries: Shared,
    descriptor: OwnedFd,
    sq_head: u32,
    sq_tail: u32,
    cq_head: u32,
    cq_tail: u32,
    completions: u32,
    /// Places for completions, a power of two.
    cq_entries: u32,
}

impl Ring {
    /// A new ring.
    ///
    /// # Errors
    /// Of the kernel: it is older than 6.6, or refuses io_uring to us, as in many containers.
    pub fn new() -> io::Result<Self> {
        let mut parameters =
            Parameters { flags: SETUP_SUBMIT_ALL | SETUP_NO_SQARRAY, ..Parameters::default() };
        // SAFETY: reads and writes one structure that lives across the call, and answers with a new descriptor.
        let descriptor = unsafe {
            let made = libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &raw mut parameters);
            OwnedFd::from_raw_fd(i32::try_from(check(made)?).map_err(io::Error::other)?)
        };
        let Parameters { sq, cq, cq_entries, .. } = parameters;
        let completions = cq.dropped_or_completions;
        let length = completions as usize + cq_entries as usize * size_of::<Completion>();
        Ok(Self {
            rings: Shared::new(&descriptor, length, OFFSET_RINGS)?,
            entries: Shared::new(&descriptor, ENTRIES as usize * size_of::<Entry>(), OFFSET_ENTRIES)?,
            descriptor,
            sq_head: sq.head,
            sq_tail: sq.tail,
            cq_head: cq.head,
            cq_tail: cq.tail,
            completions,
            cq_entries,
        })
    }

    /// Writes packets with their headers, one after the other, as [`Device::write`] does each, and tells which failed.
    pub fn write(&mut self, packets: &[(&Device, &[u8])], mut failed: impl FnMut(usize, io::Error)) {
        if packets.iter().any(|(device, _)| device.kind() != Kind::Tun) {
            for (index, (device, packet)) in packets.iter().enumerate() {
                device.write(packet).unwrap_or_else(|error| failed(index, error));
            }
            return;
        }
        for (number, some) in packets.chunks(ENTRIES as usize).enumerate() {
            self.write_some(some, |index, error| failed(number * ENTRIES as usize + index, error));
        }
    }

    /// Up to [`ENTRIES`]. Returns when the kernel is done with all.
    fn write_some(&mut self, packets: &[(&Device, &[u8])], mut failed: impl FnMut(usize, io::Error)) {
        let begin = self.rings.counter(self.sq_tail).load(Ordering::Relaxed);
        let mut tail = begin;
        for (index, (device, packet)) in (0..).zip(packets) {
            let entry = Entry {
                operation: OPERATION_WRITE,
                descriptor: device.as_fd().as_raw_fd(),
                address: packet.as_ptr().addr() as u64,
                length: u32::try_from(packet.len()).unwrap_or(u32::MAX),
                write_flags: WRITE_NOWAIT,
                index,
                ..Entry::default()
            };
            // SAFETY: within the memory, as there are that many places; the kernel reads it after the tail has moved.
            unsafe {
                let entries: *mut Entry = self.entries.at.as_ptr().cast();
                entries.add((tail % ENTRIES) as usize).write(entry);
            }
            tail = tail.wrapping_add(1);
        }
        self.rings.counter(self.sq_tail).store(tail, Ordering::Release);
        let mut left = packets.len();
        while left > 0 {
            let taken = self.rings.counter(self.sq_head).load(Ordering::Acquire);
            let entered = self.enter(tail.wrapping_sub(taken), left);
            left -= self.reap(&mut failed);
            if let Err(error) = entered
                && error.kind() != io::ErrorKind::Interrupted
            {
                // No memory, or no leave any more: what the kernel has not taken is taken back, and written one by one.
                let taken = self.rings.counter(self.sq_head).load(Ordering::Acquire);
                self.rings.counter(self.sq_tail).store(taken, Ordering::Release);
                for place in taken.wrapping_sub(begin)..tail.wrapping_sub(begin) {
                    let (device, packet) = packets[place as usize];
                    device.write(packet).unwrap_or_else(|error| failed(place as usize, error));
                    left -= 1;
                }
                tail = taken;
            }
        }
    }

    /// Hands entries over, and waits for completions.
    fn enter(&self, entries: u32, completions: usize) -> io::Result<()> {
        // SAFETY: the entries point to packets that `write_some` borrows, and it waits for all.
        check(unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.descriptor.as_raw_fd(),
                entries,
                completions as libc::c_uint,
                ENTER_GETEVENTS,
                ptr::null::<libc::c_void>(),
                0_usize,
            )
        })?;
        Ok(())
    }

    /// How many completions there were.
    fn reap(&self, failed: &mut impl FnMut(usize, io::Error)) -> usize {
        let (head, tail) = (self.rings.counter(self.cq_head), self.rings.counter(self.cq_tail));
        let (begin, end) = (head.load(Ordering::Relaxed), tail.load(Ordering::Acquire));
        let count = end.wrapping_sub(begin);
        for place in 0..count {
            let place = begin.wrapping_add(place) % self.cq_entries;
            // SAFETY: within the memory; the kernel has written it, and writes there again when the head has moved.
            let Completion { index, result, .. } = unsafe {
                let completions: *const Completion =
                    self.rings.at.as_ptr().add(self.completions as usize).cast();
                completions.add(place as usize).read()
            };
            if result < 0 {
                failed(index as usize, io::Error::from_raw_os_error(-result));
            }
        }
        head.store(end, Ordering::Release);
        count as usize
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    /// A device that keeps packets apart, as TUN devices do, and the other end of it.
    fn device() -> (Device, OwnedFd) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (near.into(), far)
    }

    fn heard(far: &OwnedFd) -> Vec<u8> {
        let mut packet = [0; 8];
        std::iter::from_fn(|| (rustix::io::read(far, &mut packet) == Ok(2)).then_some(packet[1])).collect()
    }

    #[test]
    fn packets_of_one_call_arrive_in_their_order_and_each_that_fails_is_told() {
        let Ok(mut ring) = Ring::new() else { return println!("skipped: this kernel has no ring for us") };
        let ((left, left_far), (right, right_far), (dead, gone)) = (device(), device(), device());
        drop(gone);
        let count = ENTRIES as usize * 2 + 5;
        let bytes: Vec<_> = (0..count).map(|number| [0, number as u8]).collect();
        for _ in 0..5 {
            let packets: Vec<_> = bytes
                .iter()
                .map(|bytes| {
                    let device = match bytes[1] % 50 {
                        7 => &dead,
                        even if even % 2 == 0 => &left,
                        _ => &right,
                    };
                    (device, &bytes[..])
                })
                .collect();
            let mut failed = Vec::new();
            ring.write(&packets, |index, error| failed.push((index, error.raw_os_error().unwrap())));
            assert_eq!(failed, [7, 57, 107].map(|index| (index, libc::EPIPE)));
            let numbers = |keep: fn(&u8) -> bool| (0..count as u8).filter(keep).collect::<Vec<_>>();
            assert_eq!(heard(&left_far), numbers(|number| number % 2 == 0));
            assert_eq!(heard(&right_far), numbers(|number| number % 2 == 1 && number % 50 != 7));
        }
    }

    #[test]
    fn what_a_ring_does_not_take_is_written_without_it() {
        let Ok(mut ring) = Ring::new() else { return println!("skipped: this kernel has no ring for us") };
        ring.descriptor = std::fs::File::open("/dev/null").unwrap().into();
        let ((near, far), (dead, gone)) = (device(), device());
        drop(gone);
        let packets = [(&near, &[0, 1][..]), (&dead, &[0, 2]), (&near, &[0, 3])];
        for _ in 0..2 {
            let mut failed = Vec::new();
            ring.write(&packets, |index, error| failed.push((index, error.raw_os_error())));
            assert_eq!(failed, [(1, Some(libc::EPIPE))]);
            assert_eq!(heard(&far), [1, 3]);
        }
    }

    #[test]
    fn a_device_without_room_is_not_waited_for() {
        let Ok(mut ring) = Ring::new() else { return println!("skipped: this kernel has no ring for us") };
        let (near, far) = device();
        rustix::net::sockopt::set_socket_send_buffer_size(near.as_fd(), 4_096).unwrap();
        let large = vec![1; 1_024];
        let mut failed = Vec::new();
        ring.write(&[(&near, &large[..]); 50], |index, error| failed.push((index, error.kind())));
        let written = 50 - failed.len();
        assert!((1..50).contains(&written), "{written}");
        assert!(failed.iter().all(|(_, kind)| *kind == io::ErrorKind::WouldBlock), "{failed:?}");
        let mut packet = [0; 2_048];
        let heard = (0..).take_while(|_| rustix::io::read(&far, &mut packet) == Ok(1_024)).count();
        assert_eq!(heard, written);
    }
}
