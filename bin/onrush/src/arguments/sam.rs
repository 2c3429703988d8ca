//! `start-api` and `start-lambda`: `up` under the words, ports and flags of `sam local`.

use super::{Template, Up, Words};
use clap::Args;

/// `up` on port 3000, with the template's APIs at the root, as `sam local start-api` has them.
///
/// The Lambda API answers on the same port; `onrush up` serves the same functions on port 4566, with a door for each API.
#[derive(Debug, Args)]
pub struct StartApi {
    #[command(flatten)]
    up: Box<Up>,
    #[command(flatten)]
    ignored: Ignored,
}

/// `up` on port 3001, as `sam local start-lambda`: functions are invoked by their name or logical id.
#[derive(Debug, Args)]
#[command(
    after_help = "Then: aws lambda invoke --endpoint-url http://127.0.0.1:3001 --function-name HelloWorldFunction out.json"
)]
pub struct StartLambda {
    #[command(flatten)]
    up: Box<Up>,
    #[command(flatten)]
    ignored: Ignored,
}

/// What `sam local` takes because it runs containers; taken, and said.
#[derive(Debug, Args)]
struct Ignored {
    #[arg(long, value_name = "WHEN", hide = true)]
    warm_containers: Option<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    docker_network: Option<String>,
    #[arg(short = 'v', long, value_name = "FOLDER", hide = true)]
    docker_volume_basedir: Option<String>,
    #[arg(long, value_name = "FOLDER", hide = true)]
    layer_cache_basedir: Option<String>,
    #[arg(long, value_name = "HOST", hide = true)]
    container_host: Option<String>,
    #[arg(long, value_name = "ADDRESS", hide = true)]
    container_host_interface: Option<String>,
    #[arg(short, long, value_name = "FOLDER", hide = true)]
    static_dir: Option<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    profile: Option<String>,
    #[arg(long, hide = true)]
    skip_pull_image: bool,
    #[arg(long, hide = true)]
    force_image_build: bool,
    #[arg(long, hide = true)]
    shutdown: bool,
}

impl Ignored {
    fn say(&self) {
        let texts = [
            ("--docker-network", &self.docker_network),
            ("--docker-volume-basedir", &self.docker_volume_basedir),
            ("--layer-cache-basedir", &self.layer_cache_basedir),
            ("--container-host", &self.container_host),
            ("--container-host-interface", &self.container_host_interface),
            ("--static-dir", &self.static_dir),
            ("--profile", &self.profile),
        ];
        let texts = texts.into_iter().filter(|(_, value)| value.is_some()).map(|(flag, _)| flag);
        let switches = [
            ("--skip-pull-image", self.skip_pull_image),
            ("--force-image-build", self.force_image_build),
            ("--shutdown", self.shutdown),
        ];
        let switches = switches.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag);
        let flags: Vec<_> = texts.chain(switches).collect();
        if !flags.is_empty() {
            eprintln!("note: {} means nothing here: functions run without containers", flags.join(", "));
        }
        if self.warm_containers.is_some() {
            eprintln!(
                "note: --warm-containers means nothing here: environments stay warm, as Lambda's do; --watch follows edits"
            );
        }
    }
}

impl StartApi {
    /// The template's arguments.
    pub fn template(&mut self) -> &mut Template {
        &mut self.up.template
    }

    /// As `up` takes it.
    pub fn up(self) -> Up {
        self.ignored.say();
        Up { words: Words::StartApi, ..*self.up }
    }
}

impl StartLambda {
    /// The template's arguments.
    pub fn template(&mut self) -> &mut Template {
        &mut self.up.template
    }

    /// As `up` takes it.
    pub fn up(self) -> Up {
        self.ignored.say();
        Up { words: Words::StartLambda, ..*self.up }
    }
}
