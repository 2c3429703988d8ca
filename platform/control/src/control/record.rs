//! How functions become rows of the store, and which rows this version understands.

use super::CodeSigningConfig;
use super::functions::{Sketch, again};
use crate::function::Function;
use crate::layer::LayerVersions;
use crate::published;
use crate::store::{Store, StoreError, Write};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The layout of rows. Raise it when an older Onrush would misread what this one writes.
pub const SCHEMA: u32 = 1;

const SCHEMA_KEY: &str = "schema";
const VERSION_KEY: &str = "version-key";
const FUNCTION_PREFIX: &str = "function/";
const VERSION_PREFIX: &str = "version/";
const LAYER_PREFIX: &str = "layer/";
const SIGNING_PREFIX: &str = "signing/";

/// What the rows say.
#[derive(Debug)]
pub struct Contents {
    /// The layout they were written in; `None` in a new store.
    pub schema: Option<u32>,
    /// The last version key given out.
    pub version_key: u64,
    /// Functions, without the paths that depend on where the data folder lies.
    pub functions: BTreeMap<String, Arc<Function>>,
    /// The others, which are plain, and where their rows are among those of all of them.
    pub plain: Vec<(Sketch, Range<usize>)>,
    /// Those rows, which were understood once.
    pub plain_rows: Vec<u8>,
    /// Layers, likewise.
    pub layers: Vec<LayerVersions>,
    /// Code signing configurations.
    pub signing: Vec<CodeSigningConfig>,
}

/// A row that cannot be understood.
#[derive(Debug)]
pub enum Unreadable {
    /// The store is of a newer layout.
    Newer(u32),
    /// A row holds something else than it must.
    Row {
        /// Which.
        key: String,
        /// What is wrong.
        detail: String,
    },
}

/// The key of a function's row.
pub fn key(name: &str) -> String {
    format!("{FUNCTION_PREFIX}{name}")
}

/// The row of a function.
pub fn put(function: &Function) -> Write {
    let value = serde_json::to_vec(function).expect("a function holds nothing that JSON cannot");
    Write::Put(key(&function.name), value)
}

/// The row of a published version.
pub fn put_version(version: &Function) -> Write {
    let value = serde_json::to_vec(version).expect("a function holds nothing that JSON cannot");
    Write::Put(version_row(&version.name, &version.version), value)
}

/// The row of a layer with all its versions.
pub fn put_layer(layer: &LayerVersions) -> Write {
    let value = serde_json::to_vec(layer).expect("a layer holds nothing that JSON cannot");
    Write::Put(format!("{LAYER_PREFIX}{}", layer.name), value)
}

/// The row of a code signing configuration.
pub fn put_signing(config: &CodeSigningConfig) -> Write {
    let value = serde_json::to_vec(config).expect("a configuration holds nothing that JSON cannot");
    Write::Put(signing_key(&config.code_signing_config_id), value)
}

/// The key of that row.
pub fn signing_key(id: &str) -> String {
    format!("{SIGNING_PREFIX}{id}")
}

/// What has to be removed of the versions before when those after are all there is.
pub fn versions(before: &Function, after: Option<&Function>) -> Vec<Write> {
    let stays = |number: &u64| after.is_some_and(|after| after.published.versions.contains_key(number));
    let gone = before.published.versions.keys().filter(|number| !stays(number));
    gone.map(|number| Write::Remove(version_row(&before.name, &number.to_string()))).collect()
}

/// Names of functions have no `/`, so no function's versions are found among another's.
fn version_row(name: &str, version: &str) -> String {
    format!("{VERSION_PREFIX}{name}/{version}")
}

/// The row of the last version key.
pub fn version_key(last: u64) -> Write {
    Write::Put(VERSION_KEY.to_owned(), last.to_string().into_bytes())
}

/// The row of the layout.
pub fn schema() -> Write {
    Write::Put(SCHEMA_KEY.to_owned(), SCHEMA.to_string().into_bytes())
}

