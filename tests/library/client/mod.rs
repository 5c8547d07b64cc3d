//! The client of one project with the simulator: its metrics, and its handling of credentials.

mod listing;
mod renewal;
mod rotating;
mod unclear;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use kms_rotationd::kms::auth::{
    AccessKeyFiles, AccessKeyIdSource, Agency, Credentials, IdToken, Login, Named, OidcAgency, Password, PodIdentity,
    ProjectScope, SecretLocation,
};
use kms_rotationd::kms::endpoint::Endpoints;
use kms_rotationd::kms::observe::{Code, Observer, Operation};
use kms_rotationd::kms::{
    ClientSettings, ErrorKind, Kms, KmsClient, RetryPolicy, RunStart, SendMode, Shared, WriteOperation,
};
use kms_rotationd::rotation::KeyId;
use kms_rotationd::support::clock::{BootClock, Clock};
use kms_rotationd::support::write_gate::{WriteGate, WriteGateHandle};
use kms_simulator::{Fault, Garbage, Key, OperationSet, ProjectSetup, Rule, Setup, Simulator};
use tokio_util::sync::CancellationToken;

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

/// Records each event as a line.
#[derive(Default)]
struct Recorded(Mutex<Vec<String>>);

/// Calls this at every attempt and every use of credentials.
struct Hooked<A, C> {
    attempt: A,
    credentials: C,
}

impl<A: Fn(Operation) + Send + Sync, C: Fn() + Send + Sync> Observer for Hooked<A, C> {
    fn request(&self, operation: Operation, _: Code, _: Duration) {
        (self.attempt)(operation);
    }
    fn retry(&self, _: Operation, _: Code) {}
    fn operation(&self, _: Operation, _: bool) {}
    fn credentials_expire(&self, _: Option<SystemTime>) {
        (self.credentials)();
    }
    fn clock_skew(&self, _: i64) {}
}

