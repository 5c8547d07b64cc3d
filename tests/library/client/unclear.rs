//! How a write with an unclear end is counted: once, by its final end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kms_rotationd::kms::observe::{Code, Observer, Operation};
use kms_rotationd::kms::{ErrorKind, Kms, KmsClient, Shared, WriteOperation};
use kms_rotationd::support::clock::Clock;
use kms_rotationd::support::write_gate::WriteGate;
use kms_simulator::{Fault, Operation as Asked, Rule, Simulator};
use tokio_util::sync::CancellationToken;

use super::{key, settings, setup, token};

/// Records the counts of `enable_rotation`, one line each.
#[derive(Default)]
struct Counts(Mutex<Vec<String>>);

impl Observer for Counts {
    fn request(&self, operation: Operation, code: Code, _: Duration) {
        self.count(operation, format!("request {code}"));
    }

    fn retry(&self, operation: Operation, reason: Code) {
        self.count(operation, format!("retry {reason}"));
    }

    fn operation(&self, operation: Operation, succeeded: bool) {
        self.count(operation, format!("operation {succeeded}"));
    }

    fn credentials_expire(&self, _: Option<SystemTime>) {}

    fn clock_skew(&self, _: i64) {}
}

impl Counts {
    fn count(&self, operation: Operation, line: String) {
        if operation == Operation::EnableRotation {
            self.0.lock().unwrap().push(line);
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn a_write_with_an_unclear_end_is_counted_once_by_its_final_end() {
    let cloud = Simulator::start(setup()).await.unwrap();
    let counts = Arc::new(Counts::default());
    let (observer, stop) = (Arc::clone(&counts) as Arc<dyn Observer>, CancellationToken::new());
    let (settings, shared) = (settings(&cloud, token("good")), Shared::for_descriptors(1024));
    let client = KmsClient::new(settings, &shared, observer, Clock::system(), stop, WriteGate::default()).unwrap();
    let lose = || cloud.handle().fault(Rule::next(1, Fault::html(504)).on(Asked::EnableRotation));

    lose();
    let mut write = client.enable_rotation(key());
    assert_eq!(write.next_wait(), None, "there is nothing to wait for");
    assert_eq!(write.send().await.unwrap_err().kind(), ErrorKind::Unclear);
    assert_eq!(counts.take(), ["request 504"]);
    assert!(write.next_wait().is_some());
    drop(write);
    assert_eq!(counts.take(), ["operation false"], "given up");

    lose();
    let mut write = client.enable_rotation(key());
    assert_eq!(write.send().await.unwrap_err().kind(), ErrorKind::Unclear);
    write.found_applied();
    assert_eq!(counts.take(), ["request 504", "operation true"], "found to be applied");

    lose();
    let mut write = client.enable_rotation(key());
    assert_eq!(write.send().await.unwrap_err().kind(), ErrorKind::Unclear);
    assert!(write.send().await.is_ok());
    drop(write);
    assert_eq!(counts.take(), ["request 504", "retry 504", "request 200", "operation true"], "sent again");
}
