//! All functions, by name. Most of very many are plain: nothing hangs on them but their name and their code. Such a one is
//! understood when it is first asked for, so that a start costs little for it; all others are understood at the start.

use crate::function::{Function, LastUpdateStatus, SnapStart, State};
use crate::package::CodeLease;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Functions by name. A clone copies one pointer each.
#[derive(Clone, Debug, Default)]
pub struct Functions(BTreeMap<String, Slot>);

#[derive(Clone, Debug)]
enum Slot {
    Known(Arc<Function>),
    Plain(Arc<Plain>),
}

/// A stored function on which nothing hangs: no version, alias, reservation, URL, layer, image, network or template; its
/// package is there, and it is active.
#[derive(Debug)]
pub struct Plain {
    arn: String,
    code: Arc<Code>,
    /// Its row, until it is understood.
    row: Mutex<Vec<u8>>,
    function: OnceLock<Option<Arc<Function>>>,
}

/// A package that is in place, for all functions that run it.
#[derive(Debug)]
pub struct Code {
    /// Its folder.
    pub path: PathBuf,
    /// Keeps it there.
    pub lease: Arc<CodeLease>,
}

/// What a row says for everybody to know at the start.
#[derive(Debug)]
pub struct Sketch {
    /// The bare name.
    pub name: String,
    /// The package.
    pub hex: String,
    /// Bytes of the package's archive.
    pub code_size: u64,
    arn: String,
    row: Vec<u8>,
}

impl Sketch {
    /// Looks at a function's row; `None` if it is not plain, or cannot be understood so. Cost: a tenth of understanding it.
    pub fn of(row: &[u8]) -> Option<Self> {
        /// What is absent is as usual. Borrowed, so a name that JSON must escape is not plain.
        #[derive(Deserialize)]
        struct Peek<'a> {
            name: &'a str,
            arn: &'a str,
            version: &'a str,
            #[serde(borrow)]
            location: Place<'a>,
            code_size: u64,
            layers: Vec<IgnoredAny>,
            state: State,
            last_update_status: LastUpdateStatus,
            snap_start: SnapStart,
            vpc: Option<IgnoredAny>,
            reserved: Option<IgnoredAny>,
            image: Option<IgnoredAny>,
            pull: Option<IgnoredAny>,
            url: Option<IgnoredAny>,
            logical_id: Option<IgnoredAny>,
            published: Option<IgnoredAny>,
        }
        #[derive(Deserialize)]
        enum Place<'a> {
            Package(&'a str),
            Folder(IgnoredAny),
            Image(IgnoredAny),
        }
        let peek: Peek<'_> = serde_json::from_slice(row).ok()?;
        let Place::Package(hex) = peek.location else { return None };
        let hung =
            [peek.vpc, peek.reserved, peek.image, peek.pull, peek.url, peek.logical_id, peek.published];
        let is_plain = hung.iter().all(Option::is_none)
            && peek.layers.is_empty()
            && peek.version == model::name::LATEST
            && peek.state == State::Active
            && peek.last_update_status == LastUpdateStatus::Successful
            && peek.snap_start == SnapStart::None;
        is_plain.then(|| Self {
            name: peek.name.to_owned(),
            hex: hex.to_owned(),
            code_size: peek.code_size,
            arn: peek.arn.to_owned(),
            row: row.to_owned(),
        })
    }

    /// Understands all of it.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn function(&self) -> Result<Function, String> {
        serde_json::from_slice(&self.row).map_err(|error| error.to_string())
    }

    /// The function with its code in place.
    pub fn plain(self, code: Arc<Code>) -> Plain {
        Plain { arn: self.arn, code, row: Mutex::new(self.row), function: OnceLock::new() }
    }
}

impl Plain {
    /// The function; `None` if its row says what no Onrush of this layout writes.
    fn function(&self, name: &str) -> Option<&Arc<Function>> {
        let understand = || {
            let row = std::mem::take(&mut *self.row.lock().unwrap_or_else(PoisonError::into_inner));
            match serde_json::from_slice::<Function>(&row) {
                Ok(mut function) => {
                    function.code.clone_from(&self.code.path);
                    function.lease = Some(Arc::clone(&self.code.lease));
                    Some(Arc::new(function))
                }
                Err(error) => {
                    tracing::error!(function = name, %error, "its row cannot be understood; it cannot be used or changed");
                    None
                }
            }
        };
        self.function.get_or_init(understand).as_ref()
    }
}

impl Slot {
    fn function(&self, name: &str) -> Option<&Arc<Function>> {
        match self {
            Self::Known(function) => Some(function),
            Self::Plain(plain) => plain.function(name),
        }
    }
}

