//! The command line, with help that teaches.

mod sam;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// AWS Lambda in a VPC, on your own machine, limits included.
///
/// Takes the CloudFormation or SAM template that you already have, runs its functions unmodified in sandboxes, and
/// enforces what production enforces. `onrush plan` asks the very same engines, on a virtual clock, what breaks first.
#[derive(Debug, Parser)]
#[command(name = "onrush", version, propagate_version = true, max_term_width = 110)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// What this process was started with.
    ///
    /// # Errors
    /// With what to print, which may be help.
    pub fn read() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut arguments = Self::from_arg_matches(&matches)?;
        let source = matches.subcommand().and_then(|(_, matches)| {
            matches.ids().any(|id| id == "region").then(|| matches.value_source("region")).flatten()
        });
        let given = source.is_some_and(|source| source != clap::parser::ValueSource::DefaultValue);
        match &mut arguments.command {
            Command::Up(up) => up.template.region_given = given,
            Command::StartApi(start) => start.template().region_given = given,
            Command::StartLambda(start) => start.template().region_given = given,
            Command::Deploy(deploy) => deploy.template.region_given = given,
            Command::Plan(plan) => plan.template.region_given = given,
            Command::Explain(explain) => explain.region_given = given,
            _ => {}
        }
        Ok(arguments)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Up(Up),
    Deploy(Deploy),
    Invoke(Invoke),
    GenerateEvent(GenerateEvent),
    StartApi(sam::StartApi),
    StartLambda(sam::StartLambda),
    Logs(Logs),
    Plan(Plan),
    Explain(Explain),
    Limits(Limits),
    Capture(Capture),
    Doctor(Doctor),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// An echo request, as `ping` sends it.
    Icmp,
}

impl Transport {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// How environments are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Namespaces, control groups, a root of their own, a system call filter.
    #[default]
    Namespaces,
    /// Plain processes: isolates nothing. For hosts that refuse namespaces.
    Process,
}

/// Which edits a running `up` follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Watch {
    /// Code that needs no build: seen within a second or so.
    #[default]
    Code,
    /// Code, what is built, and the template: each save answers within a second of its end, of its build for Rust.
    All,
    /// None: `onrush deploy` brings them in.
    Off,
}

/// Under which word `up` was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// `up`.
    #[default]
    Up,
    /// `start-api`: paths that are no operation's belong to the template's APIs.
    StartApi,
    /// `start-lambda`.
    StartLambda,
}

impl Words {
    /// The port without a word. Source: AWS SAM Developer Guide, "sam local start-api" and "sam local start-lambda", `--port`.
    pub const fn port(self) -> u16 {
        match self {
            Self::Up => model::DEFAULT_PORT,
            Self::StartApi => 3000,
            Self::StartLambda => 3001,
        }
    }
}

/// Flags that are kept in a file: `samconfig.toml`.
#[derive(Clone, Debug, Default, Args)]
pub struct SamConfig {
    /// File of flags. Default: samconfig.toml beside the template, or here.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Environment of that file: `default` without a word.
    #[arg(long, value_name = "NAME")]
    pub config_env: Option<String>,
}

/// The template and what its parameters are.
#[derive(Clone, Debug, Args)]
pub struct Template {
    /// CloudFormation or SAM template, YAML or JSON, or the folder that it is in; of a CDK app's (cdk.out), or of its
    /// manifest.json, all stacks. Found by itself: template.yaml, .yml or .json here.
    pub template: Option<PathBuf>,
    /// Templates of further stacks that are read with it: what one exports the others import.
    #[arg(value_name = "TEMPLATE", requires = "template")]
    pub more: Vec<PathBuf>,
    /// The same, as SAM takes it.
    #[arg(
        short = 't',
        long = "template",
        alias = "template-file",
        value_name = "FILE",
        conflicts_with = "template"
    )]
    pub template_file: Option<PathBuf>,
    /// Values of the template's parameters, also as ParameterKey=NAME,ParameterValue=VALUE.
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    pub parameter_overrides: Vec<String>,
    /// The file of flags, and those of these values that are its.
    #[arg(skip)]
    pub configured: Option<(PathBuf, Vec<String>)>,
    /// Values of `Fn::ImportValue`.
    #[arg(long = "import", value_name = "NAME=VALUE")]
    pub imports: Vec<String>,
    /// Name of the stack; functions without a name get theirs from it. Default: the template's folder.
    #[arg(long)]
    pub stack_name: Option<String>,
    /// Region that functions see, and whose figures hold; without a word, where CDK's manifest gives its stacks one, that.
    #[arg(long, default_value = model::era::DEFAULT_REGION, env = "ONRUSH_REGION", value_parser = region)]
    pub region: String,
    /// Whether somebody said the Region.
    #[arg(skip)]
    pub region_given: bool,
    /// Resource types that Onrush does not run are an error, not a warning.
    #[arg(long)]
    pub strict: bool,
}

