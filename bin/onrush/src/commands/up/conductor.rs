//! Keeps a running platform as its template and its code are: after each save (`--watch`), and on demand (`onrush deploy`).

use super::deploy::{self, Stage, Trail};
use super::difference::{self, Changed};
use super::elastic_ips::ElasticIps;
use super::vpc::Carrier;
use super::watch::{Interest, Seen, Watcher, resolved};
use crate::Stop;
use crate::arguments::{Template, Watch};
use crate::stack::{self, Read, Standing};
use anyhow::anyhow;
use doors::orders::{Order, Ordered, Orders, Outcome, Refusal};
use doors::{ApiParts, Doors};
use invoke::Invoker;
use model::stack::Stack;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What it takes to deploy again.
pub struct Conductor {
    pub stage: Stage,
    pub watch: Watch,
    /// The template's arguments as `up` got them.
    pub template: Template,
    pub read: Option<Read>,
    /// What elastic IPs got since the start.
    pub elastic_ips: ElasticIps,
    pub doors: Arc<Doors>,
    pub invoker: Invoker,
    /// Where functions' environments are in the network, if there is one.
    pub carrier: Option<Arc<Carrier>>,
    pub port: u16,
    pub data_dir: PathBuf,
}

/// When the files that say how to deploy were last written; `None`: they are not there.
type Written = BTreeMap<PathBuf, Option<SystemTime>>;

