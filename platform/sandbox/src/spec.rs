//! What the caller says: how to run the room, and what one execution environment is made of.

use std::path::PathBuf;

/// How far environments are kept apart from the host and from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// User, mount, pid, network, IPC, UTS and control group namespaces, and a root of their own.
    Namespaces,
    /// Plain processes with resource limits, for hosts that refuse namespaces. Isolates nothing.
    Process,
}

/// How many parts are made ahead. A part that is not in stock is made while the start waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSizes {
    /// Network namespaces with loopback up; about 210 KB of kernel memory and 0.3 ms each.
    pub networks: usize,
    /// Control groups; about 55 KB and 0.1 ms each.
    pub groups: usize,
    /// File systems for `/tmp` of the default size; a loop device and about 1.5 ms each.
    pub temporaries: usize,
}

impl Default for PoolSizes {
    fn default() -> Self {
        PoolSizes { networks: 8, groups: 8, temporaries: 8 }
    }
}

/// How to run the room.
#[derive(Clone, Debug)]
pub struct Options {
    /// A folder of the room's own: images under construction and the record of what to clean.
    pub state_dir: PathBuf,
    /// How environments are kept apart.
    pub isolation: Isolation,
    /// What is made ahead.
    pub pool: PoolSizes,
    /// Whether environments get a network interface beside loopback, where the host allows it.
    pub interfaces: bool,
}

/// A host folder or file shown read-only inside an environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bind {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path inside; folders on the way are made.
    pub inside: PathBuf,
}

/// What one execution environment is made of. Everything but sizes is the same for all environments of one
/// function version, so callers keep one `Arc<Spec>` per version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Host name shown inside; at most 64 bytes.
    pub hostname: String,
    /// Recycled parts stay within one key and never go to another.
    pub version_key: u64,
    /// Host folder bound read-only at `/var/task`; it and its files must be readable by others.
    pub task: PathBuf,
    /// Host folder bound read-only at `/opt`, the layers already merged.
    pub opt: Option<PathBuf>,
    /// More read-only binds, such as an interpreter's prefix or `/var/runtime`.
    pub binds: Vec<Bind>,
    /// Program and arguments; the program is a path inside, never looked up in `PATH`.
    pub program: Vec<String>,
    /// The whole environment of the program; nothing of the host's is added.
    pub environment: Vec<(String, String)>,
    /// Where the program starts, normally `/var/task`.
    pub working_directory: String,
    /// MemorySize in MiB; also sets the CPU share, `memory_mb / 1769` of a core.
    pub memory_mb: u32,
    /// Size of `/tmp` in MiB, not counted against `memory_mb` where the host allows it.
    pub tmp_mb: u32,
    /// Whether the interface speaks IPv6 beside IPv4.
    pub dual_stack: bool,
}

/// How the main process of an environment ended. When it ends, everything it started has ended too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, when it exited by itself.
    pub code: Option<i32>,
    /// Signal that ended it, 9 also when the environment was killed from outside.
    pub signal: Option<i32>,
    /// Whether the environment reached its memory limit and was ended for it.
    pub out_of_memory: bool,
}

impl Spec {
    /// The same without walls: paths inside become paths of the host, and the Runtime API's address becomes
    /// the real one. Applies to the program, the working directory, and each part of a `:` list in the
    /// environment.
    pub(crate) fn outside(&self, address_inside: &str, address: &str) -> Spec {
        let mut places = vec![("/var/task".to_owned(), self.task.to_string_lossy().into_owned())];
        if let Some(opt) = &self.opt {
            places.push(("/opt".to_owned(), opt.to_string_lossy().into_owned()));
        }
        for bind in &self.binds {
            places
                .push((bind.inside.to_string_lossy().into_owned(), bind.host.to_string_lossy().into_owned()));
        }
        // The most particular place wins.
        places.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.len()));
        let path = |text: &str| -> String {
            for (inside, host) in &places {
                if let Some(rest) = text.strip_prefix(inside.as_str())
                    && (rest.is_empty() || rest.starts_with('/'))
                {
                    return format!("{host}{rest}");
                }
            }
            text.to_owned()
        };
        let value = |text: &str| -> String {
            if text == address_inside {
                return address.to_owned();
            }
            text.split(':').map(path).collect::<Vec<_>>().join(":")
        };
        let environment = self.environment.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        let mut spec = self.clone();
        spec.program = self.program.iter().map(|argument| path(argument)).collect();
        spec.environment = environment;
        spec.working_directory = path(&self.working_directory);
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_walls_paths_inside_become_paths_of_the_host() {
        let spec = Spec {
            hostname: String::new(),
            version_key: 1,
            task: "/code/abc".into(),
            opt: Some("/layers/x".into()),
            binds: vec![Bind { host: "/py".into(), inside: "/var/task/lib".into() }],
            program: vec!["/var/task/bootstrap".into(), "/var/tasks".into()],
            environment: vec![
                ("P".into(), "/bin:/opt/bin:/var/task/lib/x".into()),
                ("AWS_LAMBDA_RUNTIME_API".into(), "127.0.0.1:9001".into()),
            ],
            working_directory: "/var/task".into(),
            memory_mb: 128,
            tmp_mb: 512,
            dual_stack: false,
        };
        let outside = spec.outside("127.0.0.1:9001", "127.0.0.1:45678");
        assert_eq!(outside.program, ["/code/abc/bootstrap", "/var/tasks"]);
        assert_eq!(outside.environment[0].1, "/bin:/layers/x/bin:/py/x");
        assert_eq!(outside.environment[1].1, "127.0.0.1:45678");
        assert_eq!(outside.working_directory, "/code/abc");
    }
}
