//! The beginning of a life: the processes are started, with a Runtime API and logs of their own.

use super::{Environment, HostError, Prepared};
use crate::extensions;
use crate::life::{Gone, Inside, LOST, Life, first_end, gone};
use crate::output::Output;
use crate::reactors;
use runtime_api::{EXTENSIONS_MAX, Session};
use runtimes::{FunctionFacts, base_environment, extension_environment};
use sandbox::{Companions, Sandboxes, Spec};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use telemetry::{Init, PlatformEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;

impl Environment {
    /// Starts the runtime's process, for the first time or anew, with a Runtime API of its own. Where there are external
    /// extensions these are started, and the runtime's process once all of them have registered.
    pub(super) async fn begin_life(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        prepared: &Prepared,
        phase: &str,
    ) -> Result<Arc<Life>, HostError> {
        let mut slot = self.sandbox.write().await;
        match &mut *slot {
            Some(sandbox) => sandbox.restart().await?,
            None => *slot = Some(sandboxes.launch(Arc::new(self.spec(prepared))).await?),
        }
        let sandbox = slot.as_mut().expect("a sandbox was just put there");
        if let (Some(network), Some(interface)) = (&self.version.network, sandbox.take_interface()) {
            let reservation = self.reservation().take();
            *self.attachment() = Some(network.attach(&self.version.function, interface, reservation));
        }
        let listener = tokio::net::TcpListener::from_std(sandbox.take_listener())?;
        let (log, style) = (self.version.log.clone(), self.version.log_style);
        let output = Output::new(sandbox.take_output(), log, style, Arc::default())?;
        let pipes = sandbox.take_companion_outputs().into_iter();
        let extensions_outputs = pipes.map(|pipe| output.beside(pipe)).collect::<io::Result<Vec<_>>>()?;
        sandbox.get_ready();
        let programs = sandbox.programs();
        let started = sandbox.take_started();
        drop(slot);

        self.home.store(reactors::here(), Ordering::Relaxed);
        self.prompt.store(0, Ordering::Relaxed);
        let telemetry = output.telemetry().clone();
        let told = Arc::downgrade(&output);
        telemetry.open(Arc::new(Inside(Arc::downgrade(self))), move |name, types, kind| {
            if let Some(output) = told.upgrade() {
                output.platform(&[PlatformEvent::Subscription { name, types, kind }]);
            }
        });
        self.tell_init_start(&output, phase);
        let names = &prepared.extensions;
        let expected = &names[..names.len().min(EXTENSIONS_MAX + 1)];
        let session = Session::with_extensions(self.version.facts().clone(), expected, telemetry);
        if let Some(surplus) = names.get(EXTENSIONS_MAX) {
            session.extension_not_launched(surplus, "TooManyExtensions");
        }
        let mut tasks =
            vec![tokio::spawn(session.clone().serve(listener)), tokio::spawn(output.clone().follow())];
        if !extensions_outputs.is_empty() {
            tasks.extend(extensions_outputs.iter().map(|output| tokio::spawn(output.clone().follow())));
            tasks.push(tokio::spawn(self.clone().start_program(session.clone())));
        }
        let exit = self.watch(&session, &output, programs.clone(), prepared.extensions.clone());
        // Until here all was done while the environment put itself together.
        if let Err(error) = started.wait().await {
            tasks.iter().for_each(JoinHandle::abort);
            self.take_back(exit).await;
            return Err(error.into());
        }
        let names = names.clone();
        let life = Arc::new(Life { session, output, extensions_outputs, exit, programs, names, tasks });
        let mut idle = self.lock();
        idle.life = Some(life.clone());
        if idle.ended {
            drop(idle);
            self.leave();
        }
        Ok(life)
    }

    /// Lets go of an environment whose program cannot be started.
    async fn take_back(&self, mut exit: watch::Receiver<Option<Gone>>) {
        drop(self.attachment().take());
        self.kill();
        gone(&mut exit).await;
        drop(self.sandbox.write().await.take());
    }

    /// INIT begins. One inside an invocation is not told by the log.
    fn tell_init_start(&self, output: &Output, phase: &str) {
        let function = &self.version.function;
        let begins = [PlatformEvent::InitStart {
            init: Init { initialization_type: self.version.initialization_type, phase },
            runtime_version: function.runtime.as_deref().map(|runtime| format!("{runtime}.onrush")),
            function_name: &function.name,
            function_version: &function.version,
        }];
        if phase == "init" {
            output.platform(&begins);
        } else {
            output.telemetry().platform(&begins);
        }
    }

    async fn start_program(self: Arc<Self>, session: Arc<Session>) {
        session.extensions_registered().await;
        if let Some(sandbox) = &*self.sandbox.read().await {
            sandbox.start_program();
        }
    }

    /// Watches for the end, by which an unfinished invocation is taken back.
    fn watch(
        self: &Arc<Self>,
        session: &Arc<Session>,
        output: &Arc<Output>,
        programs: Option<watch::Receiver<sandbox::Programs>>,
        names: Arc<[Arc<str>]>,
    ) -> watch::Receiver<Option<Gone>> {
        let (exit_sender, exit) = watch::channel(None);
        let (environment, session, output) = (self.clone(), session.clone(), output.clone());
        // Ends by itself when the process ends, which `end` and `end_process` see to.
        tokio::spawn(async move {
            let gone = match programs {
                Some(mut programs) => first_end(&session, &mut programs, &names).await,
                None => {
                    let sandbox = environment.sandbox.read().await;
                    Gone::Runtime(match &*sandbox {
                        Some(sandbox) => sandbox.exited().await,
                        None => LOST,
                    })
                }
            };
            output.drain();
            exit_sender.send_replace(Some(gone));
            drop(session.cancel());
        });
        exit
    }

    /// A socket inside the environment's own network.
    pub(crate) async fn socket(&self) -> io::Result<OwnedFd> {
        match &*self.sandbox.read().await {
            Some(sandbox) => sandbox.socket().await.map_err(io::Error::other),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn spec(&self, prepared: &Prepared) -> Spec {
        let function = &self.version.function;
        let launch = &prepared.launch;
        let environment = base_environment(&FunctionFacts {
            name: &function.name,
            version: &function.version,
            memory_mb: function.memory_mb,
            log_group: &function.logging.group,
            log_stream: &self.log_stream,
            json_log_level: self.version.log_style.level_name(),
            region: &self.version.region,
            account_id: &self.version.facts().account_id,
            handler: function.handler.as_deref().unwrap_or(""),
            initialization_type: self.version.initialization_type,
            runtime_api: "127.0.0.1:9001",
            image: function.image.is_some(),
            launch: &launch.environment,
            user: &function.environment,
        });
        let extensions = prepared.extensions.iter().take(EXTENSIONS_MAX);
        let companions = Companions {
            programs: extensions.map(|name| format!("{}/{name}", extensions::FOLDER)).collect(),
            environment: match prepared.extensions.is_empty() {
                true => Vec::new(),
                false => extension_environment(&environment),
            },
        };
        Spec {
            hostname: "169-254-100-6".to_owned(),
            version_key: self.version.heritage.version_key(),
            image: function.image.as_ref().map(|image| image.root.layers.clone()).unwrap_or_default(),
            task: function.code.clone(),
            opt: prepared.opt.clone(),
            binds: launch
                .binds
                .iter()
                .map(|(host, inside)| sandbox::Bind { host: host.clone(), inside: inside.into() })
                .collect(),
            program: launch.program.clone(),
            environment,
            working_directory: prepared.working_directory.clone(),
            memory_mb: function.memory_mb,
            tmp_mb: function.tmp_mb,
            dual_stack: function.vpc.as_ref().is_some_and(|vpc| vpc.ipv6_allowed_for_dual_stack),
            companions,
        }
    }
}
