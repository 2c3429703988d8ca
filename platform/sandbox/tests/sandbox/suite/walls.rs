//! What a program can see and reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{Bind, Sandbox};

use super::{Bench, Outcome, Output, Test, check, run_spec, within};

pub async fn every_move_out_is_refused(bench: Bench) -> Test {
    bench.needs_walls()?;
    let marker = "/tmp/onrush-host-marker";
    drop(fs::write(marker, "host"));
    let (text, exit) = bench.run(&["isolation"]).await?;
    drop(fs::remove_file(marker));
    let won: Vec<&str> = text.lines().filter(|line| line.starts_with("WON")).collect();
    check(won.is_empty(), format!("{won:?}"))?;
    let refused = text.lines().filter(|line| line.starts_with("refused")).count();
    check(refused >= 60, format!("only {refused} moves were made: {text}"))?;
    check(exit.code == Some(0), format!("{exit:?}"))
}

pub async fn a_program_sees_what_lambda_shows_and_nothing_else(bench: Bench) -> Test {
    let (text, _) = bench.run(&["about"]).await?;
    let lines: Vec<&str> = text.lines().collect();
    let has = |line: &str| check(lines.contains(&line), format!("no {line:?} in {text}"));
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "nofile=1024", "fd=0", "fd=1", "fd=2"] {
        has(line)?;
    }
    let capabilities: Vec<&&str> = lines.iter().filter(|line| line.starts_with("Cap")).collect();
    let none = |line: &&&str| line.ends_with("\t0000000000000000");
    let bounding_counts = bench.needs_walls().is_ok();
    for line in capabilities {
        check(
            none(&line) || (!bounding_counts && line.starts_with("CapBnd")),
            format!("{line} is not empty"),
        )?;
    }
    check(lines.iter().filter(|line| line.starts_with("fd=")).count() == 3, format!("descriptors: {text}"))?;
    let environment: Vec<&&str> = lines.iter().filter(|line| line.starts_with("env=")).collect();
    check(environment == [&"env=ONE=1"], format!("{environment:?}"))?;
    bench.needs_walls()?;
    for line in ["hostname=onrush-test", "pid=2 parent=1", "cwd=/var/task"] {
        has(line)?;
    }
    check(text.contains("Uid:\t993\t993\t993\t993"), text.clone())?;
    let inodes = text.lines().find_map(|line| line.strip_prefix("inodes=")?.parse::<u64>().ok());
    check(inodes.is_some_and(|inodes| (65_000..=66_000).contains(&inodes)), format!("{inodes:?} inodes"))?;
    bench.needs("uid-per-environment")?;
    let mut one = bench.start(&["show", "/proc/self/uid_map", "pause"]).await?;
    let mut other = bench.start(&["show", "/proc/self/uid_map", "pause"]).await?;
    let mut seen = Vec::new();
    for sandbox in [&mut one, &mut other] {
        let output = Output::of(sandbox)?;
        sandbox.kill();
        within(sandbox.exited()).await?;
        seen.push({ output }.rest().await?);
    }
    check(seen[0] != seen[1] || seen[0].is_empty(), format!("both run as {seen:?}"))
}

