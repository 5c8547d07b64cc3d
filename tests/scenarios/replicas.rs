//! Several replicas with a lease in Kubernetes.
//!
//! Each replica has a policy with a different interval, so that the journal of the cloud shows which one wrote.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use kms_simulator::{Handle, Key, Operation};
use rustix::process::Signal;

use super::cloud::{Cloud, rotating, setup};
use super::cluster::{Cluster, Door};
use super::program::{Daemon, Finished, Program};
use super::site::{Policy, Site};
use super::{KEY, PROJECT, eventually, key_id};

const LEASE: &str = "kms/rotation";
/// Lease duration. An answer may take a sixth of it: two seconds are enough on a busy machine.
const DURATION: Duration = Duration::from_secs(12);
const ACTS: &str = "this replica acts";
const STANDS_BY: &str = "this replica stands by";
const TOO_LONG: &str =
    "a write may outlast the right to write: request_timeout should be at most a third of the lease's duration";

/// The site of a replica that sends this interval every second, and its address of the API server.
fn replica(cluster: &Cluster, cloud: &Cloud, name: &str, days: u32) -> (Site, Door) {
    site(cluster, &Policy::at(cloud.url()).always(KEY, days).every_second(), name)
}

fn site(cluster: &Cluster, policy: &Policy, name: &str) -> (Site, Door) {
    let (mut site, door) = (Site::new(policy), cluster.door());
    site.set("POD_NAME", name);
    door.lead(&mut site);
    (site, door)
}

fn start(site: &Site) -> Daemon<'_> {
    site.run_with(&["--lease", LEASE, "--lease-duration", "12"])
}

/// The intervals in the journal, in the order of sending, each with the time.
fn journal(cloud: &Handle, keys: &[String]) -> Vec<(SystemTime, u64)> {
    let calls = keys.iter().flat_map(|key| cloud.calls(PROJECT, key));
    let mut sent: Vec<_> = calls.filter_map(|call| Some((call.at, call.interval?.as_u64()?))).collect();
    sent.sort_unstable();
    sent
}

/// The order of the writers: `[90, 91]` if all writes of one came before those of the other.
fn turns(cloud: &Handle, keys: &[String]) -> Vec<u64> {
    let mut turns: Vec<u64> = journal(cloud, keys).into_iter().map(|(_, days)| days).collect();
    turns.dedup();
    turns
}

fn one_key() -> [String; 1] {
    [KEY.to_owned()]
}

/// Waits until this interval was sent this often for the key.
#[track_caller]
fn await_sent(cloud: &Cloud, days: u64, count: usize) {
    let sent = || cloud.sent(KEY).into_iter().filter(|sent| *sent == days).count();
    eventually(&format!("{days} days sent {count} times"), || sent() >= count);
}

#[test]
fn the_standby_reads_until_the_lease_holder_is_stopped() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (first, _door) = replica(&cluster, &cloud, "first", 90);
    let (second, _other_door) = replica(&cluster, &cloud, "second", 91);
    let acts = start(&first);
    acts.await_message(ACTS);
    await_sent(&cloud, 90, 1);
    let stands_by = start(&second);
    let line = stands_by.await_message(STANDS_BY);
    assert_eq!(line["lease"], LEASE);
    assert!(line["holder"].as_str().unwrap().starts_with("first_"), "{line}");
    stands_by.await_runs(2);
    assert_eq!(acts.metric("kms_rotation_acting"), Some(1.0));
    assert_eq!(stands_by.metric("kms_rotation_acting"), Some(0.0));
    let seen = stands_by.status();
    assert_eq!((&seen.0["run"]["standby"], &*seen.key(KEY)), (&true.into(), "non_compliant: interval_mismatch"));
    assert_eq!(acts.status().0["run"]["standby"], false);
    assert!(stands_by.get("/").1.contains("Standing by: another replica acts"));
    assert!(!acts.get("/").1.contains("Standing by"));
    assert_eq!(stands_by.get("/readyz").0, 200);
    assert_eq!(turns(&cloud, &one_key()), [90]);

    let ended = acts.stop();
    assert_eq!((ended.code, ended.messages("lease given back").len()), (Some(0), 1));
    stands_by.await_message(ACTS);
    await_sent(&cloud, 91, 2);
    assert_eq!(turns(&cloud, &one_key()), [90, 91]);
    assert!(cluster.spec(LEASE, "holderIdentity").as_str().unwrap().starts_with("second_"));
    assert_eq!(stands_by.metric("kms_rotation_acting"), Some(1.0));
    eventually("a report of one that acts", || stands_by.status().0["run"]["standby"] == false);
}

