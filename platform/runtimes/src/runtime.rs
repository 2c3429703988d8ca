//! The room's face: one value that resolves and prepares runtimes for a machine and a data directory.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{RuntimeError, cache::Cache, install::Shelf, interpreter::Interpreters, node, provided, python};

/// A sentence for the user about something that differs from AWS.
pub type Warning = String;

/// What a function says about how it wants to run.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `python3.13`, `nodejs22.x`, `provided.al2023`.
    pub runtime: &'a str,
    /// `module.function`; empty for provided runtimes.
    pub handler: &'a str,
    /// The host folder that will be `/var/task`.
    pub code: &'a Path,
    /// What the function's owner calls that folder; `None`: its path says nothing to them, as of a zip's files or a build's.
    pub known_as: Option<&'a Path>,
    /// The host folder that will be `/opt`, if there are layers.
    pub layers: Option<&'a Path>,
    /// MemorySize in MB.
    pub memory_mb: u32,
    /// The function's own `NODE_OPTIONS`.
    pub node_options: Option<&'a str>,
    /// The function's `AWS_LAMBDA_EXEC_WRAPPER`, a path inside; provided runtimes know none.
    pub exec_wrapper: Option<&'a str>,
}

/// How to start a function's runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Argument vector; paths are inside the sandbox.
    pub program: Vec<String>,
    /// Read-only binds, (host, inside). A later one may lie on top of an earlier one: keep the order.
    pub binds: Vec<(PathBuf, String)>,
    /// What depends on the runtime: `PATH`, `LD_LIBRARY_PATH`, `AWS_EXECUTION_ENV`, …
    pub environment: Vec<(String, String)>,
    /// Where this differs from AWS, each a sentence for the user.
    pub warnings: Vec<Warning>,
    /// What is wrong with the function's own code, where that shows.
    pub code_warnings: Vec<Warning>,
}

/// Resolves and prepares runtimes. Cheap to share behind an `Arc`; every method takes `&self`.
#[derive(Debug)]
pub struct Runtimes {
    pub(crate) strict: bool,
    pub(crate) own_bootstrap: bool,
    /// Roots that sandboxes trust, PEM, on the host.
    pub(crate) trust: Option<PathBuf>,
    pub(crate) shelf: Shelf,
    /// Functions run as another user than this, and see this host's folders.
    pub(crate) for_others: bool,
    /// What was built for functions.
    pub(crate) builds: Shelf,
    pub(crate) interpreters: Mutex<Interpreters>,
    /// Where this process has put our bootstrap, by folder and file to start: a start need not look again. The
    /// lock is held while putting it there, so that concurrent first starts do not stumble over each other.
    pub(crate) placed: Mutex<HashMap<PathBuf, String>>,
    /// Warnings that were told.
    told: Mutex<Told>,
}

/// Warnings that were told, by what they are about.
#[derive(Debug, Default)]
struct Told {
    of_this_host: BTreeSet<Warning>,
    of_code: BTreeSet<OfCode>,
}

/// A function's ARN, its code's digest, and its handler.
type OfCode = (String, String, String);

/// So many warnings of each kind are remembered as told.
const TOLD_MAX: usize = 1_000;

/// Set to anything to run Python functions on Onrush's own bootstrap.
const OWN_BOOTSTRAP: &str = "ONRUSH_OWN_BOOTSTRAP";

/// Where functions find the roots that they trust, when it is not the host's bundle.
pub const TRUST: &str = "/etc/onrush/ca-bundle.pem";
/// Who looks where: OpenSSL (Python's `ssl`, curl, Rust's native roots, Node by its flag), botocore and the aws CLI, Python's
/// requests, curl built otherwise.
pub(crate) const TRUST_VARIABLES: [&str; 4] =
    ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// What the start of AWS's managed runtimes does with a wrapper: the runtime's command line is the wrapper's arguments, the
/// bootstrap the last of them. It takes the place of this shell, so that signals reach the runtime.
///
/// Source: Lambda Developer Guide, "Modifying the runtime environment", wrapper scripts (published); words and exit status of
/// what is no program: the bootstrap script in AWS's images.
const THROUGH_WRAPPER: &str = r#"[ -f "$0" ] || { echo "$0: does not exist" >&2; exit 127; }
[ -x "$0" ] || { echo "$0: is not an executable" >&2; exit 126; }
exec "$0" "$@""#;

/// The families of runtime identifiers.
pub(crate) enum Family {
    Provided,
    Python { minor: u32 },
    Node { major: u32 },
}

