//! `samconfig.toml`: the flags that a team keeps beside its template.
//!
//! Source: AWS SAM Developer Guide, "AWS SAM CLI configuration file": `[ENVIRONMENT.COMMAND.parameters]`, flags with underscores,
//! `global` for all commands, what is given on the command line first.

use crate::Stop;
use crate::arguments::{SamConfig, Template};
use crate::stack;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The file's usual name, beside the template or here.
const FOUND: &str = "samconfig.toml";
/// The environment that SAM takes without a word.
const ENVIRONMENT: &str = "default";

/// What the file says that means something here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub template: Option<PathBuf>,
    pub parameter_overrides: Vec<String>,
    pub env_vars: Option<PathBuf>,
    pub region: Option<String>,
    pub stack_name: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
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

/// Puts what the file says under what the command line says: its own word first, the file's for what it does not name. Answers
/// the settings, paths in them relative to here.
///
/// # Errors
/// A file or an environment that was asked for is not there, or the file cannot be read.
pub fn apply(config: &SamConfig, template: &mut Template, commands: &[&str]) -> Result<Settings, Stop> {
    let Some(path) = find(config, template) else { return Ok(Settings::default()) };
    let text = stack::read_text(&path)?;
    let environment = config.config_env.as_deref();
    let settings = read(&text, &path, environment, commands).map_err(Stop::Usage)?;
    if template.template.is_none() && template.template_file.is_none() {
        template.template.clone_from(&settings.template);
    }
    let given = std::mem::take(&mut template.parameter_overrides);
    template.parameter_overrides = settings.parameter_overrides.iter().cloned().chain(given).collect();
    if let Some(region) = settings.region.as_ref().filter(|_| !template.region_given) {
        template.region.clone_from(region);
    }
    template.stack_name = template.stack_name.take().or_else(|| settings.stack_name.clone());
    if !settings.ignored.is_empty() {
        eprintln!("note: {}: {} means nothing here", path.display(), settings.ignored.join(", "));
    }
    Ok(settings)
}

fn find(config: &SamConfig, template: &Template) -> Option<PathBuf> {
    if let Some(path) = &config.config_file {
        return Some(path.clone());
    }
    let named = template.template.as_ref().or(template.template_file.as_ref());
    let beside = named.and_then(|path| path.parent()).map(|folder| folder.join(FOUND));
    [beside, Some(PathBuf::from(FOUND))].into_iter().flatten().find(|path| path.is_file())
}

/// Reads the sections of `commands`, a later one over an earlier one, over `global`.
fn read(text: &str, path: &Path, environment: Option<&str>, commands: &[&str]) -> Result<Settings, String> {
    let shown = path.display();
    let all: Table = text.parse().map_err(|error| format!("{shown}: {error}"))?;
    let name = environment.unwrap_or(ENVIRONMENT);
    let Some(sections) = all.get(name).and_then(Value::as_table) else {
        let names: Vec<_> =
            all.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name.as_str()).collect();
        return match environment {
            Some(name) => Err(format!("{shown} has no environment {name}; there is {}", names.join(", "))),
            None => Ok(Settings::default()),
        };
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut settings = Settings::default();
    for command in ["global"].iter().chain(commands) {
        let parameters = sections.get(*command).and_then(|section| section.get("parameters"));
        for (flag, value) in parameters.and_then(Value::as_table).into_iter().flatten() {
            let wrong = || {
                format!(
                    "{shown}: [{name}.{command}.parameters] {flag}: `{}` is not what this flag takes",
                    json(value)
                )
            };
            set(&mut settings, flag, value, folder).ok_or_else(wrong)?;
        }
    }
    settings.ignored.sort_unstable();
    settings.ignored.dedup();
    Ok(settings)
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
        assert!(read(Some("test"), &[]).unwrap_err().contains("there is ci, default"), "names are told");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let read = |text: &str| read(text, Path::new("samconfig.toml"), None, &["deploy"]).unwrap_err();
        assert!(read("[default").starts_with("samconfig.toml: "));
        let wrong = read("[default.deploy.parameters]\nport = \"many\"");
        assert!(wrong.contains("[default.deploy.parameters] port: `\"many\"`"), "{wrong}");
        assert!(read("[default.global.parameters]\nregion = 1").contains("region"));
    }
}
