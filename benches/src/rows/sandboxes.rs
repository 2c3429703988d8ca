//! Sandboxes made and reaped, several at once, beside the naive way. The sandbox room's own example measures both.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::process::{Running, bound};
use anyhow::{Result, bail};
use std::fs::{self, File};
use std::process::Stdio;

const OF_NAIVE: f64 = 2.0;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let program = bench.example("spawn")?;
    let [mut ours, mut naive] = [const { Samples(Vec::new()) }; 2];
    for _ in 0..bench.pick(1, 3) {
        let folder = bench.folder("spawn")?;
        let (printed, log) = (folder.join("printed"), folder.join("log"));
        let mut command = bound(&program);
        command.arg(folder.join("state")).arg(bench.pick("240", "600"));
        command.stdin(Stdio::null()).stdout(File::create(&printed)?).stderr(File::create(&log)?);
        let status = Running::start(&mut command)?.child().wait()?;
        let text = fs::read_to_string(&printed)?;
        if !status.success() {
            bail!("spawn ended with {status}: {}", fs::read_to_string(&log)?);
        }
        let rounds: Vec<_> = text.lines().filter_map(read).collect();
        if rounds.is_empty() {
            bail!("spawn printed no round: {text}");
        }
        for (our_rate, naive_rate) in rounds {
            ours.push(our_rate);
            naive.push(naive_rate);
        }
        text.lines().filter(|line| read(line).is_none()).for_each(|line| println!("         {line}"));
    }
    board.add(Figure {
        what: "sandboxes made and reaped, sustained".to_owned(),
        unit: "/s",
        ours,
        other: Some(("naive namespaces and groups", naive)),
        goal: Goal::TimesAtLeast(OF_NAIVE),
    });
    Ok(())
}

/// `sustained: sandbox 2314/s, naive 921/s, ratio 2.51`: the first two.
fn read(line: &str) -> Option<(f64, f64)> {
    let line = line.strip_prefix("sustained: sandbox ")?;
    let (ours, rest) = line.split_once("/s, naive ")?;
    let (naive, _) = rest.split_once("/s")?;
    Some((ours.parse().ok()?, naive.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read() {
        assert_eq!(read("sustained: sandbox 2314/s, naive 921/s, ratio 2.51"), Some((2314.0, 921.0)));
        assert_eq!(read("shutdown: 12ms"), None);
    }
}
