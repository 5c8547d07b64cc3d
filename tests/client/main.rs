//! The client of one project against the simulator: what it counts, and how carefully it handles credentials.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod listing;
mod renewal;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use kms_rotationd::clock::{BootClock, Clock};
use kms_rotationd::gate::{Gate, GateHandle};
use kms_rotationd::kms::auth::{
    AccessKeyFiles, Credentials, KeyName, Login, Named, Password, ProjectScope, SecretSource,
};
use kms_rotationd::kms::endpoint::Endpoints;
use kms_rotationd::kms::observe::{Code, Observer, Operation};
use kms_rotationd::kms::{Client, ClientSettings, Kind, Kms, RetryPolicy, Shared};
use kms_rotationd::rotation::KeyId;
use kms_rotationd::simulator::{Fault, Garbage, Key, ProjectSetup, Rule, Setup, Simulator};
use tokio_util::sync::CancellationToken;

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

/// Keeps what it hears, a line each.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn operations(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Heard {
    fn request(&self, _: Operation, _: Code, _: Duration) {}
    fn retry(&self, _: Operation, _: Code) {}
    fn operation(&self, operation: Operation, succeeded: bool) {
        self.0.lock().unwrap().push(format!("{} {succeeded}", operation.as_str()));
    }
    fn credentials_expire(&self, _: Option<SystemTime>) {}
    fn clock_skew(&self, _: i64) {}
}

fn key() -> KeyId {
    KEY.parse().unwrap()
}

fn setup() -> Setup {
    Setup::new().login("u", "d", "right").project(ProjectSetup::new(PROJECT, "eu-de").key(Key::new(KEY)).token("good"))
}

fn token(token: &str) -> Credentials {
    Login::Token(SecretSource::in_memory(token.to_owned(), "test")).into()
}

fn password() -> Credentials {
    let user = Password {
        user: Named::Name("u".to_owned()),
        domain: Some(Named::Name("d".to_owned())),
        password: SecretSource::in_memory("right".to_owned(), "test"),
        project_name: None,
    };
    Login::Password(user).into()
}

fn client(cloud: &Simulator, credentials: Credentials, clock: Clock, heard: &Arc<Heard>) -> Client {
    let settings = settings(cloud, credentials);
    let (observer, stop) = (Arc::clone(heard) as Arc<dyn Observer>, CancellationToken::new());
    Client::new(settings, &Shared::default(), observer, clock, stop, Gate::default()).unwrap()
}

fn settings(cloud: &Simulator, credentials: Credentials) -> ClientSettings {
    ClientSettings {
        project: "payments".into(),
        endpoints: Endpoints { kms: cloud.url(), iam: cloud.url() },
        scope: ProjectScope { id: Some(PROJECT.to_owned()), name: "eu-de".to_owned() },
        credentials,
        ca_file: None,
        proxy: None,
        request_timeout: Duration::from_secs(120),
        requests_per_second: 1_000.0,
        concurrency: 16,
        retry: RetryPolicy {
            initial_interval: Duration::from_millis(1),
            max_interval: Duration::from_millis(5),
            max_elapsed: Duration::from_secs(600),
        },
    }
}

/// Projects that are known by these names, with one access key.
fn by_name(cloud: &Simulator, secret: &str, names: &[&str]) -> Vec<Client> {
    let memory = |text: &str| SecretSource::in_memory(text.to_owned(), "test");
    let key = AccessKeyFiles { id: KeyName::Known("AK".to_owned()), secret: memory(secret), security_token: None };
    let credentials = Credentials::from(Login::AccessKey(key));
    let shared = Shared::default();
    let client = |name: &&str| {
        let scope = ProjectScope { id: None, name: (*name).to_owned() };
        let settings = ClientSettings { scope, ..settings(cloud, credentials.clone()) };
        Client::new(settings, &shared, Arc::new(()), Clock::system(), CancellationToken::new(), Gate::default())
            .unwrap()
    };
    names.iter().map(client).collect()
}