impl Runtimes {
    /// For a data directory, which need not exist yet. `strict` makes a version that is not exactly the
    /// runtime's an error instead of a warning. Touches no file.
    pub fn open(data_dir: &Path, strict: bool) -> Runtimes {
        let own_bootstrap = std::env::var_os(OWN_BOOTSTRAP).is_some_and(|value| !value.is_empty());
        Runtimes {
            strict,
            own_bootstrap,
            for_others: false,
            trust: None,
            shelf: Shelf::new(data_dir, Cache::of_this_user()),
            builds: Shelf::below(data_dir, "builds", None),
            interpreters: Mutex::default(),
            placed: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Runs Python functions on Onrush's own bootstrap even where AWS's client is installed; the same as
    /// setting `ONRUSH_OWN_BOOTSTRAP`.
    pub fn with_own_bootstrap(self) -> Runtimes {
        Runtimes { own_bootstrap: true, ..self }
    }

    /// Prefers interpreters that other users can reach: functions run as such, below no root of their own.
    pub fn for_others(self) -> Runtimes {
        Runtimes { for_others: true, ..self }
    }

    /// Lets functions trust the roots of this bundle instead of the host's: it is shown inside at [`TRUST`], and every
    /// runtime is pointed to it.
    pub fn trusting(self, bundle: PathBuf) -> Runtimes {
        Runtimes { trust: Some(bundle), ..self }
    }

    /// What runs a function. Called at deploy and at each environment's start: the first call of a runtime
    /// looks for interpreters (tens of milliseconds), later ones cost a few file look-ups.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidEntrypoint`] belongs to the invocation, the others to the deployment.
    pub fn resolve(&self, request: &Request<'_>) -> Result<Launch, RuntimeError> {
        let mut launch = match family(request.runtime)? {
            Family::Provided => provided::resolve(request),
            Family::Python { minor } => python::resolve(self, request, minor),
            Family::Node { major } => node::resolve(self, request, major),
        }?;
        let is_managed = !request.runtime.starts_with("provided");
        if let Some(wrapper) = request.exec_wrapper.filter(|path| is_managed && !path.is_empty()) {
            let shell = ["/bin/sh", "-c", THROUGH_WRAPPER, wrapper].map(str::to_owned);
            launch.program.splice(0..0, shell);
        }
        if let Some(bundle) = &self.trust {
            launch.binds.push((bundle.clone(), TRUST.to_owned()));
            launch.environment.extend(TRUST_VARIABLES.map(|name| (name.to_owned(), TRUST.to_owned())));
        }
        Ok(launch)
    }

    /// Whether something here can run this runtime: quick, nothing is installed.
    ///
    /// # Errors
    /// [`RuntimeError::NotExact`], [`RuntimeError::NoInterpreter`], or the runtime is none of ours.
    pub fn check(&self, runtime: &str) -> Result<(), RuntimeError> {
        match family(runtime)? {
            Family::Provided => Ok(()),
            Family::Python { .. } => python::interpreter(self, runtime).map(drop),
            Family::Node { .. } => node::interpreter(self, runtime).map(drop),
        }
    }

    /// Those of some warnings that nobody was told yet; now they are. Many functions share a runtime, and what is to be said
    /// of it.
    pub fn untold(&self, warnings: Vec<Warning>) -> Vec<Warning> {
        let told = &mut self.told().of_this_host;
        warnings.into_iter().filter(|warning| is_new(told, warning.clone())).collect()
    }

    /// All warnings of one function's code, or none if they were told since [`Runtimes::deploy_begins`]: `arn` is the function's,
    /// `sha256` the code's digest. What is wrong with a version that has both as the function does is not told again, though its
    /// code lies elsewhere.
    pub fn untold_of_code(
        &self,
        arn: &str,
        sha256: &str,
        handler: &str,
        mut warnings: Vec<Warning>,
    ) -> Vec<Warning> {
        let key = || [arn, sha256, handler].map(str::to_owned).into();
        if !warnings.is_empty() && !is_new(&mut self.told().of_code, key()) {
            warnings.clear();
        }
        warnings
    }

    /// The template, or a part of it, is deployed anew: what is wrong with code is told again.
    pub fn deploy_begins(&self) {
        self.told().of_code.clear();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the pip, npm, make and cargo that run now, and lets none begin: for the end of the process.
    pub fn stop_installers(&self) {
        self.shelf.installers.stop();
    }

    /// Installs once what AWS's `/var/runtime` carries for this runtime, by pip or npm, into the data
    /// directory; what another data directory of this user has is linked from the user's cache. Concurrent callers wait for the first, and other processes too. Without a network it
    /// answers with warnings that name which imports will fail, and the function still runs. A version that
    /// is only the nearest is [`Runtimes::resolve`]'s warning, not repeated here.
    ///
    /// # Errors
    /// As [`Runtimes::resolve`], but for the handler and the code; and [`RuntimeError::Files`].
    pub fn prepare(&self, runtime: &str, progress: &dyn Fn(&str)) -> Result<Vec<Warning>, RuntimeError> {
        match family(runtime)? {
            Family::Provided => Ok(Vec::new()),
            Family::Python { minor } => python::prepare(self, runtime, minor, progress),
            Family::Node { major } => node::prepare(self, runtime, major, progress),
        }
    }
}

/// Whether something was not told yet; now it is, as long as there is room to remember it.
fn is_new<K: Ord>(told: &mut BTreeSet<K>, key: K) -> bool {
    let is_new = !told.contains(&key);
    if is_new && told.len() < TOLD_MAX {
        told.insert(key);
    }
    is_new
}

/// `PATH`, `LD_LIBRARY_PATH` and `AWS_EXECUTION_ENV` of a managed runtime, as recorded on AWS.
pub(crate) fn managed_environment(runtime: &str) -> Vec<(String, String)> {
    let libraries =
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
    [
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("LD_LIBRARY_PATH", libraries),
        ("AWS_EXECUTION_ENV", &format!("AWS_Lambda_{runtime}")),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Reads a runtime identifier.
pub(crate) fn family(runtime: &str) -> Result<Family, RuntimeError> {
    let refused = |way_out| Err(RuntimeError::Refused { runtime: runtime.to_owned(), way_out });
    if let Some(minor) = runtime.strip_prefix("python3.").and_then(number) {
        return Ok(Family::Python { minor });
    }
    if let Some(major) =
        runtime.strip_prefix("nodejs").and_then(|rest| rest.strip_suffix(".x")).and_then(number)
    {
        return Ok(Family::Node { major });
    }
    match runtime {
        "provided.al2" | "provided.al2023" => Ok(Family::Provided),
        "provided" => refused("use provided.al2023, which runs the same bootstrap"),
        "go1.x" => refused("build for provided.al2023: name the binary bootstrap (AWS retired go1.x)"),
        _ if ["java", "dotnet", "ruby"].iter().any(|language| runtime.starts_with(language)) => {
            refused("package the function as a container image (PackageType: Image)")
        }
        _ => Err(RuntimeError::Unknown { runtime: runtime.to_owned() }),
    }
}

/// A small decimal number without sign or leading zeros.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0') && text.len() <= 3;
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_that_are_not_run_name_the_way_out() {
        for (runtime, way_out) in [
            ("java21", "container image"),
            ("dotnet8", "container image"),
            ("ruby3.3", "container image"),
            ("go1.x", "provided.al2023"),
        ] {
            let error = family(runtime).err().expect("refused").to_string();
            assert!(error.contains(way_out) && error.contains(runtime), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_code_is_told_once_of_each_function_and_code() {
        let data = tempfile::tempdir().unwrap();
        let runtimes = Runtimes::open(data.path(), false);
        let untold_in = |arn: &str, sha256: &str, place: &str| {
            runtimes.untold_of_code(arn, sha256, "app.handler", vec![format!("missing in {place}")]).len()
        };
        let untold = |arn: &str, sha256: &str| untold_in(arn, sha256, "cart");
        assert_eq!([untold("one", "a"), untold("one", "a"), untold_in("one", "a", "its copy")], [1, 0, 0]);
        assert_eq!([untold("other", "a"), untold("one", "b")], [1, 1]);
        runtimes.deploy_begins();
        assert_eq!(untold("one", "a"), 1);
        for n in 0..2 * TOLD_MAX {
            untold(&n.to_string(), "a");
        }
        assert_eq!(runtimes.told().of_code.len(), TOLD_MAX);
    }

    #[test]
    fn identifiers_are_read_strictly() {
        assert!(matches!(family("python3.13"), Ok(Family::Python { minor: 13 })));
        assert!(matches!(family("nodejs22.x"), Ok(Family::Node { major: 22 })));
        for wrong in [
            "",
            "python3.",
            "python3.x",
            "python3.99999",
            "python2.7",
            "nodejs.x",
            "nodejs22",
            "nodejs-1.x",
            "é",
        ] {
            assert!(matches!(family(wrong), Err(RuntimeError::Unknown { .. })), "{wrong}");
        }
    }
}
