//! Proof of rotation: what readings of a key show of its material, case by case, and properties over random histories.

use std::time::{Duration, SystemTime};

use kms_rotationd::rotation::decide::{Reason, Reasons, Status, Step, Verdict, decide};
use kms_rotationd::rotation::key::{DesiredRotation, KeyState, Reading, Rotation, RotationBlocker, RotationInterval};
use kms_rotationd::rotation::material::{History, Observation};
use kms_rotationd::rotation::observed::ObservedKey;
use kms_rotationd::rotation::project::{Proof, ProofRule};
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// The beginning of this day, counted from the creation of the key.
fn day(day: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + day * 24 * HOUR
}

fn interval(days: u16) -> RotationInterval {
    RotationInterval::from_days(days).unwrap()
}

/// A key under a policy of 90 days with two days of grace, read from time to time.
struct Watched {
    history: History,
    /// What the cloud shows now.
    rotation: Rotation,
    state: Option<KeyState>,
    blocker: Option<RotationBlocker>,
    proof: Proof,
}

impl Watched {
    /// A key that has rotation on at 90 days and never rotated.
    fn new() -> Self {
        let rotation = Rotation { enabled: true, interval_days: Some(90), last_rotated: None, rotations: Some(0) };
        let mut history = History::default();
        history.created = Some(day(0));
        Self { history, rotation, state: Some(KeyState::Enabled), blocker: None, proof: Proof::Reported }
    }

    /// One that was rotated this often, for the last time on this day.
    fn rotated(count: u64, last: u32) -> Self {
        let mut key = Self::new();
        key.rotate(count, last);
        key
    }

    fn rotate(&mut self, count: u64, last: u32) {
        (self.rotation.rotations, self.rotation.last_rotated) = (Some(count), Some(day(last)));
    }

    /// Reads it once. Returns the rotations that the reading shows for the first time.
    fn observe(&mut self, at: SystemTime) -> u64 {
        let gap_after = at + 24 * HOUR;
        self.history.observe(Observation { rotation: self.rotation, state: self.state, at, read_at: at, gap_after })
    }

    fn verdict(&self, now: SystemTime) -> Verdict {
        let mut observed = ObservedKey::new(Reading::Rotation(self.rotation));
        (observed.blocker, observed.material) = (self.blocker, self.history.material());
        let proof = ProofRule { proof: self.proof, ..ProofRule::default() };
        decide(DesiredRotation::exactly(interval(90)), &observed, proof, now)
    }

    fn read(&mut self, at: SystemTime) -> Reasons {
        self.observe(at);
        self.verdict(at).reasons
    }

    /// Reads it each half day, up to the beginning of this day. Returns the last reasons.
    fn read_until(&mut self, from: u32, until: u32) -> Reasons {
        let mut reasons = Reasons::NONE;
        for half in 2 * from..=2 * until {
            reasons = self.read(day(0) + half * 12 * HOUR);
        }
        reasons
    }

    fn material_since(&self) -> Option<SystemTime> {
        self.history.material().since
    }
}

fn only(reason: Reason) -> Reasons {
    reason.into()
}

const TOO_OLD: Reason = Reason::MaterialTooOld;
const OVERDUE: Reason = Reason::RotationOverdue;
const UNPROVEN: Reason = Reason::RotationUnproven;

#[test]
fn a_key_that_never_rotated_has_material_as_old_as_itself() {
    let mut key = Watched::new();
    assert_eq!(key.read(day(92)), Reasons::NONE, "90 days and the grace");
    assert_eq!(key.material_since(), Some(day(0)));
    assert_eq!(key.read(day(92) + HOUR), only(TOO_OLD));
    // The program has not watched it for long enough to say that the cloud has broken its promise.
    assert_eq!(key.read_until(93, 184), only(TOO_OLD));
    assert_eq!(key.read(day(184) + HOUR), Reasons::from(OVERDUE).with(TOO_OLD));
    assert_eq!(key.verdict(day(184) + HOUR).status, Status::NonCompliant);
}

