//! Node.js: the nearest installed interpreter, our bootstrap, and the AWS SDK's common clients.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Launch, Request, RuntimeError, Runtimes, Warning, handler,
    install::{Installed, place},
    interpreter::{Candidate, Interpreter, LANGUAGE_ROOT, Places, Version, ask, by_distance, for_users},
};

/// Our own runtime for Node. AWS's `aws-lambda-ric` is published without its native addon: its install
/// script builds curl and the addon from source with cmake, autotools and a C++ compiler, minutes of work
/// that a first deployment should not need. Texts and behaviour here follow it (3.3).
const BOOTSTRAP: &str = include_str!("../bootstraps/index.cjs");
/// The clients that functions use most, of what is served here all; AWS's runtime carries every one (500 MB of source).
const PACKAGES: [&str; 9] = [
    "@aws-sdk/client-dynamodb",
    "@aws-sdk/client-lambda",
    "@aws-sdk/client-s3",
    "@aws-sdk/client-secrets-manager",
    "@aws-sdk/client-sns",
    "@aws-sdk/client-sqs",
    "@aws-sdk/client-ssm",
    "@aws-sdk/client-sts",
    "@aws-sdk/lib-dynamodb",
];
/// npm's cache, for users without a home; on the shelf.
const NPM_CACHE: &str = ".npm";
/// Where version managers keep their Nodes, below the home, and the program in each version's folder.
const MANAGERS: [(&str, &str); 6] = [
    (".nvm/versions/node", "bin/node"),
    (".asdf/installs/nodejs", "bin/node"),
    (".local/share/mise/installs/node", "bin/node"),
    (".local/share/fnm/node-versions", "installation/bin/node"),
    (".volta/tools/image/node", "bin/node"),
    (".nodenv/versions", "bin/node"),
];

pub(crate) fn resolve(
    runtimes: &Runtimes,
    request: &Request<'_>,
    major: u32,
) -> Result<Launch, RuntimeError> {
    if request.handler.is_empty() {
        let runtime = request.runtime.to_owned();
        return Err(RuntimeError::NoHandler { runtime, example: "index.handler" });
    }
    let (interpreter, warning) = find(runtimes, request.runtime, major)?;
    let folder = match runtimes.shelf.complete(&shelf_name(&interpreter)) {
        Some(folder) => folder,
        None => runtimes.shelf.folder(&format!("{}-bare", shelf_name(&interpreter)))?,
    };
    let mut placed = runtimes.placed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !placed.contains_key(&folder) {
        place(&folder, "index.cjs", BOOTSTRAP.as_bytes())?;
        placed.insert(folder.clone(), "index.cjs".to_owned());
    }
    drop(placed);
    let unreachable = || RuntimeError::Files {
        path: interpreter.program.clone(),
        source: std::io::Error::other("the interpreter lies outside its own prefix"),
    };
    let mut program = vec![interpreter.inside(&interpreter.program).ok_or_else(unreachable)?];
    if runtimes.trust.is_some() {
        // Node's own roots are compiled in. NODE_EXTRA_CA_CERTS reads its file at every start (47 ms for a host's bundle,
        // measured); with this flag SSL_CERT_FILE is read when the first TLS context is made, and not before.
        program.push("--use-openssl-ca".to_owned());
    }
    program.extend(flags(interpreter.version, major, request));
    program.push("/var/runtime/index.cjs".to_owned());
    let mut binds = Vec::new();
    if !interpreter.is_shared() {
        binds.push((interpreter.prefix.clone(), LANGUAGE_ROOT.to_owned()));
    }
    // AWS's runtime lets ES modules find packages by NODE_PATH too, which Node itself does not. Modules of
    // /var/task look upwards: /var/node_modules, then /node_modules; so layers lie on the first and the
    // runtime's own packages on the second.
    let of_layers = request.layers.and_then(|layers| {
        let versioned = layers.join(format!("nodejs/node{major}/node_modules"));
        let own = layers.canonicalize().ok()?;
        // A layer's link could lead anywhere on the host, and what is bound is what it leads to.
        [versioned, layers.join("nodejs/node_modules")]
            .into_iter()
            .filter_map(|folder| folder.canonicalize().ok())
            .find(|folder| folder.is_dir() && folder.starts_with(&own))
    });
    binds.extend(of_layers.map(|folder| (folder, "/var/node_modules".to_owned())));
    let own = folder.join("node_modules");
    if own.is_dir() {
        binds.push((own, "/node_modules".to_owned()));
    }
    binds.push((folder, "/var/runtime".to_owned()));
    let mut environment = crate::runtime::managed_environment(request.runtime);
    environment.push(("NODE_PATH".to_owned(), node_path(major)));
    let warnings = warning.into_iter().collect();
    let code_warnings = handler::warning(request, handler::Language::Node).into_iter().collect();
    Ok(Launch { program, binds, environment, warnings, code_warnings })
}

