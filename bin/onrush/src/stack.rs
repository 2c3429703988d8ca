//! A template's file, read and resolved.

use crate::Stop;
use crate::arguments::Template;
use crate::problems;
use anyhow::Context as _;
use miette::Severity;
use model::stack::{Place, Stack};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use template::app;

/// Names under which a template is found without being named.
const FOUND: [&str; 3] = ["template.yaml", "template.yml", "template.json"];
/// What tools leave in their folders: `serverless package`, `cdk synth`.
const LEFT: [&str; 2] = ["cloudformation-template-update-stack.json", ".template.json"];
/// Folders in which tools leave a template, with what they make it from and the command that does.
const MADE: [(&str, &[&str], &str); 2] = [
    ("cdk.out", &["cdk.json"], "cdk synth"),
    (
        ".serverless",
        &["serverless.yml", "serverless.yaml", "serverless.json", "serverless.ts"],
        "serverless package",
    ),
];
/// What `cdk synth` leaves of nested stacks, which are no stacks of the app.
const NESTED: &str = ".nested.template.json";
/// What `cdk synth` says of the stacks that it leaves.
const MANIFEST: &str = "manifest.json";
/// Most folders of a CDK app, each a stage's but the first, that are read. They may lie in each other.
const FOLDERS_MAX: usize = 256;
/// What a stage's folder is called, after `cdk synth`.
const STAGE: &str = "assembly-";
/// Most bytes read of a template: the engine refuses less, with a better message.
const BYTES_MAX: u64 = 64 << 20;

/// A template's stack and where it lies.
#[derive(Debug)]
pub struct Read {
    pub path: PathBuf,
    pub stack: Stack,
    /// The template's text.
    pub text: String,
    /// What it was read with.
    pub inputs: template::Inputs,
}

impl Read {
    /// The folder to which paths in the template are relative.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// The folder of the project, where it is another: that of what tools left behind.
    pub fn project(&self) -> Option<PathBuf> {
        let path = self.path.canonicalize().ok()?;
        let is_stage = |folder: &&Path| {
            folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(STAGE))
        };
        let folder = path.ancestors().skip(1).find(|folder| !is_stage(folder))?;
        let above = folder.parent()?;
        match folder.file_name()?.to_str()? {
            ".serverless" | "cdk.out" => Some(above.to_owned()),
            "build" if above.ends_with(".aws-sam") => Some(above.parent()?.to_owned()),
            _ => None,
        }
    }

    /// The template in which something stands: of several stacks, that of its own.
    pub fn path_of(&self, place: Place) -> PathBuf {
        app::part_at(&self.text, place.offset).map_or_else(|| self.path.clone(), |part| part.file.into())
    }

    /// The folder to which paths are relative that stand there.
    pub fn folder_of(&self, place: Place) -> PathBuf {
        folder_of(&self.path_of(place)).to_owned()
    }

    /// Its template, or those of all its stacks.
    pub fn paths(&self) -> Vec<PathBuf> {
        let parts = app::parts(&self.text);
        if parts.is_empty() {
            return vec![self.path.clone()];
        }
        parts.iter().map(|part| part.file.into()).collect()
    }

    /// The text as the files have it now.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn text_now(&self) -> Result<String, Stop> {
        let parts = app::parts(&self.text);
        if parts.is_empty() {
            return read_text(&self.path);
        }
        let texts =
            parts.iter().map(|part| read_text(Path::new(part.file))).collect::<Result<Vec<_>, _>>()?;
        Ok(app::join(parts.iter().zip(&texts).map(|(part, text)| (part.stack, part.file, &**text))))
    }

    /// What its parameters were given, now and at the deployments before, by name. What it does not declare is forgotten.
    pub fn given_parameters(&self) -> BTreeMap<String, String> {
        let declared = template::parameters_of(&self.text);
        let mut given = self.inputs.previous.clone();
        given.extend(self.inputs.parameters.clone());
        given.retain(|name, _| declared.contains(name));
        given
    }
}

