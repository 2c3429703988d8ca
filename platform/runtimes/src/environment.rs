//! The variables AWS sets for every function, and which of them win over the user's.

use crate::image::DEFAULT_PATH;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What AWS tells a function about itself; borrowed from whoever holds it.
#[derive(Debug, Clone)]
pub struct FunctionFacts<'a> {
    /// `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: &'a str,
    /// `$LATEST` or a number.
    pub version: &'a str,
    /// MemorySize in MB.
    pub memory_mb: u32,
    /// `/aws/lambda/NAME` unless the logging configuration says otherwise.
    pub log_group: &'a str,
    /// `YYYY/MM/DD/[VERSION]` followed by 32 hexadecimal digits.
    pub log_stream: &'a str,
    /// `ApplicationLogLevel` of a function whose log is in JSON.
    pub json_log_level: Option<&'a str>,
    /// `us-east-1`.
    pub region: &'a str,
    /// The function's account, twelve digits.
    pub account_id: &'a str,
    /// `_HANDLER`; empty for a function without one.
    pub handler: &'a str,
    /// `on-demand` or `provisioned-concurrency`.
    pub initialization_type: &'a str,
    /// Where the runtime finds its API, `127.0.0.1:9001` inside a sandbox.
    pub runtime_api: &'a str,
    /// Whether it is a container image, whose own variables take the place of most of AWS's.
    pub image: bool,
    /// [`crate::Launch::environment`]: what depends on the runtime.
    pub launch: &'a [(String, String)],
    /// What the function's configuration sets.
    pub user: &'a BTreeMap<String, String>,
}

/// Names that a function's configuration cannot set.
///
/// Source: Lambda Developer Guide, "Working with Lambda environment variables", section "Defined runtime
/// environment variables" (published). AWS refuses them at create; here they are also overridden at start,
/// so that a template cannot lie to the runtime.
pub const RESERVED_VARIABLES: [&str; 18] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

/// Credentials that sign requests to Onrush's own endpoint and open nothing anywhere else.
const LOCAL_ACCESS_KEY_ID: &str = "ASIAONRUSHLOCAL00000";
const LOCAL_SECRET_ACCESS_KEY: &str = "onrush-local-secret-opens-nothing-elsewhere";
/// In its place where signatures are verified: nobody but this platform's functions can sign with their key.
static OWN_SECRET_ACCESS_KEY: OnceLock<String> = OnceLock::new();
/// The same of accounts that are not the platform's own, each with a key of its own; the beginning of its id.
static OTHER_SECRET_ACCESS_KEYS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
const OTHER_ACCESS_KEY_ID_PREFIX: &str = "ASIAONRUSH";
/// Before the function's name, so that an endpoint of ours knows who asks.
const LOCAL_SESSION_TOKEN_PREFIX: &str = "onrush-local-session.";

/// The folder of the language runtime's libraries; without it a relocated interpreter does not start.
const LANGUAGE_LIBRARIES: &str = "/var/lang/lib";