/// More at once than blank environments stand ready: some are made of blanks, some from nothing.
pub async fn all_are_walled_alike_whether_blanks_or_made_from_nothing(bench: Bench) -> Test {
    bench.needs_walls()?;
    // Blanks are made when starts have paused, after the first.
    bench.run(&["say", "hello"]).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let files = ["/proc/self/mountinfo", "/proc/self/cgroup", "/proc/self/status", "/proc/1/status"];
    let words: Vec<_> =
        ["about"].into_iter().chain(files.into_iter().flat_map(|file| ["show", file])).collect();
    let mut sandboxes = Vec::new();
    for _ in 0..20 {
        sandboxes.push(bench.start(&words).await?);
    }
    let mut seen = std::collections::BTreeSet::new();
    for sandbox in &mut sandboxes {
        seen.insert(walls_told_by(&Output::of(sandbox)?.rest().await?));
    }
    // And lives of one version, which leave each other their parts.
    let spec = bench.spec(&words);
    for _ in 0..6 {
        let (text, _) = run_spec(&bench.sandboxes, spec.clone()).await?;
        seen.insert(walls_told_by(&text));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check(seen.len() == 1 && seen.iter().all(|walls| walls.contains("/var/task")), format!("{seen:#?}"))
}

pub async fn lives_of_a_version_have_a_user_in_turn_and_never_at_once(bench: Bench) -> Test {
    bench.needs_walls()?;
    bench.needs("uid-per-environment")?;
    let spec = bench.spec(&["show", "/proc/self/uid_map"]);
    let mut users = Vec::new();
    for _ in 0..6 {
        let (text, _) = run_spec(&bench.sandboxes, spec.clone()).await?;
        check(text.split_whitespace().next() == Some("993"), format!("maps {text:?}"))?;
        users.push(text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // An environment whose program has ended keeps what it has until it is dropped.
    let mut crowd = Vec::new();
    for _ in 0..6 {
        crowd.push(bench.sandboxes.start(Arc::new(spec.clone())).await?);
    }
    let mut at_once = std::collections::BTreeSet::new();
    for sandbox in &mut crowd {
        at_once.insert(Output::of(sandbox)?.rest().await?);
    }
    check(at_once.len() == crowd.len(), format!("at once {at_once:?}, in turn {users:?}"))
}

/// What a program says of its walls, without what is its alone: ids of mounts, devices.
fn walls_told_by(text: &str) -> String {
    let kept = [
        "Uid:",
        "Gid:",
        "Groups:",
        "Cap",
        "NoNewPrivs",
        "Seccomp",
        "NSpid",
        "hostname=",
        "pid=",
        "cwd=",
        "fd=",
        "env=",
        "nofile=",
        "0::",
        "1:",
        "2:",
        "3:",
    ];
    let line = |line: &str| match line.split_once(" - ") {
        // mount ids device root place options … - type source options (proc_pid_mountinfo(5))
        Some((mount, kind)) => {
            let fields: Vec<&str> = mount.split(' ').collect();
            let kind = kind.split(' ').next().unwrap_or("");
            Some(format!("{} {} {kind}", fields.get(4).unwrap_or(&""), fields.get(5).unwrap_or(&"")))
        }
        None => kept.iter().any(|word| line.starts_with(word)).then(|| line.to_owned()),
    };
    let mut lines: Vec<_> = text.lines().filter_map(line).collect();
    // Mounts are told in the order in which they were made.
    lines.sort_unstable();
    lines.join("\n")
}

pub async fn nothing_is_carried_to_the_next_environment(bench: Bench) -> Test {
    bench.needs_walls()?;
    let marker = "mark-5f1c";
    // Of the same version, so that recycled parts are among those searched; and of another at once.
    let mut spec = bench.spec(&["plant", marker]);
    // `.ci/long` asks for 1,000.
    let rounds = std::env::var("SANDBOX_TEST_ROUNDS").map_or(Ok(40), |text| text.parse())?;
    for round in 0..rounds {
        spec.program = ["/var/task/probe", "plant", marker].map(str::to_owned).to_vec();
        let mut planter = bench.sandboxes.start(Arc::new(spec.clone())).await?;
        Output::of(&mut planter)?.until("planted").await?;
        let (text, _) = bench.run(&["search", marker]).await?;
        check(text == "0 hits\n", format!("round {round}, another version beside it: {text}"))?;
        drop(planter);
        spec.program[1] = "search".into();
        let (text, _) = run_spec(&bench.sandboxes, spec.clone()).await?;
        check(text == "0 hits\n", format!("round {round}, same version after it: {text}"))?;
    }
    Ok(())
}

pub async fn only_the_runtime_api_answers_inside(bench: Bench) -> Test {
    bench.needs_walls()?;
    // Something to be found on the host, if the host could be reached.
    let host = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (text, _) = bench.run(&["scan"]).await?;
    drop(host);
    let open: Vec<&str> = text.lines().filter(|line| line.starts_with("open")).collect();
    check(open == ["open 127.0.0.1:9001"], text.clone())?;
    for address in ["10.0.0.1", "169.254.169.254", "8.8.8.8"] {
        let is = |word: &str| text.contains(&format!("{word} {address}\n"));
        check(is("unreachable") || is("silent"), text.clone())?;
    }
    check(text.ends_with("scanned\n"), text)
}

pub async fn the_interface_carries_what_is_sent_and_keeps_nothing_for_the_next(bench: Bench) -> Test {
    bench.needs_walls()?;
    bench.needs("network-interface")?;
    let mut spec = bench.spec(&["scan"]);
    let (address, sent, first) = sent_by(&bench, &spec).await?;
    drop(first);
    let to = |packet: &Vec<u8>, peer: [u8; 4]| packet[12..16] == address.octets() && packet[16..20] == peer;
    check(sent.iter().all(|packet| packet[0] == 0x45), format!("IPv4 alone: {sent:?}"))?;
    for peer in [[10, 0, 0, 1], [169, 254, 169, 254], [8, 8, 8, 8]] {
        check(sent.iter().any(|packet| to(packet, peer)), format!("nothing for {peer:?} among {sent:?}"))?;
    }
    // The next of the version that gets the same namespace finds nothing of this.
    spec.program = vec!["/var/task/probe".into(), "say".into(), "hello".into()];
    let mut again = false;
    // Those that got another keep it: what came back last goes round first, and the first may be late.
    let mut others = Vec::new();
    while !again && others.len() < 50 {
        let (next, sent, other) = sent_by(&bench, &spec).await?;
        check(sent.is_empty(), format!("left over: {sent:?}"))?;
        again = next == address;
        others.push(other);
    }
    check(again, "no namespace went round".to_owned())?;
    let mut spec = bench.spec(&["say", "hello"]);
    spec.dual_stack = true;
    let (_, sent, _sandbox) = sent_by(&bench, &spec).await?;
    // Nothing to find out about the link, and nobody to be asked.
    check(sent.iter().all(|packet| packet[0] >> 4 == 6), format!("IPv6 says hello at most: {sent:?}"))
}

/// Runs a program to its end; the address of its interface, and the packets that it left in there.
async fn sent_by(
    bench: &Bench,
    spec: &sandbox::Spec,
) -> Result<(std::net::Ipv4Addr, Vec<Vec<u8>>, Sandbox), Outcome> {
    let mut sandbox = bench.sandboxes.start(Arc::new(spec.clone())).await?;
    let Some(interface) = sandbox.take_interface() else {
        return Err(Outcome::Failed("no interface".into()));
    };
    within(sandbox.exited()).await?;
    let (mut packets, address) = (Vec::new(), interface.address);
    let mut frame = [0; 2_048];
    let device = netdev::device::Device::from(interface.device);
    while let Ok(count) = device.read(&mut frame) {
        packets.push(frame[netdev::tun::HEADER_BYTES..count].to_vec());
    }
    Ok((address, packets, sandbox))
}

pub async fn binds_are_read_only_and_bad_ones_are_refused(bench: Bench) -> Test {
    bench.needs_walls()?;
    let layers = bench.folder.join("layers");
    fs::create_dir_all(&layers)?;
    fs::write(layers.join("layer"), "from the layer")?;
    for (path, mode) in
        [(layers.clone(), 0o755), (layers.join("layer"), 0o644), (bench.folder.clone(), 0o755)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let mut spec = bench.spec(&["show", "/opt/layer", "show", "/var/lang/deep/layer", "isolation"]);
    spec.opt = Some(layers.clone());
    spec.binds = vec![Bind { host: layers.clone(), inside: "/var/lang/deep".into() }];
    let (text, _) = run_spec(&bench.sandboxes, spec.clone()).await?;
    check(text.starts_with("from the layer\nfrom the layer\n"), text.clone())?;
    check(text.ends_with("\n0 won\n"), text)?;
    for (host, inside) in [("/nonexistent", "/var/x"), ("/usr", "/usr/nonexistent"), ("/usr", "/a/../../b")] {
        spec.binds = vec![Bind { host: host.into(), inside: inside.into() }];
        let refused = bench.sandboxes.start(Arc::new(spec.clone())).await;
        check(refused.is_err(), format!("{host} at {inside} was accepted"))?;
    }
    let (text, _) = bench.run(&["say", "still here"]).await?;
    check(text == "still here\n", text)
}

pub async fn interpreters_run_under_the_filter(bench: Bench) -> Test {
    let programs: [(&str, &[&str]); 3] = [
        ("/bin/sh", &["-c", "echo $((40 + 2)) | cat"]),
        ("/usr/bin/python3", &["-I", "-c", PYTHON]),
        ("/usr/bin/node", &["-e", NODE]),
    ];
    let mut missing = Vec::new();
    for (program, arguments) in programs {
        if !std::path::Path::new(program).exists() {
            missing.push(program);
            continue;
        }
        let mut spec = bench.spec(&[]);
        spec.memory_mb = 512;
        spec.program = [program].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        spec.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let (text, exit) = run_spec(&bench.sandboxes, spec).await?;
        check(text == "42\n" && exit.code == Some(0), format!("{program}: {text} {exit:?}"))?;
    }
    if missing.len() == 3 { Err(Outcome::Skipped(format!("none of {missing:?} is here"))) } else { Ok(()) }
}

/// Threads, a child process, a socket pair, a temporary file.
const PYTHON: &str = "
import threading, subprocess, socket, tempfile
found = []
thread = threading.Thread(target=lambda: found.append(20)); thread.start(); thread.join()
one, other = socket.socketpair(); one.send(b'2'); found.append(int(other.recv(1)))
with tempfile.TemporaryFile() as file: file.write(b'x')
found.append(int(subprocess.run(['/bin/echo', '20'], capture_output=True).stdout))
print(sum(found))";

const NODE: &str = "
const { Worker } = require('worker_threads');
const { execFileSync } = require('child_process');
const child = parseInt(execFileSync('/bin/echo', ['20']));
new Worker('require(\"worker_threads\").parentPort.postMessage(22)', { eval: true })
  .on('message', (value) => console.log(child + value));";