fn folder_of(template: &Path) -> &Path {
    match template.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The template that the arguments name, or the one in this folder.
pub fn find(arguments: &Template) -> Option<PathBuf> {
    found(arguments.template.clone().or_else(|| arguments.template_file.clone()))
}

fn found(named: Option<PathBuf>) -> Option<PathBuf> {
    match named {
        Some(folder) => Some(match &templates_in(&folder)[..] {
            [(only, _)] => only.clone(),
            _ => folder,
        }),
        None => FOUND.iter().map(PathBuf::from).find(|path| path.is_file()),
    }
}

/// What to type in a folder that has no template, and from which a tool makes one. What it made earlier is not taken without
/// being named: it may be older than the source, which nobody would see.
pub fn hint(folder: &Path, command: &str) -> Option<String> {
    MADE.iter().find_map(|(left, sources, makes)| {
        if !templates_in(&folder.join(left)).is_empty() && folder.join(left).is_dir() {
            return Some(format!("what `{makes}` left is in {left}: `{command} {left}`"));
        }
        let source = sources.iter().find(|source| folder.join(source).is_file())?;
        Some(format!("a template is made from {source}: `{makes}`, then `{command} {left}`"))
    })
}

/// The same behind a message, of the folder that this process is in.
pub fn hinted(message: &str, command: &str) -> String {
    hint(Path::new(""), command).map_or_else(|| message.to_owned(), |hint| format!("{message}; {hint}"))
}

/// Refuses what is given to a template where there is none: most often a flag that takes several words took its name. `others`
/// are flags of the command's own, with what was given.
pub fn without(arguments: &Template, others: &[(&str, Option<&str>)]) -> Result<(), Stop> {
    // What a file gives is for whichever template there is.
    let given = if arguments.configured.is_some() { &[][..] } else { &arguments.parameter_overrides };
    let last = |texts: &'_ [String]| texts.last().cloned();
    let own = [("--parameter-overrides", last(given)), ("--import", last(&arguments.imports))];
    let others = others.iter().map(|(flag, text)| (*flag, text.map(str::to_owned)));
    let Some((flag, text)) = own.into_iter().chain(others).find_map(|(flag, text)| Some((flag, text?)))
    else {
        return Ok(());
    };
    Err(Stop::Usage(format!(
        "{flag} {text}: there is no template.yaml, .yml or .json here to give it to; name the template before {flag}"
    )))
}

/// What a path names: a template; that of a folder, or all that tools left there, if none has the usual name, each with its
/// stack's name where they say it. Of a folder that `cdk synth` filled, or of the manifest in it, its stacks, those of its stages
/// among them.
fn templates_in(path: &Path) -> Vec<(PathBuf, Option<String>)> {
    if path.file_name().is_some_and(|name| name == MANIFEST)
        && let Some(stacks) = stacks_of(folder_of(path), &mut BTreeSet::new())
    {
        return stacks;
    }
    if !path.is_dir() {
        return vec![(path.to_owned(), None)];
    }
    if let Some(usual) = FOUND.iter().map(|name| path.join(name)).find(|path| path.is_file()) {
        return vec![(usual, None)];
    }
    if let Some(stacks) = stacks_of(path, &mut BTreeSet::new()) {
        return stacks;
    }
    let paths = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        LEFT.iter().any(|end| name.ends_with(end)) && !name.ends_with(NESTED) && path.is_file()
    };
    let mut left: Vec<_> = paths.filter(is_left).map(|path| (path, None)).collect();
    left.sort();
    left
}

/// The stacks of a CDK app; nothing where no manifest names any, or where its folder was `seen`: whoever wrote it may have
/// stages lead back.
///
/// Source: AWS CDK, `cloud-assembly-schema`, `ArtifactManifest`.
fn stacks_of(folder: &Path, seen: &mut BTreeSet<PathBuf>) -> Option<Vec<(PathBuf, Option<String>)>> {
    if seen.len() == FOLDERS_MAX || !seen.insert(folder.canonicalize().ok()?) {
        return None;
    }
    let manifest: Value = serde_json::from_str(&read_text(&folder.join(MANIFEST)).ok()?).ok()?;
    let mut stacks = Vec::new();
    for (id, artifact) in manifest["artifacts"].as_object()? {
        let property = |name: &str| artifact["properties"][name].as_str();
        match (artifact["type"].as_str(), property("templateFile"), property("directoryName")) {
            (Some("aws:cloudformation:stack"), Some(file), _) => {
                let name = stack_name(Some(property("stackName").unwrap_or(id)));
                stacks.push((folder.join(file), Some(name)));
            }
            (Some("cdk:cloud-assembly"), _, Some(stage)) => {
                stacks.extend(stacks_of(&folder.join(stage), seen).unwrap_or_default());
            }
            _ => {}
        }
    }
    Some(stacks).filter(|stacks| !stacks.is_empty())
}

