//! All functions, by name. Of very many most are plain: nothing hangs on them but their name and their code. Such a one's row is
//! checked at the start and understood again when somebody asks for the function, so that a start keeps little of it.

use crate::function::{Function, LastUpdateStatus, SnapStart, State};
use crate::package::{CodeLease, Location};
use crate::published::Published;
use std::collections::BTreeMap;
use std::mem::take;
use std::ops::{Bound, Range};
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
    /// The rows of all plain functions, until this one is understood.
    rows: Mutex<Option<Arc<Vec<u8>>>>,
    row: Range<usize>,
    function: OnceLock<Arc<Function>>,
}

/// A package that is in place, for all functions that run it.
#[derive(Debug)]
pub struct Code {
    /// Its folder.
    pub path: PathBuf,
    /// Keeps it there.
    pub lease: Arc<CodeLease>,
}

/// What a plain function's row says for everybody to know at the start.
#[derive(Debug)]
pub struct Sketch {
    /// The bare name.
    pub name: String,
    /// The package.
    pub hex: String,
    /// Bytes of the package's archive.
    pub code_size: u64,
    arn: String,
}

impl Sketch {
    /// The sketch of a function, which is given back if it is not plain.
    pub fn of(mut function: Box<Function>) -> Result<Self, Box<Function>> {
        let is_plain = function.version == model::name::LATEST
            && function.layers.is_empty()
            && function.state == State::Active
            && function.last_update_status == LastUpdateStatus::Successful
            && function.snap_start == SnapStart::None
            && function.vpc.is_none()
            && function.reserved.is_none()
            && function.image.is_none()
            && function.pull.is_none()
            && function.url.is_none()
            && function.logical_id.is_none()
            && function.published == Published::default();
        match &mut function.location {
            Location::Package(hex) if is_plain => Ok(Self {
                name: take(&mut function.name),
                hex: take(hex),
                code_size: function.code_size,
                arn: take(&mut function.arn),
            }),
            _ => Err(function),
        }
    }

    /// The function with its code in place; its row is that part of `rows`.
    pub fn plain(self, code: Arc<Code>, rows: &Arc<Vec<u8>>, row: Range<usize>) -> (String, Plain) {
        let rows = Mutex::new(Some(Arc::clone(rows)));
        (self.name, Plain { arn: self.arn, code, rows, row, function: OnceLock::new() })
    }
}

/// A row that was understood before.
pub fn again(row: &[u8]) -> Function {
    serde_json::from_slice(row).expect("the row was understood at the start")
}

impl Plain {
    fn function(&self) -> &Arc<Function> {
        self.function.get_or_init(|| {
            let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut function = again(&rows.unwrap_or_default()[self.row.clone()]);
            function.code.clone_from(&self.code.path);
            function.lease = Some(Arc::clone(&self.code.lease));
            Arc::new(function)
        })
    }
}

impl Slot {
    fn function(&self) -> &Arc<Function> {
        match self {
            Self::Known(function) => function,
            Self::Plain(plain) => plain.function(),
        }
    }
}

impl Functions {
    /// All of them at once: those that are understood, and plain ones by name.
    pub fn of(known: impl IntoIterator<Item = Arc<Function>>, plain: Vec<(String, Plain)>) -> Self {
        let known = known.into_iter().map(|function| (function.name.clone(), Slot::Known(function)));
        let plain = plain.into_iter().map(|(name, plain)| (name, Slot::Plain(Arc::new(plain))));
        Self(known.chain(plain).collect())
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.0.get(name).map(Slot::function)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, by name; plain ones are understood here.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.0.values().map(Slot::function)
    }

    /// Those from `name` on.
    pub fn from(&self, name: &str) -> impl Iterator<Item = &Arc<Function>> {
        self.0.range::<str, _>((Bound::Included(name), Bound::Unbounded)).map(|(_, slot)| slot.function())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{FunctionUrl, Layer};
    use crate::package::Packages;

    fn function() -> Function {
        let mut function = Function::new("cart", PathBuf::new());
        function.location = Location::Package("ab".to_owned());
        function.environment.insert("KEY".to_owned(), "\"värde\"\n".to_owned());
        function.code_size = 7;
        function
    }

    #[test]
    fn what_has_nothing_but_name_and_code_is_plain() {
        let sketch = Sketch::of(function().into()).unwrap();
        assert_eq!((sketch.name.as_str(), sketch.hex.as_str(), sketch.code_size), ("cart", "ab", 7));
    }

    #[test]
    fn what_something_hangs_on_is_not() {
        let changes: [fn(&mut Function); 12] = [
            |function| function.reserved = Some(0),
            |function| {
                function.url = Some(FunctionUrl {
                    id: "id".to_owned(),
                    auth_type: Default::default(),
                    cors: None,
                    invoke_mode: Default::default(),
                    created: String::new(),
                    last_modified: String::new(),
                });
            },
            |function| function.published.last_version = 1,
            |function| function.vpc = Some(Default::default()),
            |function| function.logical_id = Some("Cart".to_owned()),
            |function| function.location = Location::Folder("/code".into()),
            |function| function.location = Location::Image("id".to_owned()),
            |function| function.state = State::Pending,
            |function| function.last_update_status = LastUpdateStatus::InProgress,
            |function| function.snap_start = SnapStart::PublishedVersions,
            |function| function.version = "1".to_owned(),
            |function| {
                function.layers.push(Layer {
                    arn: String::new(),
                    path: PathBuf::new(),
                    location: Location::Package("cd".to_owned()),
                    sha256: String::new(),
                    code_size: 1,
                    lease: None,
                });
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut function = Box::new(function());
            change(&mut function);
            assert_eq!(Sketch::of(function.clone()).unwrap_err(), function, "change {number}");
        }
    }

    #[test]
    fn a_plain_function_is_understood_when_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("code/ab")).unwrap();
        let packages = Packages::open(folder.path()).unwrap();
        let (path, lease) = packages.find("ab").unwrap();
        let code = Arc::new(Code { path: path.clone(), lease });
        let other = Function { name: "other".to_owned(), memory_mb: 512, ..function() };
        let [first, second] = [&function(), &other].map(|function| serde_json::to_vec(function).unwrap());
        let rows = Arc::new([first.as_slice(), second.as_slice()].concat());
        let parts = [0..first.len(), first.len()..rows.len()];
        let sketches = [function(), other].map(|function| Sketch::of(function.into()).unwrap()).into_iter();
        let plain = sketches.zip(parts).map(|(sketch, row)| sketch.plain(Arc::clone(&code), &rows, row));
        let mut functions = Functions::of(Vec::new(), plain.collect());
        assert_eq!(functions.names().map(|(name, ..)| name).collect::<Vec<_>>(), ["cart", "other"]);
        assert_eq!((functions.len(), functions.known().count(), Arc::strong_count(&rows)), (2, 0, 3));
        let cart = functions.get("cart").unwrap();
        assert_eq!((cart.environment.clone(), &cart.code), (function().environment, &path));
        assert!(cart.lease.is_some() && Arc::ptr_eq(cart, functions.clone().get("cart").unwrap()));
        assert_eq!(functions.from("d").map(|function| function.memory_mb).collect::<Vec<_>>(), [512]);
        // The rows are kept no longer than somebody needs them.
        assert_eq!(Arc::strong_count(&rows), 1);
        let changed = Arc::new(Function { reserved: Some(1), ..Function::clone(cart) });
        functions.insert(changed);
        assert_eq!(functions.known().count(), 1);
        assert_eq!(functions.plain_names().collect::<Vec<_>>(), ["other"]);
    }
}