#[test]
fn the_standby_takes_over_when_the_lease_of_a_killed_holder_expires() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (first, _door) = replica(&cluster, &cloud, "first", 90);
    let (second, _other_door) = replica(&cluster, &cloud, "second", 91);
    let acts = start(&first);
    acts.await_message(ACTS);
    let stands_by = start(&second);
    stands_by.await_message(STANDS_BY);
    await_sent(&cloud, 90, 1);
    acts.signal(Signal::KILL);
    acts.program.finish();
    let renewed = cluster.written();
    stands_by.await_message(ACTS);
    await_sent(&cloud, 91, 1);
    let first_write = journal(&cloud, &one_key()).into_iter().find(|(_, days)| *days == 91).unwrap().0;
    assert!(first_write >= renewed + DURATION, "{:?}", first_write.duration_since(renewed));
    assert_eq!(turns(&cloud, &one_key()), [90, 91]);
}

#[test]
fn without_the_api_server_the_holder_stops_writing_before_its_lease_expires() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (first, door) = replica(&cluster, &cloud, "first", 90);
    let (second, other_door) = replica(&cluster, &cloud, "second", 91);
    let acts = start(&first);
    acts.await_message(ACTS);
    let stands_by = start(&second);
    stands_by.await_message(STANDS_BY);
    await_sent(&cloud, 90, 1);
    door.shut();
    other_door.shut();
    let renewed = cluster.written();
    acts.await_message("cannot ask for the lease; it is tried again, and without it nothing is written");
    acts.await_message(STANDS_BY);
    let (written, runs) = (cloud.write_requests(), (acts.runs(), stands_by.runs()));
    acts.await_runs(runs.0 + 4);
    stands_by.await_runs(runs.1 + 4);
    assert_eq!(cloud.write_requests(), written);
    let last = journal(&cloud, &one_key()).last().unwrap().0;
    assert!(last < renewed + DURATION, "{:?}", last.duration_since(renewed));
    assert_eq!(turns(&cloud, &one_key()), [90]);
    assert_eq!((acts.metric("kms_rotation_acting"), stands_by.metric("kms_rotation_acting")), (Some(0.0), Some(0.0)));

    // Then the first request gets it.
    door.open();
    other_door.open();
    eventually("a write", || cloud.write_requests() > written);
    let ended = [acts.stop(), stands_by.stop()];
    assert!(ended.iter().all(|ended| ended.code == Some(0)));
}

#[test]
fn a_request_timeout_too_long_for_the_lease_causes_a_warning() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(90)]));
    let long = Policy::of_one_key(cloud.url());
    let short = Policy { request_timeout: "1s", ..long.clone() };
    let (site, _door) = site(&cluster, &short, "first");
    let daemon = start(&site);
    daemon.await_runs(1);
    site.write("policy.yaml", &long.text());
    let line = daemon.await_message(TOO_LONG);
    assert_eq!((&line["request_timeout"], &line["lease_duration"]), (&120.into(), &12.into()));
    for (policy, runs) in [(&short, 3), (&long, 4)] {
        site.write("policy.yaml", &policy.text());
        daemon.await_runs(runs);
    }
    assert_eq!(daemon.stop().messages(TOO_LONG).len(), 2);
}

#[test]
fn a_replica_that_cannot_start_leaves_the_lease_to_others() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(90)]));
    let (site, door) = replica(&cluster, &cloud, "first", 90);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["run", "--policy", "policy.yaml", "--lease", LEASE, "--listen", &address];
    let ended = Program::start(site.command(&arguments)).finish();
    assert!(ended.code == Some(1) && ended.stderr.contains("cannot listen on"), "{ended:?}");
    assert_eq!(door.asked().len(), 0);
}