/// Takes the Region that an app of the CDK gives its stacks, unless somebody said one.
pub fn take_region(template: &mut Template) {
    if template.region_given {
        return;
    }
    let named = template.template.as_ref().or(template.template_file.as_ref());
    let regions = regions_of(named.into_iter().chain(&template.more).map(PathBuf::as_path));
    let mut each = regions.iter();
    match (each.next(), each.next()) {
        (Some(region), None) => template.region.clone_from(region),
        (Some(_), Some(_)) => {
            let regions = regions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            eprintln!(
                "note: the stacks are of {regions}; all run in {}: --region names another",
                template.region
            );
        }
        (None, _) => {}
    }
}

/// The Regions that an app of the CDK gives the stacks that these paths name; none where it leaves them open.
///
/// Source: AWS CDK, `cloud-assembly-schema`, `ArtifactManifest.environment`: `aws://ACCOUNT/REGION`, or `unknown-region`.
fn regions_of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (template, _) in paths.into_iter().flat_map(templates_in) {
        let manifest = read_text(&folder_of(&template).join(MANIFEST)).ok();
        let manifest: Option<Value> = manifest.and_then(|text| serde_json::from_str(&text).ok());
        let artifacts = manifest.as_ref().and_then(|manifest| manifest["artifacts"].as_object());
        for artifact in artifacts.into_iter().flat_map(serde_json::Map::values) {
            let is_its = |file: &str| template.file_name().is_some_and(|name| name == file);
            let environment = artifact["environment"].as_str().and_then(|text| text.strip_prefix("aws://"));
            if artifact["properties"]["templateFile"].as_str().is_some_and(is_its)
                && let Some((_, region)) = environment.and_then(|text| text.split_once('/'))
                && region != "unknown-region"
                && model::name::is_region(region)
            {
                found.insert(region.to_owned());
            }
        }
    }
    found
}

/// The templates that are read together, with their stacks' names; one that is read alone is named later.
fn stacks(path: &Path, arguments: &Template) -> Result<Vec<(PathBuf, String)>, Stop> {
    let mut all: Vec<(PathBuf, Option<String>)> = Vec::new();
    for path in std::iter::once(path).chain(arguments.more.iter().map(PathBuf::as_path)) {
        let found = templates_in(path);
        if found.is_empty() {
            return Err(Stop::Usage(format!(
                "{} is a folder without a template.yaml, .yml or .json: name the template",
                path.display()
            )));
        }
        all.extend(found);
    }
    let named = |(path, name): (PathBuf, Option<String>)| {
        let place = path.canonicalize().unwrap_or_else(|_| path.clone());
        let name = name.unwrap_or_else(|| stack_name(one_of_several(&place)));
        (path, name)
    };
    let all: Vec<_> = all.into_iter().map(named).collect();
    let mut names: BTreeMap<&str, &Path> = BTreeMap::new();
    for (path, name) in &all {
        if let Some(other) = names.insert(name, path) {
            let (path, other) = (path.display(), other.display());
            return Err(Stop::Usage(format!(
                "{other} and {path} are both of a stack {name}: a file's name is its stack's, that of its folder for template.yaml"
            )));
        }
    }
    if let (Some(name), true) = (&arguments.stack_name, all.len() > 1) {
        return Err(Stop::Usage(format!(
            "--stack-name {name}: there are {} stacks, each with its own name; name one template",
            all.len()
        )));
    }
    Ok(all)
}

/// Reads and resolves the template at `path`; problems are printed with their places.
pub fn read(path: &Path, arguments: &Template, port: u16) -> Result<Read, Stop> {
    settle(path, open(path, arguments, port, Standing::default())?, warn)
}

fn warn(name: &str, text: &str, found: &[template::Problem]) {
    problems::print(name, text, found, Severity::Warning);
}

/// What stays of an earlier template when it is read again, or another in its place.
#[derive(Default)]
pub struct Standing {
    /// Addresses of elastic IPs, by logical id.
    pub elastic_ips: BTreeMap<String, Ipv4Addr>,
    /// What was given for parameters, by name.
    pub parameters: BTreeMap<String, String>,
}

/// As [`read`], while an earlier template runs. Problems are told in lines to whoever `asked`, far away as they may be;
/// otherwise they are printed.
pub fn read_again(
    path: &Path,
    arguments: &Template,
    port: u16,
    standing: Standing,
    asked: bool,
) -> Result<Read, Stop> {
    // A folder may hold one template where it had several, or the other way about.
    let found = found(Some(path.to_owned()));
    let path = found.as_deref().unwrap_or(path);
    let opened = open(path, arguments, port, standing)?;
    let (name, _, _, outcome) = &opened;
    if asked && !outcome.problems.is_empty() {
        let line = |problem| problems::one_line(name, &opened.1, problem);
        return Err(Stop::Problems(outcome.problems.iter().map(line).collect()));
    }
    settle(path, opened, warn)
}

