//! `samconfig.toml`, or `.yaml`: the flags that a team keeps beside its template.
//!
//! Source: AWS SAM Developer Guide, "AWS SAM CLI configuration file": `[ENVIRONMENT.COMMAND.parameters]`, flags with underscores,
//! `global` for all commands.

use crate::resolve::json as json_of;
use crate::yaml;

use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::{Table, Value};

/// The environment that SAM takes without a word.
const ENVIRONMENT: &str = "default";

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SamConfigError {
    /// It is no TOML, or no YAML.
    #[error("{0}")]
    Unreadable(String),
    /// The environment that was asked for is not there.
    #[error("there is no environment {name}; there is {there}")]
    NoEnvironment {
        /// What was asked for.
        name: String,
        /// Those that are there.
        there: String,
    },
    /// A flag has a value that it does not take.
    #[error("[{section}.parameters] {flag}: `{value}` is not what this flag takes")]
    WrongValue {
        /// `default.deploy`.
        section: String,
        /// The flag.
        flag: String,
        /// Its value, as JSON.
        value: String,
    },
}

/// What the file says that means something here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The template, relative to where the caller is.
    pub template: Option<PathBuf>,
    /// `NAME=value` pairs, several in one text as well.
    pub parameter_overrides: Vec<String>,
    /// Values of functions' variables.
    pub env_vars: Option<PathBuf>,
    /// The Region.
    pub region: Option<String>,
    /// The stack's name.
    pub stack_name: Option<String>,
    /// Where doors answer.
    pub host: Option<String>,
    /// Under which port.
    pub port: Option<u16>,
    /// Where a debugger attaches.
    pub debug_port: Option<u16>,
    /// Flags that mean nothing here, though somebody may count on them.
    pub ignored: Vec<String>,
}

/// Flags of deployments and of containers that nobody misses here.
const SILENT: &[&str] = &[
    "base_dir",
    "beta_features",
    "build_dir",
    "cache_dir",
    "cached",
    "capabilities",
    "confirm_changeset",
    "container_env_vars",
    "debug",
    "disable_rollback",
    "fail_on_empty_changeset",
    "force_upload",
    "image_repositories",
    "image_repository",
    "lint",
    "notification_arns",
    "output_template_file",
    "parallel",
    "profile",
    "resolve_image_repos",
    "resolve_s3",
    "role_arn",
    "s3_bucket",
    "s3_prefix",
    "save_params",
    "signing_profiles",
    "skip_pull_image",
    "tags",
    "use_container",
    "watch",
];

/// Reads the sections of `commands`, a later one over an earlier one, over `global`; of `environment`, or the usual one if there
/// is one. `file` is where the text lies: its ending says whether that is YAML, and paths in it are joined to its folder.
///
/// # Errors
/// What cannot be used.
pub fn read(
    text: &str,
    file: &Path,
    environment: Option<&str>,
    commands: &[&str],
) -> Result<Settings, SamConfigError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let is_yaml = file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let all: Table = if is_yaml { of_yaml(text)? } else { of_toml(text)? };
    let name = environment.unwrap_or(ENVIRONMENT);
    let Some(sections) = all.get(name).and_then(Value::as_table) else {
        let names: Vec<_> =
            all.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name.as_str()).collect();
        return match environment {
            Some(name) => {
                Err(SamConfigError::NoEnvironment { name: name.to_owned(), there: names.join(", ") })
            }
            None => Ok(Settings::default()),
        };
    };
    let mut settings = Settings::default();
    for command in ["global"].iter().chain(commands) {
        let parameters = sections.get(*command).and_then(|section| section.get("parameters"));
        for (flag, value) in parameters.and_then(Value::as_table).into_iter().flatten() {
            let wrong = || SamConfigError::WrongValue {
                section: format!("{name}.{command}"),
                flag: flag.clone(),
                value: json(value),
            };
            set(&mut settings, flag, value, folder).ok_or_else(wrong)?;
        }
    }
    settings.ignored.sort_unstable();
    settings.ignored.dedup();
    Ok(settings)
}

fn of_toml(text: &str) -> Result<Table, SamConfigError> {
    text.parse().map_err(|error: toml::de::Error| SamConfigError::Unreadable(error.to_string()))
}

fn of_yaml(text: &str) -> Result<Table, SamConfigError> {
    let wrong = |found: Vec<yaml::Problem>| {
        SamConfigError::Unreadable(found.first().map(ToString::to_string).unwrap_or_default())
    };
    let document = yaml::parse("", text).map_err(wrong)?;
    let mut all = json_of(&document.root);
    drop_empty(&mut all);
    Table::try_from(all).map_err(|error| SamConfigError::Unreadable(error.to_string()))
}

