//! Images that come later: what stands in the row, who wins, what a restart makes of it.

use crate::bench::options;
use control::{
    Around, Control, CreateFunction, Deploy, DeployAlias, DeployCode, DeployVersion, ErrorCode, FoundImage,
    Function, FunctionCode, ImageFault, ImageRoot, ImageSettings, Images, LastUpdateStatus, Settings, Sight,
    State, UpdateFunctionCode, UpdateFunctionConfiguration,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const ROLE: &str = "arn:aws:iam::000000000000:role/lambda";
/// More than a test needs on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Images that come when the test says so.
#[derive(Debug, Default)]
struct Shop {
    state: Mutex<Goods>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Goods {
    outcome: HashMap<String, Result<(), ImageFault>>,
    here: HashSet<String>,
    asked: Vec<String>,
    /// Nobody answers any more.
    is_closed: bool,
}

impl Shop {
    fn settle(&self, source: &str, outcome: Result<(), ImageFault>) {
        self.state.lock().unwrap().outcome.insert(source.to_owned(), outcome);
        self.changed.notify_all();
    }

    /// Waits until somebody fetches that one.
    fn wait_for(&self, source: &str) {
        let state = self.state.lock().unwrap();
        let is_asked = |state: &mut Goods| !state.asked.iter().any(|asked| asked == source);
        drop(self.changed.wait_timeout_while(state, PATIENCE, is_asked).unwrap());
    }
}

fn found(source: &str) -> FoundImage {
    let root = ImageRoot { layers: vec!["/layer".into()], lease: None };
    FoundImage {
        id: source.to_owned(),
        digest: format!("digest-of-{source}"),
        settings: ImageSettings::default(),
        root,
    }
}

impl Images for Shop {
    fn look(&self, source: &str, _: &str) -> Result<Sight, ImageFault> {
        if self.state.lock().unwrap().is_closed {
            return Err(ImageFault::Failed("nobody answers".to_owned()));
        }
        if self.state.lock().unwrap().here.contains(source) {
            return Ok(Sight::Here(found(source)));
        }
        Ok(Sight::Elsewhere { source: source.to_owned(), digest: Some(format!("digest-of-{source}")) })
    }

    fn fetch(&self, source: &str, _: &str, wanted: &dyn Fn() -> bool) -> Result<FoundImage, ImageFault> {
        let mut state = self.state.lock().unwrap();
        state.asked.push(source.to_owned());
        self.changed.notify_all();
        while !state.outcome.contains_key(source) && wanted() {
            state = self.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
        }
        let outcome = state.outcome.get(source).cloned();
        outcome.unwrap_or_else(|| Err(ImageFault::Failed("unwanted".to_owned())))?;
        state.here.insert(source.to_owned());
        Ok(found(source))
    }

    fn find(&self, id: &str) -> Option<FoundImage> {
        Some(found(id))
    }

    fn keep(&self, _: HashSet<String>) {}
}

fn open(folder: &Path) -> (Arc<Control>, Arc<Shop>) {
    let shop = Arc::new(Shop::default());
    let control = Control::open(options(folder), Box::new(|_| {})).unwrap();
    (Arc::new(control.with_images(shop.clone())), shop)
}

fn image(uri: &str) -> FunctionCode {
    FunctionCode { image_uri: Some(uri.to_owned()), ..FunctionCode::default() }
}

fn create(control: &Control, uri: &str, publish: bool) -> Arc<Function> {
    let request = CreateFunction {
        function_name: Some("cart".to_owned()),
        code: Some(image(uri)),
        package_type: Some("Image".to_owned()),
        publish: Some(publish),
        settings: Settings { role: Some(ROLE.to_owned()), ..Settings::default() },
        ..CreateFunction::default()
    };
    control.create(request).unwrap()
}

fn update(control: &Control, uri: &str) -> Result<Arc<Function>, control::ApiError> {
    control.update_code("cart", UpdateFunctionCode { code: image(uri), ..UpdateFunctionCode::default() })
}

fn settled(control: &Control) -> Arc<Function> {
    assert_eq!(control.wait_for_pulls(PATIENCE), [""; 0]);
    control.function("cart").unwrap()
}

fn uri(function: &Function) -> &str {
    &function.image.as_ref().unwrap().uri
}

#[test]
fn a_function_is_pending_until_its_image_is_there_and_is_published_then() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    control.begin_pulls();
    let made = create(&control, "a", true);
    assert_eq!(
        (made.state, made.version.as_str(), made.code_sha256.as_str()),
        (State::Pending, "1", "digest-of-a")
    );
    let error = update(&control, "b").unwrap_err();
    assert_eq!(error.code, ErrorCode::ResourceConflict);
    let error = control.publish("cart", Default::default()).unwrap_err();
    assert!(error.message.ends_with("following state: Pending"), "{}", error.message);
    shop.settle("a", Ok(()));
    let cart = settled(&control);
    assert_eq!((cart.state, cart.last_update_status), (State::Active, LastUpdateStatus::Successful));
    assert_eq!(cart.published.versions[&1].image, cart.image);
    assert_eq!(cart.published.versions[&1].source_key, cart.version_key);
}

#[test]
fn what_runs_runs_on_until_the_new_image_is_there_or_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    control.begin_pulls();
    shop.settle("a", Ok(()));
    create(&control, "a", false);
    let key = settled(&control).version_key;
    update(&control, "bad").unwrap();
    let cart = control.function("cart").unwrap();
    assert_eq!((cart.state, cart.last_update_status), (State::Active, LastUpdateStatus::InProgress));
    assert_eq!((uri(&cart), cart.version_key), ("a", key), "environments stay");
    shop.settle("bad", Err(ImageFault::Denied("no".to_owned())));
    let cart = settled(&control);
    assert_eq!((uri(&cart), cart.version_key, cart.last_update_status), ("a", key, LastUpdateStatus::Failed));
    assert_eq!(cart.last_update_reason.as_ref().unwrap().code, "ImageAccessDenied");
    shop.settle("b", Ok(()));
    update(&control, "b").unwrap();
    let cart = settled(&control);
    assert_eq!((uri(&cart), cart.last_update_status), ("b", LastUpdateStatus::Successful));
    assert!(cart.version_key > key && cart.last_update_reason.is_none());
    let change = UpdateFunctionConfiguration::default();
    assert!(control.update_configuration("cart", change).is_ok());
}