/// Stops the daemon while it has a lease of five minutes and its API server does not answer. The unit tests of the lease
/// check how long it waits.
#[track_caller]
fn assert_stops(daemon: Daemon<'_>) -> Finished {
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn a_stop_does_not_wait_for_the_api_server() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(90)]));
    let (site, door) = replica(&cluster, &cloud, "first", 90);
    let start = || site.run_with(&["--lease", LEASE, "--lease-duration", "300"]);
    let holds = start();
    holds.await_message(STANDS_BY);
    door.fall_silent();
    let ended = assert_stops(holds);
    let left = "cannot give the lease back; another replica has it once its duration is over";
    assert_eq!(ended.messages(left).len(), 1);

    let seen = door.asked().len();
    let asks = start();
    eventually("a question", || door.asked().len() > seen);
    assert_stops(asks);
}

/// Disturbs one replica's connection to the API server while the lease holder is in a run of many keys: the standby writes
/// the remaining keys, and only after the first has stopped.
#[track_caller]
fn assert_handed_over_in_mid_run(happens: impl FnOnce(&Door, &Door)) {
    let keys: Vec<String> = (0..400).map(key_id).collect();
    let off_policy = keys.iter().map(|key| Key::new(key.as_str()).rotating(365));
    let (cluster, cloud) = (Cluster::default(), Cloud::start(setup(off_policy).latency(Duration::from_millis(40))));
    let policy = |days| keys.iter().fold(Policy::at(cloud.url()), |policy, key| policy.key(key, days));
    let (first, door) = site(&cluster, &Policy { concurrency: 1, ..policy(90) }, "first");
    let (second, other_door) = site(&cluster, &Policy { concurrency: 8, ..policy(91) }, "second");
    let acts = start(&first);
    acts.await_message(ACTS);
    let other = start(&second);
    other.await_message(STANDS_BY);
    cloud.await_requests(Operation::UpdateInterval, 5);
    happens(&door, &other_door);
    acts.await_message(STANDS_BY);
    other.await_message(ACTS);
    eventually("a write of the other", || turns(&cloud, &keys).contains(&91));
    let ended = acts.stop();
    assert_eq!(turns(&cloud, &keys), [90, 91]);
    let of_the_first = journal(&cloud, &keys).iter().filter(|(_, days)| *days == 90).count();
    assert!(of_the_first < keys.len(), "it was in mid-run");
    assert_eq!(ended.messages("rotation changed").len(), of_the_first, "what was in flight is told");
}

#[test]
fn a_holder_cut_off_in_mid_run_stops_writing_and_the_standby_continues() {
    assert_handed_over_in_mid_run(|door, _| door.shut());
}

#[test]
fn a_wrong_clock_never_makes_two_replicas_write() {
    assert_handed_over_in_mid_run(|_, other_door| other_door.be_ahead());
}

#[test]
fn the_lease_works_over_tls_with_the_clusters_authority() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (mut site, door) = (Site::new(&Policy::of_one_key(cloud.url())), cluster.door());
    door.lead_by_tls(&mut site);
    let daemon = start(&site);
    daemon.await_message(ACTS);
    eventually("the policy's interval", || cloud.rotation(KEY) == (true, 90));
    assert_eq!(daemon.stop().code, Some(0));
    let methods: Vec<_> = door.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods[..2], ["GET", "POST"]);
    assert!(methods[2..].iter().all(|method| method == "GET" || method == "PATCH"), "{methods:?}");
    assert_eq!(cluster.spec(LEASE, "holderIdentity"), "");
}

#[test]
fn an_unreachable_lease_is_reported_at_once() {
    let mut site = Site::new(&Policy::of_one_key("http://127.0.0.1:9"));
    for (lease, code, text) in [
        ("kms", 2, "expected NAMESPACE/NAME, each of lower-case letters, digits, - and ."),
        ("kms/../nodes", 2, "expected NAMESPACE/NAME"),
        (LEASE, 1, "cannot find the Kubernetes API (the pod needs the token of its service account"),
    ] {
        let ended = Program::start(site.command(&["run", "--policy", "policy.yaml", "--lease", lease])).finish();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains(text), "{ended:?}");
    }
    // The variables have the same effect.
    site.set("KMS_ROTATIOND_LEASE", LEASE);
    let ended = Program::start(site.command(&["run", "--policy", "policy.yaml"])).finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}