#[test]
fn old_material_makes_a_key_off_policy_only_where_proof_is_required() {
    for (proof, status) in [(Proof::Reported, Status::Compliant), (Proof::Required, Status::NonCompliant)] {
        let mut key = Watched { proof, ..Watched::rotated(3, 100) };
        assert_eq!(key.read(day(200)), only(TOO_OLD));
        assert_eq!(key.verdict(day(200)).status, status);
        assert!(key.verdict(day(200)).steps.is_empty(), "no write makes material younger");
    }
}

#[test]
fn the_age_of_a_key_without_a_creation_date_that_never_rotated_is_unproven() {
    let mut key = Watched::new();
    key.history.created = None;
    assert_eq!(key.read(day(10)), only(UNPROVEN));
    assert_eq!((key.material_since(), key.history.rotation_due()), (None, None));
    // A promise that was broken before our eyes needs no creation date.
    assert_eq!(key.read_until(10, 102), only(UNPROVEN));
    assert_eq!(key.read(day(102) + HOUR), Reasons::from(OVERDUE).with(UNPROVEN));
}

#[test]
fn a_count_of_zero_may_be_left_out() {
    let mut key = Watched::new();
    key.rotation.rotations = None;
    assert_eq!(key.read(day(10)), Reasons::NONE);
    assert_eq!(key.material_since(), Some(day(0)));
}

#[test]
fn our_own_write_starts_the_period_anew_and_makes_no_material_younger() {
    let mut key = Watched::rotated(1, 300);
    key.rotation.interval_days = Some(365);
    key.read_until(301, 600);
    let before = day(600);
    assert_eq!(key.history.rotation_due(), Some(day(665)));
    // 365 days would end on day 665, and 90 days from now on day 690.
    assert_eq!(key.history.age_after_write(interval(90), before), Some(390 * 24 * HOUR));
    assert_eq!(key.history.age_after_write(interval(30), before), None, "that brings the rotation forward");
    key.history.written(Step::UpdateInterval(interval(90)), before);
    key.rotation.interval_days = Some(90);
    assert_eq!(key.read_until(600, 692), only(TOO_OLD));
    assert_eq!(key.history.rotation_due(), Some(day(690)));
    assert_eq!(key.read(day(692) + HOUR), Reasons::from(OVERDUE).with(TOO_OLD));
}

#[test]
fn somebody_elses_change_between_two_readings_starts_the_period_anew() {
    let mut key = Watched::rotated(1, 10);
    key.read_until(11, 80);
    key.rotation.interval_days = Some(60);
    let reasons = key.read_until(81, 95);
    assert!(!reasons.contains(OVERDUE), "85 days are over since the rotation, and 14 since the change");
    assert_eq!(key.history.rotation_due(), Some(day(141)), "60 days after the reading that shows the change");
    assert!(!key.read_until(96, 143).contains(OVERDUE));
    assert!(key.read(day(143) + HOUR).contains(OVERDUE));
}

#[test]
fn an_interval_that_is_sent_in_each_run_holds_the_rotation_off_and_is_no_fault_of_the_cloud() {
    let mut key = Watched::rotated(1, 1);
    for at in 2..400 {
        let reasons = key.read(day(at));
        assert!(!reasons.contains(OVERDUE), "day {at}");
        assert_eq!(reasons.contains(TOO_OLD), at > 93, "day {at}");
        key.history.written(Step::UpdateInterval(interval(90)), day(at));
    }
}

#[test]
fn a_key_that_was_disabled_for_months_has_a_day_to_rotate_after_it_is_enabled() {
    let mut key = Watched::rotated(2, 10);
    key.read_until(11, 30);
    (key.state, key.blocker) = (Some(KeyState::Disabled), Some(RotationBlocker::Disabled));
    assert_eq!(key.read_until(30, 200), Reasons::from(Reason::KeyDisabled).with(TOO_OLD));
    assert_eq!(key.history.rotation_due(), None, "it does not rotate");
    (key.state, key.blocker) = (Some(KeyState::Enabled), None);
    assert_eq!(key.read(day(201)), only(TOO_OLD));
    key.rotate(3, 201);
    assert_eq!(key.observe(day(202)), 1);
    assert_eq!(key.verdict(day(202)).reasons, Reasons::NONE);
}