impl Recorded {
    fn operations(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Recorded {
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
    Login::Token(SecretLocation::in_memory(token.to_owned(), "test")).into()
}

fn password() -> Credentials {
    let user = Password {
        user: Named::Name("u".to_owned()),
        domain: Some(Named::Name("d".to_owned())),
        password: SecretLocation::in_memory("right".to_owned(), "test"),
        project_name: None,
    };
    Login::Password(user).into()
}

fn client(cloud: &Simulator, credentials: Credentials, clock: Clock, recorded: &Arc<Recorded>) -> KmsClient {
    let settings = settings(cloud, credentials);
    let (observer, stop) = (Arc::clone(recorded) as Arc<dyn Observer>, CancellationToken::new());
    KmsClient::new(settings, &Shared::for_descriptors(1024), observer, clock, stop, WriteGate::default()).unwrap()
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
        retry: RetryPolicy {
            initial_interval: Duration::from_millis(1),
            max_interval: Duration::from_millis(5),
            max_elapsed: Duration::from_secs(600),
            skip_waits: false,
        },
    }
}

/// Projects with these names, with one access key.
fn by_name(cloud: &Simulator, secret: &str, names: &[&str]) -> Vec<KmsClient> {
    let memory = |text: &str| SecretLocation::in_memory(text.to_owned(), "test");
    let key =
        AccessKeyFiles { id: AccessKeyIdSource::Known("AK".to_owned()), secret: memory(secret), security_token: None };
    let credentials = Credentials::from(Login::AccessKey(key));
    let shared = Shared::for_descriptors(1024);
    let client = |name: &&str| {
        let scope = ProjectScope { id: None, name: (*name).to_owned() };
        let settings = ClientSettings { scope, ..settings(cloud, credentials.clone()) };
        KmsClient::new(settings, &shared, Arc::new(()), Clock::system(), CancellationToken::new(), WriteGate::default())
            .unwrap()
    };
    names.iter().map(client).collect()
}

/// The last rotation is compared with the cloud's clock, not with this machine's.
#[tokio::test]
async fn a_call_that_waits_for_its_turn_takes_little_memory() {
    let cloud = Simulator::start(setup()).await.unwrap();
    let client = client(&cloud, token("good"), Clock::system(), &Arc::default());
    // With a thousand projects, some four thousand calls wait. A login or an attempt is in memory only while it is made.
    let size = size_of_val(&client.read_status(key(), SendMode::Retried));
    assert!(size <= 1_536, "{size} bytes");
}

#[tokio::test]
async fn the_clouds_time_is_that_of_its_last_success_if_the_clocks_are_a_minute_apart() {
    let here = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    for (offset, expected) in [(0, 0), (59, 0), (-59, 0), (1_200, 1_200), (-1_200, -1_200)] {
        let setup = setup().clock(move || here).behave(|cloud| cloud.date_offset_seconds = offset);
        let cloud = Simulator::start(setup).await.unwrap();
        let client = client(&cloud, token("good"), Clock::from_fn(move || here), &Arc::default());
        assert_eq!(client.cloud_time(), here, "before the first answer");
        client.read_status(key(), SendMode::Retried).await.unwrap();
        let apart = |later: SystemTime, earlier| later.duration_since(earlier).map(|apart| apart.as_secs());
        let ahead = match apart(client.cloud_time(), here) {
            Ok(ahead) => i64::try_from(ahead).unwrap(),
            Err(_) => -i64::try_from(apart(here, client.cloud_time()).unwrap()).unwrap(),
        };
        assert_eq!(ahead, expected);
        // A gateway has a clock of its own.
        cloud.handle().behave(|cloud| cloud.date_offset_seconds = 999_999);
        cloud.handle().fault(Rule::always(Fault::kms(403, "KMS.0307")));
        client.read_status(key(), SendMode::Optional).await.unwrap_err();
        assert!(!apart(client.cloud_time(), here).is_ok_and(|ahead| ahead > 1_200));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_from_kms_is_a_failure() {
    let cloud = Simulator::start(setup().fault(Rule::always(Fault::garbage(Garbage::NotJson)))).await.unwrap();
    let recorded = Arc::new(Recorded::default());
    let client = client(&cloud, token("good"), Clock::system(), &recorded);
    let error = client.read_status(key(), SendMode::Retried).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Garbled);
    assert_eq!(recorded.operations(), ["authenticate true", "read_status false"]);
}

/// A write is tried again and again until this happens to its gate, which is open for an hour, or to the clock of that.
async fn assert_not_sent_once(happens: impl FnOnce(&WriteGateHandle, &AtomicBool)) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let enable = kms_simulator::Operation::EnableRotation;
    let cloud = Simulator::start(setup().fault(Rule::always(Fault::html(503)).on(enable))).await.unwrap();
    let slept = Arc::<AtomicBool>::default();
    let wakes = Arc::clone(&slept);
    let boot_clock = BootClock::from_fn(move || if wakes.load(Ordering::SeqCst) { HOUR } else { Duration::ZERO });
    let (handle, gate) = WriteGate::closed(boot_clock);
    handle.open_until(HOUR);
    let (clock, stop) = (Clock::system(), CancellationToken::new());
    let settings = settings(&cloud, token("good"));
    let client = KmsClient::new(settings, &Shared::for_descriptors(1024), Arc::new(()), clock, stop, gate).unwrap();
    let wait = async {
        while cloud.handle().requests(enable) < 3 {
            tokio::task::yield_now().await;
        }
        happens(&handle, &slept);
        // One can be in flight.
        cloud.handle().requests(enable) + 1
    };
    let (ended, at_most) = tokio::join!(async { client.enable_rotation(key()).send().await }, wait);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Stopped);
    assert!(cloud.handle().requests(enable) <= at_most);
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok(), "what only looks goes on");
}

#[tokio::test]
async fn a_retried_write_is_not_sent_after_the_gate_has_closed() {
    assert_not_sent_once(|handle, _| handle.close()).await;
}

#[tokio::test]
async fn a_retried_write_is_not_sent_after_a_long_suspend() {
    assert_not_sent_once(|_, slept| slept.store(true, Ordering::SeqCst)).await;
}

/// A clock that a test moves.
#[derive(Clone)]
struct Hand(Arc<Mutex<SystemTime>>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::now())))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    fn clock(&self) -> Clock {
        let Self(now) = self.clone();
        Clock::from_fn(move || *now.lock().unwrap())
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// The start of a run with the next run due then.
fn before(next_run: SystemTime) -> RunStart {
    RunStart { next_run: Some(next_run), retry_refused: false }
}

/// Begins a run of all these clients.
fn begin_run<'c>(clients: impl IntoIterator<Item = &'c KmsClient>) {
    for client in clients {
        client.begin_run(RunStart::default());
    }
}

/// One run: sixteen concurrent calls, all refused.
async fn refused_run(client: &KmsClient) {
    refused_run_after(client, RunStart::default()).await;
}