#[test]
fn a_creation_that_fails_says_why_and_can_be_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    control.begin_pulls();
    shop.settle("bad", Err(ImageFault::Invalid("damaged".to_owned())));
    create(&control, "bad", false);
    let cart = settled(&control);
    assert_eq!(cart.state, State::Failed);
    assert_eq!(cart.state_reason.as_ref().unwrap().code, "InvalidImage");
    shop.settle("good", Ok(()));
    update(&control, "good").unwrap();
    assert_eq!(settled(&control).state, State::Active);
}

#[test]
fn a_deleted_function_wants_no_image_and_its_name_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    control.begin_pulls();
    create(&control, "never", false);
    shop.wait_for("never");
    control.delete("cart", None).unwrap();
    create(&control, "a", false);
    shop.settle("a", Ok(()));
    assert_eq!(uri(&settled(&control)), "a");
}

#[test]
fn a_restart_goes_on_with_what_was_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    control.begin_pulls();
    shop.settle("a", Ok(()));
    create(&control, "a", false);
    settled(&control);
    drop(control);
    // Nothing is fetched in this run: killed before.
    let (control, _) = open(folder.path());
    let request =
        UpdateFunctionCode { code: image("b"), publish: Some(true), ..UpdateFunctionCode::default() };
    let said = control.update_code("cart", request).unwrap();
    assert_eq!((said.version.as_str(), said.code_sha256.as_str()), ("1", "digest-of-b"));
    drop(control);
    let (control, shop) = open(folder.path());
    let cart = control.function("cart").unwrap();
    assert_eq!((uri(&cart), cart.last_update_status), ("a", LastUpdateStatus::InProgress));
    shop.settle("b", Ok(()));
    control.begin_pulls();
    let cart = settled(&control);
    assert_eq!((uri(&cart), uri(&cart.published.versions[&1])), ("b", "b"));
}