#[tokio::test]
async fn an_answer_that_is_none_of_kms_counts_as_a_failure() {
    let cloud = Simulator::start(setup().fault(Rule::always(Fault::garbage(Garbage::NotJson)))).await.unwrap();
    let heard = Arc::new(Heard::default());
    let client = client(&cloud, token("good"), Clock::system(), &heard);
    let error = client.read_status(key()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Garbled);
    assert_eq!(heard.operations(), ["authenticate true", "read_status false"]);
}

/// A write is tried again and again until this happens to its gate, which is open for an hour, or to the clock of that.
async fn assert_not_sent_once(happens: impl FnOnce(&GateHandle, &AtomicBool)) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let enable = kms_rotationd::simulator::Operation::EnableRotation;
    let cloud = Simulator::start(setup().fault(Rule::always(Fault::html(503)).on(enable))).await.unwrap();
    let slept = Arc::<AtomicBool>::default();
    let wakes = Arc::clone(&slept);
    let boot_clock = BootClock::from_fn(move || if wakes.load(Ordering::SeqCst) { HOUR } else { Duration::ZERO });
    let (handle, gate) = Gate::closed(boot_clock);
    handle.open_until(HOUR);
    let (clock, stop) = (Clock::system(), CancellationToken::new());
    let settings = settings(&cloud, token("good"));
    let client = Client::new(settings, &Shared::default(), Arc::new(()), clock, stop, gate).unwrap();
    let wait = async {
        while cloud.handle().requests(enable) < 3 {
            tokio::task::yield_now().await;
        }
        happens(&handle, &slept);
        // One may be on its way.
        cloud.handle().requests(enable) + 1
    };
    let (ended, at_most) = tokio::join!(client.enable_rotation(key()), wait);
    assert_eq!(ended.unwrap_err().kind(), Kind::Stopped);
    assert!(cloud.handle().requests(enable) <= at_most);
    assert!(client.read_status(key()).await.is_ok(), "what only looks goes on");
}

#[tokio::test]
async fn a_write_that_is_tried_again_is_not_sent_once_the_gate_has_closed() {
    assert_not_sent_once(|handle, _| handle.close()).await;
}

#[tokio::test]
async fn a_write_that_is_tried_again_is_not_sent_after_a_suspend_that_was_longer_than_the_gate_is_open() {
    assert_not_sent_once(|_, slept| slept.store(true, Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_refused_token_costs_two_requests_however_many_keys_are_asked_for_at_once() {
    let cloud = Simulator::start(setup().latency(Duration::from_millis(20))).await.unwrap();
    let client = client(&cloud, token("bad"), Clock::system(), &Arc::new(Heard::default()));
    let results = join_all((0..16).map(|_| client.read_status(key()))).await;
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|error| error.kind() == Kind::Credentials)));
    assert_eq!(cloud.handle().all_requests(), 2);
    // The next run tries again.
    client.begin_run();
    assert!(client.read_status(key()).await.is_err());
    assert_eq!(cloud.handle().all_requests(), 4);
}

#[tokio::test]
async fn many_calls_at_once_share_one_login() {
    let cloud = Simulator::start(setup().latency(Duration::from_millis(5))).await.unwrap();
    let client = client(&cloud, password(), Clock::system(), &Arc::new(Heard::default()));
    let ask = || async { join_all((0..16).map(|_| client.read_status(key()))).await.into_iter().flatten().count() };
    let logins = || cloud.handle().requests(kms_rotationd::simulator::Operation::Authenticate);
    assert_eq!((ask().await, logins()), (16, 1));
    cloud.handle().revoke_tokens();
    assert_eq!((ask().await, logins()), (16, 2));
}