/// How AWS starts Node; what the function's `NODE_OPTIONS` say otherwise stands, and what its wrapper makes of the command line.
/// `here` is this host's Node, `major` the one that the function is made for.
///
/// Source: the bootstrap script in AWS's images; of ES modules Lambda Developer Guide, "Building Lambda functions with
/// Node.js", the experimental features that Lambda disables (published). Node 18 and older have neither of these.
fn flags(here: Version, major: u32, request: &Request<'_>) -> Vec<String> {
    let options = request.node_options.unwrap_or("").replace('_', "-");
    // Headers of the Runtime API may be long (client context).
    let mut flags = vec!["--expose-gc".to_owned(), "--max-http-header-size=81920".to_owned()];
    // Without, V8 goes by the host's memory, and puts off collecting until the environment has none left.
    if !options.contains("--max-semi-space-size") && !options.contains("--max-old-space-size") {
        // A young generation has three semi-spaces, and is a twentieth; another one is for what is not on the heap.
        let new_space = request.memory_mb / 10;
        flags.push(format!("--max-semi-space-size={}", (new_space / 6).max(1)));
        flags.push(format!("--max-old-space-size={}", request.memory_mb - new_space));
    }
    let is_known = |since| here.major == 20 && here.minor >= since || (22..=24).contains(&here.major);
    for (feature, is_off, is_known) in [
        ("experimental-require-module", major <= 22, is_known(17)),
        ("experimental-detect-module", major == 22 || major <= 18, is_known(10)),
    ] {
        if is_off && is_known && !options.contains(&format!("--{feature}")) {
            flags.push(format!("--no-{feature}"));
        }
    }
    flags
}

pub(crate) fn prepare(
    runtimes: &Runtimes,
    runtime: &str,
    major: u32,
    progress: &dyn Fn(&str),
) -> Result<Vec<Warning>, RuntimeError> {
    let (interpreter, _) = find(runtimes, runtime, major)?;
    let mut warnings = Vec::new();
    let installed = runtimes.shelf.install(&shelf_name(&interpreter), &PACKAGES, |staging| {
        progress(&format!("installing the AWS SDK's common clients for Node {} (once)", interpreter.version));
        runtimes.shelf.installers.run(&mut npm(&interpreter, runtimes.shelf.root(), staging), progress)
    })?;
    if let Installed::Failed(reason) = installed {
        warnings.push(format!(
            "{runtime}: npm could not install the AWS SDK ({reason}); imports of {} will fail unless the function \
             brings them",
            PACKAGES.join(", ")
        ));
    }
    Ok(warnings)
}

fn npm(interpreter: &Interpreter, shelf: &Path, staging: &Path) -> Command {
    let mut npm = npm_command(interpreter, shelf);
    npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--no-update-notifier"]);
    npm.args([
        "--loglevel=error",
        "--fetch-retries=1",
        "--fetch-timeout=15000",
        "--fetch-retry-mintimeout=500",
    ]);
    npm.arg("--prefix").arg(staging).current_dir(staging).args(PACKAGES);
    npm
}

/// Whether this user has a home folder that may be written to.
fn has_home() -> bool {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    std::env::var_os("HOME").is_some_and(|home| rustix::fs::access(home, access).is_ok())
}

/// What runs a Node runtime.
pub(crate) fn interpreter(runtimes: &Runtimes, runtime: &str) -> Result<Interpreter, RuntimeError> {
    let major = runtime.strip_prefix("nodejs").and_then(|rest| rest.strip_suffix(".x")?.parse().ok());
    let major = major.ok_or_else(|| RuntimeError::Unknown { runtime: runtime.to_owned() })?;
    find(runtimes, runtime, major).map(|(interpreter, _)| interpreter)
}

/// The interpreter's own npm where there is one, run by that very node. npm does nothing without its cache: a user who has
/// no home to write to, as services have none, gets one on the shelf.
pub(crate) fn npm_command(interpreter: &Interpreter, shelf: &Path) -> Command {
    let beside = interpreter.program.with_file_name("npm");
    let mut npm = Command::new(if beside.exists() { beside } else { PathBuf::from("npm") });
    let mut path = vec![interpreter.prefix.join("bin")];
    path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    if let Ok(path) = std::env::join_paths(path) {
        npm.env("PATH", path);
    }
    if !has_home() && std::env::var_os("npm_config_cache").is_none() {
        npm.env("npm_config_cache", shelf.join(NPM_CACHE));
    }
    npm
}

fn shelf_name(interpreter: &Interpreter) -> String {
    format!("nodejs{}", interpreter.version.major)
}

/// As recorded on AWS: layers for this version, layers for all, the runtime's, the runtime itself.
fn node_path(major: u32) -> String {
    format!(
        "/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
    )
}

