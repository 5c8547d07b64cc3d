//! Renewal of the keys of a machine, with clocks of the test.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kms_rotationd::kms::auth::{Credentials, Login};
use kms_rotationd::kms::{Kms, KmsClient, RunStart, SendMode};
use kms_rotationd::support::clock::Clock;
use kms_simulator::{Fault, Handle, Operation, Rule, Setup, Simulator};

use super::{Recorded, client, key, setup};

const MINUTE: Duration = Duration::from_secs(60);

/// A cloud with temporary keys of an hour, a client with such keys, and the time.
struct Machine {
    cloud: Simulator,
    client: KmsClient,
    recorded: Arc<Recorded>,
    now: Arc<Mutex<SystemTime>>,
}

impl Machine {
    /// Sets the offset of the cloud's clock.
    async fn start(setup: Setup, of_the_cloud: impl Fn(SystemTime) -> SystemTime + Send + Sync + 'static) -> Self {
        let now = Arc::new(Mutex::new(SystemTime::now()));
        let read = || {
            let now = Arc::clone(&now);
            move || *now.lock().unwrap()
        };
        let (here, there) = (read(), read());
        let setup = setup.clock(move || of_the_cloud(there()));
        let setup = setup.behave(|cloud| cloud.temporary_key_lifetime = Some(60 * MINUTE));
        let cloud = Simulator::start(setup).await.unwrap();
        let credentials = Credentials::from(Login::EcsAgency { metadata_endpoint: Some(cloud.url()) });
        let recorded = Arc::new(Recorded::default());
        let client = client(&cloud, credentials, Clock::from_fn(here), &recorded);
        client.begin_run(RunStart::default());
        Self { cloud, client, recorded, now }
    }

    fn handle(&self) -> &Handle {
        self.cloud.handle()
    }

    /// One successful call a minute.
    async fn call_for(&self, minutes: u64) {
        for minute in 0..minutes {
            let read = self.client.read_status(key(), SendMode::Retried).await;
            assert!(read.is_ok(), "minute {minute}: {:?}", read.err());
            *self.now.lock().unwrap() += MINUTE;
        }
        assert_eq!(self.handle().requests(Operation::ReadStatus), minutes);
        assert_eq!(self.handle().authentication_failures(), 0, "none was used to its bitter end");
    }
}

#[tokio::test]
async fn keys_are_renewed_before_they_expire_with_any_clock_skew() {
    // With a larger skew, signatures would be refused.
    let apart = 10 * MINUTE;
    let clocks: [fn(SystemTime, Duration) -> SystemTime; 3] =
        [|now, _| now, |now, apart| now + apart, |now, apart| now - apart];
    for (at, clock) in clocks.into_iter().enumerate() {
        let machine = Machine::start(setup(), move |now| clock(now, apart)).await;
        machine.call_for(300).await;
        // At the start, and then whenever a tenth of the hour is left.
        assert_eq!(machine.handle().requests(Operation::InstanceKeys), 6, "clock {at}");
    }
}

#[tokio::test]
async fn while_the_service_is_unavailable_the_old_keys_are_used() {
    // From the second time on, for two times.
    let away = Rule::next(2, Fault::html(503)).on(Operation::InstanceKeys).after(1);
    let machine = Machine::start(setup().fault(away), |now| now).await;
    machine.call_for(100).await;
    let logins = |ended: &str| machine.recorded.operations().iter().filter(|line| *line == ended).count();
    assert_eq!((logins("authenticate true"), logins("authenticate false")), (2, 2));
    assert_eq!(machine.handle().requests(Operation::InstanceKeys), 4);
}
