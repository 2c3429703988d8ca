//! `onrush up`: everything, wired together.

mod answers;
mod banner;
mod conductor;
mod debug;
mod deploy;
mod difference;
mod edits;
mod elastic_ips;
mod env_vars;
mod events_queue;
mod farewell;
mod images;
mod names;
mod objects;
mod port;
mod protection;
mod realms;
mod refusal;
mod unpacking;
mod vpc;
mod wall_clock;
mod watch;

use crate::Stop;
use crate::arguments::{Isolation, Output, Up, Watch, Words, address};
use crate::samconfig;
use crate::stack::{self, Read};
use anyhow::{Context as _, anyhow};
use doors::Doors;
use elastic_ips::ElasticIps;
use events::Live;
use farewell::{Asked, Farewell};
use invoke::{Invoker, Reactors, StreamFigures};
use model::{Era, LimitId, Overrides};
use network::relay::Namespace;
use runtimes::Runtimes;
use sandbox::{Jailer, JailerError, Sandboxes, Workshop};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::{Counters, Logs};
use tracing_subscriber::EnvFilter;

/// How long everything may take to stop before the process just ends; the jailer's end takes the rest along.
const FAREWELL: Duration = Duration::from_millis(1_500);
/// How long the logs' last lines may take to be written.
const LOGS_FAREWELL: Duration = Duration::from_secs(2);
/// How long the network's devices and the host's settings may take to be as they were: 20 ms mostly, seconds where the
/// kernel is still taking hundreds of environments' networks apart.
const NETWORK_FAREWELL: Duration = Duration::from_secs(10);
/// What Lambda gives extensions for their end, and a moment more.
const EXTENSIONS_FAREWELL: Duration = Duration::from_millis(2_300);