/// Every variable of an execution environment, sorted by name, each name once.
///
/// Later wins: AWS's defaults (`PATH`, `LANG`, `TZ`, …), the runtime's, the user's, and then the reserved
/// ones again. `_X_AMZN_TRACE_ID` is left out: the runtime sets it with each invocation. Values as recorded
/// on AWS with python3.14 at 128 MB.
pub fn base_environment(facts: &FunctionFacts<'_>) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    set("LAMBDA_TASK_ROOT", "/var/task");
    set("LAMBDA_RUNTIME_DIR", "/var/runtime");
    if facts.image {
        // An image's libraries are its own affair: another's search path would mix two worlds.
        set("PATH", DEFAULT_PATH);
    } else {
        set("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin");
        set(
            "LD_LIBRARY_PATH",
            "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        );
        set("LANG", "en_US.UTF-8");
        set("PWD", "/var/task");
        set("SHLVL", "0");
    }
    set("TZ", ":UTC");
    set("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    set("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000");
    set("_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1");
    set("_AWS_XRAY_DAEMON_PORT", "2000");
    facts.launch.iter().for_each(|(name, value)| set(name, value));
    for (name, value) in facts.user {
        match (name.as_str(), value_of(facts.launch, "LD_LIBRARY_PATH")) {
            ("LD_LIBRARY_PATH", Some(ours)) => set(name, &keep_language_libraries(value, ours)),
            _ => set(name, value),
        }
    }
    set("AWS_LAMBDA_FUNCTION_NAME", facts.name);
    set("AWS_LAMBDA_FUNCTION_VERSION", facts.version);
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &facts.memory_mb.to_string());
    set("AWS_LAMBDA_LOG_GROUP_NAME", facts.log_group);
    set("AWS_LAMBDA_LOG_STREAM_NAME", facts.log_stream);
    if let Some(level) = facts.json_log_level {
        set("AWS_LAMBDA_LOG_FORMAT", "JSON");
        set("AWS_LAMBDA_LOG_LEVEL", level);
    }
    set("AWS_LAMBDA_INITIALIZATION_TYPE", facts.initialization_type);
    set("AWS_LAMBDA_RUNTIME_API", facts.runtime_api);
    set("AWS_REGION", facts.region);
    set("AWS_DEFAULT_REGION", facts.region);
    let (id, secret) = credentials(facts.account_id);
    set("AWS_ACCESS_KEY_ID", &id);
    set("AWS_SECRET_ACCESS_KEY", &secret);
    set("AWS_SESSION_TOKEN", &format!("{LOCAL_SESSION_TOKEN_PREFIX}{}", facts.name));
    // Programs of images are told what to call by their arguments.
    if !facts.image {
        set("_HANDLER", facts.handler);
        set("LAMBDA_TASK_ROOT", "/var/task");
        set("LAMBDA_RUNTIME_DIR", "/var/runtime");
    }
    match value_of(facts.launch, "AWS_EXECUTION_ENV") {
        Some(managed) => set("AWS_EXECUTION_ENV", managed),
        // Absent for OS-only runtimes, also when the user would like to set it.
        None => drop(all.remove("AWS_EXECUTION_ENV")),
    }
    all.remove("AWS_ACCESS_KEY");
    all.remove("_X_AMZN_TRACE_ID");
    all.into_iter().collect()
}

/// The access key of an account's functions: its id, and the secret.
pub fn credentials(account_id: &str) -> (String, String) {
    let others = OTHER_SECRET_ACCESS_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    match others.get(account_id) {
        Some(secret) => (format!("{OTHER_ACCESS_KEY_ID_PREFIX}{account_id}"), secret.clone()),
        None => {
            let secret = OWN_SECRET_ACCESS_KEY.get().map_or(LOCAL_SECRET_ACCESS_KEY, String::as_str);
            (LOCAL_ACCESS_KEY_ID.to_owned(), secret.to_owned())
        }
    }
}

/// The same as [`own_key`] for the functions of an account that is not the platform's own.
pub fn key_of_account(account_id: &str) -> Option<(String, String, &'static str)> {
    let secret = fresh_secret()?;
    let mut others = OTHER_SECRET_ACCESS_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    others.insert(account_id.to_owned(), secret.clone());
    Some((format!("{OTHER_ACCESS_KEY_ID_PREFIX}{account_id}"), secret, LOCAL_SESSION_TOKEN_PREFIX))
}

fn fresh_secret() -> Option<String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Gives functions a secret that is new with each start, for where signatures are verified; to be called before the first
/// of them starts. The id of their access key, the secret, and how their session tokens begin; `None` when the system has no
/// random bytes to give.
pub fn own_key() -> Option<(&'static str, &'static str, &'static str)> {
    let fresh = fresh_secret()?;
    Some((LOCAL_ACCESS_KEY_ID, OWN_SECRET_ACCESS_KEY.get_or_init(|| fresh), LOCAL_SESSION_TOKEN_PREFIX))
}

/// What an extension does not get to see of a function's environment.
///
/// Source: Lambda Developer Guide, "Using the Lambda Extensions API", section "Environment variables" (published).
const HIDDEN_FROM_EXTENSIONS: [&str; 10] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
];