#[test]
fn a_cancelled_deletion_starts_the_watch_anew() {
    let mut key = Watched::rotated(2, 10);
    key.read_until(11, 50);
    (key.state, key.blocker) = (Some(KeyState::PendingDeletion), Some(RotationBlocker::PendingDeletion));
    assert_eq!(key.read_until(50, 60), only(Reason::PendingDeletion));
    (key.state, key.blocker) = (Some(KeyState::Enabled), None);
    assert_eq!(key.read_until(60, 152), only(TOO_OLD));
    assert!(key.read(day(152) + HOUR).contains(OVERDUE));
}

#[test]
fn rotation_that_was_switched_off_and_on_starts_the_watch_anew() {
    let mut key = Watched::rotated(2, 10);
    key.read_until(11, 50);
    key.rotation.enabled = false;
    assert_eq!(key.read_until(50, 60), only(Reason::RotationDisabled));
    assert_eq!(key.history.rotation_due(), None);
    key.rotation.enabled = true;
    assert!(!key.read_until(60, 152).contains(OVERDUE));
    assert_eq!(key.history.rotation_due(), Some(day(150)));
    assert!(key.read(day(152) + HOUR).contains(OVERDUE));
}

#[test]
fn a_count_that_goes_back_is_a_contradiction_until_it_is_read_twice() {
    let mut key = Watched::rotated(5, 10);
    key.read_until(11, 20);
    key.rotation.rotations = Some(4);
    assert_eq!(key.read(day(21)), only(UNPROVEN));
    assert_eq!(key.history.material().undisturbed_since, None);
    assert_eq!(key.read(day(22)), Reasons::NONE, "the same again is the new truth");
    assert_eq!(key.history.material().undisturbed_since, Some(day(22)));
    // A single odd answer is no rotation when it is over.
    key.rotation.rotations = Some(1);
    assert_eq!(key.read(day(23)), only(UNPROVEN));
    key.rotation.rotations = Some(4);
    assert_eq!(key.observe(day(24)), 0);
    assert_eq!(key.verdict(day(24)).reasons, Reasons::NONE);
    // Two odd answers that differ prove nothing.
    for (at, count) in [(25, 1), (26, 2), (27, 3)] {
        key.rotation.rotations = Some(count);
        assert_eq!(key.read(day(at)), only(UNPROVEN));
    }
}

#[test]
fn a_last_rotation_that_goes_back_is_a_contradiction() {
    let mut key = Watched::rotated(5, 20);
    key.read_until(21, 30);
    key.rotate(5, 15);
    assert_eq!(key.read(day(31)), only(UNPROVEN));
    key.rotation.last_rotated = None;
    assert_eq!(key.read(day(32)), only(UNPROVEN), "it is gone");
    key.rotate(5, 20);
    assert_eq!(key.read(day(33)), Reasons::NONE);
}

#[test]
fn a_last_rotation_before_the_creation_is_not_believed() {
    let mut key = Watched::new();
    (key.rotation.rotations, key.rotation.last_rotated) = (Some(1), Some(day(0) - HOUR));
    for at in 1..5 {
        assert_eq!(key.read(day(at)), only(UNPROVEN));
        assert_eq!(key.material_since(), None);
    }
}

#[test]
fn a_last_rotation_in_the_future_is_not_believed_beyond_a_quarter_of_an_hour() {
    let (mut near, mut far) = (Watched::rotated(1, 10), Watched::rotated(1, 10));
    assert_eq!(near.read(day(10) - HOUR / 4), Reasons::NONE);
    assert_eq!(near.history.overdue_from(48 * HOUR), Some(day(102)), "from the rotation, not from the reading");
    // Our clock is 20 minutes slow, and nothing shows that.
    assert_eq!(far.read(day(10) - HOUR / 3), only(UNPROVEN));
    assert_eq!(far.material_since(), None);
    assert_eq!(far.read(day(10)), Reasons::NONE);
}