/// A template as it is seen by whoever hands it to an Onrush that runs. What is a problem is decided there, where parameters
/// and imports may have values that nobody gave here.
pub struct Handed {
    /// Its path for the Onrush that runs.
    pub path: PathBuf,
    opened: Opened,
}

impl Handed {
    /// Looks at the template at `path`.
    pub fn look(path: &Path, arguments: &Template, port: u16) -> Result<Self, Stop> {
        let opened = open(path, arguments, port, Standing::default())?;
        Ok(Self { path: std::path::absolute(path).context("this folder is gone")?, opened })
    }

    /// Prints the problems of which [`read_again`] has told in `lines`: with its place in the text what is wrong here, too, the
    /// others as they are.
    pub fn print_problems(&self, lines: &[&str]) {
        let (name, text, _, outcome) = &self.opened;
        for line in lines {
            let is_told = |problem: &&template::Problem| {
                let file = problems::file_of(name, text, problem);
                let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
                line.starts_with(&format!("{}:{problem}", path.display()))
            };
            match outcome.problems.iter().find(is_told) {
                Some(problem) => {
                    problems::print(name, text, std::slice::from_ref(problem), Severity::Error);
                }
                None => crate::say(&format!("error: {line}")),
            }
        }
    }

    /// Prints the warnings.
    pub fn print_warnings(&self) {
        let (name, text, _, outcome) = &self.opened;
        warn(name, text, &outcome.warnings);
    }
}

/// As [`read`], with a line for each kind of warning: who plans one load after another has seen them.
pub fn read_briefly(path: &Path, arguments: &Template, port: u16) -> Result<Read, Stop> {
    let opened = open(path, arguments, port, Standing::default())?;
    settle(path, opened, problems::print_briefly)
}

fn settle(
    path: &Path,
    (name, text, inputs, outcome): Opened,
    warn: impl Fn(&str, &str, &[template::Problem]),
) -> Result<Read, Stop> {
    warn(&name, &text, &outcome.warnings);
    problems::print(&name, &text, &outcome.problems, Severity::Error);
    match outcome.stack {
        Some(stack) if outcome.problems.is_empty() => {
            let path = app::parts(&text).first().map_or_else(|| path.to_owned(), |first| first.file.into());
            Ok(Read { path, stack, text, inputs })
        }
        _ => Err(Stop::Reported),
    }
}

/// A template's name for messages, its text, what it is read with, and what came of it.
type Opened = (String, String, template::Inputs, template::Outcome);

fn open(path: &Path, arguments: &Template, port: u16, standing: Standing) -> Result<Opened, Stop> {
    let templates = stacks(path, arguments)?;
    let name = path.display().to_string();
    let text = match &templates[..] {
        [(only, _)] => {
            let text = read_text(only)?;
            if !app::parts(&text).is_empty() {
                return Err(Stop::Usage(format!("{} begins with U+001E: it is no template", only.display())));
            }
            text
        }
        several => {
            let (mut texts, mut bytes) = (Vec::new(), 0);
            for (path, stack) in several {
                let file = path.to_str().with_context(|| format!("{} is no UTF-8 text", path.display()))?;
                let text = read_text(path)?;
                bytes += text.len() as u64;
                if bytes > BYTES_MAX {
                    let message = format!("{name}: all templates have more than {BYTES_MAX} bytes");
                    return Err(Stop::Usage(message));
                }
                texts.push((&**stack, file, text));
            }
            app::join(texts.iter().map(|(stack, file, text)| (*stack, *file, &**text)))
        }
    };
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let inputs = template::Inputs {
        parameters: pairs(&arguments.parameter_overrides)?,
        previous: standing.parameters,
        imports: pairs(&arguments.imports)?,
        region: arguments.region.clone(),
        account_id: model::name::DEFAULT_ACCOUNT.to_owned(),
        stack_name: arguments.stack_name.clone().unwrap_or_else(|| stack_name(named_after(&place))),
        strict: arguments.strict,
        availability_zones: Vec::new(),
        port,
        elastic_ips: standing.elastic_ips,
        files: parts(&text, path),
    };
    let mut outcome = template::read(&name, &text, &inputs);
    if let Some((file, values)) = &arguments.configured {
        name_source(&mut outcome.problems, file, &pairs(values)?);
    }
    Ok((name, text, inputs, outcome))
}