#[test]
fn a_templates_function_gets_its_alias_with_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    let around = Around {
        versions: vec![DeployVersion { id: "V".to_owned(), follows: true, ..DeployVersion::default() }],
        aliases: vec![DeployAlias {
            name: "live".to_owned(),
            version: "1".to_owned(),
            ..DeployAlias::default()
        }],
        ..Around::default()
    };
    let request = |uri: &str, timeout| Deploy {
        name: "cart".to_owned(),
        code: DeployCode::Image { uri: uri.to_owned(), source: uri.to_owned() },
        settings: Settings { timeout: Some(timeout), ..Settings::default() },
        around: around.clone(),
        ..Deploy::default()
    };
    let cart = control.deploy(request("a", 7)).unwrap();
    assert_eq!((cart.state, cart.timeout.as_secs()), (State::Pending, 7));
    assert!(cart.published.aliases.is_empty());
    control.begin_pulls();
    shop.settle("a", Ok(()));
    let cart = settled(&control);
    assert_eq!(uri(&cart.route("live").unwrap().version), "a");
    let same = control.deploy(request("a", 7)).unwrap();
    assert_eq!(same.revision_id, cart.revision_id, "nothing differs");
    // All of the next state comes together.
    let cart = control.deploy(request("b", 9)).unwrap();
    assert_eq!((cart.timeout.as_secs(), cart.last_update_status), (7, LastUpdateStatus::InProgress));
    shop.settle("b", Ok(()));
    let cart = settled(&control);
    assert_eq!((uri(&cart.route("live").unwrap().version), cart.timeout.as_secs()), ("b", 9));
}

#[test]
fn what_was_pulled_before_stands_in_for_the_templates_own_image_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    let request = |source: &str| Deploy {
        name: "cart".to_owned(),
        code: DeployCode::Image { uri: "a".to_owned(), source: source.to_owned() },
        ..Deploy::default()
    };
    control.begin_pulls();
    shop.settle("a", Ok(()));
    control.deploy(request("a")).unwrap();
    let cart = settled(&control);
    shop.state.lock().unwrap().is_closed = true;
    assert_eq!(control.deploy(request("a")).unwrap().revision_id, cart.revision_id);
    for instead in ["/images/damaged.tar", "another"] {
        let error = control.deploy(request(instead)).unwrap_err();
        assert!(error.message.ends_with("could not be fetched: nobody answers"), "{}", error.message);
    }
}

#[test]
fn a_templates_function_that_waits_for_its_image_leaves_the_floor_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _) = open(folder.path());
    let request = |name: &str, reserved| Deploy {
        name: name.to_owned(),
        code: DeployCode::Image { uri: "a".to_owned(), source: "a".to_owned() },
        reserved,
        ..Deploy::default()
    };
    let error = control.deploy(request("cart", Some(901))).unwrap_err();
    assert!(error.message.contains("below its minimum value of [100]"), "{}", error.message);
    assert!(control.function("cart").is_none());
    assert_eq!(control.deploy(request("cart", Some(900))).unwrap().reserved, Some(900));
    assert!(control.deploy(request("shop", Some(1))).is_err(), "what waits counts");
    assert!(control.deploy(request("shop", None)).is_ok());
}

#[test]
fn a_stop_gives_up_what_is_being_fetched_and_the_next_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (control, shop) = open(folder.path());
    control.begin_pulls();
    create(&control, "a", false);
    shop.wait_for("a");
    control.stop_pulls();
    assert_eq!(control.wait_for_pulls(PATIENCE), ["cart"]);
    drop(control);
    let (control, shop) = open(folder.path());
    assert_eq!(control.function("cart").unwrap().state, State::Pending);
    shop.settle("a", Ok(()));
    control.begin_pulls();
    assert!(control.wait_for_pulls(PATIENCE).is_empty());
    assert_eq!(control.function("cart").unwrap().state, State::Active);
}
