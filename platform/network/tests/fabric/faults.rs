//! Bad lines (F20): what the engine translates on the way survives them as on a line of its own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use packets::LineFaults;

use super::stage::{PATIENCE, Shape, Stage, server};

/// Longer than a line of this kind takes on a busy machine.
const BAD_LINE: Duration = Duration::from_secs(60);

/// So many bytes there and back on one connection: whether they are the same, and whether both ends were closed.
fn there_and_back(stage: &Stage, bytes: usize, patience: Duration) -> Result<bool, std::io::ErrorKind> {
    stage.inside.run(move || {
        let stream = TcpStream::connect_timeout(&server(), BAD_LINE).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let sent: Vec<u8> = (0..bytes).map(|number| ((number * 7) >> 3) as u8).collect();
        let (copy, mut writing) = (sent.clone(), stream.try_clone().unwrap());
        let writer = thread::spawn(move || {
            let _ = writing.write_all(&copy);
            let _ = writing.shutdown(Shutdown::Write);
        });
        let mut heard = Vec::new();
        let read = (&stream).read_to_end(&mut heard);
        let _ = stream.shutdown(Shutdown::Both);
        writer.join().unwrap();
        read.map(|_| heard == sent).map_err(|error| error.kind())
    })
}

/// Lets kernels find out by themselves what passes.
fn probe() {
    std::fs::write("/proc/sys/net/ipv4/tcp_mtu_probing", "1").unwrap();
}

#[test]
fn streams_survive_loss_reordering_doubles_and_damage_on_lines_of_any_width() {
    // From the smallest that every host takes to jumbo frames; a wide side beside a narrow one, too.
    for (seed, mtu) in
        (1..).zip([(576, 576), (1_280, 1_500), (1_500, 65_535), (9_001, 1_500), (9_001, 9_001)])
    {
        let line = LineFaults {
            loss: 10_000,
            duplicate: 10_000,
            reorder: 20_000,
            corrupt: 10_000,
            hole_above: None,
            seed,
        };
        let Some(stage) = (Shape { mtu, line: Some(line), ..Shape::default() }).stage() else { return };
        assert_eq!(there_and_back(&stage, 300_000, BAD_LINE), Ok(true), "MTU {mtu:?}");
    }
}

#[test]
fn a_hop_that_swallows_without_a_word_stalls_who_believes_it_and_not_who_tries() {
    let line = Some(LineFaults { hole_above: Some(1_100), ..LineFaults::default() });
    let Some(stage) = (Shape { mtu: (1_500, 1_500), line, ..Shape::default() }).stage() else { return };
    assert_eq!(there_and_back(&stage, 1_000, PATIENCE), Ok(true), "small segments pass");
    let stalled = there_and_back(&stage, 100_000, Duration::from_millis(300));
    assert_eq!(stalled, Err(std::io::ErrorKind::WouldBlock));
    stage.inside.run(probe);
    stage.world.run(probe);
    assert_eq!(there_and_back(&stage, 100_000, BAD_LINE), Ok(true));
}