fn find(
    runtimes: &Runtimes,
    runtime: &str,
    major: u32,
) -> Result<(Interpreter, Option<String>), RuntimeError> {
    let mut interpreters = runtimes.interpreters.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(known) = interpreters.known.get(runtime) {
        return Ok(known.clone());
    }
    let places = Places::of_this_process();
    let found = for_users(runtimes, (runtime, "Node.js"), |accept| nearest(&places, major, accept));
    let (nearest, closed) = found.ok_or_else(|| RuntimeError::NoInterpreter {
        runtime: runtime.to_owned(),
        language: "Node.js",
        looked_in: places.describe(&MANAGERS.map(|(folder, _)| folder)),
    })?;
    let exact = nearest.version.major == major;
    if !exact && runtimes.strict {
        return Err(RuntimeError::NotExact {
            runtime: runtime.to_owned(),
            wanted: format!("Node.js {major}"),
            nearest: format!("Node.js {}", nearest.version),
        });
    }
    let usual = || {
        format!(
            "{runtime}: Node.js {major} is not installed; running on the nearest, Node.js {}",
            nearest.version
        )
    };
    let warning = closed.or_else(|| (!exact).then(usual));
    interpreters.known.insert(runtime.to_owned(), (nearest.clone(), warning.clone()));
    Ok((nearest, warning))
}

/// What may be a Node.js here.
pub(crate) fn candidates(places: &Places) -> Vec<Candidate> {
    managed(places).into_iter().chain(on_path(places)).collect()
}

fn managed(places: &Places) -> Vec<Candidate> {
    MANAGERS.iter().flat_map(|(folder, program)| places.managed(&[folder], program)).collect()
}

fn on_path(places: &Places) -> Vec<Candidate> {
    places.on_path(|name| (name == "node" || name == "nodejs").then_some(None))
}

/// Candidates with a known version come nearest first; the `node` of `PATH` is asked when none is exact.
fn nearest(places: &Places, major: u32, accept: &dyn Fn(&Interpreter) -> bool) -> Option<Interpreter> {
    let mut managed = managed(places);
    let distance = |version: Version| by_distance(major, version.major);
    managed.sort_by_key(|it| it.promised.map(distance));
    let exact = |it: &Interpreter| it.version.major == major && accept(it);
    let is_exact = |it: &&Candidate| it.promised.is_some_and(|version| version.major == major);
    if let Some(found) = managed.iter().filter(is_exact).filter_map(describe).find(exact) {
        return Some(found);
    }
    let on_path = on_path(places);
    let mut found: Vec<Interpreter> = on_path.iter().filter_map(describe).filter(accept).collect();
    found.extend(managed.iter().filter_map(describe).find(accept));
    found.into_iter().min_by_key(|it| distance(it.version))
}

fn describe(candidate: &Candidate) -> Option<Interpreter> {
    let question = "console.log(process.version); console.log(require('fs').realpathSync(process.execPath))";
    let answers = ask(&candidate.program, &["-e", question])?;
    let [version, program] = answers.as_slice() else { return None };
    let program = PathBuf::from(program);
    let prefix = program.parent().and_then(|bin| bin.parent())?.to_owned();
    Some(Interpreter { version: Version::read(version)?, program, prefix, package_folders: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(here: &str, major: u32, memory_mb: u32, node_options: Option<&str>) -> String {
        let code = Path::new("/code");
        let request = Request {
            runtime: "",
            handler: "",
            code,
            known_as: None,
            layers: None,
            memory_mb,
            node_options,
            exec_wrapper: None,
        };
        flags(Version::read(here).unwrap(), major, &request).join(" ")
    }

    #[test]
    fn the_heap_is_that_of_the_functions_memory() {
        let heap = "--max-semi-space-size=2 --max-old-space-size=116";
        assert!(started("20.20.2", 20, 128, None).contains(heap));
        assert!(
            started("20.20.2", 20, 10_240, None)
                .contains("--max-semi-space-size=170 --max-old-space-size=9216")
        );
        for own in ["--max-old-space-size=80", "--inspect --max_semi_space_size=4"] {
            assert!(!started("20.20.2", 20, 128, Some(own)).contains("space"), "{own}");
        }
    }

    #[test]
    fn modules_are_loaded_as_the_functions_own_node_does() {
        let (require, detect) = ("--no-experimental-require-module", "--no-experimental-detect-module");
        for (here, major, expected) in [
            ("20.20.2", 20, vec![require]),
            ("22.21.0", 22, vec![require, detect]),
            ("24.3.0", 22, vec![require, detect]),
            ("20.20.2", 18, vec![require, detect]),
            ("24.3.0", 24, vec![]),
            ("20.11.0", 18, vec![detect]),
            // These know no such flag.
            ("18.20.0", 18, vec![]),
            ("26.0.0", 22, vec![]),
        ] {
            let flags = started(here, major, 128, None);
            let found: Vec<&str> = flags.split(' ').filter(|flag| flag.starts_with("--no-")).collect();
            assert_eq!(found, expected, "Node {here} for nodejs{major}.x");
        }
        assert!(!started("22.21.0", 22, 128, Some("--experimental-require-module")).contains(require));
    }
}