#[test]
fn rotations_without_a_time_leave_the_age_unknown() {
    let mut key = Watched::new();
    key.rotation.rotations = Some(3);
    assert_eq!(key.read(day(1)), only(UNPROVEN));
    assert_eq!(key.material_since(), None);
}

#[test]
fn a_count_that_rises_without_a_time_is_a_contradiction() {
    let mut key = Watched::rotated(3, 5);
    key.read(day(6));
    key.rotation.rotations = Some(4);
    assert_eq!((key.observe(day(7)), key.verdict(day(7)).reasons), (0, only(UNPROVEN)));
    assert_eq!((key.observe(day(8)), key.verdict(day(8)).reasons), (0, Reasons::NONE), "believed, but no rotation");
}

#[test]
fn a_count_that_jumps_by_two_is_two_rotations() {
    let mut key = Watched::rotated(3, 5);
    assert_eq!(key.observe(day(6)), 0, "the first reading shows nothing new");
    key.rotate(5, 200);
    assert_eq!((key.observe(day(201)), key.verdict(day(201)).reasons), (2, Reasons::NONE));
    assert_eq!(key.material_since(), Some(day(200)));
}

#[test]
fn a_time_that_moves_without_the_count_is_a_rotation() {
    let mut key = Watched::rotated(3, 5);
    key.read(day(6));
    key.rotate(3, 95);
    assert_eq!((key.observe(day(96)), key.verdict(day(96)).reasons), (1, Reasons::NONE));
    assert_eq!(key.history.rotation_due(), Some(day(185)));
}

#[test]
fn a_record_that_was_seen_before_is_no_new_rotation() {
    // A replica that lags shows the record before the last rotation, twice.
    let mut key = Watched::rotated(4, 5);
    key.read(day(6));
    key.rotate(5, 95);
    assert_eq!(key.observe(day(96)), 1);
    for at in [97, 98] {
        key.rotate(4, 5);
        assert_eq!(key.observe(day(at)), 0);
    }
    key.rotate(5, 95);
    assert_eq!(key.observe(day(99)), 0);
    // The time of a rotation that was counted before.
    let mut key = Watched::new();
    key.rotation.rotations = Some(3);
    key.read(day(1));
    key.rotation.last_rotated = Some(day(1));
    assert_eq!(key.observe(day(2)), 0);
}

#[test]
fn a_key_that_shows_no_record_while_it_is_off_has_not_rotated_when_it_is_on_again() {
    let mut key = Watched::rotated(5, 10);
    key.read(day(11));
    let on = std::mem::replace(
        &mut key.rotation,
        Rotation { enabled: false, interval_days: None, last_rotated: None, rotations: None },
    );
    assert_eq!((key.observe(day(12)), key.material_since()), (0, Some(day(10))));
    assert_eq!(key.verdict(day(12)).reasons, only(Reason::RotationDisabled));
    key.rotation = on;
    assert_eq!((key.observe(day(13)), key.material_since()), (0, Some(day(10))));
    // The same from the first reading on.
    let mut key = Watched::new();
    (key.rotation.enabled, key.rotation.rotations) = (false, None);
    key.read(day(20));
    key.rotation.enabled = true;
    key.rotate(5, 10);
    assert_eq!((key.observe(day(21)), key.verdict(day(21)).reasons), (0, Reasons::NONE));
}

#[test]
fn a_week_without_readings_proves_nothing() {
    let mut key = Watched::rotated(1, 10);
    key.read_until(11, 60);
    assert!(!key.read_until(67, 159).contains(OVERDUE));
    assert!(key.read(day(159) + HOUR).contains(OVERDUE), "92 days after the gap");
}