impl Conductor {
    /// Until cancelled: takes orders and follows saves.
    pub async fn run(mut self, mut orders: Orders) {
        let mut watcher = self.interest().map(Watcher::start);
        let mut written = self.written();
        // What was saved after the deployment and before anybody watched must not be missed either.
        if self.watch == Watch::All {
            let differs = self.is_stale();
            self.saved(&Seen::Everything, differs).await;
        }
        loop {
            let seen = async {
                match &mut watcher {
                    Some(watcher) => watcher.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                seen = seen => {
                    let now = self.written();
                    let differs = now != written;
                    written = now;
                    self.saved(&seen, differs).await;
                }
                order = orders.recv() => {
                    let Some(Ordered { order, reply }) = order else { return };
                    let outcome = self.obey(order).await;
                    let _ = reply.send(outcome);
                }
            }
            // What is watched changes with the template, and what was written meanwhile must not be missed.
            let interest = self.interest();
            if watcher.as_ref().map(Watcher::interest) != interest.as_ref() {
                watcher = interest.map(Watcher::start);
                self.code_saved(&Seen::Everything).await;
            }
        }
    }

    /// The files that say how to deploy. Parts are those of the template as it lies there, so that one with problems is
    /// followed where they are mended.
    fn settings(&self) -> Vec<PathBuf> {
        let Some(read) = self.read.as_ref().filter(|_| self.watch == Watch::All) else { return Vec::new() };
        let env_files = self.stage.env_files.paths(read);
        let parts = read.text_now().map(|text| stack::parts_named(&text, &read.path)).unwrap_or_default();
        env_files
            .into_iter()
            .chain(parts.into_values())
            .chain(read.paths())
            .map(|path| resolved(&path))
            .collect()
    }

    /// Whether the template is no longer the one that was deployed.
    fn is_stale(&self) -> bool {
        let Some(read) = &self.read else { return false };
        read.text_now().is_ok_and(|text| text != read.text)
            || stack::parts(&read.text, &read.path) != read.inputs.files
    }

    fn written(&self) -> Written {
        let time = |path: &PathBuf| std::fs::metadata(path).and_then(|about| about.modified()).ok();
        self.settings().into_iter().map(|path| (path.clone(), time(&path))).collect()
    }

    /// What is watched, if anything is.
    fn interest(&self) -> Option<Interest> {
        let mut interest = Interest::default();
        interest.files.extend(self.settings());
        interest.except.insert(resolved(&self.data_dir));
        for (_, sources) in self.sources() {
            for source in sources {
                let into = if source.is_file() { &mut interest.files } else { &mut interest.folders };
                into.insert(source);
            }
        }
        let is_empty = interest.files.is_empty() && interest.folders.is_empty();
        (self.watch != Watch::Off && !is_empty).then_some(interest)
    }

    /// Each function's logical id, and the folders and files that its code is made of.
    fn sources(&self) -> Vec<(String, Vec<PathBuf>)> {
        let Some(read) = &self.read else { return Vec::new() };
        read.stack
            .functions
            .iter()
            .map(|function| {
                let all = match self.watch {
                    Watch::All => deploy::sources(read, function),
                    // Other folders are bound, and looked at where they are bound.
                    _ => deploy::built_sources(read, function),
                };
                (function.id.clone(), all.iter().map(|path| resolved(path)).collect())
            })
            .collect()
    }

    async fn saved(&mut self, seen: &Seen, settings_differ: bool) {
        if !settings_differ {
            return self.code_saved(seen).await;
        }
        let begun = Instant::now();
        match self.deploy(None).await {
            Ok(done) => done.say(begun),
            Err(Failed { stop: Stop::Reported, .. }) => {
                tracing::warn!("the problems above: what ran before goes on running");
            }
            Err(failed) => tracing::warn!("{}; what ran before goes on running", words(failed.stop)),
        }
    }

    /// Deploys the functions whose code changed.
    async fn code_saved(&mut self, seen: &Seen) {
        let Some(read) = &self.read else { return };
        let begun = Instant::now();
        let touched = |sources: &[PathBuf]| match seen {
            Seen::Everything => true,
            Seen::Paths(paths) => {
                paths.iter().any(|path| sources.iter().any(|source| path.starts_with(source)))
            }
        };
        let sources = self.sources();
        let ids: Vec<_> =
            sources.iter().filter(|(_, sources)| touched(sources)).map(|(id, _)| id.as_str()).collect();
        let before = self.stage.control.functions();
        let mut refused = Vec::new();
        for id in ids {
            // One that cannot be built must not keep the others from being deployed.
            match deploy::one(read, &self.stage, id).await {
                Ok(()) => {}
                Err(stop) => refused.push(words(stop)),
            }
        }
        for message in refused {
            tracing::warn!("{message}; what ran before goes on running");
        }
        let changed = difference::of_functions(&before, &self.stage.control.functions());
        if !changed.is_empty() {
            self.settle().await;
            Done { changed, waits: Vec::new() }.say(begun);
        }
    }

    async fn obey(&mut self, order: Order) -> Outcome {
        match order {
            Order::Deploy(wanted) => {
                let begun = Instant::now();
                let arguments = self.asked(&wanted)?;
                match self.deploy(arguments).await {
                    Ok(done) => {
                        done.say(begun);
                        Ok(done.json())
                    }
                    Err(Failed { stop: Stop::Problems(problems), .. }) => {
                        Err(Refusal { message: problems.join("\n"), problems })
                    }
                    Err(Failed { stop, rolled_back }) => {
                        let mut lines = vec![words(stop)];
                        lines.extend(rolled_back.lines());
                        Err(lines.join("\n").into())
                    }
                }
            }
        }
    }

    /// The template's arguments after an order: what it does not name stays as it is.
    fn asked(&self, wanted: &Value) -> Result<Option<Template>, String> {
        let mut template = self.template.clone();
        let texts = |name: &str| -> Option<Vec<String>> {
            let all = wanted[name].as_array()?.iter();
            Some(all.filter_map(|text| text.as_str().map(str::to_owned)).collect())
        };
        if let Some(path) = wanted["template"].as_str() {
            template.template = Some(path.into());
            template.template_file = None;
            template.more = texts("more").unwrap_or_default().into_iter().map(PathBuf::from).collect();
            let named = template.template.iter().chain(&template.more);
            if let Some(path) = named.into_iter().find(|path| !path.is_absolute()) {
                return Err(format!("`{}` is not an absolute path", path.display()));
            }
        }
        if let Some(parameters) = texts("parameter_overrides") {
            template.parameter_overrides = parameters;
        }
        if let Some(imports) = texts("imports").filter(|all| !all.is_empty()) {
            template.imports = imports;
        }
        if let Some(name) = wanted["stack_name"].as_str() {
            template.stack_name = Some(name.to_owned());
        }
        template.strict |= wanted["strict"] == true;
        Ok(Some(template))
    }

    /// Reads the template again and deploys what differs. A template with problems, or one that cannot be deployed whole,
    /// changes nothing.
    async fn deploy(&mut self, arguments: Option<Template>) -> Result<Done, Failed> {
        let asked = arguments.is_some();
        let arguments = arguments.unwrap_or_else(|| self.template.clone());
        let path = arguments
            .template
            .clone()
            .or_else(|| arguments.template_file.clone())
            .or_else(|| self.read.as_ref().map(|read| read.path.clone()));
        let Some(path) = path.or_else(|| stack::find(&arguments)) else {
            return Err(Stop::Usage("this Onrush runs no template; name one".to_owned()).into());
        };
        let port = self.port;
        let given = arguments.clone();
        self.elastic_ips.note(self.read.as_ref());
        let standing = Standing {
            elastic_ips: self.elastic_ips.all().clone(),
            parameters: self.read.as_ref().map(Read::given_parameters).unwrap_or_default(),
        };
        let read =
            tokio::task::spawn_blocking(move || stack::read_again(&path, &given, port, standing, asked))
                .await;
        let read = read.map_err(|error| Stop::Failed(error.into()))??;
        self.elastic_ips.note(Some(&read));
        let before = self.stage.control.functions();
        let trail = Trail::default();
        // Before the functions, which may be where nobody was; what is gone stays for those that have not moved yet.
        let empty = Stack::default();
        let mut renewed = Vec::new();
        // What stands is what the carrier has: a template that could not be rolled back is not what was read last.
        let stood = self.carrier.as_ref().map(|carrier| carrier.stack());
        if let Some((carrier, stood)) = self.carrier.as_ref().zip(stood.as_ref()) {
            renewed = difference::of_network(stood, &read.stack);
            if !renewed.is_empty() {
                let left = |error| Stop::Failed(anyhow!("{error}: `onrush up` has to start again"));
                carrier.renew(&read.stack).await.map_err(left)?;
            }
        }
        let apis = self.read.as_ref().map(|read| ApiParts::from(&read.stack)).unwrap_or_default();
        if let Err(stop) = deploy::all(&read, &self.stage, &trail).await {
            let network = stood.filter(|_| !renewed.is_empty());
            let rolled_back = self.roll_back(trail, network.as_deref()).await;
            self.settle().await;
            return Err(Failed { stop, rolled_back });
        }
        self.settle().await;
        let wanted = ApiParts::from(&read.stack);
        let of_apis = difference::of_apis(&apis, &wanted);
        if difference::of_gateway(&apis, &wanted) {
            self.doors.set_apis(wanted);
        }
        let mut changed = difference::of_functions(&before, &self.stage.control.functions());
        changed.extend(of_apis);
        changed.extend(renewed);
        let old = self.read.as_ref().map_or(&empty, |read| &read.stack);
        let waits = difference::of_the_rest(old, &read.stack, self.carrier.is_some());
        // How strictly to read is said of one order.
        self.template = Template { strict: self.template.strict, ..arguments };
        self.read = Some(read);
        // Only the answer to the order waits for images.
        super::images_in_place(&self.stage.control).await;
        Ok(Done { changed, waits })
    }

    /// Undoes what a deployment did that failed, to functions, layers and network, as CloudFormation rolls an update back
    /// (CloudFormation User Guide, "Stack failure options").
    async fn roll_back(&self, trail: Trail, network: Option<&Stack>) -> RolledBack {
        let control = self.stage.control.clone();
        let touched = control.functions();
        let stood = self.read.as_ref().map(|read| deploy::subnets(&read.stack));
        control.know_subnets(stood.unwrap_or_default());
        // Functions first: the parts of the network that they had are still there for them.
        let restored = tokio::task::spawn_blocking(move || trail.noting(|done| control.restore(done)));
        let mut all = RolledBack::default();
        match restored.await {
            Ok(restored) => {
                let left =
                    restored.left.iter().map(|name| format!("{name} was changed meanwhile and is left so"));
                let refused =
                    restored.refused.iter().map(|(name, error)| format!("{name}: {}", error.message));
                all.not.extend(left.chain(refused));
            }
            Err(error) => all.not.push(error.to_string()),
        }
        let changed = difference::of_functions(&touched, &self.stage.control.functions());
        all.done.extend(changed.iter().map(Changed::line));
        if let Some((carrier, network)) = self.carrier.as_ref().zip(network) {
            match carrier.renew(network).await {
                Ok(()) => all.done.push("the network is again as it was before that deployment".to_owned()),
                Err(error) => {
                    all.not.push(format!("{error}: the network stays as the refused template has it"));
                }
            }
        }
        for line in all.lines() {
            tracing::warn!("{line}");
        }
        all
    }

    /// The runtimes learn what there is now.
    async fn settle(&self) {
        tokio::spawn(self.invoker.prepare().await);
    }
}

/// A deployment that came to nothing.
struct Failed {
    stop: Stop,
    rolled_back: RolledBack,
}

/// What of a deployment that failed was put back, and what could not be, in words.
#[derive(Debug, Default)]
struct RolledBack {
    done: Vec<String>,
    not: Vec<String>,
}

impl RolledBack {
    fn lines(&self) -> Vec<String> {
        let all = [("rolled back", &self.done), ("not everything could be rolled back", &self.not)];
        let said = all.iter().filter(|(_, parts)| !parts.is_empty());
        said.map(|(what, parts)| format!("{what}: {}", parts.join("; "))).collect()
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self { stop, rolled_back: RolledBack::default() }
    }
}

/// What came of a deployment.
struct Done {
    changed: Vec<Changed>,
    /// Parts of the template that differ and are made at the start only.
    waits: Vec<String>,
}

impl Done {
    fn say(&self, begun: Instant) {
        for changed in &self.changed {
            tracing::info!("{} ({} ms)", changed.line(), begun.elapsed().as_millis());
        }
        if let Some(line) = self.waiting() {
            tracing::warn!("{line}");
        }
    }

    fn waiting(&self) -> Option<String> {
        let parts = self.waits.join(", ");
        (!parts.is_empty()).then(|| format!("changes of {parts} take effect when `onrush up` starts again"))
    }

    fn json(&self) -> Value {
        let changes: Vec<_> = self.changed.iter().map(Changed::json).collect();
        let lines: Vec<_> = self.changed.iter().map(Changed::line).collect();
        json!({ "changes": changes, "lines": lines, "waits": self.waiting() })
    }
}

/// Why something ended early, in one line.
fn words(stop: Stop) -> String {
    match stop {
        Stop::Usage(message) => message,
        Stop::Problems(lines) => lines.join("\n"),
        Stop::Reported => "the template has problems; the log of `onrush up` shows them".to_owned(),
        Stop::Failed(error) => format!("{error:#}"),
    }
}
