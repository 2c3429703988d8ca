//! Measures what Onrush promises, each figure beside its floor or peer in the same run, and prints the table.
//!
//! Times never make a run fail; what does not work at all does.

mod bench;
mod figure;
mod http;
mod memory;
mod others;
mod plain;
mod platform;
mod process;
mod rows;
mod wrk;

use bench::{Bench, Board};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Measure the promised figures against floors and peers in one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Each row in seconds, with fewer rounds.
    #[arg(long)]
    short: bool,
    /// The repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// An empty folder for scratch; the caller removes it.
    #[arg(long)]
    work: PathBuf,
    /// Only these groups of rows; `list` names them.
    group: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.group.iter().any(|group| group == "list") {
        rows::ALL.iter().for_each(|group| println!("{:<14} {}", group.name, group.about));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) =
        arguments.group.iter().find(|name| rows::ALL.iter().all(|group| group.name != **name))
    {
        eprintln!("there is no group `{unknown}`; `list` names them");
        return ExitCode::from(2);
    }
    let bench = match Bench::new(&arguments.root, &arguments.work, arguments.short) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let mut board = Board::default();
    let is_wanted = |group: &&rows::Group| {
        arguments.group.is_empty() || arguments.group.iter().any(|name| name == group.name)
    };
    for group in rows::ALL.iter().filter(is_wanted) {
        let begun = Instant::now();
        println!("\n== {} (load average {})", group.about, bench::machine_load());
        if let Err(error) = (group.run)(&bench, &mut board) {
            board.broke(group.name, &error);
        }
        println!("   {:.1} s", begun.elapsed().as_secs_f64());
    }
    summary(&board);
    if board.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(board: &Board) {
    println!("\n{}", figure::TABLE_HEAD);
    board.figures.iter().for_each(|figure| println!("{}", figure.table_row()));
    let reached = board.figures.iter().filter(|figure| figure.is_reached()).count();
    println!("\n{reached} of {} figures reached, {} groups broken", board.figures.len(), board.broken);
}
