//! Execution environments made of namespaces and control groups, by a small jailer process.
//!
//! The room makes boxes and knows nothing of Lambda's API. A program calls [`fork_jailer`] first thing in
//! `main`, while it has one thread; later, inside its tokio runtime, [`Jailer::into_sandboxes`] gives a
//! [`Sandboxes`] handle whose [`start`](Sandboxes::start) turns a [`Spec`] into a running [`Sandbox`].
//!
//! ```text
//!   platform (tokio)  --SEQPACKET, descriptors by SCM_RIGHTS-->  jailer: pid 1 of an outer pid namespace
//!     Sandboxes, Sandbox                                           starters: one environment per request
//!     freeze, thaw, kill: no round trip                            keeper:   fills pools, trickles destruction
//!                                                                  reaper:   waits for the dead
//!                                                                     |- cloners: small processes that environments
//!                                                                     |  are cloned from, one per starter
//!                                                                     |- blanks: environments that wait for a version
//!                                                                     `- supervisor, pid 1 of the environment
//!                                                                          `- the program and what it starts
//! ```
//!
//! What lives where: [`spec`](Spec) says what to start; `protocol` and `socket` carry it; `root`, `temporary`,
//! `network` and `cgroup` make the parts of a box; `child` puts a new process into them; `seccomp` is the
//! table of refused system calls, `landlock` the few folders that may be written;
//! `confined` unpacks what nobody vouches for; `resident` is
//! about what processes at rest hold. When the platform dies, however it dies, the kernel ends everything below
//! the jailer; control groups are the only thing that can stay, and the next start removes them.

mod ability;
mod address;
mod affinity;
mod cgroup;
mod child;
mod confined;
mod jailer;
mod landlock;
mod leftovers;
mod memory;
mod network;
mod protocol;
mod resident;
mod root;
mod sandbox;
mod sandboxes;
mod seccomp;
mod shortage;
mod socket;
mod spec;
mod stock;
mod syscalls;
mod temporary;
mod users;

pub use ability::{Abilities, Ability, AbilityState};
pub use confined::{Work, Workshop, fork_workshop};
pub use jailer::{Jailer, JailerError, fork_jailer, fork_jailer_meanwhile, is_root_of_all, probe};
pub use memory::{HostMemory, Memory};
pub use resident::let_go_of_code;
pub use root::image::image_places;
pub use sandbox::{Interface, Sandbox, Started};
pub use sandboxes::{Heritage, Sandboxes, StartError};
pub use seccomp::{RefusedCall, refused_calls};
pub use spec::{
    Bind, COMPANIONS_MAX, Companions, Ending, Exit, Isolation, Options, OutOfMemory, PoolSizes, Programs,
    Spec,
};