/// Which limits hold.
#[derive(Clone, Debug, Args)]
pub struct Figures {
    /// When: the limits that AWS had then (`2019-05`, `2019-10`, `2022-12`, `today`).
    #[arg(long, default_value = model::era::DEFAULT_ERA)]
    pub era: String,
    /// Another figure for a limit, for instance `lambda.account-concurrency=5000`. May be repeated.
    #[arg(long = "limit", value_name = "ID=NUMBER")]
    pub limits: Vec<String>,
}

/// Run a template: the Lambda API on one port, its doors, its functions in sandboxes.
///
/// Without a template only the API is served: create functions with the aws CLI or an SDK. Everything that was
/// created survives a restart and a kill -9. Ctrl-C, SIGTERM and a terminal
/// that closes stop all of it within two seconds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush up                                   the template in this folder\n  onrush up app.yaml --port 0 --output json   any free port, printed as JSON\n  onrush up --limit lambda.account-concurrency=10   a production limit, scaled to a laptop\n\nThen: aws lambda list-functions --endpoint-url http://127.0.0.1:4566"
)]
pub struct Up {
    #[command(flatten)]
    pub template: Template,
    #[command(flatten)]
    pub figures: Figures,
    #[command(flatten)]
    pub sam_config: SamConfig,
    /// Port of the API and of every door, on 127.0.0.1; 0 takes any free one and prints it. Default: 4566 (`start-api`
    /// 3000, `start-lambda` 3001).
    #[arg(short, long, env = "ONRUSH_PORT")]
    pub port: Option<u16>,
    /// Address to listen on. Anything but loopback lets others run code on this machine. Default: 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub host: Option<IpAddr>,
    /// Where functions, code and logs are kept.
    #[arg(long, default_value = "./.onrush", env = "ONRUSH_DATA_DIR")]
    pub data_dir: PathBuf,
    /// How environments are kept apart.
    #[arg(long, value_enum, default_value_t)]
    pub isolation: Isolation,
    /// What functions reach outside: `host` (what this machine reaches, through its kernel, its own networks excepted),
    /// `relay` (the same through sockets, for users who may not forward), `netns:NAME` (a network namespace), `none`.
    /// Default: host for root, else relay.
    #[arg(long, value_name = "WORLD")]
    pub world: Option<String>,
    /// Append a line for each flow of the VPC's interfaces, in the format of VPC flow logs. A folder that is there gets the
    /// template's own flow logs instead, else in `flow-logs` of the data folder.
    #[arg(long, value_name = "FILE")]
    pub flow_logs: Option<PathBuf>,
    /// How long an environment is idle before it is frozen, in milliseconds; 0 freezes at once, as Lambda does.
    #[arg(long, default_value_t = 5, value_name = "MS")]
    pub freeze_after: u64,
    /// Where dead letters and destination records go, for instance `sqs=http://127.0.0.1:9324`; also sns, events, s3. May
    /// be repeated.
    #[arg(long = "endpoint", value_name = "SERVICE=URL")]
    pub endpoints: Vec<String>,
    /// Asynchronous events are tried again so many times as fast: 60 turns the minute after a failure into a second. For
    /// tests; the age that an event may reach stays (`--limit async.queue-age=SECONDS`).
    #[arg(long, default_value_t = 1, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub event_speed: u32,
    /// A file that says how many seconds the wall clock is ahead, read again and again: for tests of clocks that jump.
    #[arg(long, value_name = "FILE", hide = true)]
    pub wall_clock: Option<PathBuf>,
    /// Which saves are followed: without this flag `code`, with `--watch` alone `all`. Running requests end on the code that they
    /// began with; a template with problems changes nothing.
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_value = "code", default_missing_value = "all")]
    pub watch: Watch,
    /// Debuggers attach to this port of 127.0.0.1: Node's inspector, or debugpy for Python, if the function has it. Nothing is frozen
    /// then, and the function's time-out is 900 s.
    #[arg(short, long, value_name = "PORT")]
    pub debug_port: Option<u16>,
    /// Which function is debugged; need not be said where there is one.
    #[arg(long, value_name = "FUNCTION", requires = "debug_port")]
    pub debug_function: Option<String>,
    /// Let the function wait for its debugger before its first line.
    #[arg(long, requires = "debug_port")]
    pub debug_wait: bool,
    /// Refuse a runtime whose exact version is not installed, instead of taking the nearest.
    #[arg(long)]
    pub strict_runtimes: bool,
    /// SnapStart for every runtime: AWS has it for Python 3.12, Java 11, .NET 8 and later alone.
    #[arg(long)]
    pub experimental_snapstart: bool,
    /// Variables for functions, a JSON file as `sam local` takes it: {"Function": {"NAME": "value"}} or {"Parameters": {…}}.
    #[arg(short = 'n', long, value_name = "FILE")]
    pub env_vars: Option<PathBuf>,
    /// Values of variables that the template names, NAME=value a line. Default: .env beside the template.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Run this image for a function, whatever its ImageUri: LOGICAL_ID=PATH of an OCI layout or of what `docker save` wrote,
    /// or LOGICAL_ID=NAME in a registry. May be repeated.
    #[arg(long = "image", value_name = "ID=PATH")]
    pub images: Vec<String>,
    /// What is in a layer of somebody else's that the template names by its ARN: ARN=PATH or NAME=PATH of a zip or a folder. May be
    /// repeated.
    #[arg(long = "layer", value_name = "NAME=PATH")]
    pub layers: Vec<String>,
    /// Put a real server where the template has something: LOGICAL_ID=HOST:PORT, NAME:PORT=HOST:PORT, or a service of
    /// AWS's, s3=HOST:PORT. May be repeated.
    #[arg(long = "attach", value_name = "WHAT=HOST:PORT")]
    pub attachments: Vec<String>,
    /// Let names of AWS's that nobody answers here go to AWS.
    #[arg(long)]
    pub aws_passthrough: bool,
    /// Under which word it was started.
    #[arg(skip)]
    pub words: Words,
    /// Verify signatures with these access keys: KEY:SECRET, KEY:SECRET@ACCOUNT for one of another account, or a file such as
    /// ~/.aws/credentials. May be repeated. Without it whoever reaches the port is let in, signed or not.
    #[arg(
        long,
        value_name = "KEY:SECRET[@ACCOUNT]|FILE",
        env = "ONRUSH_CREDENTIALS",
        hide_env_values = true
    )]
    pub credentials: Vec<String>,
    /// What becomes of calls to function URLs and HTTP APIs for which the function's resource policy has no permission: run
    /// with a warning, or refused as AWS does (403, 500).
    #[arg(long, value_enum, default_value_t)]
    pub permissions: Permissions,
    /// Ask no authorizers: whoever reaches the port may call every route of an API (AWS_IAM excepted).
    #[arg(long)]
    pub disable_authorizer: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Whether resource policies are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Permissions {
    #[default]
    Warn,
    Enforce,
}

