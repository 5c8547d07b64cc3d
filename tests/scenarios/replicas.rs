//! Several replicas and a Kubernetes Lease: only its holder writes.
//!
//! Each replica's policy has another interval, so that the journal of the cloud shows which replica wrote.

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
/// Lease duration. A response may take a sixth of it: two seconds are enough on a busy machine.
const DURATION: Duration = Duration::from_secs(12);
const ACTIVE: &str = "this replica is active and may write";
const STANDBY: &str = "this replica is on standby and only reads";
const TOO_LONG: &str =
    "a write may still run when the lease expires; set request_timeout to at most a third of the lease duration";

/// The site of a replica that sends this interval every second, and its connection to the cluster.
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

/// The intervals that were sent for the keys, in order, each with its time.
fn journal(cloud: &Handle, keys: &[String]) -> Vec<(SystemTime, u64)> {
    let calls = keys.iter().flat_map(|key| cloud.calls(PROJECT, key));
    let mut sent: Vec<_> = calls.filter_map(|call| Some((call.at, call.interval?.as_u64()?))).collect();
    sent.sort_unstable();
    sent
}

/// Which replica wrote, in turns: `[90, 91]` if all writes of one came before those of the other.
fn turns(cloud: &Handle, keys: &[String]) -> Vec<u64> {
    let mut turns: Vec<u64> = journal(cloud, keys).into_iter().map(|(_, days)| days).collect();
    turns.dedup();
    turns
}

fn one_key() -> [String; 1] {
    [KEY.to_owned()]
}

/// Waits until this interval was sent for the key this often.
#[track_caller]
fn await_sent(cloud: &Cloud, days: u64, count: usize) {
    let sent = || cloud.sent(KEY).into_iter().filter(|sent| *sent == days).count();
    eventually(&format!("{days} days sent {count} times"), || sent() >= count);
}

#[test]
fn the_standby_replica_reads_and_takes_over_when_the_active_one_stops() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (first, _door) = replica(&cluster, &cloud, "first", 90);
    let (second, _other_door) = replica(&cluster, &cloud, "second", 91);
    let active = start(&first);
    active.await_message(ACTIVE);
    await_sent(&cloud, 90, 1);
    let standby = start(&second);
    let line = standby.await_message(STANDBY);
    assert_eq!(line["lease"], LEASE);
    assert!(line["holder"].as_str().unwrap().starts_with("first_"), "{line}");
    standby.await_runs(2);
    assert_eq!(active.metric("kms_rotation_acting"), Some(1.0));
    assert_eq!(standby.metric("kms_rotation_acting"), Some(0.0));
    let seen = standby.status();
    assert_eq!((&seen.0["run"]["standby"], &*seen.key(KEY)), (&true.into(), "non_compliant: interval_mismatch"));
    assert_eq!(active.status().0["run"]["standby"], false);
    assert!(standby.get("/").1.contains("Standby: another replica is the lease holder"));
    assert!(!active.get("/").1.contains("Standby"));
    assert_eq!(standby.get("/readyz").0, 200);
    assert_eq!(turns(&cloud, &one_key()), [90]);

    let ended = active.stop();
    assert_eq!((ended.code, ended.messages("lease released").len()), (Some(0), 1));
    standby.await_message(ACTIVE);
    await_sent(&cloud, 91, 2);
    assert_eq!(turns(&cloud, &one_key()), [90, 91]);
    assert!(cluster.spec(LEASE, "holderIdentity").as_str().unwrap().starts_with("second_"));
    assert_eq!(standby.metric("kms_rotation_acting"), Some(1.0));
    eventually("a report of the active replica", || standby.status().0["run"]["standby"] == false);
}

#[test]
fn after_the_active_replica_is_killed_the_other_one_waits_until_the_lease_expires() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (first, _door) = replica(&cluster, &cloud, "first", 90);
    let (second, _other_door) = replica(&cluster, &cloud, "second", 91);
    let active = start(&first);
    active.await_message(ACTIVE);
    let standby = start(&second);
    standby.await_message(STANDBY);
    await_sent(&cloud, 90, 1);
    active.signal(Signal::KILL);
    active.program.finish();
    let renewed = cluster.written();
    standby.await_message(ACTIVE);
    await_sent(&cloud, 91, 1);
    let first_write = journal(&cloud, &one_key()).into_iter().find(|(_, days)| *days == 91).unwrap().0;
    assert!(first_write >= renewed + DURATION, "{:?}", first_write.duration_since(renewed));
    assert_eq!(turns(&cloud, &one_key()), [90, 91]);
}

#[test]
fn without_the_api_server_the_active_replica_stops_writing_before_its_lease_expires() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (first, door) = replica(&cluster, &cloud, "first", 90);
    let (second, other_door) = replica(&cluster, &cloud, "second", 91);
    let active = start(&first);
    active.await_message(ACTIVE);
    let standby = start(&second);
    standby.await_message(STANDBY);
    await_sent(&cloud, 90, 1);
    door.shut();
    other_door.shut();
    let renewed = cluster.written();
    active.await_message("cannot acquire or renew the lease; retrying, nothing is written without it");
    active.await_message(STANDBY);
    let (written, runs) = (cloud.write_requests(), (active.runs(), standby.runs()));
    active.await_runs(runs.0 + 4);
    standby.await_runs(runs.1 + 4);
    assert_eq!(cloud.write_requests(), written);
    let last = journal(&cloud, &one_key()).last().unwrap().0;
    assert!(last < renewed + DURATION, "{:?}", last.duration_since(renewed));
    assert_eq!(turns(&cloud, &one_key()), [90]);
    assert_eq!((active.metric("kms_rotation_acting"), standby.metric("kms_rotation_acting")), (Some(0.0), Some(0.0)));

    // The first one to request the lease acquires it.
    door.open();
    other_door.open();
    eventually("a write", || cloud.write_requests() > written);
    let ended = [active.stop(), standby.stop()];
    assert!(ended.iter().all(|ended| ended.code == Some(0)));
}