/// As [`refused_run`], with this start.
async fn refused_run_after(client: &KmsClient, start: RunStart) {
    client.begin_run(start);
    let results = join_all((0..16).map(|_| client.read_status(key(), SendMode::Retried))).await;
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Credentials)));
    let error = results[0].as_ref().unwrap_err().to_string();
    assert!(error.contains("40"), "every run reports the cloud's answer: {error}");
}

#[tokio::test]
async fn a_refused_secret_is_sent_once_in_half_an_hour() {
    let memory = |text: &str| SecretLocation::in_memory(text.to_owned(), "test");
    let user = Password {
        user: Named::Name("u".to_owned()),
        domain: Some(Named::Name("d".to_owned())),
        password: memory("wrong"),
        project_name: None,
    };
    let key =
        AccessKeyFiles { id: AccessKeyIdSource::Known("AK".to_owned()), secret: memory("wrong"), security_token: None };
    let id_token = IdToken { provider_id: "cluster".to_owned(), token: memory("wrong") };
    let agency = || Some(Agency { account: Named::Name("d".to_owned()), name: "a".to_owned(), duration: None });
    for (login, agency) in [
        (Login::Token(memory("wrong")), None),
        (Login::Token(memory("wrong")), agency()),
        (Login::Password(user.clone()), None),
        (Login::Password(user), agency()),
        (Login::AccessKey(key.clone()), None),
        (Login::AccessKey(key), agency()),
        (Login::IdToken(id_token), None),
    ] {
        let setup = setup().access_key("AK", "right").identity_provider("cluster", "right");
        let cloud = Simulator::start(setup.latency(Duration::from_millis(5))).await.unwrap();
        let hand = Hand::new();
        let credentials = Credentials { login, agency };
        let client = client(&cloud, credentials.clone(), hand.clock(), &Arc::new(Recorded::default()));
        let sent = || cloud.handle().all_requests();
        for _ in 0..5 {
            refused_run(&client).await;
            hand.advance(5 * MINUTE);
        }
        assert_eq!(sent(), 1, "{credentials:?}");
        hand.advance(5 * MINUTE);
        refused_run(&client).await;
        refused_run(&client).await;
        assert_eq!(sent(), 2, "{credentials:?}");
        // An operator starts a run.
        refused_run_after(&client, RunStart { retry_refused: true, next_run: None }).await;
        refused_run(&client).await;
        assert_eq!(sent(), 3, "{credentials:?}");
    }
}

#[tokio::test]
async fn a_failing_login_service_has_refused_nothing() {
    let memory = |text: &str| SecretLocation::in_memory(text.to_owned(), "test");
    let key =
        AccessKeyFiles { id: AccessKeyIdSource::Known("AK".to_owned()), secret: memory("right"), security_token: None };
    let agency = || Some(Agency { account: Named::Name("d".to_owned()), name: "a".to_owned(), duration: None });
    for fault in [Fault::html(503), Fault::html(501), Fault::throttled(), Fault::reset()] {
        let setup = setup().access_key("AK", "right").identity_provider("cluster", "right");
        let faulty = [OperationSet::IAM, OperationSet::METADATA].map(|side| Rule::always(fault.clone()).on(side));
        let cloud = Simulator::start(faulty.into_iter().fold(setup, Setup::fault)).await.unwrap();
        let sts = OidcAgency {
            endpoint: cloud.url(),
            provider_urn: "provider".to_owned(),
            agency_urn: "agency".to_owned(),
            token: memory("right"),
            session_name: "test".to_owned(),
            duration_seconds: 3600,
            policy: None,
            policy_ids: Vec::new(),
        };
        for (login, agency) in [
            (Login::Token(memory("good")), agency()),
            (password().login, None),
            (password().login, agency()),
            (Login::AccessKey(key.clone()), agency()),
            (Login::EcsAgency { metadata_endpoint: Some(cloud.url()) }, None),
            (Login::IdToken(IdToken { provider_id: "cluster".to_owned(), token: memory("right") }), None),
            (Login::OidcAgency(sts), None),
            (Login::Pod(PodIdentity { uri: format!("{}/v1/credentials", cloud.url()), token: memory("right") }), None),
        ] {
            let recorded = Arc::new(Recorded::default());
            let settings = settings(&cloud, Credentials { login, agency });
            let retry = RetryPolicy { max_elapsed: Duration::from_millis(20), ..settings.retry };
            let settings = ClientSettings { retry, ..settings };
            let (observer, stop) = (Arc::clone(&recorded) as Arc<dyn Observer>, CancellationToken::new());
            let way = format!("{:?} {fault:?}", settings.credentials);
            let client = KmsClient::new(
                settings,
                &Shared::for_descriptors(1024),
                observer,
                Clock::system(),
                stop,
                WriteGate::default(),
            )
            .unwrap();
            client.begin_run(RunStart::default());
            let results = join_all((0..16).map(|_| client.read_status(self::key(), SendMode::Retried))).await;
            let kinds: Vec<_> = results.iter().map(|result| result.as_ref().unwrap_err().kind()).collect();
            assert_eq!(kinds, [ErrorKind::LoginUnavailable; 16], "{way}");
            let logins = recorded.operations().iter().filter(|line| line.starts_with("authenticate")).count();
            assert_eq!(logins, 1, "one budget for all keys: {way}");
        }
    }
}