impl From<Permissions> for doors::guard::Permissions {
    fn from(permissions: Permissions) -> Self {
        match permissions {
            Permissions::Warn => Self::Warn,
            Permissions::Enforce => Self::Enforce,
        }
    }
}

/// Where a running Onrush listens.
#[derive(Clone, Debug, Args)]
pub struct Endpoint {
    /// The running Onrush; a port alone is this machine's.
    #[arg(long, default_value = "http://127.0.0.1:4566", env = "ONRUSH_ENDPOINT", value_parser = endpoint)]
    pub endpoint: String,
}

/// Deploy a template to a running Onrush, and print what changed.
///
/// Requests that run end on the code that they began with. A template with problems changes nothing. What is made at the start
/// alone (parameters, secrets) is named, and waits for the next `onrush up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush deploy                       the template here; if none is, the one that runs, read again\n  onrush deploy app.yaml --parameter-overrides Stage=test\n  onrush deploy --endpoint http://127.0.0.1:4600"
)]
pub struct Deploy {
    #[command(flatten)]
    pub template: Template,
    #[command(flatten)]
    pub sam_config: SamConfig,
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Invoke a function of a running Onrush, print its result, and its log to standard error.
///
/// Exits 1 when the function failed or was throttled.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush invoke CartFunction '{\"a\": 1}'\n  onrush invoke CartFunction -e event.json\n  echo '{\"a\": 1}' | onrush invoke CartFunction -e -"
)]
pub struct Invoke {
    /// Name, ARN, or logical id in the template.
    pub function: String,
    /// The event itself, as JSON; `{}` without it.
    #[arg(value_name = "JSON", conflicts_with = "event")]
    pub payload: Option<String>,
    /// File with the event, `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// Do not print the log.
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Print an event as a service of AWS's sends it: `onrush generate-event` names them all.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct GenerateEvent {
    /// Service, event, and the event's own flags.
    #[arg(value_name = "SERVICE EVENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// Show a function's log: the lines that CloudWatch Logs would have, oldest first.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush logs CartFunction              what there is\n  onrush logs CartFunction -f           and what comes\n  onrush logs CartFunction --output json | jq -r .text"
)]
pub struct Logs {
    /// Name or logical id in the template.
    pub function: String,
    /// Go on showing new lines until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// How to print: JSON is one object a line.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Say what breaks first under a load, from the same engines on a virtual clock.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush plan template.yaml --load load.yaml\n  onrush plan --load launch.yaml --era 2022-12 --region ap-northeast-1\n  onrush plan template.yaml --load load.yaml --promise 'p99<500ms,errors<0.1%'   exits 1 when broken\n  onrush plan template.yaml --load load.yaml --fix            the smallest change that survives\n  onrush plan template.yaml --load load.yaml --sweep rate=1000..50000\n  onrush plan --scenario list"
)]
pub struct Plan {
    #[command(flatten)]
    pub template: Template,
    #[command(flatten)]
    pub figures: Figures,
    /// The expected load. Default: load.yaml beside the template, or in the folder of the project that tools built it from.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub load: Option<PathBuf>,
    /// A built-in scenario with a known result; `list` names them.
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<String>,
    /// Seed of every random stream; the same seed and input give the same output, byte for byte.
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Stop at this virtual time, for instance `10m`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Length of one row of the timeline, for instance `1s` or `1m`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub step: Option<String>,
    /// What must hold, for instance `p99<500ms,errors<0.1%`: p10 to p99.9, average, max, errors, throttled, timeouts,
    /// requests/s, cost. Exits 1 when it does not. May be repeated.
    #[arg(long = "promise", value_name = "EXPR")]
    pub promises: Vec<String>,
    /// Search the smallest change of the template or the load that survives, with its diff and its cost.
    #[arg(long, conflicts_with = "scenario")]
    pub fix: bool,
    /// Plan at several strengths and mark the knee: `rate=1000..50000`, `users=`, `memory=`, or a limit's id.
    #[arg(long, value_name = "WHAT=A..B", conflicts_with = "scenario")]
    pub sweep: Option<String>,
    /// Write the report as one page to show around, too: no network, no script.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The same as `--output json`.
    #[arg(long)]
    pub json: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why a function reaches a destination, or does not: every rule, route and gateway on the way, from the template alone.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush explain CartFunction cache.example.com:443   exits 1 when it does not arrive\n  onrush explain CartFunction Database                a resource of the template, at its usual port\n  onrush explain CartFunction 10.20.5.9:6379 --protocol udp\n  onrush explain NatGateway                           what a resource has to do with the network"
)]
pub struct Explain {
    /// A function: logical id, name or ARN. Without a destination: any resource of the template.
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Name, address or logical id, with a port: `cache.example.com:443`, `Database`, `[2001:db8::1]:443`.
    #[arg(value_name = "DST:PORT")]
    pub destination: Option<String>,
    /// The protocol.
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Transport,
    /// CloudFormation or SAM template, YAML or JSON, or the folder that it is in; of a CDK app's (cdk.out) all stacks. May be
    /// repeated for further stacks. Found by itself: template.yaml, .yml or .json here.
    #[arg(short, long, value_name = "FILE")]
    pub template: Vec<PathBuf>,
    /// Values of the template's parameters, also as ParameterKey=NAME,ParameterValue=VALUE.
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    pub parameter_overrides: Vec<String>,
    /// Values of `Fn::ImportValue`.
    #[arg(long = "import", value_name = "NAME=VALUE")]
    pub imports: Vec<String>,
    /// Name of the stack; functions without a name get theirs from it. Default: the template's folder.
    #[arg(long)]
    pub stack_name: Option<String>,
    /// Region whose names and figures hold; without a word, where CDK's manifest gives its stacks one, that.
    #[arg(long, default_value = model::era::DEFAULT_REGION, env = "ONRUSH_REGION", value_parser = region)]
    pub region: String,
    /// Whether somebody said the Region.
    #[arg(skip)]
    pub region_given: bool,
    #[command(flatten)]
    pub figures: Figures,
    /// The running Onrush whose use of each limit is told, too. Default: http://127.0.0.1:4566, if one answers there.
    #[arg(long, env = "ONRUSH_ENDPOINT", value_parser = endpoint)]
    pub endpoint: Option<String>,
    /// The same as `--output json`.
    #[arg(long)]
    pub json: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// The limits board of a running Onrush: maximum, used, peak, refusals, source.
///
/// A row for each limit that was met, or that a function, door or network of the template has. The first word is what the plan,
/// the log and `x-onrush-limit` of a refused request say, and what `up --limit ID=NUMBER` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush limits -w\n  onrush limits --json | jq '.limits[] | select(.refused > 0)'"
)]
pub struct Limits {
    /// Show it again every second until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// The same as `--output json`.
    #[arg(long)]
    pub json: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Copy the packets behind a shared interface into a file that tcpdump and Wireshark read, until Ctrl-C.
///
/// Packets are copied as the environments send and get them: each environment has its own link-local address.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush limits                                 names the interfaces\n  onrush capture eni-PrivateSubnetA-FunctionSecurityGroup -w cart.pcap\n  onrush capture eni-PrivateSubnetA-FunctionSecurityGroup -w - | tcpdump -nr -"
)]
pub struct Capture {
    /// The interface, as `onrush limits` names it, or one of a NAT gateway or endpoint: `eni-SUBNET-NAME`.
    pub interface: String,
    /// The file, `-` for standard output.
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    #[command(flatten)]
    pub endpoint: Endpoint,
}

