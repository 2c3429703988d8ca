//! What a session knows of extensions: who registered, what each is doing, and which event is due to whom.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda Extensions API to create extensions"; states, checks and their
//! words as the public Runtime Interface Emulator has them.

use serde_json::Value;
use std::sync::Arc;

/// Most extensions of one environment. Source: Lambda Developer Guide, "Lambda extensions".
pub const EXTENSIONS_MAX: usize = 10;
/// Longest name of an extension, in bytes: it is a file name.
const NAME_BYTES_MAX: usize = 255;

const NOT_ALLOWED: &str = "State transition is not allowed";

/// Everybody who registered in one life of an environment.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    /// File names in `/opt/extensions`, in order.
    external: Vec<Arc<str>>,
    members: Vec<Member>,
    /// The runtime is ready: nobody registers any more.
    closed: bool,
    failure: Option<ExtensionFailure>,
}

#[derive(Debug)]
struct Member {
    id: Arc<str>,
    name: Arc<str>,
    is_external: bool,
    wants_invoke: bool,
    wants_shutdown: bool,
    standing: Standing,
    error_type: Option<String>,
    /// What its next `next` gets.
    due: Option<Event>,
    /// It was given an invocation and has not come back since.
    owes: bool,
}

/// The states of an extension, as the platform's log names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
        }
    }
}

/// What an extension gets for a `next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) body: Arc<str>,
}

/// An extension gave up, or never began. It ends the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionFailure {
    /// Which.
    pub name: Arc<str>,
    /// Where it failed.
    pub stage: ExtensionStage,
    /// What it says itself.
    pub error_type: String,
}

/// Where an extension can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionStage {
    /// It could not be started.
    Launch,
    /// It posted to `/extension/init/error`.
    Init,
    /// It posted to `/extension/exit/error`.
    Exit,
}

/// One extension, as the log tells at the end of INIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionStatus {
    /// Its name.
    pub name: Arc<str>,
    /// `Ready`, `Registered`, `LaunchError`, …
    pub state: &'static str,
    /// What it registered for.
    pub events: Vec<&'static str>,
    /// What it failed with.
    pub error_type: Option<String>,
}

/// Why an environment ends, as extensions hear it. Recorded on AWS in small letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It is not needed any more.
    Spindown,
    /// An invocation or INIT took too long.
    Timeout,
    /// The runtime or an extension failed.
    Failure,
}

impl ShutdownReason {
    fn word(self) -> &'static str {
        match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

/// Why a call is refused, with 403.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forbidden {
    pub(crate) error_type: &'static str,
    pub(crate) message: String,
}

impl Forbidden {
    pub(crate) fn new(error_type: &'static str, message: impl Into<String>) -> Self {
        Self { error_type, message: message.into() }
    }
}

impl Extensions {
    pub(crate) fn expecting(external: &[Arc<str>]) -> Self {
        Self { external: external.to_vec(), ..Self::default() }
    }

    /// Whether there is any, registered or on its way.
    pub(crate) fn any(&self) -> bool {
        !self.members.is_empty() || !self.external.is_empty()
    }

    pub(crate) fn has_external(&self) -> bool {
        !self.external.is_empty()
    }

