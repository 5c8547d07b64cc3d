//! Runs over hundreds of days against a simulated cloud that rotates by its own clock: what it has rotated on time is
//! never called overdue, whatever changes and fails in between; what it forgets always is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use kms_rotationd::kms::{KmsClient, Shared};
use kms_rotationd::policy::types::{self, Guards, Project};
use kms_rotationd::reconcile::{Intent, Memory, Reconciler, RunRequest, Target};
use kms_rotationd::rotation::decide::Reason;
use kms_rotationd::rotation::key::{DesiredRotation, RotationInterval};
use kms_rotationd::rotation::project::{Cloud, Coverage, Mode, ProofRule};
use kms_rotationd::rotation::report::{Report, Trigger};
use kms_rotationd::rotation::rule::{Matcher, Requirement, Rule};
use kms_rotationd::support::clock::Clock;
use kms_rotationd::support::write_gate::WriteGate;
use kms_rotationd::yaml::Position;
use kms_simulator::{
    Fault, Handle, Key, KeyState, OperationSet, ProjectSetup, RotationSetting, Rule as FaultRule, Setup, Simulator,
};
use tokio_util::sync::CancellationToken;

use super::{PROJECT, settings, token};

const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 400;
const KEYS: usize = 6;
/// The cloud forgets this key.
const FORGOTTEN: usize = 0;

fn key_id(number: usize) -> String {
    format!("0d0466b0-e727-4d9c-b35d-{number:012}")
}

fn interval(number: usize) -> RotationInterval {
    RotationInterval::from_days([30, 30, 45, 60, 90, 120][number]).unwrap()
}

fn project() -> Project {
    let rule = |number| Rule {
        matcher: Matcher::Key(key_id(number).parse().unwrap()),
        requirement: Requirement::Rotation(DesiredRotation::exactly(interval(number))),
        line: 1,
    };
    Project {
        name: "p".into(),
        cloud: Cloud::HuaweiCloud,
        region: "cn-north-4".into(),
        project_id: Some(PROJECT.to_owned()),
        kms_endpoint: None,
        iam_endpoint: None,
        ca_file: None,
        mode: Mode::Enforce,
        credentials: types::Credentials::TokenFile("token".into()),
        credentials_at: Position { line: 1, column: 1 },
        assume_agency: None,
        proxy: None,
        coverage: Coverage::Reported,
        proof: ProofRule::default(),
        keys: (0..KEYS).map(rule).collect(),
    }
}

/// What other users do to a key between two runs.
fn disturb(cloud: &Handle, number: usize, rng: &mut fastrand::Rng) {
    cloud.change_key(PROJECT, &key_id(number), |key| match rng.u8(0..6) {
        0 => key.rotation = RotationSetting { enabled: true, interval_days: rng.u32(30..=365) },
        1 => key.rotation.enabled = false,
        2 => key.state = KeyState::Disabled,
        3 => key.state = KeyState::PendingDeletion,
        _ => key.state = KeyState::Enabled,
    });
}

fn overdue(report: &Report) -> BTreeSet<String> {
    let keys = report.keys().map(|(_, key)| key).filter(|key| key.reasons.contains(Reason::RotationOverdue));
    keys.map(|key| key.subject.to_string()).collect()
}

#[tokio::test]
async fn only_a_key_that_the_cloud_forgets_is_called_overdue_in_four_hundred_days_of_changes_and_faults() {
    for seed in 0..2 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let seconds = Arc::new(AtomicU64::new(1_700_000_000));
        let now = {
            let seconds = Arc::clone(&seconds);
            move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed))
        };
        let key = |number| {
            let key = Key::new(key_id(number)).rotating(interval(number).days().into());
            if number == FORGOTTEN { key.forgotten() } else { key }
        };
        let keys = ProjectSetup::new(PROJECT, "eu-de").keys((0..KEYS).map(key)).token("good");
        let unclear = [Fault::html(502), Fault::html(504).after_applying(), Fault::reset().after_applying()];
        let faults = FaultRule::rate(0.1, unclear).on(OperationSet::KMS);
        let setup = Setup::new().project(keys).fault(faults).seed(seed).clock(now.clone());
        let cloud = Simulator::start(setup).await.unwrap();
        let clock = Clock::from_fn(now);
        let client = KmsClient::new(
            settings(&cloud, token("good")),
            &Shared::for_descriptors(1024),
            Arc::new(()),
            clock.clone(),
            CancellationToken::new(),
            WriteGate::default(),
        );
        let targets = [Target { project: project(), kms: Ok(Arc::new(client.unwrap())), concurrency: 4 }];
        let reconciler = Reconciler {
            clock: clock.clone(),
            stop: CancellationToken::new(),
            gate: WriteGate::default(),
            memory: Memory::default(),
            progress: Arc::default(),
            recorder: None,
        };
        let guards = Guards { max_changes_per_run: 50, flap_repairs: usize::MAX, flap_window: DAY };
        let mut rotations = 0;
        for day in 0..DAYS {
            let (trigger, intent, gap_after) = (Trigger::Schedule, Intent::Apply, Some(clock.now() + 3 * DAY));
            let request = RunRequest { trigger, intent, guards, next_run: None, gap_after };
            let report = reconciler.run(&targets, request).await;
            // Its last disturbance is its creation.
            let is_due = day > u32::from(interval(FORGOTTEN).days()) + 2;
            let expected: BTreeSet<_> = is_due.then(|| key_id(FORGOTTEN)).into_iter().collect();
            let was_read = report.projects[0].keys.iter().all(|key| key.observed == Some(clock.now()));
            if was_read {
                assert_eq!(overdue(&report), expected, "seed {seed}, day {day}");
            } else {
                assert!(overdue(&report).is_subset(&expected), "seed {seed}, day {day}");
            }
            rotations += report.keys().map(|(_, key)| key.new_rotations).sum::<u64>();
            for number in (0..KEYS).filter(|number| *number != FORGOTTEN) {
                if rng.f64() < 0.02 {
                    disturb(cloud.handle(), number, &mut rng);
                }
            }
            seconds.fetch_add(DAY.as_secs(), Ordering::Relaxed);
        }
        assert!(rotations > 10, "seed {seed}: the cloud has rotated {rotations} times");
    }
}