/// Say what this host can enforce, what not, and the cure.
///
/// Each capability is tried, not looked up: `enforced` holds as at AWS, `loose` holds less tightly than the line says, `missing`
/// not at all. `onrush up` runs with what there is, and prints the rest under "Not enforced here". Exits 0 whatever it finds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  onrush doctor\n  onrush doctor --json | jq '.capabilities[] | select(.state != \"enforced\")'"
)]
pub struct Doctor {
    /// Where functions would be kept; tried for what sandboxes need.
    #[arg(long, default_value = "./.onrush", env = "ONRUSH_DATA_DIR")]
    pub data_dir: PathBuf,
    /// The same as `--output json`.
    #[arg(long)]
    pub json: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

impl Up {
    /// Address to listen on.
    pub fn address(&self) -> IpAddr {
        self.host.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }
}

/// Takes a Region's name; one that has not the form of any is a mistake.
fn region(text: &str) -> Result<String, String> {
    match model::name::is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("a Region has a name such as us-east-1 or ap-northeast-1".to_owned()),
    }
}

/// Takes a port alone for one of loopback, as `up --port` has it; what else is written stays as it is.
///
/// # Errors
/// No port has the number.
fn endpoint(text: &str) -> Result<String, String> {
    match text.parse() {
        _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text.to_owned()),
        Ok(1_u16..) => Ok(format!("http://127.0.0.1:{text}")),
        _ => Err("a port is 1 to 65535".to_owned()),
    }
}

