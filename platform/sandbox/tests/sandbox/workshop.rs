//! The workshop: its children do what they are told below one folder, and nothing else.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // a panic is how a test fails; `Work` hands descriptors over

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags, mknodat, openat};
use sandbox::{Workshop, fork_workshop};

const CONTENT: &[u8] = b"what nobody vouches for";

/// What the children do.
fn work(order: &[u8], input: OwnedFd, folder: OwnedFd) -> Vec<u8> {
    match order {
        b"copy" => {
            let mut content = Vec::new();
            File::from(input).read_to_end(&mut content).unwrap();
            let flags = OFlags::CREATE | OFlags::WRONLY;
            let out = openat(&folder, "out", flags, Mode::from_raw_mode(0o644)).unwrap();
            File::from(out).write_all(&content).unwrap();
            mknodat(&folder, "gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            content
        }
        b"moves" => moves(&folder).join(", ").into_bytes(),
        b"panic" => panic!("told to"),
        b"abort" => std::process::abort(),
        b"memory" => vec![1; 1 << 30],
        b"processor" => loop {
            std::hint::spin_loop();
        },
        _ => Vec::new(),
    }
}

/// What could be done that should not.
fn moves(folder: &OwnedFd) -> Vec<String> {
    let mode = Mode::from_raw_mode(0o666);
    let call = |number: libc::c_long, arguments: [libc::c_long; 4]| {
        let [a, b, c, d] = arguments;
        // SAFETY: numbers alone; where a call wants memory it gets none.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(number, a, b, c, d) >= 0
        }
    };
    let device = |kind, number| mknodat(folder, "device", kind, mode, number).is_ok();
    let tries = [
        ("read the host's files", File::open("/etc/passwd").is_ok()),
        ("list the host's folders", fs::read_dir("/").is_ok()),
        ("write the host's files", File::create("/tmp/onrush-test-workshop").is_ok()),
        ("go up", openat(folder, "..", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).is_ok()),
        ("read processes", File::open("/proc/self/mem").is_ok()),
        (
            "connect",
            TcpStream::connect("127.0.0.1:1").err().and_then(|it| it.raw_os_error()) != Some(libc::EPERM),
        ),
        ("make a socket", call(libc::SYS_socketpair, [1, 1, 0, 0])),
        ("start a program", Command::new("/bin/true").spawn().is_ok()),
        ("make a process", call(libc::SYS_clone, [17, 0, 0, 0])),
        ("send a signal", call(libc::SYS_kill, [1, 0, 0, 0])),
        ("trace", call(libc::SYS_ptrace, [0, 0, 0, 0])),
        ("make a namespace", call(libc::SYS_unshare, [0x1000_0000, 0, 0, 0])),
        ("become root", call(libc::SYS_setuid, [0, 0, 0, 0])),
        ("raise a limit", call(libc::SYS_prlimit64, [0, 7, 0, 0])),
        ("make a disk", device(FileType::BlockDevice, 0x800)),
        ("make a device", device(FileType::CharacterDevice, 0x101)),
        ("make a pipe", device(FileType::Fifo, 0)),
    ];
    tries.into_iter().filter(|(_, done)| *done).map(|(what, _)| what.to_owned()).collect()
}

/// Runs all of it in `folder`, which is empty.
pub fn run(folder: &Path) -> ExitCode {
    let workshop = fork_workshop(work).expect("fork the workshop");
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&workshop, folder))).is_err();
    let user = rustix::process::geteuid().as_raw();
    println!("workshop (user {user}): {}", if failed { "FAILED" } else { "ok" });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn check(workshop: &Workshop, folder: &Path) {
    let mut input = File::from(rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    input.write_all(CONTENT).unwrap();
    input.rewind().unwrap();
    let order = |name: &str, order: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(&path).unwrap();
        let open = File::open(&path).unwrap();
        let mut own = File::open(format!("/proc/self/fd/{}", input.as_raw_fd())).unwrap();
        own.rewind().unwrap();
        workshop.run(order, own.as_fd(), open.as_fd())
    };
    assert_eq!(order("copied", b"copy").unwrap(), CONTENT);
    let out = folder.join("copied/out");
    assert_eq!(fs::read(&out).unwrap(), CONTENT);
    if rustix::process::geteuid().is_root() {
        assert_eq!(fs::metadata(&out).unwrap().uid(), 1_499_999_999);
    }
    assert_eq!(String::from_utf8(order("moves", b"moves").unwrap()).unwrap(), "");
    for bad in ["panic", "abort", "memory"] {
        let error = order(bad, bad.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("ended before it was done"), "{bad}: {error}");
    }
    // Nobody's end is another's, and more orders than children are done all the same.
    std::thread::scope(|scope| {
        let copies: Vec<_> = (0..40)
            .map(|number| scope.spawn(move || order(&format!("{number}"), b"copy").unwrap()))
            .collect();
        assert!(copies.into_iter().all(|copy| copy.join().unwrap() == CONTENT));
    });
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            order("moves", b"nothing").unwrap();
            begun.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    println!("an order that does nothing: min {} median {} max {} us", times[0], times[100], times[199]);
}