#[test]
fn a_restart_starts_the_watch_anew_unless_what_was_seen_is_restored() {
    let mut key = Watched::rotated(1, 10);
    key.read_until(11, 60);
    let mut restored = Watched { history: key.history, ..Watched::rotated(1, 10) };
    let mut forgetful = Watched::rotated(1, 10);
    restored.read_until(61, 103);
    forgetful.read_until(61, 103);
    let now = day(103) + HOUR;
    assert!(restored.read(now).contains(OVERDUE));
    assert_eq!(forgetful.read(now), only(TOO_OLD));
}

#[test]
fn a_clock_that_is_set_back_starts_the_watch_anew() {
    let mut key = Watched::rotated(1, 10);
    key.read_until(11, 60);
    assert_eq!(key.read(day(50)), Reasons::NONE);
    assert_eq!(key.history.material().undisturbed_since, Some(day(50)));
}

#[test]
fn without_the_keys_state_no_rotation_is_called_overdue() {
    let mut key = Watched { state: None, ..Watched::rotated(1, 10) };
    assert_eq!(key.read_until(11, 400), only(TOO_OLD), "it may have been disabled all the time");
    key.history.written(Step::UpdateInterval(interval(90)), day(400));
    assert_eq!(key.read_until(400, 800), only(TOO_OLD));
}

#[test]
fn an_exempt_or_unknown_key_gets_no_reason_from_its_material() {
    let mut exempt = Watched { blocker: Some(RotationBlocker::ImportedMaterial), ..Watched::rotated(1, 10) };
    exempt.rotation.enabled = false;
    assert_eq!(exempt.read(day(500)), only(Reason::ImportedMaterial));
    let mut unknown = Watched::rotated(1, 10);
    unknown.rotation.interval_days = None;
    assert_eq!(unknown.read(day(500)), only(Reason::ReadFailed));
}

/// One key of a cloud that rotates on time, and what happens to it.
#[derive(Clone, Debug)]
struct Cloud {
    now: SystemTime,
    rotation: Rotation,
    is_enabled: bool,
    /// The job runs this long after a rotation is due.
    late: Duration,
    period_began: SystemTime,
    /// The key was enabled again.
    enabled_at: SystemTime,
    /// It forgets the key from now on.
    forgets: bool,
}

/// What happens between two readings.
#[derive(Clone, Copy, Debug)]
enum Event {
    OurWrite(u16),
    TheirWrite(u16),
    /// The same interval again: no reading shows it.
    SameAgain,
    OffAndOn,
    SwitchOff,
    Disable,
    Enable,
    /// Nobody reads the key for this number of days.
    Away(u32),
}

impl Cloud {
    fn write(&mut self, days: u16) {
        (self.rotation.enabled, self.rotation.interval_days) = (true, Some(days.into()));
        self.period_began = self.now;
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(days) = self.rotation.interval_days.filter(|_| self.rotation.enabled && self.is_enabled) {
            let began = self.rotation.last_rotated.map_or(self.period_began, |last| last.max(self.period_began));
            let at = (began + days * 24 * HOUR).max(self.enabled_at) + self.late;
            if at > end || self.forgets {
                break;
            }
            self.rotation.last_rotated = Some(at);
            self.rotation.rotations = self.rotation.rotations.map(|count| count + 1);
        }
        self.now = end;
    }
}

fn event() -> impl Strategy<Value = Event> {
    let days = prop_oneof![Just(30), Just(90), Just(365), 30..=365u16];
    prop_oneof![
        3 => days.clone().prop_map(Event::OurWrite),
        3 => days.prop_map(Event::TheirWrite),
        1 => Just(Event::SameAgain),
        1 => Just(Event::OffAndOn),
        1 => Just(Event::SwitchOff),
        1 => Just(Event::Disable),
        3 => Just(Event::Enable),
        1 => (1..40u32).prop_map(Event::Away),
    ]
}

/// A history: the hours between two readings, how late the cloud rotates, and the events, each with the number of
/// readings before it.
fn history() -> impl Strategy<Value = (u64, Duration, Vec<(usize, Event)>)> {
    let hours = 6..=23u64;
    let late = (0..47u64).prop_map(|hours| Duration::from_secs(hours * 3_600));
    (hours, late, proptest::collection::vec((0..600usize, event()), 0..12))
}