/// Says of parameters that the template has not, and that a file of flags gives, where they are given.
fn name_source(problems: &mut [template::Problem], file: &Path, values: &BTreeMap<String, String>) {
    for problem in problems {
        let template::Cause::Unknown { what: "the parameter", name } = &problem.cause else { continue };
        if values.contains_key(name) {
            let slip = problem.help.take().map(|help| format!("; {help}")).unwrap_or_default();
            problem.help = Some(format!("it is given in {}{slip}", file.display()));
        }
    }
}

/// The files that a template takes parts from, or those of several stacks, and where they lie: paths are relative to their
/// template.
pub fn parts_named(text: &str, template: &Path) -> BTreeMap<String, PathBuf> {
    let stacks = app::parts(text);
    if stacks.is_empty() {
        let at = |file: String| (file.clone(), template.parent().unwrap_or(Path::new("")).join(file));
        return template::files_of(text).into_iter().map(at).collect();
    }
    let folders: BTreeMap<&str, &Path> = stacks
        .iter()
        .map(|part| (part.stack, Path::new(part.file).parent().unwrap_or(Path::new(""))))
        .collect();
    let at = |(stack, file): (&str, String)| (app::file_name(stack, &file), folders[stack].join(file));
    app::files_of(&stacks).into_iter().map(at).collect()
}

/// What is in the files that a template takes parts from: together no larger than a template may be. As with code, their paths
/// may lead anywhere that whoever started Onrush may read.
pub fn parts(text: &str, template: &Path) -> BTreeMap<String, Result<String, String>> {
    let mut left = BYTES_MAX;
    let read = |(name, path): (String, PathBuf)| {
        // A pipe would be empty the next time.
        let text = match fs::metadata(&path) {
            Ok(about) if !about.is_file() => Err(format!("{} is no file", path.display())),
            _ => read_within(&path, left),
        };
        left -= text.as_ref().map_or(0, |text| text.len() as u64);
        (name, text)
    };
    parts_named(text, template).into_iter().map(read).collect()
}

/// A text file, bounded.
pub fn read_text(path: &Path) -> Result<String, Stop> {
    read_within(path, BYTES_MAX).map_err(Stop::Usage)
}

fn read_within(path: &Path, bytes_max: u64) -> Result<String, String> {
    let at = path.display();
    let mut bytes = Vec::new();
    open_to_read(path)
        .map_err(|error| format!("cannot open {at}: {error}"))?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read {at}: {error}"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{at} has more than {bytes_max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| format!("{at} is no UTF-8 text"))
}

/// A file that is read to its end without waiting for anything, `/dev/null` included; or a pipe that somebody writes to, or, as to
/// the shell's `<(…)`, has written.
///
/// # Errors
/// It cannot be opened, is neither, or nobody writes to it.
#[cfg(target_os = "linux")]
pub fn open_to_read(path: &Path) -> io::Result<Box<dyn io::Read>> {
    use rustix::fs::{FileType, Mode, OFlags};
    /// Linux's `PIPEFS_MAGIC`: a pipe that is in no folder, whose reader never comes before its writer.
    const NAMELESS: rustix::fs::FsWord = 0x5049_5045;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mut file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = rustix::fs::fstat(&file)?;
    let device = (rustix::fs::major(about.st_rdev), rustix::fs::minor(about.st_rdev));
    match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile => Ok(Box::new(file)),
        FileType::CharacterDevice if device == (1, 3) => Ok(Box::new(io::empty())),
        FileType::Fifo => {
            let mut first = [0];
            let begun = match file.read(&mut first) {
                // Only a pipe that has a writer has to be waited for.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Ok(0) if rustix::fs::fstatfs(&file)?.f_type != NAMELESS => {
                    return Err(io::Error::other("it is a pipe that nobody writes to"));
                }
                begun => begun?,
            };
            rustix::io::ioctl_fionbio(&file, false)?;
            Ok(Box::new(io::Cursor::new(first).take(begun as u64).chain(file)))
        }
        _ => Err(io::Error::other("it is no file")),
    }
}

/// A file.
///
/// # Errors
/// It cannot be opened.
#[cfg(not(target_os = "linux"))]
pub fn open_to_read(path: &Path) -> io::Result<Box<dyn io::Read>> {
    Ok(Box::new(fs::File::open(path)?))
}

