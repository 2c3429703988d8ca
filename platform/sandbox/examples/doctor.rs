//! Prints what this host can enforce: `cargo run -p sandbox --example doctor -- STATE_FOLDER`.

use std::path::PathBuf;

fn main() {
    let folder =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("onrush-doctor"), PathBuf::from);
    for ability in sandbox::probe(&folder).items {
        let cure = ability.cure.map_or_else(String::new, |cure| format!(" [{cure}]"));
        println!("{:20} {:9} {}{cure}", ability.name, ability.state.word(), ability.detail);
    }
}
