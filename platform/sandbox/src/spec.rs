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
    /// Blank environments that stay after a minute without a start, which hold one of each of the above; none before the
    /// first start, 4 after it, up to 16 while starts come faster than they can be made. A process of 0.8 MB each, and 1.9 MB
    /// that it shares with the platform.
    pub blanks: usize,
}

impl Default for PoolSizes {
    fn default() -> Self {
        PoolSizes { networks: 8, groups: 8, temporaries: 8, blanks: 1 }
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
    /// Recycled parts stay within one key and never go to another: [`Heritage::version_key`](crate::Heritage::version_key).
    pub version_key: u64,
    /// Folders laid over each other to be the whole root, lowest first, as images have them; none for a root made of
    /// the host's `/usr`, `task` and `opt`. Needs walls.
    pub image: Vec<PathBuf>,
    /// Host folder bound read-only at `/var/task`; it and its files must be readable by others. An image has its own.
    pub task: PathBuf,
    /// Host folder bound read-only at `/opt`, the layers already merged.
    pub opt: Option<PathBuf>,
    /// More read-only binds, such as an interpreter's prefix or `/var/runtime`.
    pub binds: Vec<Bind>,
    /// Program and arguments; the program is a path inside, or a name that is looked up in `PATH` inside.
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
    /// Programs that run beside the main one and start before it.
    pub companions: Companions,
}

/// Programs beside the main one, such as Lambda's extensions. With any, the main program waits for
/// [`Sandbox::start_program`](crate::Sandbox::start_program), and its end does not end the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Companions {
    /// Paths inside, at most [`COMPANIONS_MAX`]; each runs in `/` without arguments.
    pub programs: Vec<String>,
    /// The whole environment of each.
    pub environment: Vec<(String, String)>,
}

/// Most companions of one environment. Source: Lambda Developer Guide, "Lambda extensions": up to ten.
pub const COMPANIONS_MAX: usize = 10;

/// What became of an environment's programs, while it has companions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// The main program.
    pub program: Option<Ending>,
    /// The companions, in the order of [`Companions::programs`].
    pub companions: Vec<Option<Ending>>,
}

/// How one program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ran.
    Exited(Exit),
    /// It could not be executed; holds errno.
    NotExecuted(i32),
    /// This host had no room for its process, whatever the program is; holds errno.
    NoRoom(i32),
}

/// How the main process of an environment ended. When it ends, everything it started has ended too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, when it exited by itself.
    pub code: Option<i32>,
    /// Signal that ended it, 9 also when the environment was killed from outside.
    pub signal: Option<i32>,
    /// Whose memory had run out, where it was ended for that.
    pub out_of_memory: Option<OutOfMemory>,
}

/// Whose memory had run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfMemory {
    /// The environment had reached its limit.
    Environment,
    /// The machine, or a control group around the platform, had none left.
    Host,
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
        spec.companions.programs = self.companions.programs.iter().map(|program| path(program)).collect();
        spec.companions.environment =
            self.companions.environment.iter().map(|(name, text)| (name.clone(), value(text))).collect();
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
            image: Vec::new(),
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
            companions: Companions {
                programs: vec!["/opt/extensions/watch".into()],
                environment: vec![("AWS_LAMBDA_RUNTIME_API".into(), "127.0.0.1:9001".into())],
            },
        };
        let outside = spec.outside("127.0.0.1:9001", "127.0.0.1:45678");
        assert_eq!(outside.program, ["/code/abc/bootstrap", "/var/tasks"]);
        assert_eq!(outside.environment[0].1, "/bin:/layers/x/bin:/py/x");
        assert_eq!(outside.environment[1].1, "127.0.0.1:45678");
        assert_eq!(outside.working_directory, "/code/abc");
        assert_eq!(outside.companions.programs, ["/layers/x/extensions/watch"]);
        assert_eq!(outside.companions.environment[0].1, "127.0.0.1:45678");
    }
}