/// Reads all rows of a store.
///
/// # Errors
/// The store's; and what its rows do not say.
pub fn read(store: &dyn Store) -> Result<Result<Contents, Unreadable>, StoreError> {
    let found: Mutex<Found> = Mutex::default();
    store.each(&|key, value| {
        let row = row(key, value);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        match row {
            Ok(Row::Plain(sketch)) => {
                let from = found.plain_rows.len();
                found.plain_rows.extend_from_slice(value);
                let row = from..found.plain_rows.len();
                found.plain.push((sketch, row));
            }
            Ok(row) => found.rows.push(row),
            Err(detail) => found.broken.push((key.to_owned(), detail)),
        }
    })?;
    Ok(contents(found.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    plain: Vec<(Sketch, Range<usize>)>,
    plain_rows: Vec<u8>,
    broken: Vec<(String, String)>,
}

/// One row, understood.
enum Row {
    Schema(u64),
    VersionKey(u64),
    Function(Arc<Function>),
    Plain(Sketch),
    Version(u64, Arc<Function>),
    Layer(LayerVersions),
    Signing(CodeSigningConfig),
    /// Of somebody else.
    Unknown,
}

fn row(key: &str, value: &[u8]) -> Result<Row, String> {
    fn of<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
        serde_json::from_slice(value).map_err(|error| error.to_string())
    }
    let number = || {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| "not a number".to_owned())
    };
    Ok(match key {
        SCHEMA_KEY => Row::Schema(number()?),
        VERSION_KEY => Row::VersionKey(number()?),
        key if key.starts_with(FUNCTION_PREFIX) => match Sketch::of(of(value)?) {
            Ok(sketch) => Row::Plain(sketch),
            Err(function) => Row::Function(function.into()),
        },
        key if key.starts_with(VERSION_PREFIX) => {
            let version: Arc<Function> = of(value)?;
            Row::Version(published::number(&version.version).ok_or("not a version")?, version)
        }
        key if key.starts_with(LAYER_PREFIX) => Row::Layer(of(value)?),
        key if key.starts_with(SIGNING_PREFIX) => Row::Signing(of(value)?),
        _ => Row::Unknown,
    })
}