/// How long the ready line waits for images that are being fetched: those of this machine are there by then, and others
/// hold nobody up who wants another function.
const IMAGES_PATIENCE: Duration = Duration::from_secs(10);
/// How long INIT may take under a debugger.
const DEBUGGED_INIT: Duration = Duration::from_secs(900);
/// How long what is done after the ready line waits for whoever reads it.
const READY_PATIENCE: Duration = Duration::from_secs(1);
/// Longer than any run.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub fn run(mut arguments: Up) -> Result<ExitCode, Stop> {
    let begun = Instant::now();
    configure(&mut arguments)?;
    super::scope::enter();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("ONRUSH_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(telemetry::messages)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        // Saying that a line could not be written would panic where standard error is a file on a full disk.
        .log_internal_errors(false)
        .init();
    let (era, overrides) = super::figures(&arguments.figures)?;
    // A wrong word is told before anything is made.
    drop(vpc::world(arguments.world.as_deref())?);
    let unusable = |error: &std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it is no folder".to_owned(),
            _ => error.to_string(),
        };
        let folder = arguments.data_dir.display();
        anyhow!(
            "the data folder {folder} cannot be used: {why}; take one that this user can write to with --data-dir"
        )
    };
    std::fs::create_dir_all(&arguments.data_dir).map_err(|error| unusable(&error))?;
    protection::begin();
    // The jailer is forked while this process has one thread and holds nothing.
    let has_walls = arguments.isolation == Isolation::Namespaces;
    let of_jailer = sandbox::Options {
        state_dir: arguments.data_dir.join("run"),
        isolation: if has_walls { sandbox::Isolation::Namespaces } else { sandbox::Isolation::Process },
        pool: sandbox::PoolSizes::default(),
        interfaces: has_walls,
    };
    let data_dir = std::path::absolute(&arguments.data_dir)?;
    let forked = sandbox::fork_jailer_meanwhile(of_jailer, || {
        // Both fork, too; their children hold none of our descriptors.
        let relay = if has_walls { answers::namespace() } else { None };
        let workshop = unpacking::fork();
        // The last fork is over.
        telemetry::messages().start();
        // From here on a signal ends us by way of closing the store.
        let stored = Asked::listen().map(|asked| (asked, control::Stored::read(&data_dir, !has_walls)));
        (relay, workshop, stored)
    });
    let (jailer, (relay, workshop, stored)) = forked.map_err(|error| match error {
        JailerError::InUse { .. } => anyhow!(
            "{} is in use by another onrush{}; stop that one, or take another folder with --data-dir",
            arguments.data_dir.display(),
            holder_of(&arguments.data_dir).map(|pid| format!(" (process {pid})")).unwrap_or_default()
        ),
        JailerError::StateFolder { error, .. } => unusable(&error),
        other => anyhow::Error::new(other)
            .context("cannot start the jailer; `onrush doctor` says what this host lacks"),
    })?;
    // After the fork, so that nobody but this process holds the port; before the template, whose URLs name it.
    let listener = port::bind(SocketAddr::new(
        arguments.address(),
        arguments.port.unwrap_or_else(|| arguments.words.port()),
    ))?;
    let port = listener.local_addr()?.port();
    let (asked, stored) = stored.context("no signal can be handled")?;
    let stored = stored.context(realms::UNOPENED)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut asked = asked;
        // Whatever its files lie on, or whoever writes them: a signal is heard meanwhile.
        let reading = tokio::task::spawn_blocking(move || {
            let read = template(&arguments, port);
            (read.and_then(|read| Ok((read, names::keys(&arguments.credentials)?))), arguments)
        });
        let (read, arguments) = tokio::select! {
            read = reading => read?,
            code = asked.recv() => return Ok(code),
        };
        let made = (jailer, relay, workshop, stored, asked);
        serve(arguments, era, overrides, read?, made, listener, begun).await
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// The template that there is; problems are printed with their places.
fn template(arguments: &Up, port: u16) -> Result<Option<Read>, Stop> {
    if let Some(path) = stack::find(&arguments.template) {
        return stack::read(&path, &arguments.template, port).map(Some);
    }
    // What samconfig.toml gives is for whichever template there is.
    let env_vars = arguments.env_vars.as_ref().filter(|_| arguments.template.configured.is_none());
    stack::without(
        &arguments.template,
        &[
            ("--image", arguments.images.last().map(String::as_str)),
            ("--layer", arguments.layers.last().map(String::as_str)),
            ("--env-vars", env_vars.and_then(|path| path.to_str())),
            ("--env-file", arguments.env_file.as_ref().and_then(|path| path.to_str())),
        ],
    )?;
    if let Some(hint) = stack::hint(Path::new(""), "onrush up") {
        crate::say(&format!("note: no template is here, and no function of one runs; {hint}"));
    }
    Ok(None)
}

/// What `samconfig.toml` says counts where the command line says nothing.
fn configure(arguments: &mut Up) -> Result<(), Stop> {
    let commands: &[&str] = match arguments.words {
        Words::Up => &["local_start_lambda", "local_start_api"],
        Words::StartApi => &["local_start_api"],
        Words::StartLambda => &["local_start_lambda"],
    };
    let settings = samconfig::apply(&arguments.sam_config, &mut arguments.template, commands)?;
    arguments.env_vars = arguments.env_vars.take().or(settings.env_vars);
    if arguments.words != Words::Up {
        arguments.debug_port = arguments.debug_port.or(settings.debug_port);
    }
    // Where SAM's commands listen is not where `up` does, which other programs of the user look for.
    if arguments.words != Words::Up {
        arguments.port = arguments.port.or(settings.port);
        if let (None, Some(host)) = (arguments.host, &settings.host) {
            let wrong = |why| Stop::Usage(format!("samconfig.toml: host: `{host}` is not {why}"));
            arguments.host = Some(address(host).map_err(wrong)?);
        }
    }
    Ok(())
}

