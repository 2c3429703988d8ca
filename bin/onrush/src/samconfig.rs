//! `samconfig.toml`, or `.yaml`: the flags that a team keeps beside its template.
//!
//! What is given on the command line comes first.

use crate::Stop;
use crate::arguments::{SamConfig, Template};
use crate::stack;
use std::path::{Path, PathBuf};
pub use template::samconfig::Settings;

/// The file's usual names, beside the template or here, in SAM's order.
const FOUND: [&str; 3] = ["samconfig.toml", "samconfig.yaml", "samconfig.yml"];

/// Puts what the file says under what the command line says: its own word first, the file's for what it does not name. Answers
/// the settings, paths in them relative to here.
///
/// # Errors
/// A file or an environment that was asked for is not there, or the file cannot be read.
pub fn apply(config: &SamConfig, template: &mut Template, commands: &[&str]) -> Result<Settings, Stop> {
    let settings = join(config, template, commands)?;
    match &settings.region {
        Some(region) if !template.region_given => template.region.clone_from(region),
        _ => stack::take_region(template),
    }
    Ok(settings)
}

/// Reads the file, if there is one, and joins all but the Region.
fn join(config: &SamConfig, template: &mut Template, commands: &[&str]) -> Result<Settings, Stop> {
    let Some(path) = find(config, template) else { return Ok(Settings::default()) };
    let text = stack::read_text(&path)?;
    let environment = config.config_env.as_deref();
    let settings = template::samconfig::read(&text, &path, environment, commands);
    let settings = settings.map_err(|error| Stop::Usage(format!("{}: {error}", path.display())))?;
    if template.template.is_none() && template.template_file.is_none() {
        template.template.clone_from(&settings.template);
    }
    template.configured = Some((path.clone(), settings.parameter_overrides.clone()));
    let given = std::mem::take(&mut template.parameter_overrides);
    template.parameter_overrides = settings.parameter_overrides.iter().cloned().chain(given).collect();
    // Of several stacks each has its own.
    let stack_name = settings.stack_name.clone().filter(|_| template.more.is_empty());
    template.stack_name = template.stack_name.take().or(stack_name);
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
    let beside = named.and_then(|path| path.parent());
    let folders = beside.into_iter().chain([Path::new("")]);
    folders.flat_map(|folder| FOUND.map(|name| folder.join(name))).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_app_that_samconfig_names_says_its_region() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("cdk.out")).unwrap();
        fs::write(at("cdk.out/A.template.json"), "{}").unwrap();
        let manifest = r#"{"artifacts": {"A": {"type": "aws:cloudformation:stack",
            "environment": "aws://123456789012/eu-west-1", "properties": {"templateFile": "A.template.json"}}}}"#;
        fs::write(at("cdk.out/manifest.json"), manifest).unwrap();
        let region = |more: &str, region_given: bool| {
            let app = at("cdk.out");
            let text = format!(
                "version = 0.1\n[default.global.parameters]\ntemplate_file = {:?}\n{more}",
                app.display().to_string()
            );
            fs::write(at("samconfig.toml"), text).unwrap();
            let mut template = Template {
                template: None,
                more: Vec::new(),
                template_file: None,
                region_given,
                configured: None,
                parameter_overrides: Vec::new(),
                imports: Vec::new(),
                stack_name: None,
                region: "us-east-1".to_owned(),
                strict: false,
            };
            let config = SamConfig { config_file: Some(at("samconfig.toml")), config_env: None };
            apply(&config, &mut template, &["up"]).expect("read");
            template.region
        };
        assert_eq!(region("", false), "eu-west-1");
        assert_eq!(region("region = 'eu-central-1'", false), "eu-central-1");
        assert_eq!(region("region = 'eu-central-1'", true), "us-east-1");
    }
}