const LOGIN: kms_simulator::Operation = kms_simulator::Operation::Authenticate;
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn an_outage_of_iam_in_every_second_run_fails_no_key() {
    let pauses = [10 * MINUTE, 30 * MINUTE, 7 * 60 * MINUTE, 11 * 60 * MINUTE];
    for (pause, without) in pauses.into_iter().flat_map(|pause| [(pause, 0), (pause, 1)]) {
        let cloud = Simulator::start(setup()).await.unwrap();
        let (hand, recorded) = (Hand::new(), Arc::new(Recorded::default()));
        let client = client(&cloud, password(), hand.clock(), &recorded);
        let runs = (3 * DAY).as_secs() / pause.as_secs() + 1;
        for run in 0..runs {
            cloud.handle().clear_faults();
            if run > 0 && run % 2 == without {
                cloud.handle().fault(Rule::always(Fault::html(503)).on(LOGIN));
            }
            client.begin_run(before(hand.clock().now() + pause));
            for _ in 0..3 {
                assert!(
                    client.read_status(key(), SendMode::Retried).await.is_ok(),
                    "run {run} of {runs}, every {pause:?}"
                );
            }
            hand.advance(pause);
        }
        let logins = recorded.operations().iter().filter(|line| *line == "authenticate true").count();
        assert!((3..=8).contains(&logins), "{logins} logins in three days, every {pause:?}");
    }
}

#[tokio::test]
async fn a_short_lived_token_is_requested_once_in_each_run() {
    for pause in [1435 * MINUTE, DAY, 10 * DAY] {
        let cloud = Simulator::start(setup()).await.unwrap();
        let hand = Hand::new();
        let client = client(&cloud, password(), hand.clock(), &Arc::new(Recorded::default()));
        for run in 1..=4 {
            client.begin_run(before(hand.clock().now() + pause));
            for _ in 0..5 {
                assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
                hand.advance(MINUTE / 2);
            }
            assert_eq!(cloud.handle().requests(LOGIN), run, "every {pause:?}");
            hand.advance(pause);
        }
    }
}

#[tokio::test]
async fn an_unchanged_key_of_the_metadata_service_is_requested_once_more_in_a_run() {
    let hand = Hand::new();
    let clock = hand.clock();
    let cloud = Simulator::start(setup().clock(move || clock.now())).await.unwrap();
    let login = Login::EcsAgency { metadata_endpoint: Some(cloud.url()) };
    let client = client(&cloud, login.into(), hand.clock(), &Arc::new(Recorded::default()));
    let asked = || cloud.handle().requests(kms_simulator::Operation::InstanceKeys);
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
    // The next one expires just after the next run has begun; one requested a minute later would not.
    cloud.handle().behave(|cloud| cloud.temporary_key_lifetime = Some(33 * MINUTE));
    hand.advance(1410 * MINUTE);
    client.begin_run(before(hand.clock().now() + 30 * MINUTE));
    for _ in 0..10 {
        assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
        hand.advance(MINUTE);
    }
    assert_eq!(asked(), 2);
}

/// A project with an observer that calls these.
fn hooked(
    cloud: &Simulator,
    hand: &Hand,
    attempt: impl Fn(Operation) + Send + Sync + 'static,
    credentials: impl Fn() + Send + Sync + 'static,
) -> KmsClient {
    let (observer, stop) = (Arc::new(Hooked { attempt, credentials }), CancellationToken::new());
    let settings = settings(cloud, password());
    KmsClient::new(settings, &Shared::for_descriptors(1024), observer, hand.clock(), stop, WriteGate::default())
        .unwrap()
}

