//! Programs beside the main one: order, ends, signals, output; and sockets inside.

use std::sync::Arc;

use sandbox::{Companions, Ending, Exit, Programs, Sandbox, Spec};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::{Bench, Outcome, Output, Test, check, within};

fn with(bench: &Bench, companions: &[&str], words: &[&str]) -> Spec {
    let programs = companions.iter().map(|name| format!("/var/task/{name}")).collect();
    let environment = vec![("NAME".into(), "you".into()), ("PATH".into(), "/usr/bin:/bin".into())];
    Spec { companions: Companions { programs, environment }, ..bench.spec(words) }
}

async fn until(
    programs: &mut watch::Receiver<Programs>,
    condition: impl Fn(&Programs) -> bool,
) -> Result<Programs, Outcome> {
    let found = within(programs.wait_for(|programs| condition(programs))).await?;
    Ok(found.map_err(|_| Outcome::Failed("nobody tells of the programs".into()))?.clone())
}

fn code(code: i32) -> Option<Ending> {
    Some(Ending::Exited(Exit { code: Some(code), signal: None, out_of_memory: None }))
}

/// Waits until each companion has said what is wanted of it, and nothing that another says.
async fn companions_say(sandbox: &mut Sandbox, wanted: &[&str]) -> Test {
    let pipes = sandbox.take_companion_outputs();
    check(pipes.len() == wanted.len(), format!("{} outputs", pipes.len()))?;
    for (pipe, wanted) in pipes.into_iter().zip(wanted) {
        let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
        let mut text = Vec::new();
        while text.len() < wanted.len() {
            let count = within(pipe.read_buf(&mut text)).await??;
            check(count > 0, format!("ended before {wanted:?}: {}", String::from_utf8_lossy(&text)))?;
        }
        check(text == wanted.as_bytes(), format!("{:?}, not {wanted:?}", String::from_utf8_lossy(&text)))?;
    }
    check(sandbox.take_companion_outputs().is_empty(), "taken twice")
}

pub async fn they_start_first_and_each_end_is_told(bench: Bench) -> Test {
    let spec = with(&bench, &["watcher", "quitter", "text"], &["say", "hello", "exit", "5"]);
    let mut sandbox = bench.sandboxes.start(Arc::new(spec)).await?;
    let mut programs = sandbox.programs().ok_or(Outcome::Failed("no programs".into()))?;
    let mut output = Output::of(&mut sandbox)?;
    companions_say(&mut sandbox, &["watching you\n", "leaving you\n", ""]).await?;
    let found = until(&mut programs, |programs| programs.companions[1..].iter().all(Option::is_some)).await?;
    let no_program = Some(Ending::NotExecuted(libc::EACCES));
    let companions = vec![None, code(3), no_program];
    check(found == Programs { program: None, companions }, format!("{found:?}"))?;
    sandbox.start_program();
    output.until("hello").await?;
    let found = until(&mut programs, |programs| programs.program.is_some()).await?;
    check((found.program, found.companions[0]) == (code(5), None), format!("{found:?}"))?;
    // The watcher lives on until everything ends.
    sandbox.kill();
    let exit = within(sandbox.exited()).await?;
    check(exit.code == Some(5), format!("{exit:?}"))
}

pub async fn the_program_is_asked_to_end_alone(bench: Bench) -> Test {
    let mut spec = with(&bench, &["watcher"], &[]);
    spec.program = vec!["/var/task/polite".into()];
    spec.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let mut sandbox = bench.sandboxes.start(Arc::new(spec)).await?;
    let mut programs = sandbox.programs().ok_or(Outcome::Failed("no programs".into()))?;
    let mut output = Output::of(&mut sandbox)?;
    sandbox.start_program();
    output.until("ready").await?;
    sandbox.terminate_program();
    output.until("bye").await?;
    let found = until(&mut programs, |programs| programs.program.is_some()).await?;
    check(found == Programs { program: code(4), companions: vec![None] }, format!("{found:?}"))?;
    let mut again = bench.sandboxes.start(Arc::new(with(&bench, &["watcher"], &["tick"]))).await?;
    let mut programs = again.programs().ok_or(Outcome::Failed("no programs".into()))?;
    let mut output = Output::of(&mut again)?;
    again.start_program();
    output.until("3").await?;
    again.kill_program();
    let found = until(&mut programs, |programs| programs.program.is_some()).await?;
    let killed = Ending::Exited(Exit { code: None, signal: Some(9), out_of_memory: None });
    check(found == Programs { program: Some(killed), companions: vec![None] }, format!("{found:?}"))
}

pub async fn a_companion_that_cannot_run_is_told(bench: Bench) -> Test {
    let sandbox = bench.sandboxes.start(Arc::new(with(&bench, &["text", "missing"], &["pause"]))).await?;
    let mut programs = sandbox.programs().ok_or(Outcome::Failed("no programs".into()))?;
    let found = until(&mut programs, |programs| programs.companions.iter().all(Option::is_some)).await?;
    let errnos = vec![Some(Ending::NotExecuted(libc::EACCES)), Some(Ending::NotExecuted(libc::ENOENT))];
    check(found.companions == errnos, format!("{found:?}"))?;
    let mut spec = with(&bench, &["watcher"], &[]);
    spec.program = vec!["/var/task/missing".into()];
    let sandbox = bench.sandboxes.start(Arc::new(spec)).await?;
    let mut programs = sandbox.programs().ok_or(Outcome::Failed("no programs".into()))?;
    sandbox.start_program();
    let found = until(&mut programs, |programs| programs.program.is_some()).await?;
    check(found.program == Some(Ending::NotExecuted(libc::ENOENT)), format!("{found:?}"))
}

pub async fn a_restart_starts_them_anew(bench: Bench) -> Test {
    let spec = with(&bench, &["watcher"], &["say", "hello", "pause"]);
    let mut sandbox = bench.sandboxes.start(Arc::new(spec)).await?;
    for _ in 0..3 {
        let mut output = Output::of(&mut sandbox)?;
        companions_say(&mut sandbox, &["watching you\n"]).await?;
        sandbox.start_program();
        output.until("hello").await?;
        within(sandbox.restart()).await??;
    }
    Ok(())
}

pub async fn a_socket_reaches_what_listens_inside(bench: Bench) -> Test {
    let mut sandbox = bench.start(&["pause"]).await?;
    let listener = tokio::net::TcpListener::from_std(sandbox.take_listener())?;
    let address = sandbox.runtime_api_address().parse().expect("an address");
    let socket = within(sandbox.socket()).await??;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let (connected, accepted) = tokio::join!(within(socket.connect(address)), within(listener.accept()));
    connected??;
    accepted??;
    sandbox.kill();
    within(sandbox.exited()).await?;
    // The jailer may hear of the end a moment later.
    within(async { while sandbox.socket().await.is_ok() {} }).await
}
