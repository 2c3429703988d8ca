//! How functions become rows of the store, and which rows this version understands.

use super::CodeSigningConfig;
use crate::function::Function;
use crate::layer::LayerVersions;
use crate::published;
use crate::store::{Rows, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The layout of rows. Raise it when an older Onrush would misread what this one writes.
pub const SCHEMA: u32 = 1;

const SCHEMA_KEY: &str = "schema";
const VERSION_KEY: &str = "version-key";
const FUNCTION_PREFIX: &str = "function/";
const VERSION_PREFIX: &str = "version/";
const LAYER_PREFIX: &str = "layer/";
const SIGNING_PREFIX: &str = "signing/";
/// Fewer functions than these are read by one thread: another costs as much as reading ten.
const SHARED_MIN: usize = 500;

/// What the rows say.
#[derive(Debug)]
pub struct Contents {
    /// The layout they were written in; `None` in a new store.
    pub schema: Option<u32>,
    /// The last version key given out.
    pub version_key: u64,
    /// Functions, without the paths that depend on where the data folder lies.
    pub functions: BTreeMap<String, Arc<Function>>,
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

/// Reads all rows.
pub fn read(rows: &Rows) -> Result<Contents, Unreadable> {
    let schema = number(rows, SCHEMA_KEY)?;
    let schema = schema.map(|found| u32::try_from(found).unwrap_or(u32::MAX));
    if let Some(found) = schema.filter(|found| *found > SCHEMA) {
        return Err(Unreadable::Newer(found));
    }
    let version_key = number(rows, VERSION_KEY)?.unwrap_or(0);
    let rows_of_functions: Vec<_> = with_prefix(rows, FUNCTION_PREFIX).collect();
    let mut functions = all_functions(&rows_of_functions)?;
    for (key, value) in with_prefix(rows, VERSION_PREFIX) {
        let bad = |detail: String| Unreadable::Row { key: key.clone(), detail };
        let version: Function = serde_json::from_slice(value).map_err(|error| bad(error.to_string()))?;
        let number = published::number(&version.version).ok_or_else(|| bad("not a version".to_owned()))?;
        let owner = functions.get_mut(&version.name);
        let owner = owner.ok_or_else(|| bad("its function is not there".to_owned()))?;
        Arc::make_mut(owner).published.versions.insert(number, Arc::new(version));
    }
    let mut layers = Vec::new();
    for (key, value) in with_prefix(rows, LAYER_PREFIX) {
        let layer = serde_json::from_slice(value);
        layers.push(layer.map_err(|error| Unreadable::Row { key: key.clone(), detail: error.to_string() })?);
    }
    let mut signing = Vec::new();
    for (key, value) in with_prefix(rows, SIGNING_PREFIX) {
        let config = serde_json::from_slice(value);
        signing
            .push(config.map_err(|error| Unreadable::Row { key: key.clone(), detail: error.to_string() })?);
    }
    Ok(Contents { schema, version_key, functions, layers, signing })
}

/// Reads functions' rows, half of them on a thread of its own when they are many.
fn all_functions(rows: &[(&String, &Vec<u8>)]) -> Result<BTreeMap<String, Arc<Function>>, Unreadable> {
    if rows.len() < SHARED_MIN {
        return functions_of(rows);
    }
    let (one, other) = rows.split_at(rows.len() / 2);
    std::thread::scope(|scope| {
        let helper = std::thread::Builder::new().spawn_scoped(scope, || functions_of(one));
        let mut functions = functions_of(other)?;
        let first = match helper.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(first)) => first?,
            // A host without a thread to spare.
            _ => functions_of(one)?,
        };
        functions.extend(first);
        Ok(functions)
    })
}

fn functions_of(rows: &[(&String, &Vec<u8>)]) -> Result<BTreeMap<String, Arc<Function>>, Unreadable> {
    let read = |(key, value): &(&String, &Vec<u8>)| match serde_json::from_slice::<Arc<Function>>(value) {
        Ok(function) => Ok((function.name.clone(), function)),
        Err(error) => Err(Unreadable::Row { key: (*key).clone(), detail: error.to_string() }),
    };
    rows.iter().map(read).collect()
}

fn with_prefix<'a>(rows: &'a Rows, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Vec<u8>)> {
    rows.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
}

fn number(rows: &Rows, key: &str) -> Result<Option<u64>, Unreadable> {
    let Some(value) = rows.get(key) else { return Ok(None) };
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Unreadable::Row { key: key.to_owned(), detail: "not a number".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

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
    fn many_functions_are_read_as_few_are() {
        let names: Vec<_> = (0..=SHARED_MIN).map(|number| format!("f{number:04}")).collect();
        let all = rows(names.iter().map(|name| put(&Function::new(name, PathBuf::new()))));
        assert!(read(&all).unwrap().functions.into_keys().eq(names));
        for broken in ["f0000", "f0500"] {
            let mut broken_rows = all.clone();
            broken_rows.insert(key(broken), b"{".to_vec());
            let refused = read(&broken_rows);
            assert!(matches!(refused, Err(Unreadable::Row { key: named, .. }) if named == key(broken)));
        }
    }

    #[test]
    fn a_newer_layout_is_refused_before_its_rows_are_read() {
        let newer = Write::Put(SCHEMA_KEY.to_owned(), b"2".to_vec());
        let strange = Write::Put(key("cart"), b"CBOR".to_vec());
        assert!(matches!(read(&rows([newer, strange.clone()])), Err(Unreadable::Newer(2))));
        assert!(matches!(read(&rows([schema(), strange])), Err(Unreadable::Row { .. })));
    }
}