/// The variables of an extension beside a runtime that has those of [`base_environment`].
pub fn extension_environment(environment: &[(String, String)]) -> Vec<(String, String)> {
    // It does not start in the task's folder.
    let hidden = |name: &str| name == "PWD" || HIDDEN_FROM_EXTENSIONS.contains(&name);
    environment.iter().filter(|(name, _)| !hidden(name)).cloned().collect()
}

fn value_of<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A user's library path, with the interpreter's own folder kept when the runtime's path had it.
///
/// On AWS the interpreter finds its library by other means; here it is relocated to `/var/lang`.
fn keep_language_libraries(users: &str, ours: &str) -> String {
    let has = |path: &str| path.split(':').any(|folder| folder == LANGUAGE_LIBRARIES);
    match has(ours) && !has(users) {
        true => format!("{users}:{LANGUAGE_LIBRARIES}"),
        false => users.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(launch: &[(String, String)], user: &[(&str, &str)]) -> BTreeMap<String, String> {
        let user = user.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let facts = FunctionFacts {
            name: "cart",
            version: "$LATEST",
            memory_mb: 128,
            log_group: "/aws/lambda/cart",
            log_stream: "2026/01/01/[$LATEST]00000000000000000000000000000000",
            json_log_level: None,
            region: "eu-west-1",
            account_id: "000000000000",
            handler: "app.handler",
            initialization_type: "on-demand",
            runtime_api: "127.0.0.1:9001",
            image: false,
            launch,
            user: &user,
        };
        base_environment(&facts).into_iter().collect()
    }

    #[test]
    fn reserved_variables_override_the_users() {
        let lies: Vec<(&str, &str)> = RESERVED_VARIABLES.iter().map(|name| (*name, "lie")).collect();
        let all = environment(&[], &lies);
        assert!(all.values().all(|value| value != "lie"), "{all:?}");
        assert_eq!(all["AWS_REGION"], "eu-west-1");
        assert_eq!(all["_HANDLER"], "app.handler");
        assert!(!all.contains_key("AWS_EXECUTION_ENV"));
    }

    #[test]
    fn extensions_see_less() {
        let all: Vec<(String, String)> = environment(&[], &[("API_KEY", "k")]).into_iter().collect();
        let seen: BTreeMap<String, String> = extension_environment(&all).into_iter().collect();
        assert!(HIDDEN_FROM_EXTENSIONS.iter().all(|name| !seen.contains_key(*name)), "{seen:?}");
        assert_eq!((&*seen["API_KEY"], &*seen["AWS_LAMBDA_RUNTIME_API"]), ("k", "127.0.0.1:9001"));
        assert_eq!(seen["AWS_LAMBDA_FUNCTION_NAME"], "cart");
    }

    #[test]
    fn users_may_set_what_aws_leaves_open() {
        let all = environment(&[], &[("TZ", "Europe/Berlin"), ("PATH", "/x"), ("CACHE_HOST", "c")]);
        assert_eq!((&*all["TZ"], &*all["PATH"], &*all["CACHE_HOST"]), ("Europe/Berlin", "/x", "c"));
    }

    #[test]
    fn a_users_library_path_keeps_the_relocated_interpreter_alive() {
        let launch = [("LD_LIBRARY_PATH".to_owned(), "/var/lang/lib:/lib64".to_owned())];
        assert_eq!(environment(&launch, &[("LD_LIBRARY_PATH", "/x")])["LD_LIBRARY_PATH"], "/x:/var/lang/lib");
        assert_eq!(environment(&[], &[("LD_LIBRARY_PATH", "/x")])["LD_LIBRARY_PATH"], "/x");
    }
}
