//! Cold start of the Rust function from a container image of 300 MB, beside the same function as a zip: many functions of each,
//! each invoked once, in turn. The image is unpacked before, once.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::platform::{Function, Site};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Between two first invocations, as in the row of zips.
const GAP: Duration = Duration::from_millis(15);
/// What an image may take more than a zip.
const MORE_MS: f64 = 3.0;
/// The image's files, beside the program and its libraries: 300 MB.
const FILES: usize = 3_000;
const FILE_BYTES: usize = 100_000;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.echo_function()?;
    let image = image(bench, &code.join("bootstrap"))?;
    let count = bench.pick(40, 100);
    let zips = (0..count).map(|number| Function::rust(format!("zip{number}"), &code));
    let images = (0..count)
        .map(|number| Function { is_image: true, ..Function::rust(format!("image{number}"), &image) });
    let functions: Vec<_> = zips.chain(images).collect();
    let site = Site::new(bench, &functions)?;
    let [mut ours, mut zip] = [const { Samples(Vec::new()) }; 2];
    for _ in 0..bench.pick(2, 5) {
        let platform = site.start()?;
        thread::sleep(GAP * 10);
        let [mut of_images, mut of_zips] = [const { Samples(Vec::new()) }; 2];
        for number in 0..count {
            for (name, times) in [("zip", &mut of_zips), ("image", &mut of_images)] {
                let answer = platform.invoke(&format!("{name}{number}"), "{}")?;
                times.push(answer.first_byte.as_secs_f64() * 1e3);
                thread::sleep(GAP);
            }
        }
        ours.push(of_images.median());
        zip.push(of_zips.median());
    }
    board.add(Figure {
        what: "cold start, the Rust function in an image of 300 MB, unpacked, p50".to_owned(),
        unit: "ms",
        ours,
        other: Some(("the same as a zip", zip)),
        goal: Goal::AtMostTimesPlus { times: 1.0, plus: MORE_MS },
    });
    Ok(())
}

/// What `docker save` would write of an image with this program, the libraries it asks for, and much else.
fn image(bench: &Bench, program: &Path) -> Result<PathBuf> {
    let folder = bench.folder("image")?;
    let root = folder.join("root");
    let place = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to);
        fs::create_dir_all(to.parent().context("it lies in the root")?)?;
        fs::copy(from, &to).with_context(|| from.display().to_string())?;
        Ok(())
    };
    place(program, "app/bootstrap")?;
    for library in libraries(program)? {
        place(&library, library.to_string_lossy().trim_start_matches('/'))?;
    }
    for name in ["tmp", "dev", "proc", "etc", "var/task"] {
        fs::create_dir_all(root.join(name))?;
    }
    // No two alike, and nothing that could be left out.
    let mut piece = vec![0u8; FILE_BYTES];
    for number in 0..FILES {
        let mut state = number as u32 + 1;
        for byte in &mut piece {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let below = root.join(format!("usr/share/ballast/{}", number % 50));
        fs::create_dir_all(&below)?;
        File::create(below.join(number.to_string()))?.write_all(&piece)?;
    }
    let layer = folder.join("layer.tar");
    said(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&layer).arg("."))?;
    fs::remove_dir_all(&root)?;
    let digest = said(Command::new("sha256sum").arg(&layer))?;
    let digest = digest.split_whitespace().next().context("sha256sum says a digest")?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let configuration = json!({
        "architecture": architecture, "os": "linux", "config": {"Entrypoint": ["/app/bootstrap"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(folder.join("config.json"), configuration.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": ["bench:v1"], "Layers": ["layer.tar"]}]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join("image.tar");
    let parts = ["manifest.json", "config.json", "layer.tar"];
    said(Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).args(parts))?;
    fs::remove_file(&layer)?;
    Ok(archive)
}

fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let text = said(Command::new("ldd").arg(program))?;
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