    /// Takes in an extension under `id`. `events` are those of the request's body.
    pub(crate) fn register(&mut self, id: &Arc<str>, name: &str, events: &[String]) -> Result<(), Forbidden> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Forbidden::new("Extension.InvalidExtensionName", "Empty extension name"));
        }
        let is_external = self.external.iter().any(|external| &**external == name);
        for event in events {
            let problem = match event.as_str() {
                "INVOKE" => continue,
                "SHUTDOWN" if is_external => continue,
                "SHUTDOWN" => "ShutdownEventNotSupportedForInternalExtension",
                _ => "ErrorInvalidEventType",
            };
            return Err(Forbidden::new("Extension.InvalidEventType", format!("{event}: {problem}")));
        }
        let known = self.members.iter().find(|member| &*member.name == name);
        match known {
            Some(member) if is_external => return Err(member.stuck(Standing::Registered, &member.name)),
            Some(_) => {
                let message = "Extension with this name already registered";
                return Err(Forbidden::new("Extension.InvalidExtensionState", message));
            }
            None if is_external => {}
            None if self.closed => {
                let message = "Extension registration closed already";
                return Err(Forbidden::new("Extension.RegistrationClosed", message));
            }
            None if self.count() >= EXTENSIONS_MAX => {
                let message = format!("Extension limit ({EXTENSIONS_MAX}) reached");
                return Err(Forbidden::new("Extension.TooManyExtensions", message));
            }
            None => {}
        }
        let wants = |wanted: &str| events.iter().any(|event| event == wanted);
        self.members.push(Member {
            id: id.clone(),
            name: name.into(),
            is_external,
            wants_invoke: wants("INVOKE"),
            wants_shutdown: wants("SHUTDOWN"),
            standing: Standing::Registered,
            error_type: None,
            due: None,
            owes: false,
        });
        Ok(())
    }

    /// External ones count from the start.
    fn count(&self) -> usize {
        self.external.len() + self.members.iter().filter(|member| !member.is_external).count()
    }

    /// An extension asks for its next event: whatever it had is done.
    pub(crate) fn ready(&mut self, id: &str) -> Result<(), Forbidden> {
        let member = self.member(id)?;
        match member.standing {
            Standing::Registered | Standing::Running | Standing::Ready => {}
            Standing::InitError | Standing::ExitError => return Err(member.stuck(Standing::Ready, id)),
        }
        if member.standing == Standing::Running {
            member.owes = false;
        }
        member.standing = Standing::Ready;
        Ok(())
    }

    /// The event that is due to a waiting extension.
    pub(crate) fn take(&mut self, id: &str) -> Option<Event> {
        let member = self.members.iter_mut().find(|member| &*member.id == id)?;
        if member.standing != Standing::Ready {
            return None;
        }
        let event = member.due.take()?;
        member.standing = Standing::Running;
        Some(event)
    }

    /// An extension reports that it cannot go on.
    pub(crate) fn fail(
        &mut self,
        id: &str,
        stage: ExtensionStage,
        error_type: &str,
    ) -> Result<(), Forbidden> {
        let target = if stage == ExtensionStage::Init { Standing::InitError } else { Standing::ExitError };
        let member = self.member(id)?;
        match (member.standing, stage) {
            (Standing::Registered, _) | (Standing::Ready | Standing::Running, ExtensionStage::Exit) => {}
            _ => return Err(member.stuck(target, id)),
        }
        member.standing = target;
        member.error_type = Some(error_type.to_owned());
        let failure =
            ExtensionFailure { name: member.name.clone(), stage, error_type: error_type.to_owned() };
        self.failure.get_or_insert(failure);
        Ok(())
    }

    /// An external extension could not be started.
    pub(crate) fn fail_to_launch(&mut self, name: &Arc<str>, error_type: &str) {
        self.failure.get_or_insert(ExtensionFailure {
            name: name.clone(),
            stage: ExtensionStage::Launch,
            error_type: error_type.to_owned(),
        });
    }

    pub(crate) fn failure(&self) -> Option<&ExtensionFailure> {
        self.failure.as_ref()
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether every external extension has registered: then the runtime starts.
    pub(crate) fn all_registered(&self) -> bool {
        let registered =
            |name: &Arc<str>| self.members.iter().any(|member| member.is_external && member.name == *name);
        self.external.iter().all(registered)
    }

    /// Whether everybody has asked for an event: then INIT is over, if the runtime has, too.
    pub(crate) fn all_ready(&self) -> bool {
        let is_ready = |member: &Member| matches!(member.standing, Standing::Ready | Standing::Running);
        self.all_registered() && self.failure.is_none() && self.members.iter().all(is_ready)
    }

    /// Whether somebody still works on the invocation.
    pub(crate) fn is_busy(&self) -> bool {
        self.members.iter().any(|member| member.owes)
    }

    /// Makes an invocation due to all who want it; false if nobody does.
    pub(crate) fn invoke(&mut self, body: impl FnOnce() -> String) -> bool {
        if !self.members.iter().any(|member| member.wants_invoke) {
            return false;
        }
        let body: Arc<str> = body().into();
        for member in self.members.iter_mut().filter(|member| member.wants_invoke) {
            member.due = Some(Event { id: uuid(), body: body.clone() });
            member.owes = true;
        }
        true
    }

    /// Makes the end due to all who want to hear of it; their names.
    pub(crate) fn shut_down(&mut self, reason: ShutdownReason, deadline_ms: u64) -> Vec<Arc<str>> {
        let word = reason.word();
        let body: Arc<str> =
            format!(r#"{{"eventType":"SHUTDOWN","shutdownReason":"{word}","deadlineMs":{deadline_ms}}}"#)
                .into();
        let told = self.members.iter_mut().filter(|member| member.is_external && member.wants_shutdown);
        told.map(|member| {
            member.due = Some(Event { id: uuid(), body: body.clone() });
            member.name.clone()
        })
        .collect()
    }

    /// What the log says of each at the end of INIT.
    pub(crate) fn statuses(&self) -> Vec<ExtensionStatus> {
        let member = |member: &Member| ExtensionStatus {
            name: member.name.clone(),
            state: member.standing.name(),
            events: [(member.wants_invoke, "INVOKE"), (member.wants_shutdown, "SHUTDOWN")]
                .into_iter()
                .filter_map(|(wanted, event)| wanted.then_some(event))
                .collect(),
            error_type: member.error_type.clone(),
        };
        let absent =
            self.external.iter().filter(|name| self.members.iter().all(|member| member.name != **name));
        let absent = absent.map(|name| {
            let launch = self.failure.as_ref().filter(|failure| failure.name == *name);
            ExtensionStatus {
                name: name.clone(),
                state: if launch.is_some() { "LaunchError" } else { "Started" },
                events: Vec::new(),
                error_type: launch.map(|failure| failure.error_type.clone()),
            }
        });
        self.members.iter().map(member).chain(absent).collect()
    }

    /// The name of a registered extension.
    pub(crate) fn name_of(&self, id: &str) -> Result<Arc<str>, Forbidden> {
        let found = self.members.iter().find(|member| &*member.id == id);
        found.map(|member| member.name.clone()).ok_or_else(|| unknown(id))
    }

    fn member(&mut self, id: &str) -> Result<&mut Member, Forbidden> {
        self.members.iter_mut().find(|member| &*member.id == id).ok_or_else(|| unknown(id))
    }
}

impl Member {
    fn stuck(&self, target: Standing, who: &str) -> Forbidden {
        let (from, to) = (self.standing.name(), target.name());
        let message =
            format!("State transition from {from} to {to} failed for extension {who}. Error: {NOT_ALLOWED}");
        Forbidden::new("Extension.InvalidExtensionState", message)
    }
}

fn unknown(id: &str) -> Forbidden {
    Forbidden::new("Extension.UnknownExtensionIdentifier", format!("Unknown extension {id}"))
}

/// The body of an INVOKE event.
pub(crate) fn invoke_body(deadline_ms: u64, request_id: &str, arn: &str, trace_id: &str) -> String {
    // Both come from callers.
    let (arn, trace_id) = (Value::from(arn), Value::from(trace_id));
    format!(
        r#"{{"eventType":"INVOKE","deadlineMs":{deadline_ms},"requestId":"{request_id}","invokedFunctionArn":{arn},"tracing":{{"type":"X-Amzn-Trace-Id","value":{trace_id}}}}}"#
    )
}

/// A random UUID, version 4.
pub(crate) fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    // An identifier is no secret inside its own environment; zeros still tell nobody else's.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether a header's value has the form of an identifier.
pub(crate) fn is_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == groups.len()
        && parts
            .iter()
            .zip(groups)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Arc<str> {
        text.into()
    }

    fn events(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn ready(external: &[(&str, &[&str])]) -> Extensions {
        let names: Vec<Arc<str>> = external.iter().map(|(name, _)| id(name)).collect();
        let mut extensions = Extensions::expecting(&names);
        for (name, wanted) in external {
            extensions.register(&id(name), name, &events(wanted)).unwrap();
            extensions.ready(name).unwrap();
        }
        extensions
    }

    fn refused(result: Result<(), Forbidden>) -> (&'static str, String) {
        let Forbidden { error_type, message } = result.unwrap_err();
        (error_type, message)
    }

    #[test]
    fn init_waits_for_every_external_one_to_register_and_to_ask() {
        let mut extensions = Extensions::expecting(&[id("a"), id("b")]);
        assert!(extensions.any() && !extensions.all_registered());
        extensions.register(&id("1"), "a", &events(&["INVOKE"])).unwrap();
        assert!(!extensions.all_registered());
        extensions.register(&id("2"), "b", &[]).unwrap();
        assert!(extensions.all_registered() && !extensions.all_ready());
        extensions.ready("1").unwrap();
        assert!(!extensions.all_ready(), "also who wants no event has to ask for one");
        extensions.ready("2").unwrap();
        assert!(extensions.all_ready());
    }

    #[test]
    fn registrations_are_refused_in_lambdas_words() {
        let mut extensions = Extensions::expecting(&[id("a")]);
        let register = |extensions: &mut Extensions, name: &str, wanted: &[&str]| {
            refused(extensions.register(&id("x"), name, &events(wanted)))
        };
        assert_eq!(register(&mut extensions, "", &[]).0, "Extension.InvalidExtensionName");
        assert_eq!(
            register(&mut extensions, "inside", &["SHUTDOWN"]),
            (
                "Extension.InvalidEventType",
                "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension".to_owned()
            )
        );
        assert_eq!(
            register(&mut extensions, "a", &["RESTORE"]),
            ("Extension.InvalidEventType", "RESTORE: ErrorInvalidEventType".to_owned())
        );
        extensions.register(&id("1"), "a", &events(&["SHUTDOWN"])).unwrap();
        assert_eq!(
            register(&mut extensions, "a", &[]),
            (
                "Extension.InvalidExtensionState",
                "State transition from Registered to Registered failed for extension a. Error: State transition is not allowed"
                    .to_owned()
            )
        );
        extensions.register(&id("2"), "inside", &events(&["INVOKE"])).unwrap();
        assert_eq!(register(&mut extensions, "inside", &[]).1, "Extension with this name already registered");
        for number in 3..=EXTENSIONS_MAX {
            extensions.register(&id("n"), &format!("inside-{number}"), &[]).unwrap();
        }
        assert_eq!(
            register(&mut extensions, "one-more", &[]),
            ("Extension.TooManyExtensions", "Extension limit (10) reached".to_owned())
        );
        extensions.close();
        assert_eq!(register(&mut extensions, "late", &[]).0, "Extension.RegistrationClosed");
    }

    #[test]
    fn an_invocation_is_over_when_all_who_got_it_are_back() {
        let mut extensions = ready(&[("a", &["INVOKE"]), ("b", &["INVOKE", "SHUTDOWN"]), ("c", &[])]);
        assert!(!extensions.is_busy());
        assert!(extensions.invoke(|| "{}".to_owned()));
        assert!(extensions.is_busy() && extensions.take("c").is_none());
        let event = extensions.take("a").unwrap();
        assert!(&*event.body == "{}" && is_uuid(&event.id));
        assert!(extensions.take("a").is_none(), "an event is given once");
        extensions.ready("a").unwrap();
        assert!(extensions.is_busy(), "b has not even taken it");
        extensions.take("b").unwrap();
        extensions.ready("b").unwrap();
        assert!(!extensions.is_busy());
        assert!(!ready(&[("c", &["SHUTDOWN"])]).invoke(|| unreachable!()));
    }

    #[test]
    fn the_end_is_told_to_external_ones_that_asked_for_it() {
        let mut extensions = ready(&[("a", &["INVOKE"]), ("b", &["SHUTDOWN"])]);
        extensions.register(&id("i"), "inside", &events(&["INVOKE"])).unwrap();
        let told = extensions.shut_down(ShutdownReason::Timeout, 2_000);
        assert_eq!(told, [id("b")]);
        let body = extensions.take("b").unwrap().body;
        assert_eq!(&*body, r#"{"eventType":"SHUTDOWN","shutdownReason":"timeout","deadlineMs":2000}"#);
        assert!(extensions.take("a").is_none());
    }

    #[test]
    fn failures_stay_as_first_reported_and_end_all_transitions() {
        let mut extensions = Extensions::expecting(&[id("a"), id("b")]);
        for name in ["a", "b"] {
            extensions.register(&id(name), name, &[]).unwrap();
        }
        assert_eq!(
            refused(extensions.fail("?", ExtensionStage::Init, "X")).0,
            "Extension.UnknownExtensionIdentifier"
        );
        extensions.ready("b").unwrap();
        let (kind, message) = refused(extensions.fail("b", ExtensionStage::Init, "X"));
        assert_eq!(kind, "Extension.InvalidExtensionState");
        assert!(message.starts_with("State transition from Ready to InitError failed for extension b."));
        extensions.fail("a", ExtensionStage::Init, "My.Error").unwrap();
        extensions.fail("b", ExtensionStage::Exit, "Later").unwrap();
        assert!(extensions.ready("a").is_err() && extensions.fail("a", ExtensionStage::Exit, "X").is_err());
        let failure = extensions.failure().unwrap();
        assert_eq!(
            (&*failure.name, failure.stage, &*failure.error_type),
            ("a", ExtensionStage::Init, "My.Error")
        );
        assert!(!extensions.all_ready(), "a failed INIT does not end well");
        let statuses = extensions.statuses();
        assert_eq!((statuses[0].state, statuses[0].error_type.as_deref()), ("InitError", Some("My.Error")));
    }

    #[test]
    fn statuses_name_those_who_never_came() {
        let mut extensions = Extensions::expecting(&[id("a"), id("b")]);
        extensions.fail_to_launch(&id("b"), "PermissionDenied");
        let found: Vec<_> =
            extensions.statuses().iter().map(|status| (status.name.clone(), status.state)).collect();
        assert_eq!(found, [(id("a"), "Started"), (id("b"), "LaunchError")]);
    }

    #[test]
    fn what_callers_write_stays_inside_its_string() {
        let body = invoke_body(1, "id", "arn\"x", "Root=1\",\"eventType\":\"SHUTDOWN");
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&value["eventType"], &value["invokedFunctionArn"]), (&"INVOKE".into(), &"arn\"x".into()));
    }

    #[test]
    fn identifiers_have_their_form() {
        assert!(is_uuid(&uuid()) && uuid() != uuid());
        for wrong in
            ["", "1", "g0000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000000-"]
        {
            assert!(!is_uuid(wrong), "{wrong}");
        }
    }
}
