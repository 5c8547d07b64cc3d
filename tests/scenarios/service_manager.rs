//! The notifications to systemd, on a socket of the test.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use kms_simulator::{Fault, Hold, Key, KeyState, Operation, Rule};
use rustix::process::Signal;

use super::cloud::{Cloud, rotating};
use super::program::Daemon;
use super::site::{Policy, Site};
use super::{DEADLINE, KEY, PROJECT, key_id};

/// The other end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// The service manager of the daemon in this folder.
    fn of(site: &mut Site) -> Self {
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::at(site, path.to_str().unwrap(), socket)
    }

    /// The same with an abstract socket.
    fn abstract_of(site: &mut Site) -> Self {
        let name = site.path("notify").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::at(site, &format!("@{name}"), socket)
    }

    fn at(site: &mut Site, address: &str, socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        site.set("NOTIFY_SOCKET", address);
        Self(socket)
    }

    /// The first line of the next message.
    #[track_caller]
    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).unwrap();
        let message = std::str::from_utf8(&message[..length]).unwrap();
        message.lines().next().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn assert_hears<const N: usize>(&self, messages: [&str; N]) {
        assert_eq!([(); N].map(|()| self.hear()), messages);
    }
}

/// The time of the next run, as the status shows it.
fn next(daemon: &Daemon<'_>) -> String {
    let due = daemon.metric("kms_rotation_next_run_timestamp_seconds").unwrap();
    let due = jiff::Timestamp::UNIX_EPOCH + Duration::from_secs_f64(due);
    format!("next run {} UTC", due.strftime("%Y-%m-%d %H:%M"))
}

#[test]
fn systemd_is_notified_of_readiness_status_and_stop() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()).key(&key_id(1), 90));
    let manager = Manager::of(&mut site);
    let daemon = site.run();
    daemon.await_runs(1);
    let next = next(&daemon);
    assert_eq!(daemon.stop().code, Some(0));
    let waiting = format!("STATUS=no run has ended yet; {next}");
    let after = format!("STATUS=1 of 2 keys on policy; 1 unknown; {next}");
    manager.assert_hears(["READY=1", &waiting, &after, "STOPPING=1"]);
}

#[test]
fn an_abstract_socket_is_notified() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()));
    let manager = Manager::abstract_of(&mut site);
    let daemon = site.run();
    daemon.await_runs(1);
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(manager.hear(), "READY=1");
    while manager.hear() != "STOPPING=1" {}
}

#[test]
fn a_manager_that_cannot_be_notified_is_logged_once() {
    let cloud = Cloud::of([rotating(90)]);
    for socket in ["/nobody/listens/here", "@nobody-listens-here", "vsock:2:1234", "relative"] {
        let mut site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
        site.set("NOTIFY_SOCKET", socket);
        let daemon = site.run();
        daemon.await_runs(2);
        let log = daemon.stop();
        let told = log.log().into_iter().filter(|line| line["level"] == "WARN").collect::<Vec<_>>();
        assert_eq!((log.code, told.len(), &told[0]["socket"]), (Some(0), 1, &socket.into()), "{told:?}");
    }
}

#[test]
fn a_reload_while_stopping_does_not_report_ready() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()));
    let manager = Manager::of(&mut site);
    let hold = Hold::new();
    cloud.fault(Rule::always(Fault::held(&hold)).on(Operation::ReadStatus));
    let daemon = site.run();
    cloud.await_requests(Operation::ReadStatus, 1);
    daemon.signal(Signal::TERM);
    while manager.hear() != "STOPPING=1" {}
    daemon.signal(Signal::HUP);
    hold.release();
    let ended = daemon.program.finish();
    assert_eq!((ended.code, ended.messages("policy reloaded").len()), (Some(0), 0));
    manager.assert_hears(["STOPPING=1"]);
}

#[test]
fn an_unchanged_status_is_not_sent_again() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()));
    let manager = Manager::of(&mut site);
    let daemon = site.run();
    daemon.await_runs(1);
    let next = next(&daemon);
    let (waiting, well) =
        (format!("STATUS=no run has ended yet; {next}"), format!("STATUS=1 of 1 key on policy; {next}"));
    manager.assert_hears(["READY=1", &waiting, &well]);
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    cloud.set_key(PROJECT, Key::new(KEY).rotating(90).state(KeyState::Disabled));
    daemon.signal(Signal::HUP);
    manager.assert_hears(["RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]);
    manager.assert_hears([&*format!("STATUS=0 of 1 key on policy; 1 off policy; {next}")]);
}

#[test]
fn a_refused_policy_is_in_the_status_until_it_is_corrected() {
    let cloud = Cloud::of([rotating(90)]);
    let good = Policy::of_one_key(cloud.url());
    let mut site = Site::new(&good);
    let manager = Manager::of(&mut site);
    let daemon = site.run();
    daemon.await_runs(1);
    let well = format!("STATUS=1 of 1 key on policy; {}", next(&daemon));
    manager.assert_hears(["READY=1", &format!("STATUS=no run has ended yet; {}", next(&daemon)), &well]);
    let replace = |text: &str| {
        site.write("new.yaml", text);
        fs::rename(site.path("new.yaml"), site.path("policy.yaml")).unwrap();
    };
    replace("projects: []\n");
    let refused = format!("{well}; policy reload failed, still using the policy loaded before");
    manager.assert_hears(["RELOADING=1", "READY=1", &refused]);
    replace(&good.text());
    manager.assert_hears(["RELOADING=1", "READY=1", &well]);
}

#[test]
fn the_watchdog_is_notified_while_the_loop_waits() {
    let cloud = Cloud::of([rotating(90)]);
    let mut site = Site::new(&Policy::of_one_key(cloud.url()));
    let manager = Manager::of(&mut site);
    site.set("WATCHDOG_USEC", "300000");
    let daemon = site.run();
    daemon.await_runs(1);
    while !manager.hear().starts_with("STATUS=1 of 1") {}
    manager.assert_hears(["WATCHDOG=1"; 3]);
}