#[tokio::test]
async fn a_token_that_expires_while_a_call_waits_is_replaced_before_sending() {
    let cloud = Simulator::start(setup()).await.unwrap();
    let (hand, ended) = (Hand::new(), AtomicBool::new(false));
    let passes = hand.clone();
    let client = hooked(
        &cloud,
        &hand,
        |_| {},
        move || {
            if !ended.swap(true, Ordering::SeqCst) {
                passes.advance(DAY);
            }
        },
    );
    client.begin_run(RunStart::default());
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
    assert_eq!((cloud.handle().requests(LOGIN), cloud.handle().all_requests()), (2, 3));
}

#[tokio::test]
async fn a_refusal_after_the_expiry_of_a_token_ends_no_run() {
    const CALLS: u64 = 5;
    let read = kms_simulator::Operation::ReadStatus;
    let cloud = Simulator::start(setup().fault(Rule::next(CALLS, Fault::kms(403, "KMS.0303")).on(read))).await.unwrap();
    let (hand, left) = (Hand::new(), Mutex::new(CALLS));
    let passes = hand.clone();
    let slow = move |operation| {
        let mut left = left.lock().unwrap();
        if operation == Operation::ReadStatus && *left > 0 {
            *left -= 1;
            passes.advance(DAY);
        }
    };
    let client = hooked(&cloud, &hand, slow, || {});
    client.begin_run(RunStart::default());
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok(), "within its budget");
    assert_eq!(cloud.handle().requests(read), CALLS + 1);
    // With a valid token it is a refusal.
    cloud.handle().fault(Rule::always(Fault::kms(403, "KMS.0303")).on(read));
    assert_eq!(client.read_status(key(), SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Credentials);
    assert_eq!(cloud.handle().requests(read), CALLS + 3);
}