fn contents(found: Found) -> Result<Contents, Unreadable> {
    let mut contents = Contents {
        schema: None,
        version_key: 0,
        functions: BTreeMap::new(),
        plain: found.plain,
        plain_rows: found.plain_rows,
        layers: Vec::new(),
        signing: Vec::new(),
    };
    let (mut functions, mut versions) = (Vec::new(), Vec::new());
    for row in found.rows {
        match row {
            Row::Schema(schema) => contents.schema = Some(u32::try_from(schema).unwrap_or(u32::MAX)),
            Row::VersionKey(last) => contents.version_key = last,
            Row::Function(function) => functions.push((function.name.clone(), function)),
            Row::Version(number, version) => versions.push((number, version)),
            Row::Layer(layer) => contents.layers.push(layer),
            Row::Signing(config) => contents.signing.push(config),
            Row::Plain(_) | Row::Unknown => {}
        }
    }
    // Before anything is said of rows that are not ours to understand.
    if let Some(found) = contents.schema.filter(|found| *found > SCHEMA) {
        return Err(Unreadable::Newer(found));
    }
    if let Some((key, detail)) = found.broken.into_iter().min() {
        return Err(Unreadable::Row { key, detail });
    }
    contents.functions = functions.into_iter().collect();
    // Whoever has versions says so in its own row, too; if not, it is believed all the same.
    let orphans = versions.iter().map(|(_, version)| version.name.as_str());
    let orphans: HashSet<_> = orphans.filter(|name| !contents.functions.contains_key(*name)).collect();
    if !orphans.is_empty() {
        for (sketch, row) in contents.plain.extract_if(.., |(sketch, _)| orphans.contains(&*sketch.name)) {
            contents.functions.insert(sketch.name, Arc::new(again(&contents.plain_rows[row])));
        }
    }
    for (number, version) in versions {
        let Some(owner) = contents.functions.get_mut(&version.name) else {
            let key = version_row(&version.name, &version.version);
            return Err(Unreadable::Row { key, detail: "its function is not there".to_owned() });
        };
        Arc::make_mut(owner).published.versions.insert(number, version);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Location;
    use crate::store::Rows;
    use std::path::PathBuf;

    /// Rows in memory.
    struct Memory(Rows);

    impl Store for Memory {
        fn load(&self) -> Result<Rows, StoreError> {
            Ok(self.0.clone())
        }

        fn commit(&self, _: &[Write]) -> Result<(), StoreError> {
            panic!("nobody writes here")
        }
    }

    fn read(rows: &Rows) -> Result<Contents, Unreadable> {
        super::read(&Memory(rows.clone())).unwrap()
    }

    fn rows(writes: impl IntoIterator<Item = Write>) -> Rows {
        let pairs = writes.into_iter().filter_map(|write| match write {
            Write::Put(key, value) => Some((key, value)),
            Write::Remove(_) => None,
        });
        pairs.collect()
    }

    #[test]
    fn a_function_is_read_back_as_it_was() {
        let mut function = Function::new("cart", PathBuf::from("/code"));
        function.environment.insert("KEY".to_owned(), "värde\n".to_owned());
        function.reserved = Some(0);
        let contents = read(&rows([schema(), version_key(7), put(&function)])).unwrap();
        function.code = PathBuf::new();
        assert_eq!((contents.schema, contents.version_key), (Some(SCHEMA), 7));
        assert_eq!(contents.functions, BTreeMap::from([("cart".to_owned(), Arc::new(function))]));
    }

    /// An Onrush before this one wrote every field, and reads what is absent as the same.
    #[test]
    fn a_row_says_only_what_is_not_as_usual() {
        let function = Function::new("cart", PathBuf::new());
        let Write::Put(key, row) = put(&function) else { panic!("a function is put") };
        let mut row: serde_json::Value = serde_json::from_slice(&row).unwrap();
        let fields = row.as_object_mut().unwrap();
        for (field, before) in [
            ("published", serde_json::to_value(&function.published).unwrap()),
            ("image_config", serde_json::json!({})),
            ("event_invoke", serde_json::json!({})),
            ("empty_environment", false.into()),
            ("source_key", 0.into()),
        ] {
            assert_eq!(fields.insert(field.to_owned(), before), None, "{field}");
        }
        let options =
            ["runtime", "vpc", "reserved", "image", "state_reason", "last_update_reason", "pull", "url"];
        for field in options.into_iter().chain(["dead_letter_arn", "kms_key_arn", "logical_id", "handler"]) {
            assert_eq!(fields.insert(field.to_owned(), serde_json::Value::Null), None, "{field}");
        }
        let written_before = Write::Put(key, row.to_string().into_bytes());
        for row in [put(&function), written_before] {
            assert_eq!(*read(&rows([row])).unwrap().functions["cart"], function);
        }
    }

    #[test]
    fn the_first_row_that_cannot_be_understood_is_named() {
        let strange = |name| Write::Put(key(name), b"{".to_vec());
        let all = rows([put(&Function::new("a", PathBuf::new())), strange("c"), strange("b")]);
        assert!(matches!(read(&all), Err(Unreadable::Row { key: named, .. }) if named == key("b")));
    }

    fn plain(name: &str) -> Function {
        let location = Location::Package("ab".to_owned());
        Function { location, ..Function::new(name, PathBuf::new()) }
    }

    #[test]
    fn a_plain_function_is_checked_like_any_other() {
        let contents = read(&rows([put(&plain("a")), put(&plain("b"))])).unwrap();
        assert!(contents.functions.is_empty());
        let understood = contents.plain.into_iter().map(|(_, row)| again(&contents.plain_rows[row]));
        assert_eq!(understood.collect::<Vec<_>>(), [plain("a"), plain("b")]);
        // A field that a sketch has no need of.
        let Write::Put(key, row) = put(&plain("b")) else { panic!("a function is put") };
        let row = String::from_utf8(row).unwrap().replace("\"memory_mb\":128", "\"memory_mb\":\"much\"");
        let all = rows([put(&plain("a")), Write::Put(key.clone(), row.into_bytes())]);
        assert!(matches!(read(&all), Err(Unreadable::Row { key: named, .. }) if named == key));
    }

    #[test]
    fn what_has_a_version_is_not_plain_whatever_its_row_says() {
        let version = Function { version: "3".to_owned(), ..plain("b") };
        let contents = read(&rows([put(&plain("a")), put(&plain("b")), put_version(&version)])).unwrap();
        assert_eq!(contents.plain.iter().map(|(sketch, _)| &*sketch.name).collect::<Vec<_>>(), ["a"]);
        let with_version: Vec<_> = contents.functions["b"].published.versions.keys().collect();
        assert_eq!((contents.functions.len(), with_version), (1, vec![&3]));
    }

    #[test]
    fn a_newer_layout_is_refused_before_its_rows_are_read() {
        let newer = Write::Put(SCHEMA_KEY.to_owned(), b"2".to_vec());
        let strange = Write::Put(key("cart"), b"CBOR".to_vec());
        assert!(matches!(read(&rows([newer, strange.clone()])), Err(Unreadable::Newer(2))));
        assert!(matches!(read(&rows([schema(), strange])), Err(Unreadable::Row { .. })));
    }
}