impl Functions {
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.0.get(name)?.function(name)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is one of that name that cannot be understood.
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|slot| slot.function(name).is_none())
    }

    /// All of them, by name; plain ones are understood here.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.0.iter().filter_map(|(name, slot)| slot.function(name))
    }

    /// Those from `name` on.
    pub fn from(&self, name: &str) -> impl Iterator<Item = &Arc<Function>> {
        let from = (Bound::Included(name), Bound::Unbounded);
        self.0.range::<str, _>(from).filter_map(|(name, slot)| slot.function(name))
    }

    /// All but those that are plain since the start: whatever has a reservation, a version, a URL or an image is among them.
    pub fn known(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.0.values().filter_map(|slot| match slot {
            Slot::Known(function) => Some(function),
            Slot::Plain(_) => None,
        })
    }

    /// The same, to be changed.
    pub fn known_mut(&mut self) -> impl Iterator<Item = &mut Arc<Function>> {
        self.0.values_mut().filter_map(|slot| match slot {
            Slot::Known(function) => Some(function),
            Slot::Plain(_) => None,
        })
    }

    /// Name, ARN and the template's name of each; nothing is understood for it.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.0.iter().map(|(name, slot)| match slot {
            Slot::Known(function) => (name.as_str(), function.arn.as_str(), function.logical_id.as_deref()),
            Slot::Plain(plain) => (name.as_str(), plain.arn.as_str(), None),
        })
    }

    /// The names of those that are plain since the start.
    pub fn plain_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(name, slot)| matches!(slot, Slot::Plain(_)).then_some(name.as_str()))
    }

    pub fn insert(&mut self, function: Arc<Function>) {
        self.0.insert(function.name.clone(), Slot::Known(function));
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

impl Functions {
    /// All of them at once: those that are understood, and plain ones by name.
    pub fn of(known: Vec<Arc<Function>>, plain: Vec<(String, Plain)>) -> Self {
        let known = known.into_iter().map(|function| (function.name.clone(), Slot::Known(function)));
        let plain = plain.into_iter().map(|(name, plain)| (name, Slot::Plain(Arc::new(plain))));
        Self(known.chain(plain).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Location, Packages};
    use serde_json::{Value, json};

    fn function() -> Function {
        let mut function = Function::new("cart", PathBuf::new());
        function.location = Location::Package("ab".to_owned());
        function.environment.insert("KEY".to_owned(), "\"värde\"\n".to_owned());
        function.code_size = 7;
        function
    }

    fn row(changes: &[(&str, Value)]) -> Vec<u8> {
        let mut row = serde_json::to_value(function()).unwrap();
        changes.iter().for_each(|(field, value)| row[*field] = value.clone());
        row.to_string().into_bytes()
    }

    #[test]
    fn what_has_nothing_but_name_and_code_is_plain() {
        let sketch = Sketch::of(&serde_json::to_vec(&function()).unwrap()).unwrap();
        assert_eq!((sketch.name.as_str(), sketch.hex.as_str(), sketch.code_size), ("cart", "ab", 7));
        assert_eq!(sketch.function().unwrap(), function());
        // An Onrush before this one said what is absent, too.
        assert!(Sketch::of(&row(&[("reserved", Value::Null), ("url", Value::Null)])).is_some());
    }

    #[test]
    fn what_something_hangs_on_is_not() {
        for change in [
            ("reserved", json!(0)),
            ("url", json!({})),
            ("published", json!({"last_version": 1})),
            ("vpc", json!({})),
            ("image", json!({})),
            ("pull", json!({})),
            ("logical_id", json!("Cart")),
            ("layers", json!([{}])),
            ("location", json!({"Folder": "/code"})),
            ("state", json!("Pending")),
            ("last_update_status", json!("InProgress")),
            ("snap_start", json!("PublishedVersions")),
            ("version", json!("1")),
        ] {
            assert!(Sketch::of(&row(std::slice::from_ref(&change))).is_none(), "{change:?}");
        }
        assert!(Sketch::of(b"{").is_none());
    }

    #[test]
    fn a_plain_function_is_understood_when_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("code/ab")).unwrap();
        let packages = Packages::open(folder.path()).unwrap();
        let (path, lease) = packages.find("ab").unwrap();
        let code = Arc::new(Code { path: path.clone(), lease });
        let plain = |row: &[u8]| {
            let sketch = Sketch::of(row).unwrap();
            (sketch.name.clone(), sketch.plain(Arc::clone(&code)))
        };
        let broken = plain(&row(&[("name", json!("broken")), ("memory_mb", json!("much"))]));
        let mut functions = Functions::of(Vec::new(), vec![plain(&row(&[])), broken]);
        assert_eq!(functions.names().map(|(name, ..)| name).collect::<Vec<_>>(), ["broken", "cart"]);
        assert_eq!((functions.len(), functions.known().count()), (2, 0));
        let cart = functions.get("cart").unwrap();
        assert_eq!((cart.environment.clone(), &cart.code), (function().environment, &path));
        assert!(cart.lease.is_some() && Arc::ptr_eq(cart, functions.clone().get("cart").unwrap()));
        // One that cannot be understood keeps its name, and harms no other.
        assert!(functions.get("broken").is_none() && functions.contains_key("broken"));
        assert!(functions.is_unreadable("broken") && !functions.is_unreadable("cart"));
        assert_eq!(functions.values().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["cart"]);
        let changed = Arc::new(Function { reserved: Some(1), ..Function::clone(cart) });
        functions.insert(changed);
        assert_eq!(functions.known().count(), 1);
        assert_eq!(functions.plain_names().collect::<Vec<_>>(), ["broken"]);
    }
}