/// Begins the end, which is over within [`farewell::LONGEST`] whatever stands in its way. The jailer and all environments
/// end with this process; what is left of them on the host, the next start removes.
fn end(first_step: &'static str) -> Farewell {
    let farewell = Farewell::at(first_step);
    farewell.watch(farewell::LONGEST, |step| {
        let bound_s = farewell::LONGEST.as_secs();
        crate::say(&format!("not stopped after {bound_s} s, {step} was waited for: ending without it; the next start clears up"));
        telemetry::messages().flush(crate::LAST_WORDS);
        std::process::exit(i32::from(crate::FAILED));
    });
    farewell
}

/// What the end closes.
struct Ending {
    events: events::Events,
    control: Arc<control::Control>,
    others: Arc<realms::Realms>,
    runtimes: Arc<Runtimes>,
    sandboxes: Sandboxes,
    vpc: Option<vpc::Vpc>,
    logs: Logs,
    writer: tokio::task::JoinHandle<()>,
}

impl Ending {
    /// Nothing is fetched or installed from now on.
    fn stop_fetching(&self) {
        self.runtimes.stop_installers();
        self.control.stop_pulls();
        self.others.stop_pulls();
    }

    /// Closes everything once `served` is over, each step within its bound.
    async fn close(self, end: Farewell, served: impl Future<Output = ()>) {
        let Self { events, control, others, sandboxes, vpc, logs, writer, .. } = self;
        end.waits_for("connections, events and environments");
        let farewell = async {
            served.await;
            let closing = move || {
                events.close();
                control.close();
                others.close();
            };
            let _ = tokio::task::spawn_blocking(closing).await;
            sandboxes.shutdown().await;
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!("not everything stopped in time; what is left ends with this process");
        }
        if let Some(vpc) = vpc {
            end.waits_for("the network");
            let ended = tokio::task::spawn_blocking(move || vpc.end());
            if tokio::time::timeout(NETWORK_FAREWELL, ended).await.is_err() {
                tracing::warn!(
                    "the network did not end in its time; what is left of it the next start removes"
                );
            }
        }
        end.waits_for("the logs");
        writer.abort();
        // On a file server that is gone this takes for ever.
        let flushed = tokio::task::spawn_blocking(move || logs.flush());
        if tokio::time::timeout(LOGS_FAREWELL, flushed).await.is_err() {
            tracing::warn!("the last lines of functions' logs could not be written");
        }
        end.waits_for("files and sockets to close");
    }
}

/// What is there before the first thread: processes, what the data folder holds, and who hears signals.
type Made = (Jailer, Option<Namespace>, Option<Arc<Workshop>>, control::Stored, Asked);