#[test]
fn each_policy_with_a_request_timeout_too_long_for_the_lease_is_warned_of() {
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
fn a_replica_that_cannot_start_does_not_acquire_the_lease() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(90)]));
    let (site, door) = replica(&cluster, &cloud, "first", 90);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["run", "--policy", "policy.yaml", "--lease", LEASE, "--listen", &address];
    let ended = Program::start(site.command(&arguments)).finish();
    assert!(ended.code == Some(1) && ended.stderr.contains("cannot listen on"), "{ended:?}");
    assert_eq!(door.asked().len(), 0);
}

/// Stops the daemon, which has a lease of five minutes and an API server that does not respond. How long it waits is
/// tested in `lease.rs`.
#[track_caller]
fn assert_stops(daemon: Daemon<'_>) -> Finished {
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn shutdown_does_not_wait_for_a_lease_request_and_only_briefly_for_the_release() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(90)]));
    let (site, door) = replica(&cluster, &cloud, "first", 90);
    let start = || site.run_with(&["--lease", LEASE, "--lease-duration", "300"]);
    let holds = start();
    holds.await_message(STANDBY);
    door.fall_silent();
    let ended = assert_stops(holds);
    let left = "cannot release the lease; another replica can take it when it expires";
    assert_eq!(ended.messages(left).len(), 1);

    let seen = door.asked().len();
    let asks = start();
    eventually("a question", || door.asked().len() > seen);
    assert_stops(asks);
}

/// Disturbs the connection of the active replica, or that of the other one, during a run over many keys: the other one
/// writes the remaining keys, after the first has stopped writing.
#[track_caller]
fn assert_handed_over_in_mid_run(happens: impl FnOnce(&Door, &Door)) {
    let keys: Vec<String> = (0..400).map(key_id).collect();
    let off_policy = keys.iter().map(|key| Key::new(key.as_str()).rotating(365));
    let (cluster, cloud) = (Cluster::default(), Cloud::start(setup(off_policy).latency(Duration::from_millis(40))));
    let policy = |days| keys.iter().fold(Policy::at(cloud.url()), |policy, key| policy.key(key, days));
    let (first, door) = site(&cluster, &Policy { concurrency: 1, ..policy(90) }, "first");
    let (second, other_door) = site(&cluster, &Policy { concurrency: 8, ..policy(91) }, "second");
    let active = start(&first);
    active.await_message(ACTIVE);
    let other = start(&second);
    other.await_message(STANDBY);
    cloud.await_requests(Operation::UpdateInterval, 5);
    happens(&door, &other_door);
    active.await_message(STANDBY);
    other.await_message(ACTIVE);
    eventually("a write of the other", || turns(&cloud, &keys).contains(&91));
    let ended = active.stop();
    assert_eq!(turns(&cloud, &keys), [90, 91]);
    let of_the_first = journal(&cloud, &keys).iter().filter(|(_, days)| *days == 90).count();
    assert!(of_the_first < keys.len(), "the run was not finished");
    assert_eq!(ended.messages("rotation changed").len(), of_the_first, "requests in flight are logged");
}

#[test]
fn a_replica_that_loses_its_connection_during_a_run_writes_no_further_key_and_the_other_one_does() {
    assert_handed_over_in_mid_run(|door, _| door.shut());
}

#[test]
fn a_wrong_clock_does_not_let_two_replicas_write() {
    assert_handed_over_in_mid_run(|_, other_door| other_door.be_ahead());
}

#[test]
fn the_lease_is_requested_over_tls_with_the_ca_of_the_cluster() {
    let (cluster, cloud) = (Cluster::default(), Cloud::of([rotating(365)]));
    let (mut site, door) = (Site::new(&Policy::of_one_key(cloud.url())), cluster.door());
    door.lead_by_tls(&mut site);
    let daemon = start(&site);
    daemon.await_message(ACTIVE);
    eventually("the policy's interval", || cloud.rotation(KEY) == (true, 90));
    assert_eq!(daemon.stop().code, Some(0));
    let methods: Vec<_> = door.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods[..2], ["GET", "POST"]);
    assert!(methods[2..].iter().all(|method| method == "GET" || method == "PATCH"), "{methods:?}");
    assert_eq!(cluster.spec(LEASE, "holderIdentity"), "");
}

#[test]
fn a_lease_that_cannot_be_used_is_an_error_at_start() {
    let mut site = Site::new(&Policy::of_one_key("http://127.0.0.1:9"));
    for (lease, code, text) in [
        ("kms", 2, "expected NAMESPACE/NAME, each of lower-case letters, digits, - and ."),
        ("kms/../nodes", 2, "expected NAMESPACE/NAME"),
        (LEASE, 1, "cannot find the Kubernetes API (mount the pod's service account token, or set KUBECONFIG"),
    ] {
        let ended = Program::start(site.command(&["run", "--policy", "policy.yaml", "--lease", lease])).finish();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains(text), "{ended:?}");
    }
    // The same with a variable of the environment.
    site.set("KMS_ROTATIOND_LEASE", LEASE);
    let ended = Program::start(site.command(&["run", "--policy", "policy.yaml"])).finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}
