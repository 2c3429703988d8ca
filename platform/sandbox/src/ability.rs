//! What this host can enforce, what it cannot, and the one command that cures it.

/// How well one limit or wall holds on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbilityState {
    /// Tried, and it holds.
    Enforced,
    /// Held by something weaker; the detail says by what.
    Loose,
    /// Not held at all.
    Missing,
}

impl AbilityState {
    /// The word for reports: `enforced`, `loose` or `missing`.
    pub fn word(self) -> &'static str {
        match self {
            AbilityState::Enforced => "enforced",
            AbilityState::Loose => "loose",
            AbilityState::Missing => "missing",
        }
    }
}

/// One thing that was tried on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Stable name, such as `memory-limit`.
    pub name: &'static str,
    /// How well it holds.
    pub state: AbilityState,
    /// What was found, one sentence.
    pub detail: String,
    /// The command or setting that makes it better, if one is known.
    pub cure: Option<String>,
}

/// Everything that was tried, in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// One entry per name.
    pub items: Vec<Ability>,
}

/// What is said of `network-interface` where `/dev/net/tun` is closed.
pub(crate) const PAIRS: &str =
    "each environment has eth0, one of a pair: no TUN devices here (/dev/net/tun), packet sockets do as well";

/// Every name that can appear, so that one read from the jailer can be `'static`.
pub(crate) const NAMES: [&str; 18] = [
    "user-namespaces",
    "mount-namespace",
    "pid-namespace",
    "network-namespace",
    "network-interface",
    "proc",
    "uid-per-environment",
    "seccomp",
    "landlock",
    "control-groups",
    "memory-limit",
    "cpu-quota",
    "pids-limit",
    "freezer",
    "tmp-size",
    "image-overlay",
    "open-files",
    "kernel-limits",
];

impl Abilities {
    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&Ability> {
        self.items.iter().find(|ability| ability.name == name)
    }

    /// Whether interfaces are ends of pairs, read through packet sockets, as there are no TUN devices.
    pub fn interfaces_are_pairs(&self) -> bool {
        self.enforced("network-interface")
            && self.get("network-interface").is_some_and(|ability| ability.detail == PAIRS)
    }

    /// Whether `name` was tried and holds.
    pub fn enforced(&self, name: &str) -> bool {
        self.get(name).is_some_and(|ability| ability.state == AbilityState::Enforced)
    }

    pub(crate) fn enforce(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, AbilityState::Enforced, detail, None);
    }

    /// Adds an entry; a later entry of the same name replaces the earlier.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        state: AbilityState,
        detail: impl Into<String>,
        cure: Option<&str>,
    ) {
        let ability = Ability { name, state, detail: detail.into(), cure: cure.map(str::to_owned) };
        match self.items.iter_mut().find(|item| item.name == name) {
            Some(item) => *item = ability,
            None => self.items.push(ability),
        }
    }
}