/// What was done to the key besides reading it.
#[derive(Clone, Copy)]
struct Disturbances {
    /// When the first reading followed the last event.
    last_read: SystemTime,
    /// When a write was made that no reading can show.
    hidden: Option<SystemTime>,
}

/// Plays a history; `check` sees each reading's reasons.
fn play(
    (hours, late, events): (u64, Duration, Vec<(usize, Event)>),
    forgets: bool,
    check: impl Fn(&Cloud, &Watched, Reasons, Disturbances),
) {
    let mut key = Watched::new();
    let mut cloud = Cloud {
        now: day(0),
        rotation: key.rotation,
        is_enabled: true,
        late,
        period_began: day(0),
        enabled_at: day(0),
        forgets,
    };
    let mut disturbances = Disturbances { last_read: day(0), hidden: None };
    let step = Duration::from_secs(hours * 3_600);
    // Their last write since the last reading.
    let mut theirs = None;
    for (readings, event) in events.into_iter().chain([(1_200, Event::Enable)]) {
        for at in 0..readings {
            cloud.pass(step);
            let setting = |rotation: Rotation| (rotation.enabled, rotation.interval_days);
            if setting(key.rotation) == setting(cloud.rotation) {
                disturbances.hidden = theirs.or(disturbances.hidden);
            }
            theirs = None;
            key.rotation = cloud.rotation;
            key.state = Some(if cloud.is_enabled { KeyState::Enabled } else { KeyState::Disabled });
            key.blocker = (!cloud.is_enabled).then_some(RotationBlocker::Disabled);
            let reasons = key.read(cloud.now);
            if at == 0 {
                disturbances.last_read = cloud.now;
            }
            check(&cloud, &key, reasons, disturbances);
        }
        let on = cloud.rotation.interval_days.filter(|_| cloud.rotation.enabled && cloud.is_enabled);
        match (event, on) {
            (Event::OurWrite(days), _) if cloud.is_enabled => {
                cloud.write(days);
                key.history.written(Step::UpdateInterval(interval(days)), cloud.now);
            }
            (Event::TheirWrite(days), _) if cloud.is_enabled => {
                theirs = Some(cloud.now);
                cloud.write(days);
            }
            (Event::SameAgain | Event::OffAndOn, Some(on)) => {
                cloud.write(u16::try_from(on).unwrap());
                theirs = Some(cloud.now);
            }
            (Event::SwitchOff, Some(_)) => cloud.rotation.enabled = false,
            (Event::Disable, _) => cloud.is_enabled = false,
            (Event::Enable, _) if !cloud.is_enabled => (cloud.is_enabled, cloud.enabled_at) = (true, cloud.now),
            (Event::Away(days), _) => cloud.pass(days * 24 * HOUR),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(super::properties::config())]

    #[test]
    fn a_cloud_that_rotates_on_time_is_never_called_overdue(history in history()) {
        play(history, false, |cloud, key, reasons, Disturbances { hidden, .. }| {
            let since = key.history.material().undisturbed_since;
            let is_hidden = hidden.is_some_and(|at| since.is_some_and(|since| since < at));
            assert!(is_hidden || !reasons.contains(OVERDUE), "{cloud:?} {:?}", key.history);
            assert!(!reasons.contains(UNPROVEN), "{cloud:?} {:?}", key.history);
        });
    }

    #[test]
    fn a_cloud_that_forgets_is_called_overdue_an_interval_and_the_grace_after_the_last_disturbance(
        history in history()
    ) {
        play(history, true, |cloud, key, reasons, Disturbances { last_read, .. }| {
            let days = cloud.rotation.interval_days.unwrap();
            let is_due = cloud.is_enabled && cloud.rotation.enabled && cloud.now > last_read + (days + 2) * 24 * HOUR;
            assert!(!is_due || reasons.contains(OVERDUE), "{cloud:?} {:?}", key.history);
        });
    }
}