/// What a stack is named after: the template's folder; of what the CDK made the stack's own name, which its file has; of what
/// `sam build` and `serverless package` left behind the project's folder.
fn named_after(template: &Path) -> Option<&str> {
    if let Some(stack) = template.file_name()?.to_str()?.strip_suffix(".template.json") {
        return Some(stack);
    }
    let folder = template.parent()?;
    let project = match folder.file_name()?.to_str()? {
        ".serverless" => folder.parent()?,
        "build" if folder.parent()?.ends_with(".aws-sam") => folder.parent()?.parent()?,
        _ => folder,
    };
    project.file_name()?.to_str()
}

/// The same of one template among several: a file that has not the usual name gives its own.
fn one_of_several(template: &Path) -> Option<&str> {
    let name = template.file_name()?.to_str()?;
    if FOUND.contains(&name) || LEFT.iter().any(|end| name.ends_with(end)) {
        return named_after(template);
    }
    template.file_stem()?.to_str()
}

fn stack_name(place: Option<&str>) -> String {
    let name: String =
        place.unwrap_or("").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.to_owned()
    } else {
        format!("stack-{name}")
    }
}

/// Several pairs in one text, as SAM takes them: `A=1 B="x y"`. A blank before anything but `NAME=` belongs to the value.
fn words(text: &str) -> Vec<String> {
    let begins_pair = |rest: &str| {
        let name = rest.split('=').next().unwrap_or("");
        name.len() < rest.len() && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let quotes = text.matches('"').count();
    for (at, character) in text.char_indices() {
        match character {
            // Quotes that come in pairs and begin a value are the shell's.
            '"' if quotes.is_multiple_of(2) && (quoted || word.ends_with('=')) => quoted = !quoted,
            ' ' | '\n' | '\t' if !quoted && begins_pair(text[at + 1..].trim_start()) => {
                if !word.trim().is_empty() {
                    all.push(word.trim().to_owned());
                }
                word.clear();
            }
            other => word.push(other),
        }
    }
    all.push(word.trim_end_matches(['\n', '\t']).to_owned());
    all
}

/// `NAME=VALUE`, each also as `ParameterKey=NAME,ParameterValue=VALUE`, the form that SAM and the aws CLI take.
fn pairs(texts: &[String]) -> Result<BTreeMap<String, String>, Stop> {
    let mut all = BTreeMap::new();
    for text in texts.iter().flat_map(|text| words(text)) {
        let text = text.as_str();
        let pair = match text.strip_prefix("ParameterKey=") {
            Some(rest) => rest.split_once(",ParameterValue="),
            None => text.split_once('='),
        };
        match pair {
            Some((name, value)) if !name.is_empty() => all.insert(name.to_owned(), value.to_owned()),
            _ => {
                return Err(Stop::Usage(format!(
                    "`{text}` is not of the form NAME=VALUE, nor of ParameterKey=NAME,ParameterValue=VALUE"
                )));
            }
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        template: Template,
    }

    #[test]
    fn stack_names_are_made_of_folder_names() {
        assert_eq!(stack_name(Some("my shop_2")), "my-shop-2");
        assert_eq!(stack_name(Some("2shops")), "stack-2shops");
        assert_eq!(stack_name(None), "stack-");
    }

    #[test]
    fn what_tools_leave_behind_is_named_after_the_stack_or_the_project() {
        for (path, name) in [
            ("/home/shop/template.yaml", Some("shop")),
            ("/home/shop/cdk.out/MyStack.template.json", Some("MyStack")),
            ("/home/shop/cdk.out/assembly-Prod/Prod-Api.template.json", Some("Prod-Api")),
            ("/home/shop/.aws-sam/build/template.yaml", Some("shop")),
            ("/home/shop/build/template.yaml", Some("build")),
            ("/home/shop/.serverless/cloudformation-template-update-stack.json", Some("shop")),
            ("/template.yaml", None),
            ("/", None),
        ] {
            assert_eq!(named_after(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn where_a_tool_makes_the_template_it_is_said_what_to_type() {
        for (source, left, file, makes) in [
            ("cdk.json", "cdk.out", "App.template.json", "cdk synth"),
            (
                "serverless.yml",
                ".serverless",
                "cloudformation-template-update-stack.json",
                "serverless package",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            assert_eq!(hint(folder.path(), "onrush up"), None);
            fs::write(at(source), "{}").unwrap();
            fs::create_dir(at(left)).unwrap();
            let told = format!("a template is made from {source}: `{makes}`, then `onrush up {left}`");
            assert_eq!(hint(folder.path(), "onrush up"), Some(told), "the folder is empty");
            fs::write(at(left).join(file), "{}").unwrap();
            let told = format!("what `{makes}` left is in {left}: `onrush plan {left}`");
            assert_eq!(hint(folder.path(), "onrush plan"), Some(told));
        }
    }

    #[test]
    fn what_is_given_to_no_template_is_refused() {
        let refused = |words: &[&str]| match without(
            &<Line as clap::Parser>::parse_from(words).template,
            &[("--image", None)],
        ) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{other:?}"),
        };
        let told = refused(&["up", "--parameter-overrides", "A=1", "app.yaml"]);
        assert!(told.starts_with("--parameter-overrides app.yaml: there is no template"), "{told}");
        assert!(refused(&["up", "--import", "a=b"]).starts_with("--import a=b: "));
        let bare = <Line as clap::Parser>::parse_from(["up"]).template;
        assert!(without(&bare, &[("--image", None)]).is_ok());
        let told = without(&bare, &[("--image", None), ("--env-vars", Some("local.json"))]);
        assert!(
            matches!(told, Err(Stop::Usage(text)) if text.starts_with("--env-vars local.json: there is no template"))
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_that_blocks_is_waited_for_but_a_pipe_with_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, given) = rustix::pipe::pipe().unwrap();
        let ours = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe)));
        let writer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            io::Write::write_all(&mut fs::File::from(given), "Resources: {}".repeat(10_000).as_bytes())
                .unwrap();
        });
        assert_eq!(read_text(&ours).unwrap().len(), 130_000);
        writer.join().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let told = |path: &Path| match read_text(path) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(told(&fifo).ends_with("fifo: it is a pipe that nobody writes to"));
        assert!(told(Path::new("/dev/zero")).ends_with("cannot open /dev/zero: it is no file"));
        assert_eq!(read_text(Path::new("/dev/null")).unwrap(), "");
        // As `<(grep '^APP_' .env)`, which found nothing and has ended.
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        let ended = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe)));
        assert_eq!(read_text(&ended).unwrap(), "");
    }

    #[test]
    fn a_folder_stands_for_its_templates() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let named = |path: &Path| found(Some(path.to_owned())).unwrap();
        let stacks = |path: &Path, more: &[PathBuf]| {
            let mut line = <Line as clap::Parser>::parse_from(["up"]);
            line.template.more = more.to_vec();
            match stacks(path, &line.template) {
                Ok(all) => Ok(all),
                Err(Stop::Usage(told)) => Err(told),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(named(folder.path()), folder.path());
        assert!(
            stacks(folder.path(), &[])
                .unwrap_err()
                .ends_with("without a template.yaml, .yml or .json: name the template")
        );
        for name in ["App.template.json", "App.assets.json", "AppPart1.nested.template.json"] {
            fs::write(at(name), "{}").unwrap();
        }
        fs::write(at("manifest.json"), "{}").unwrap();
        assert_eq!(named(folder.path()), at("App.template.json"));
        fs::write(at("Base.template.json"), "").unwrap();
        assert_eq!(named(folder.path()), folder.path());
        let both =
            [(at("App.template.json"), "App".to_owned()), (at("Base.template.json"), "Base".to_owned())];
        assert_eq!(stacks(folder.path(), &[]).unwrap(), both);
        assert_eq!(stacks(&at("App.template.json"), &[at("Base.template.json")]).unwrap(), both);
        let told = stacks(&at("App.template.json"), &[at("App.template.json")]).unwrap_err();
        assert!(told.contains("are both of a stack App"), "{told}");
        // The manifest knows the names, and the stages, which are folders of their own.
        let artifact = r#"{"artifacts": {
            "App": {"type": "aws:cloudformation:stack", "properties": {"templateFile": "App.template.json", "stackName": "shop"}},
            "App.assets": {"type": "cdk:asset-manifest", "properties": {"file": "App.assets.json"}},
            "Prod": {"type": "cdk:cloud-assembly", "properties": {"directoryName": "assembly-Prod"}}}}"#;
        fs::write(at("manifest.json"), artifact).unwrap();
        assert_eq!(named(folder.path()), at("App.template.json"), "a stage that is not there");
        fs::create_dir(at("assembly-Prod")).unwrap();
        fs::write(
            at("assembly-Prod/manifest.json"),
            r#"{"artifacts": {"ProdDb": {"type": "aws:cloudformation:stack", "properties": {"templateFile": "P.template.json"}}}}"#,
        )
        .unwrap();
        let all = [
            (at("App.template.json"), "shop".to_owned()),
            (at("assembly-Prod/P.template.json"), "ProdDb".to_owned()),
        ];
        assert_eq!(stacks(folder.path(), &[]).unwrap(), all);
        assert_eq!(stacks(&at("manifest.json"), &[]).unwrap(), all);
        // Whoever wrote a manifest may lead its stages anywhere, and call its stacks as they like.
        let artifact = r#"{"artifacts": {"A": {"type": "cdk:cloud-assembly", "properties": {"directoryName": "."}},
            "B": {"type": "cdk:cloud-assembly", "properties": {"directoryName": "../"}},
            "C": {"type": "aws:cloudformation:stack", "properties": {"templateFile": "P.template.json", "stackName": "a\n\u001eb"}}}}"#;
        fs::write(at("assembly-Prod/manifest.json"), artifact).unwrap();
        let all = [all[0].clone(), (at("assembly-Prod/P.template.json"), "a--b".to_owned())];
        assert_eq!(stacks(folder.path(), &[]).unwrap(), all);
        fs::write(at("template.yml"), "").unwrap();
        assert_eq!(named(folder.path()), at("template.yml"));
        assert_eq!(stacks(&at("network.yaml"), &[at("jobs.yaml")]).unwrap()[0].1, "network");
    }

    #[test]
    fn a_cdk_app_says_the_regions_of_its_stacks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let stack = |file: &str, environment: &str| {
            format!(
                r#""{file}": {{"type": "aws:cloudformation:stack", "environment": "{environment}",
                    "properties": {{"templateFile": "{file}"}}}}"#
            )
        };
        let manifest = |stacks: &[String]| {
            fs::write(at("manifest.json"), format!(r#"{{"artifacts": {{{}}}}}"#, stacks.join(", "))).unwrap();
        };
        for file in ["A.template.json", "B.template.json"] {
            fs::write(at(file), "{}").unwrap();
        }
        let regions = |name: &str| Vec::from_iter(regions_of([at(name).as_path()]));
        assert!(regions("").is_empty(), "no manifest");
        let first = stack("A.template.json", "aws://123456789012/eu-west-1");
        for open in ["aws://unknown-account/unknown-region", "aws://123456789012/../x", "eu-west-3"] {
            manifest(&[first.clone(), stack("B.template.json", open)]);
            assert_eq!(
                (regions(""), regions("manifest.json")),
                (vec!["eu-west-1".into()], vec!["eu-west-1".into()])
            );
            assert_eq!(
                (regions("A.template.json").len(), regions("B.template.json").len()),
                (1, 0),
                "{open}"
            );
        }
        manifest(&[first, stack("B.template.json", "aws://123456789012/eu-central-1")]);
        assert_eq!(regions(""), ["eu-central-1", "eu-west-1"]);
    }

    #[test]
    fn the_project_of_a_stage_is_that_of_its_app() {
        let folder = tempfile::tempdir().unwrap();
        let stage = folder.path().join("cdk.out/assembly-Prod/assembly-Prod-Eu");
        fs::create_dir_all(&stage).unwrap();
        let path = stage.join("Api.template.json");
        fs::write(&path, "").unwrap();
        let read =
            Read { path, stack: Stack::default(), text: String::new(), inputs: template::Inputs::default() };
        assert_eq!(read.project(), Some(folder.path().canonicalize().unwrap()));
    }

    #[test]
    fn parameters_come_in_both_forms() {
        let read = pairs(&["A=1=2".into(), "ParameterKey=B,ParameterValue=x,y".into()]).unwrap();
        assert_eq!((read["A"].as_str(), read["B"].as_str()), ("1=2", "x,y"));
        for slip in ["A", "=1", "ParameterKey=A", "ParameterKey=,ParameterValue=1"] {
            assert!(pairs(&[slip.into()]).is_err(), "{slip}");
        }
        let read = pairs(&["A=1 B=\"x y\" C=two words".into()]).unwrap();
        assert_eq!((read["A"].as_str(), read["B"].as_str(), read["C"].as_str()), ("1", "x y", "two words"));
        let read =
            pairs(&["ParameterKey=A,ParameterValue=1 ParameterKey=B,ParameterValue=\"x y\"".into()]).unwrap();
        assert_eq!((read["A"].as_str(), read["B"].as_str()), ("1", "x y"));
        let read = pairs(&["A={\"b\": 1}".into(), "C=a  b".into(), "D=".into()]).unwrap();
        assert_eq!((read["A"].as_str(), read["C"].as_str(), read["D"].as_str()), ("{\"b\": 1}", "a  b", ""));
    }
}