async fn serve(
    arguments: Up,
    era: Era,
    overrides: Overrides,
    (read, keys): (Option<Read>, doors::signature::Keys),
    (jailer, relay, workshop, stored, mut asked): Made,
    listener: std::net::TcpListener,
    begun: Instant,
) -> Result<ExitCode, Stop> {
    if let Some(file) = &arguments.wall_clock {
        tokio::spawn(wall_clock::follow(file.clone()));
    }
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let port = listener.local_addr()?.port();
    let verifies = !keys.is_empty();
    let region = arguments.template.region.clone();
    let settings = limits::Settings::from_era(&era, &region, &overrides)
        .map_err(|error| Stop::Usage(error.to_string()))?;
    let debug = debug::wanted(&arguments, read.as_ref())?;
    let data_dir = std::path::absolute(&arguments.data_dir)?;
    let logs = Logs::open(Some(&data_dir.join("logs"))).context("cannot make the log folder")?;
    let writer = tokio::spawn(logs.clone().write_behind());
    let counters = Arc::new(Counters::default());
    let sandboxes = jailer.into_sandboxes().context("cannot talk to the jailer")?;
    let stack = read.as_ref().map(|read| &read.stack);
    let attachments = names::attachments(&arguments.attachments, stack)?;
    let own = SocketAddr::new(arguments.address(), port);
    let services = names::services(&data_dir, &region, own, &attachments, stack)?;
    let for_others = arguments.isolation == Isolation::Process && rustix::process::geteuid().is_root();
    let runtimes = Runtimes::open(&data_dir, arguments.strict_runtimes).trusting(services.bundle());
    let runtimes = if for_others { runtimes.for_others() } else { runtimes };
    let runtimes = Arc::new(runtimes);
    let account_concurrency = settings.account_concurrency;
    let vpc = if sandboxes.abilities().enforced("network-interface") {
        let network_settings = limits::NetworkSettings::from_era(&era, &region, &overrides)
            .map_err(|error| Stop::Usage(error.to_string()))?;
        let wanted = vpc::Wanted {
            stack: read.as_ref().map(|read| &read.stack),
            region: &region,
            attachments: &attachments,
            services: &services,
            passthrough: arguments.aws_passthrough,
            namespace: relay,
            settings: network_settings,
            overrides: &overrides,
            pairs: sandboxes.abilities().interfaces_are_pairs(),
            world: arguments.world.as_deref(),
            flow_logs: arguments.flow_logs.as_deref(),
            flow_folder: data_dir.join("flow-logs"),
            state_dir: data_dir.join("run"),
            began: begun,
        };
        Some(vpc::Vpc::start(wanted)?)
    } else {
        None
    };
    let serving = tokio::sync::watch::Sender::new(false);
    let options = invoke::Options {
        init_timeout: match debug {
            Some(_) => DEBUGGED_INIT,
            None => Duration::from_secs(era.settings.init_timeout_s),
        },
        init_billed: era.settings.init_billed,
        region: region.as_str().into(),
        // A debugger talks to what is idle, too.
        freeze_after: if debug.is_some() { NEVER } else { Duration::from_millis(arguments.freeze_after) },
        layers_folder: data_dir.join("layers"),
        network: vpc.as_ref().map(|vpc| vpc.carrier.clone() as Arc<dyn invoke::Network>),
        memory_max_mb: overrides.get(LimitId::HostMemory),
        serving: serving.subscribe(),
        trace: false,
        streams: StreamFigures::from_era(&era, &region, &overrides),
        settings,
    };
    let invoker = Invoker::new(options, sandboxes.clone(), runtimes.clone(), logs.clone(), counters.clone());

    let queues = events_queue::Queues::of(&arguments, &attachments, &overrides)?;
    let events = queues.open(&data_dir, counters.clone())?;
    let overlay = sandboxes.abilities().enforced("image-overlay");
    let control_options = control::Options {
        data_dir: data_dir.clone(),
        account_id: model::name::DEFAULT_ACCOUNT.to_owned(),
        region: region.clone(),
        account_concurrency,
        unreserved_minimum: era.settings.unreserved_minimum,
        experimental_snap_start: arguments.experimental_snapstart,
        passable: arguments.isolation == Isolation::Process,
    };
    let home = doors::Realm { account_id: model::name::DEFAULT_ACCOUNT.to_owned(), region: region.clone() };
    let objects = objects::Objects::of(services.clone(), home, &keys, tokio::runtime::Handle::current());
    let realms::Parts { control, doors: watched, .. } = realms::parts(
        stored,
        control_options,
        invoker.clone(),
        events.clone(),
        (overlay, workshop.clone(), objects),
    )?;
    let others = realms::Realms::new(realms::Ground {
        data_dir: data_dir.clone(),
        home_account_id: model::name::DEFAULT_ACCOUNT.to_owned(),
        era: era.clone(),
        overrides: overrides.clone(),
        sandboxes: sandboxes.clone(),
        runtimes: runtimes.clone(),
        network: vpc.as_ref().map(|vpc| vpc.carrier.clone() as Arc<dyn invoke::Network>),
        services: services.clone(),
        keys: keys.clone(),
        permissions: arguments.permissions.into(),
        freeze_after: Duration::from_millis(arguments.freeze_after),
        experimental_snap_start: arguments.experimental_snapstart,
        passable: arguments.isolation == Isolation::Process,
        loopback: arguments.address().is_loopback(),
        queues,
        serving: serving.subscribe(),
        workshop,
        runtime: tokio::runtime::Handle::current(),
    });

    let apis = read.as_ref().map(|read| doors::ApiParts::from(&read.stack)).unwrap_or_default();
    let stage = deploy::Stage {
        control: control.clone(),
        runtimes: runtimes.clone(),
        services: services.clone(),
        env_files: env_vars::EnvFiles {
            env_vars: arguments.env_vars.clone(),
            env_file: arguments.env_file.clone(),
        },
        debug: debug.clone(),
        strict_builds: false,
        // A bound folder changes under its functions: that is following, too.
        copies: arguments.watch != Watch::Code,
        for_others,
        has_walls: arguments.isolation == Isolation::Namespaces,
        images: arguments.images.clone(),
        layers: arguments.layers.clone(),
    };
    let preparation = async {
        if let Some(read) = &read {
            deploy::all(read, &stage, &deploy::Trail::default()).await?;
        }
        Ok::<_, Stop>(invoker.prepare().await)
    };
    let prepared = tokio::select! {
        prepared = preparation => prepared.map_err(Err),
        code = asked.recv() => Err(Ok(code)),
    };
    let carrier = vpc.as_ref().map(|vpc| vpc.carrier.clone());
    let pages = vpc.as_ref().map(|vpc| vpc.pages.clone() as Arc<dyn doors::NetworkPages>);
    let network = vpc.as_ref().map(|vpc| vpc.summary.clone());
    let ending = Ending {
        events: events.clone(),
        control: control.clone(),
        others: others.clone(),
        runtimes: runtimes.clone(),
        sandboxes: sandboxes.clone(),
        vpc,
        logs: logs.clone(),
        writer,
    };
    // What was started for a deployment must not outlive us.
    let others_prepared = match prepared {
        Ok(others) => others,
        Err(result) => {
            let end = end("a deployment");
            ending.stop_fetching();
            ending.close(end, async {}).await;
            return result;
        }
    };
    let gateway = doors::GatewaySettings {
        throttle: limits::api_throttle::ApiSettings::from_era(&era, &region, &overrides)
            .map_err(|error| Stop::Usage(error.to_string()))?,
        integration_timeout: overrides.get(LimitId::IntegrationTimeout).map(Duration::from_millis),
        stream_idle_timeout: overrides.get(LimitId::StreamIdleTimeout).map(Duration::from_millis),
        disable_authorizers: arguments.disable_authorizer,
    };
    let (orders, ordered) = doors::orders::channel();
    let doors_options = doors::Options {
        account_id: model::name::DEFAULT_ACCOUNT.to_owned(),
        region,
        home_account_id: model::name::DEFAULT_ACCOUNT.to_owned(),
        // Words of SAM's know no Region: whatever a client signs for, the template's functions are meant.
        opens: (arguments.words == Words::Up).then(|| others.clone() as Arc<dyn doors::Opens>),
        apis,
        gateway,
        loopback: arguments.address().is_loopback(),
        services: Some(Arc::new(names::OnTheDoors(services.clone()))),
        network: pages,
        orders: Some(orders),
        front: arguments.words == Words::StartApi,
        clients: doors::clients::Clients::new(
            overrides
                .get(LimitId::HostClientConnections)
                .map(|most| u32::try_from(most).unwrap_or(u32::MAX).max(1)),
            overrides.get(LimitId::HostClientTimeout).map(|s| Duration::from_secs(s.max(1))),
        ),
        keys,
        permissions: arguments.permissions.into(),
    };
    // Now that the functions are as the template says: what waited meets the new code.
    events.start(Live { control: control.clone(), invoker: invoker.clone() });
    let doors = Arc::new(Doors::new(
        doors_options,
        control.clone(),
        invoker.clone(),
        events.clone(),
        logs.clone(),
        counters.clone(),
    ));
    let _ = watched.set(Arc::downgrade(&doors));
    doors.look();
    control.begin_pulls();
    images::keep_pulling(&tokio::runtime::Handle::current(), &control);
    if arguments.words == Words::Up {
        for realm in others.stored() {
            doors.of(realm).await.map_err(|error| anyhow!(error.message))?;
        }
    }

    if let Some(debug) = debug.filter(|_| arguments.isolation == Isolation::Namespaces) {
        debug.serve().await?;
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let reactors = Reactors::start().context("cannot start the threads that serve connections")?;
    let descriptors =
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let server = tokio::spawn(doors::serve(listener, doors.clone(), reactors, descriptors, async {
        let _ = stopped.await;
    }));
    serving.send_replace(true);
    let mut is_over = false;
    tokio::select! {
        () = images_in_place(&control) => {}
        _ = asked.recv() => is_over = true,
    }
    let base = format!("http://{}", SocketAddr::new(arguments.address(), port));
    let summary = banner::Summary {
        base: &base,
        control: &control,
        functions: control.known_functions(),
        doors: doors.list(port),
        abilities: sandboxes.abilities(),
        stack: read.as_ref().map(|read| &read.stack),
        era: &era,
        took: begun.elapsed(),
        front: arguments.words == Words::StartApi,
        verifies,
        lets_everybody_in: arguments.disable_authorizer,
        network: network.as_deref(),
    };
    let text = match arguments.output {
        Output::Text => banner::text(&summary),
        Output::Json => banner::json(&summary),
    };
    let edited = (arguments.watch == Watch::Code).then(|| control.clone());
    // What need not be done before the ready line is done after it, so that it takes no core from whoever waits for it.
    let afterwards = async move {
        // With many functions it is more than a pipe holds, and nobody may be reading.
        let printed = tokio::task::spawn_blocking(move || super::print(&text));
        let _ = tokio::time::timeout(READY_PATIENCE, printed).await;
        let watching = async {
            if let Some(control) = edited {
                edits::watch(control).await;
            }
        };
        tokio::join!(others_prepared, watching);
    };
    let afterwards = (!is_over).then(|| tokio::spawn(afterwards));

    let conductor = conductor::Conductor {
        stage: deploy::Stage { strict_builds: true, ..stage },
        watch: arguments.watch,
        template: arguments.template,
        read,
        elastic_ips: ElasticIps::default(),
        doors,
        invoker: invoker.clone(),
        carrier,
        port,
        data_dir,
    };
    let conducting = tokio::spawn(conductor.run(ordered));
    if !is_over {
        asked.recv().await;
    }
    tracing::info!("stopping");
    let end = end("extensions");
    conducting.abort();
    if let Some(afterwards) = afterwards {
        afterwards.abort();
    }
    ending.stop_fetching();
    // While the reactors live: they serve the APIs that extensions speak.
    let told =
        async { tokio::join!(invoker.tell_extensions_of_the_end(), others.tell_extensions_of_the_end()) };
    if tokio::time::timeout(EXTENSIONS_FAREWELL, told).await.is_err() {
        tracing::warn!("extensions did not end in their time");
    }
    let _ = stop.send(());
    ending.close(end, async { drop(server.await) }).await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for images that are being fetched, for a while, and names the functions that go on waiting.
async fn images_in_place(control: &Arc<control::Control>) {
    let control = control.clone();
    let waited = tokio::task::spawn_blocking(move || control.wait_for_pulls(IMAGES_PATIENCE));
    for name in waited.await.unwrap_or_default() {
        crate::say(&format!("  {name}: its image is still being fetched; what it has answers until then"));
    }
}

/// The process that holds a data folder, as the folder's lock says.
fn holder_of(data_dir: &Path) -> Option<u32> {
    std::fs::read_to_string(data_dir.join("lock")).ok()?.trim().parse().ok()
}

/// An error of the control room, as the command line says it.
fn refused(function: &str, error: &model::error::ApiError) -> Stop {
    Stop::Failed(anyhow!("{function}: {}", error.message))
}
