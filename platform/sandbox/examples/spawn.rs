//! How fast environments are made: start to first byte, and how many per second, against the naive way.
//!
//! `cargo run --release -p sandbox --example spawn -- [FOLDER] [COUNT] [loopback]`; the last word leaves the interface
//! out. Both ways run the same static
//! program in the same run, in turns, so the ratio holds where absolute figures do not. The naive way makes
//! six namespaces with `clone3` and writes the pid into fresh memory, cpu and pids groups, per environment.
#![allow(unsafe_code)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Isolation, Options, PoolSizes, Sandboxes, Spec, fork_jailer};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

const SOURCE: &str = "#include <unistd.h>\nint main(void){write(1,\"hello\\n\",6);return 0;}\n";
/// Spawners at once in the sustained measurement.
const SPAWNERS: usize = 8;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("onrush-spawn"), PathBuf::from);
    let count = arguments.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(400);
    let interfaces = arguments.next().is_none_or(|word| word != "loopback");
    let task = folder.join("task");
    build(&task)?;
    let pool = PoolSizes { networks: 16, groups: 16, temporaries: 16, blanks: 4 };
    let jailer = fork_jailer(Options {
        state_dir: folder.join("run"),
        isolation: Isolation::Namespaces,
        pool,
        interfaces,
    })?;
    let program = task.join("hello");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let sandboxes = jailer.into_sandboxes()?;
        let spec = Arc::new(spec(&task));
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (words, gap) in [("back to back", 0), ("20 ms apart", 20)] {
            let gap = Duration::from_millis(gap);
            let (mut ours, mut naive) = (Vec::new(), Vec::new());
            for _ in 0..count / 2 {
                ours.push(first_byte(&sandboxes, &spec).await?);
                tokio::time::sleep(gap).await;
                naive.push(naive_first_byte(&program)?);
                tokio::time::sleep(gap).await;
            }
            report(&format!("start to first byte, {words}, sandbox"), &mut ours);
            report(&format!("start to first byte, {words}, naive  "), &mut naive);
        }
        for _ in 0..3 {
            let ours = sustained(&sandboxes, &spec, count).await?;
            let naive = naive_sustained(&program, count);
            println!("sustained: sandbox {ours:.0}/s, naive {naive:.0}/s, ratio {:.2}", ours / naive);
        }
        let fresh = Arc::new(Spec {
            version_key: 2,
            program: vec!["/var/task/hello".into()],
            ..spec.as_ref().clone()
        });
        let began = Instant::now();
        let mut burst = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (sandboxes, spec) = (sandboxes.clone(), fresh.clone());
            burst.spawn(async move {
                let started = first_byte(&sandboxes, &spec).await;
                started.inspect_err(|error| eprintln!("burst: {error}")).is_ok()
            });
        }
        let done = burst.join_all().await.into_iter().filter(|done| *done).count();
        println!("burst of 200, new version: {done} first bytes in {:?}", began.elapsed());
        let ending = Instant::now();
        sandboxes.shutdown().await;
        println!("shutdown: {:?}", ending.elapsed());
        fs::remove_dir_all(&folder)?;
        Ok(())
    })
}

fn build(task: &Path) -> Result<(), Failure> {
    fs::create_dir_all(task)?;
    fs::write(task.join("hello.c"), SOURCE)?;
    let source = task.join("hello.c");
    let built =
        Command::new("cc").args(["-O1", "-static", "-o"]).arg(task.join("hello")).arg(source).status()?;
    if !built.success() {
        return Err("cc failed".into());
    }
    fs::set_permissions(task, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn spec(task: &Path) -> Spec {
    Spec {
        hostname: "bench".into(),
        version_key: 1,
        image: Vec::new(),
        task: task.to_path_buf(),
        opt: None,
        binds: Vec::new(),
        program: vec!["/var/task/hello".into()],
        environment: Vec::new(),
        working_directory: "/var/task".into(),
        memory_mb: 128,
        tmp_mb: 512,
        dual_stack: false,
        companions: Default::default(),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn first_byte(sandboxes: &Sandboxes, spec: &Arc<Spec>) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut sandbox = sandboxes.start(spec.clone()).await?;
    let mut output = pipe::Receiver::from_owned_fd(sandbox.take_output())?;
    let mut byte = [0];
    output.read_exact(&mut byte).await?;
    let took = began.elapsed();
    sandbox.exited().await;
    Ok(took)
}

/// Starts to reaped, several at once.
async fn sustained(sandboxes: &Sandboxes, spec: &Arc<Spec>, count: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut spawners = tokio::task::JoinSet::new();
    for _ in 0..SPAWNERS {
        let (sandboxes, spec) = (sandboxes.clone(), spec.clone());
        spawners.spawn(async move {
            for _ in 0..count / SPAWNERS {
                first_byte(&sandboxes, &spec).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    for done in spawners.join_all().await {
        done?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn report(words: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{words}: p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

static NAIVE: AtomicU64 = AtomicU64::new(0);

/// Controllers whose groups the naive way makes.
fn naive_groups() -> Vec<PathBuf> {
    let name = format!("naive-{}-{}", std::process::id(), NAIVE.fetch_add(1, Ordering::Relaxed));
    ["memory", "cpu", "pids"]
        .map(|controller| Path::new("/sys/fs/cgroup").join(controller).join(&name))
        .to_vec()
}

fn naive_first_byte(program: &Path) -> Result<Duration, Failure> {
    let began = Instant::now();
    let groups = naive_groups();
    for group in &groups {
        // Absent on hosts without version 1: then the naive way is spared the work.
        let _ = fs::create_dir(group);
    }
    let _ = fs::write(groups[0].join("memory.limit_in_bytes"), "134217728");
    let _ = fs::write(groups[2].join("pids.max"), "1024");
    let program = std::ffi::CString::new(program.as_os_str().as_encoded_bytes())?;
    let arguments = [program.as_ptr(), std::ptr::null()];
    let (read, write) = std::io::pipe()?;
    let (ready_read, ready_write) = std::io::pipe()?;
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    use std::os::fd::AsRawFd;
    // SAFETY: the child makes raw calls alone and ends by exec or exit.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0);
        if pid == 0 {
            let mut byte = 0_u8;
            libc::read(ready_read.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::dup2(write.as_raw_fd(), 1);
            libc::execve(program.as_ptr(), arguments.as_ptr(), [std::ptr::null()].as_ptr());
            libc::_exit(127);
        }
        pid as i32
    };
    drop(write);
    if pid < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    for group in &groups {
        let _ = fs::write(group.join("cgroup.procs"), pid.to_string());
    }
    std::io::Write::write_all(&mut { ready_write }, b"1")?;
    let mut byte = [0];
    { read }.read_exact(&mut byte)?;
    let took = began.elapsed();
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    for group in &groups {
        let _ = fs::remove_dir(group);
    }
    Ok(took)
}

fn naive_sustained(program: &Path, count: usize) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..SPAWNERS {
            scope.spawn(|| {
                for _ in 0..count / SPAWNERS {
                    if let Err(error) = naive_first_byte(program) {
                        eprintln!("naive: {error}");
                        return;
                    }
                }
            });
        }
    });
    count as f64 / began.elapsed().as_secs_f64()
}