/// A key without a value says nothing; TOML has none such.
fn drop_empty(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(all) => {
            all.retain(|_, value| !value.is_null());
            all.values_mut().for_each(drop_empty);
        }
        serde_json::Value::Array(all) => {
            all.retain(|value| !value.is_null());
            all.iter_mut().for_each(drop_empty);
        }
        _ => {}
    }
}

fn json(value: &Value) -> String {
    serde_json::to_value(value).unwrap_or_default().to_string()
}

/// `None`: the value is of the wrong kind.
fn set(settings: &mut Settings, flag: &str, value: &Value, folder: &Path) -> Option<()> {
    let text = || value.as_str().map(str::to_owned);
    let port = || {
        let number = value.as_integer().or_else(|| value.as_str()?.parse().ok());
        number.and_then(|number| u16::try_from(number).ok())
    };
    match flag.replace('-', "_").as_str() {
        "template" | "template_file" => settings.template = Some(folder.join(text()?)),
        "env_vars" => settings.env_vars = Some(folder.join(text()?)),
        "region" => settings.region = Some(text()?),
        "stack_name" => settings.stack_name = Some(text()?),
        "host" => settings.host = Some(text()?),
        "port" => settings.port = Some(port()?),
        "debug_port" => settings.debug_port = Some(port()?),
        "parameter_overrides" => {
            settings.parameter_overrides = match value {
                Value::String(text) => vec![text.clone()],
                Value::Array(all) => {
                    all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?
                }
                // A table of names and values.
                Value::Table(all) => {
                    let text = |value: &Value| value.as_str().map_or_else(|| json(value), str::to_owned);
                    all.iter().map(|(name, value)| format!("{name}={}", text(value))).collect()
                }
                _ => return None,
            }
        }
        other if SILENT.contains(&other) => {}
        _ => settings.ignored.push(flag.to_owned()),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
version = 0.1
[default.global.parameters]
stack_name = "shop"
region = "eu-central-1"
[default.local_start_api.parameters]
warm_containers = "EAGER"
port = 3456
env_vars = "local.json"
parameter_overrides = "Stage=\"test one\" Table=T"
[default.deploy.parameters]
capabilities = "CAPABILITY_IAM"
parameter_overrides = ["Stage=prod"]
[ci.global.parameters]
template_file = "ci.yaml"
"#;

    #[test]
    fn a_commands_section_lies_over_the_global_one() {
        let read = |environment, commands: &[&str]| {
            read(TEXT, Path::new("shop/samconfig.toml"), environment, commands)
        };
        let local = read(None, &["local_start_api"]).unwrap();
        assert_eq!(
            (local.stack_name.as_deref(), local.region.as_deref(), local.port),
            (Some("shop"), Some("eu-central-1"), Some(3456))
        );
        assert_eq!(local.env_vars, Some("shop/local.json".into()));
        assert_eq!(local.parameter_overrides, [r#"Stage="test one" Table=T"#]);
        assert_eq!(local.ignored, ["warm_containers"]);
        let deploy = read(None, &["deploy"]).unwrap();
        assert_eq!((deploy.parameter_overrides, deploy.ignored), (vec!["Stage=prod".to_owned()], vec![]));
        assert_eq!(read(Some("ci"), &[]).unwrap().template, Some("shop/ci.yaml".into()));
        assert!(
            read(Some("test"), &[])
                .unwrap_err()
                .to_string()
                .contains("no environment test; there is ci, default"),
            "names are told"
        );
    }

    #[test]
    fn yaml_says_the_same() {
        let text = "
version: 0.1
default:
  global: {parameters: {stack_name: shop, port: 3456}}
  deploy:
    parameters:
      template_file: app.yaml
      parameter_overrides: ['Stage=prod', 'Table=T']
";
        let read = |text| read(text, Path::new("shop/samconfig.yaml"), None, &["deploy"]);
        let settings = read(text).unwrap();
        assert_eq!((settings.stack_name.as_deref(), settings.port), (Some("shop"), Some(3456)));
        assert_eq!(settings.template, Some("shop/app.yaml".into()));
        assert_eq!(settings.parameter_overrides, ["Stage=prod", "Table=T"]);
        assert!(read("default: [1").unwrap_err().to_string().contains("not valid YAML"));
        assert!(read("- a list").is_err());
        let empty =
            read("default:\n  deploy:\n    parameters:\n      region:\n      stack_name: shop\n  build:\n")
                .unwrap();
        assert_eq!((empty.region, empty.stack_name.as_deref()), (None, Some("shop")));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let read =
            |text: &str| read(text, Path::new("samconfig.toml"), None, &["deploy"]).unwrap_err().to_string();
        assert!(read("[default").contains("line 1"), "{}", read("[default"));
        let wrong = read("[default.deploy.parameters]\nport = \"many\"");
        assert!(wrong.contains("[default.deploy.parameters] port: `\"many\"`"), "{wrong}");
        assert!(read("[default.global.parameters]\nregion = 1").contains("region"));
    }
}