#[tokio::test]
async fn a_password_that_is_refused_before_the_token_ends_is_not_tried_again_in_the_run() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = {
        let now = Arc::clone(&now);
        Clock::from_fn(move || *now.lock().unwrap())
    };
    let advance = |by| *now.lock().unwrap() += by;
    let (day, nine_minutes_less) = (Duration::from_secs(86_400), Duration::from_secs(86_400 - 9 * 60));
    let cloud = Simulator::start(setup()).await.unwrap();
    let client = client(&cloud, password(), clock, &Arc::new(Heard::default()));
    client.begin_run();
    assert!(client.read_status(key()).await.is_ok());

    // Nine minutes before the end, when a new token is due: the old one goes on.
    cloud.handle().set_password("u", "d", "changed");
    advance(nine_minutes_less);
    for _ in 0..8 {
        assert!(client.read_status(key()).await.is_ok());
        advance(Duration::from_secs(61));
    }
    assert_eq!(cloud.handle().authentication_failures(), 1);

    // Its end, by this machine's clock, is the end of the run for the project.
    advance(day);
    assert_eq!(client.read_status(key()).await.unwrap_err().kind(), Kind::Credentials);
    assert_eq!(client.read_status(key()).await.unwrap_err().kind(), Kind::Credentials);
    assert_eq!(cloud.handle().authentication_failures(), 2);
}

#[tokio::test]
async fn an_outage_of_iam_costs_nothing_while_the_token_holds() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = {
        let now = Arc::clone(&now);
        Clock::from_fn(move || *now.lock().unwrap())
    };
    let cloud = Simulator::start(setup()).await.unwrap();
    let heard = Arc::new(Heard::default());
    let client = client(&cloud, password(), clock, &heard);
    assert!(client.read_status(key()).await.is_ok());
    let away = Rule::always(Fault::html(503)).on(kms_rotationd::simulator::Operation::Authenticate);
    cloud.handle().fault(away);
    *now.lock().unwrap() += Duration::from_secs(86_400 - 300);
    for _ in 0..4 {
        assert!(client.read_status(key()).await.is_ok());
    }
    let logins = |operations: Vec<String>| operations.into_iter().filter(|line| line == "authenticate false").count();
    assert_eq!(logins(heard.operations()), 1, "one try, and then a pause");
    cloud.handle().clear_faults();
    *now.lock().unwrap() += Duration::from_secs(61);
    assert!(client.read_status(key()).await.is_ok());
    assert_eq!(heard.operations().iter().filter(|line| *line == "authenticate true").count(), 2);
}

#[tokio::test]
async fn a_wrong_key_is_refused_once_for_all_projects_that_are_looked_up_with_it() {
    let cloud = Simulator::start(setup().access_key("AK", "right")).await.unwrap();
    let clients = by_name(&cloud, "wrong", &["a", "b", "c", "d", "e", "f"]);
    clients.iter().for_each(Kms::begin_run);
    let results = join_all(clients.iter().map(|client| client.read_status(key()))).await;
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|error| error.kind() == Kind::Credentials)));
    assert_eq!(cloud.handle().access_key_refusals("AK"), 1);
}

#[tokio::test]
async fn a_name_that_is_not_known_is_the_concern_of_its_own_project_only() {
    let cloud = Simulator::start(setup().access_key("AK", "right")).await.unwrap();
    let clients = by_name(&cloud, "right", &["nowhere", "eu-de"]);
    clients.iter().for_each(Kms::begin_run);
    for _ in 0..2 {
        assert_eq!(clients[0].read_status(key()).await.unwrap_err().kind(), Kind::Credentials);
        assert!(clients[1].read_status(key()).await.is_ok());
    }
    let looked_up = || cloud.handle().requests(kms_rotationd::simulator::Operation::ListProjects);
    assert_eq!(looked_up(), 2, "once for each name");
    clients.iter().for_each(Kms::begin_run);
    assert!(clients[0].read_status(key()).await.is_err());
    assert_eq!(looked_up(), 3, "and again in the next run");
}