/// Takes an address, or the name that SAM's users write for loopback.
///
/// # Errors
/// It is neither.
pub fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        other => {
            other.parse().map_err(|_| "an address such as 127.0.0.1 or 0.0.0.0, or localhost".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{address, endpoint, region};

    #[test]
    fn an_address_is_one_or_localhost() {
        assert_eq!(address("localhost"), address("127.0.0.1"));
        assert_eq!(address("::").map(|address| address.to_string()).as_deref(), Ok("::"));
        for mistake in ["", "example.com", "127.0.0.1:80", "10.0.0"] {
            assert!(address(mistake).is_err(), "{mistake}");
        }
    }

    #[test]
    fn a_port_alone_is_an_endpoint_of_this_machine() {
        assert_eq!(endpoint("4600").as_deref(), Ok("http://127.0.0.1:4600"));
        for as_written in ["http://10.0.0.7:4566", "127.0.0.1:4600", "onrush.local:80", ""] {
            assert_eq!(endpoint(as_written).as_deref(), Ok(as_written));
        }
        for mistake in ["0", "65536", "99999999999"] {
            assert!(endpoint(mistake).is_err(), "{mistake}");
        }
    }

    #[test]
    fn a_region_has_the_form_of_one() {
        assert_eq!(region("us-gov-west-1").as_deref(), Ok("us-gov-west-1"));
        for mistake in ["mars", "us-east", "us-east-1a", "US-EAST-1", ""] {
            assert!(region(mistake).is_err(), "{mistake}");
        }
    }
}