#[tokio::test]
async fn a_refusal_after_the_expiry_of_a_key_does_not_affect_the_project_lookup() {
    let look_up = kms_simulator::Operation::ListProjects;
    let hand = Hand::new();
    let (now, passes) = (hand.clock(), hand.clone());
    let refused = Rule::next(1, Fault::unauthorized()).on(look_up);
    let cloud = Simulator::start(setup().fault(refused).clock(move || now.now())).await.unwrap();
    let login = Login::EcsAgency { metadata_endpoint: Some(cloud.url()) };
    let settings = settings(&cloud, login.into());
    let settings = ClientSettings { scope: ProjectScope { id: None, ..settings.scope }, ..settings };
    // A session with the metadata service, the key, and the name.
    let attempts = AtomicUsize::new(0);
    let attempt = move |_| {
        if attempts.fetch_add(1, Ordering::SeqCst) == 2 {
            passes.advance(DAY);
        }
    };
    let (observer, stop) = (Arc::new(Hooked { attempt, credentials: || {} }), CancellationToken::new());
    let client =
        KmsClient::new(settings, &Shared::for_descriptors(1024), observer, hand.clock(), stop, WriteGate::default())
            .unwrap();
    client.begin_run(RunStart::default());
    assert_eq!(client.read_status(key(), SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(cloud.handle().requests(look_up), 1);
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
}

/// Other projects of the same account.
const OTHERS: [&str; 2] = ["1123456789abcdef0123456789abcdee", "2123456789abcdef0123456789abcdee"];

/// Projects with these names and ids, whose logins use this password.
fn by_password<const N: usize>(
    cloud: &Simulator,
    clock: &Clock,
    password: &str,
    projects: [(&str, &str, Option<Agency>); N],
) -> [KmsClient; N] {
    let shared = Shared::for_descriptors(1024);
    projects.map(|(name, id, agency)| {
        let user = Password {
            user: Named::Name("u".to_owned()),
            domain: Some(Named::Name("d".to_owned())),
            password: SecretLocation::in_memory(password.to_owned(), "test"),
            // Written in different ways.
            project_name: (name == "named").then(|| "eu-de".to_owned()),
        };
        let settings = settings(cloud, Credentials { login: Login::Password(user), agency });
        let scope = ProjectScope { id: Some(id.to_owned()), ..settings.scope };
        let settings = ClientSettings { project: name.into(), scope, ..settings };
        KmsClient::new(settings, &shared, Arc::new(()), clock.clone(), CancellationToken::new(), WriteGate::default())
            .unwrap()
    })
}

#[tokio::test]
async fn a_wrong_password_is_sent_at_most_twice_for_all_its_projects() {
    let cloud = Simulator::start(setup().latency(Duration::from_millis(20))).await.unwrap();
    let hand = Hand::new();
    let projects = ["a", "b", "named", "c", "d", "e"].map(|name| (name, name, None));
    let clients = by_password(&cloud, &hand.clock(), "wrong", projects);
    for half_hour in 1..=3 {
        for _ in 0..3 {
            join_all(clients.iter().map(refused_run)).await;
            hand.advance(10 * MINUTE);
        }
        assert_eq!(cloud.handle().all_requests(), 2 * half_hour);
    }
}

#[tokio::test]
async fn a_project_without_permission_does_not_block_other_logins() {
    let other = |id: &str| ProjectSetup::new(id, "eu-de").key(Key::new(KEY));
    let cloud = Simulator::start(OTHERS.into_iter().map(other).fold(setup(), Setup::project)).await.unwrap();
    let hand = Hand::new();
    let projects = [("a", PROJECT, None), ("b", OTHERS[0], None), ("c", OTHERS[1], None)];
    let [refused, others @ ..] = by_password(&cloud, &hand.clock(), "right", projects);
    for run in 1..=3 {
        // As if the user had no role in this project, which always comes first.
        cloud.handle().clear_faults();
        cloud.handle().fault(Rule::next(1, Fault::unauthorized()).on(LOGIN));
        refused_run(&refused).await;
        for other in &others {
            other.begin_run(RunStart::default());
            assert!(other.read_status(key(), SendMode::Retried).await.is_ok(), "run {run}");
        }
        assert_eq!(cloud.handle().requests(LOGIN), 2 + run, "one more for the one that is refused");
        hand.advance(31 * MINUTE);
    }
}

#[tokio::test]
async fn a_refused_agency_does_not_mark_the_accepted_secret_as_refused() {
    use kms_simulator::Operation as Asked;
    let memory = |text: &str| SecretLocation::in_memory(text.to_owned(), "test");
    let agency = || Some(Agency { account: Named::Name("x".to_owned()), name: "a".to_owned(), duration: None });
    let Credentials { login: by_password, .. } = password();
    let by_id_token = Login::IdToken(IdToken { provider_id: "cluster".to_owned(), token: memory("right") });
    for (login, then) in [(by_password, Asked::AgencyToken), (by_id_token, Asked::TemporaryKeys)] {
        let setup = setup().identity_provider("cluster", "right");
        let cloud = Simulator::start(setup.fault(Rule::always(Fault::unauthorized()).on(then))).await.unwrap();
        let (shared, hand) = (Shared::for_descriptors(1024), Hand::new());
        let client = |name: &str, agency| {
            let settings = settings(&cloud, Credentials { login: login.clone(), agency });
            let settings = ClientSettings { project: name.into(), ..settings };
            let stop = CancellationToken::new();
            KmsClient::new(settings, &shared, Arc::new(()), hand.clock(), stop, WriteGate::default()).unwrap()
        };
        let delegated = [client("a", agency()), client("b", agency()), client("c", agency())];
        for _ in 0..3 {
            for client in &delegated {
                refused_run(client).await;
            }
            hand.advance(5 * MINUTE);
        }
        assert_eq!(cloud.handle().requests(then), 3, "once for each project: {login:?}");
        cloud.handle().clear_faults();
        let own = client("own", None);
        assert!(own.read_status(key(), SendMode::Retried).await.is_ok(), "{login:?}");
    }
}

#[tokio::test]
async fn a_once_accepted_credential_is_retried_before_its_refusal_counts() {
    use kms_simulator::Operation as Asked;
    let memory = |text: &str| SecretLocation::in_memory(text.to_owned(), "test");
    let key =
        AccessKeyFiles { id: AccessKeyIdSource::Known("AK".to_owned()), secret: memory("right"), security_token: None };
    for name in ["key", "token", "password", "machine"] {
        let cloud = Simulator::start(setup().access_key("AK", "right")).await.unwrap();
        let credentials = match name {
            "key" => Login::AccessKey(key.clone()).into(),
            "token" => token("good"),
            "password" => password(),
            _ => Login::EcsAgency { metadata_endpoint: Some(cloud.url()) }.into(),
        };
        let hand = Hand::new();
        let client = client(&cloud, credentials, hand.clock(), &Arc::default());
        let reads = || cloud.handle().requests(Asked::ReadStatus);
        let refuse = |rule: fn(Fault) -> Rule| cloud.handle().fault(rule(Fault::unauthorized()).on(Asked::ReadStatus));
        client.begin_run(RunStart::default());
        assert!(client.read_status(self::key(), SendMode::Retried).await.is_ok(), "{name}");
        // One stray refusal in the middle of a run, and one of the first request of the next run.
        for run in 1..=2 {
            refuse(|fault| Rule::next(1, fault));
            assert!(client.read_status(self::key(), SendMode::Retried).await.is_ok(), "{name} in run {run}");
            hand.advance(MINUTE);
            client.begin_run(RunStart::default());
        }
        // From now on it is wrong: one more attempt in the first run, and then one in half an hour; a credential that
        // is new in each run is another one.
        let is_given = matches!(name, "key" | "token");
        refuse(Rule::always);
        let before = reads();
        for run in 0..3 {
            refused_run(&client).await;
            let expected = if is_given { 2 } else { 2 + run };
            assert_eq!(reads() - before, expected, "{name}, {run} minutes later");
            hand.advance(MINUTE);
        }
        hand.advance(30 * MINUTE);
        refused_run(&client).await;
        // The cached one, and a new one.
        assert_eq!(reads() - before, if is_given { 3 } else { 6 }, "{name}");
    }
}

#[tokio::test]
async fn a_key_accepted_for_one_project_is_blocked_only_for_the_other() {
    let cloud = Simulator::start(setup().access_key("AK", "right")).await.unwrap();
    let refusing = Simulator::start(setup().fault(Rule::always(Fault::unauthorized()))).await.unwrap();
    let shared = Shared::for_descriptors(1024);
    let [one, other] = [&cloud, &refusing].map(|kms| {
        let secret = SecretLocation::in_memory("right".to_owned(), "test");
        let key = AccessKeyFiles { id: AccessKeyIdSource::Known("AK".to_owned()), secret, security_token: None };
        let settings = settings(&cloud, Login::AccessKey(key).into());
        let endpoints = Endpoints { kms: kms.url(), iam: cloud.url() };
        let settings = ClientSettings { project: kms.url().into(), endpoints, ..settings };
        KmsClient::new(settings, &shared, Arc::new(()), Clock::system(), CancellationToken::new(), WriteGate::default())
            .unwrap()
    });
    for run in 1..=3 {
        begin_run([&one, &other]);
        // In the first run one project is accepted before the other is refused; in the next ones the other comes first.
        if run == 1 {
            assert!(one.read_status(key(), SendMode::Retried).await.is_ok());
        }
        assert_eq!(other.read_status(key(), SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Credentials);
        assert!(one.read_status(key(), SendMode::Retried).await.is_ok(), "run {run}");
        assert_eq!(refusing.handle().all_requests(), 1, "run {run}");
    }
}

#[tokio::test]
async fn many_calls_at_once_share_one_login() {
    let cloud = Simulator::start(setup().latency(Duration::from_millis(5))).await.unwrap();
    let client = client(&cloud, password(), Clock::system(), &Arc::new(Recorded::default()));
    let ask = || async {
        join_all((0..16).map(|_| client.read_status(key(), SendMode::Retried))).await.into_iter().flatten().count()
    };
    let logins = || cloud.handle().requests(kms_simulator::Operation::Authenticate);
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
    let client = client(&cloud, password(), clock, &Arc::new(Recorded::default()));
    client.begin_run(RunStart::default());
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok());

    // Nine minutes before the expiry, when a new token is due: the old one is still used.
    cloud.handle().set_password("u", "d", "changed");
    advance(nine_minutes_less);
    for _ in 0..8 {
        assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
        advance(Duration::from_secs(61));
    }
    assert_eq!(cloud.handle().authentication_failures(), 1);

    // Its expiry, by this machine's clock, ends the project's run.
    advance(day);
    assert_eq!(client.read_status(key(), SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Credentials);
    assert_eq!(client.read_status(key(), SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Credentials);
    assert_eq!(cloud.handle().authentication_failures(), 2);
}

#[tokio::test]
async fn an_outage_of_iam_has_no_effect_while_the_token_is_valid() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = {
        let now = Arc::clone(&now);
        Clock::from_fn(move || *now.lock().unwrap())
    };
    let cloud = Simulator::start(setup()).await.unwrap();
    let recorded = Arc::new(Recorded::default());
    let client = client(&cloud, password(), clock, &recorded);
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
    let away = Rule::always(Fault::html(503)).on(kms_simulator::Operation::Authenticate);
    cloud.handle().fault(away);
    *now.lock().unwrap() += Duration::from_secs(86_400 - 300);
    for _ in 0..4 {
        assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
    }
    let logins = |operations: Vec<String>| operations.into_iter().filter(|line| line == "authenticate false").count();
    assert_eq!(logins(recorded.operations()), 1, "one try, and then a pause");
    cloud.handle().clear_faults();
    *now.lock().unwrap() += Duration::from_secs(61);
    assert!(client.read_status(key(), SendMode::Retried).await.is_ok());
    assert_eq!(recorded.operations().iter().filter(|line| *line == "authenticate true").count(), 2);
}

#[tokio::test]
async fn a_wrong_key_is_tried_once_for_all_project_lookups() {
    let cloud = Simulator::start(setup().access_key("AK", "right")).await.unwrap();
    let clients = by_name(&cloud, "wrong", &["a", "b", "c", "d", "e", "f"]);
    for _ in 0..3 {
        begin_run(&clients);
        let results = join_all(clients.iter().map(|client| client.read_status(key(), SendMode::Retried))).await;
        assert!(
            results.iter().all(|result| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Credentials))
        );
        assert_eq!(cloud.handle().access_key_refusals("AK"), 1);
    }
}

#[tokio::test]
async fn an_unknown_project_name_affects_only_its_project() {
    let cloud = Simulator::start(setup().access_key("AK", "right")).await.unwrap();
    let clients = by_name(&cloud, "right", &["nowhere", "eu-de"]);
    begin_run(&clients);
    for _ in 0..2 {
        assert_eq!(clients[0].read_status(key(), SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Credentials);
        assert!(clients[1].read_status(key(), SendMode::Retried).await.is_ok());
    }
    let looked_up = || cloud.handle().requests(kms_simulator::Operation::ListProjects);
    assert_eq!(looked_up(), 2, "once for each name");
    begin_run(&clients);
    assert!(clients[0].read_status(key(), SendMode::Retried).await.is_err());
    assert_eq!(looked_up(), 3, "and again in the next run");
}

#[tokio::test]
async fn an_interval_for_a_key_on_policy_is_sent_once_with_any_answer() {
    let update = kms_simulator::Operation::UpdateInterval;
    for fault in [Fault::html(503).after_applying(), Fault::html(500), Fault::html(504).after_applying()] {
        let cloud = Simulator::start(setup().fault(Rule::always(fault).on(update))).await.unwrap();
        cloud.handle().change_key(PROJECT, KEY, |key| *key = Key::new(KEY).rotating(90));
        let client = client(&cloud, token("good"), Clock::system(), &Arc::new(Recorded::default()));
        let days = kms_rotationd::rotation::RotationInterval::from_days(90).unwrap();
        let mut write = client.update_interval(key(), days, SendMode::Once);
        assert_eq!(write.send().await.unwrap_err().kind(), ErrorKind::Unclear);
        assert_eq!(cloud.handle().requests(update), 1);
    }
}

#[tokio::test]
async fn an_interval_due_at_a_stop_is_repeated_after_a_lost_answer_and_counted() {
    let update = kms_simulator::Operation::UpdateInterval;
    let cloud = Simulator::start(setup().fault(Rule::next(1, Fault::html(502)).on(update))).await.unwrap();
    cloud.handle().change_key(PROJECT, KEY, |key| *key = Key::new(KEY).rotating(365));
    let (recorded, stop) = (Arc::new(Recorded::default()), CancellationToken::new());
    let (settings, observer) = (settings(&cloud, token("good")), Arc::clone(&recorded) as Arc<dyn Observer>);
    let shared = Shared::for_descriptors(1024);
    let client =
        KmsClient::new(settings, &shared, observer, Clock::system(), stop.clone(), WriteGate::default()).unwrap();
    stop.cancel();
    let days = kms_rotationd::rotation::RotationInterval::from_days(90).unwrap();
    let send = async |mode| client.update_interval(key(), days, mode).send().await;
    assert_eq!(send(SendMode::Retried).await.unwrap_err().kind(), ErrorKind::Stopped);
    send(SendMode::AtExit).await.unwrap();
    assert_eq!(cloud.handle().requests(update), 2);
    assert_eq!(recorded.operations(), ["authenticate true", "update_interval true"]);
}
