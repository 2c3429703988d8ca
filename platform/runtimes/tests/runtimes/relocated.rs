//! A launch inside a root of its own: only what it binds is there, as in a sandbox.

use std::{path::Path, process::Command};

use runtimes::{Launch, Request, Runtimes};

use crate::{api, data_dir, functions, variables};

/// Arguments: root, then pairs of host and inside, then `--` and the program.
const ROOT: &str = r#"
set -e
root=$1; shift
mount -t tmpfs none "$root"; cd "$root"
mkdir -p usr etc/ssl dev proc tmp opt var
mount --rbind /usr usr
mount --rbind /proc proc
[ -d /etc/ssl ] && mount --rbind /etc/ssl etc/ssl
echo 'root:x:0:0::/tmp:/bin/sh' > etc/passwd
touch etc/ld.so.cache; [ -f /etc/ld.so.cache ] && mount --bind /etc/ld.so.cache etc/ld.so.cache
for device in null urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
for name in bin sbin lib lib64; do
  if [ -L /$name ]; then cp -P /$name $name; elif [ -d /$name ]; then mkdir $name; mount --rbind /$name $name; fi
done
while [ "$1" != -- ]; do mkdir -p ".$2"; mount --rbind "$1" ".$2"; shift 2; done
shift
exec /usr/sbin/chroot . /bin/sh -c 'cd /var/task && exec "$@"' sh "$@"
"#;

fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn run(launch: &Launch, code: &Path, handler: &str, event: &str) -> serde_json::Value {
    let root = tempfile::tempdir().expect("a folder");
    let mut program: Vec<String> =
        ["unshare", "--map-root-user", "--mount", "sh", "-c", ROOT, "sh"].map(str::to_owned).to_vec();
    program.push(root.path().display().to_string());
    program.extend([code.display().to_string(), "/var/task".to_owned()]);
    for (host, inside) in &launch.binds {
        program.extend([host.display().to_string(), inside.clone()]);
    }
    program.push("--".to_owned());
    program.extend(launch.program.iter().cloned());
    api::run(&program, &variables(launch, handler, &[]), code, &[event]).answer()
}

#[test]
fn an_interpreter_runs_where_only_its_prefix_is_bound() {
    if !can_unshare() {
        eprintln!("skipped: this host refuses user namespaces");
        return;
    }
    let runtimes = Runtimes::open(&data_dir(), false);
    let installed =
        !runtimes.prepare("python3.13", &|_| ()).expect("prepared").iter().any(|it| it.contains("pip"));
    let code = functions("python");
    for runtime in ["python3.11", "python3.13"] {
        let handler = "app.imports";
        let launch = runtimes
            .resolve(&Request {
                runtime,
                handler,
                code: &code,
                known_as: None,
                layers: None,
                memory_mb: 128,
                node_options: None,
                exec_wrapper: None,
            })
            .expect("resolved");
        // Modules that need shared libraries and data of the prefix, and the host's packages.
        let event =
            r#"{"modules":["ssl","sqlite3","ctypes","hashlib","zoneinfo","asyncio","pip","setuptools"]}"#;
        let found = run(&launch, &code, handler, event);
        for module in ["ssl", "sqlite3", "ctypes", "hashlib", "zoneinfo", "asyncio"] {
            let path = found[module].as_str().unwrap_or_default();
            assert!(
                path.starts_with("/var/lang/") || path.starts_with("/usr/"),
                "{runtime} {module}: {found}"
            );
        }
        for module in ["pip", "setuptools"] {
            assert!(
                found[module].as_str().is_some_and(|it| it.starts_with("ImportError")),
                "{runtime}: {found}"
            );
        }
        let paths = run(&launch, &code, "app.paths", "{}");
        assert_eq!(paths["path"][0], "/var/task", "{paths}");
        assert_eq!(paths["path"][3], "/var/runtime", "{paths}");
    }
    if installed {
        let request = Request {
            runtime: "python3.13",
            handler: "app.imports",
            code: &code,
            known_as: None,
            layers: None,
            memory_mb: 128,
            node_options: None,
            exec_wrapper: None,
        };
        let launch = runtimes.resolve(&request).expect("resolved");
        let found = run(&launch, &code, "app.imports", r#"{"modules":["boto3","botocore","awslambdaric"]}"#);
        for module in ["boto3", "botocore", "awslambdaric"] {
            let path = found[module].as_str().unwrap_or_default();
            assert!(path.starts_with("/var/runtime/"), "{found}");
        }
    }
}

#[test]
fn node_finds_the_runtimes_packages_from_both_kinds_of_modules() {
    if !can_unshare() {
        eprintln!("skipped: this host refuses user namespaces");
        return;
    }
    // Not one that is kept: an older state's packages may be there.
    let data = tempfile::tempdir().expect("a folder");
    let runtimes = Runtimes::open(data.path(), false);
    let warnings = runtimes.prepare("nodejs20.x", &|line| eprintln!("{line}")).expect("prepared");
    if let Some(warning) = warnings.iter().find(|it| it.contains("npm")) {
        eprintln!("skipped: {warning}");
        return;
    }
    let code = tempfile::tempdir().expect("a folder");
    // The clients of what is served here under AWS's names.
    let clients =
        [("ssm", "SSM"), ("secrets-manager", "SecretsManager"), ("sts", "STS"), ("lambda", "Lambda")];
    let (mut common, mut module) = (String::new(), String::new());
    for (package, name) in clients {
        common += &format!("const {{ {name}Client }} = require('@aws-sdk/client-{package}');\n");
        module += &format!("import {{ {name}Client }} from '@aws-sdk/client-{package}';\n");
    }
    let names = clients.map(|(_, name)| format!("{name}Client"));
    let answer =
        format!("async () => [{}].map(Client => new Client({{}}).constructor.name);\n", names.join(", "));
    common += &format!("exports.handler = {answer}");
    module += &format!("export const handler = {answer}");
    std::fs::write(code.path().join("common.js"), common).expect("written");
    std::fs::write(code.path().join("module.mjs"), module).expect("written");
    for handler in ["common.handler", "module.handler"] {
        let request = Request {
            runtime: "nodejs20.x",
            handler,
            code: code.path(),
            known_as: None,
            layers: None,
            memory_mb: 128,
            node_options: None,
            exec_wrapper: None,
        };
        let launch = runtimes.resolve(&request).expect("resolved");
        assert_eq!(run(&launch, code.path(), handler, "{}"), serde_json::json!(names), "{handler}");
    }
}
