//! The daemon's address: IPv6, and passed sockets.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use super::cloud::{Cloud, rotating};
use super::program::{Daemon, Program, binary};
use super::site::{Policy, Site};

/// The status of a request for the metrics with this `Host`.
fn status(address: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

/// The daemon with this socket passed as by systemd; the shell sets the process id.
fn passing(site: &Site, socket: OwnedFd, more: &[&str]) -> Program {
    let mut command = Command::new("/bin/sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    command.current_dir(site.folder()).env_clear().args(["-c", script, "sh"]).arg(binary(&[]).get_program());
    command.args(["run", "--policy", "policy.yaml", "--log-format", "json"]).args(more);
    Program::fed(command, Stdio::from(socket))
}

#[test]
fn a_passed_socket_takes_precedence_over_listen() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    // Port 1 cannot be bound.
    let daemon: Daemon<'_> = Daemon::serving(passing(&site, socket.into(), &["--listen", "127.0.0.1:1"]));
    assert_eq!(daemon.address, address);
    daemon.await_runs(1);
    assert_eq!(daemon.get("/readyz").0, 200);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn on_the_loopback_only_its_own_host_names_are_accepted() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let rehearsal = ["rehearse", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let daemons: [Daemon<'_>; 3] = [
        site.run(),
        Daemon::start(site.command(&rehearsal)),
        Daemon::serving(passing(&site, socket.into(), &["--listen", "kms.internal:1"])),
    ];
    for daemon in &daemons {
        let address = &daemon.address;
        for own in [address, "localhost", "[::1]:80"] {
            assert_eq!(status(address, own), "200", "{own}");
        }
        assert_eq!(status(address, "evil.example"), "421");
    }
    assert_eq!(daemons.map(|daemon| status(&daemon.address, "kms.internal")), ["421", "421", "200"]);
}

#[test]
fn a_port_alone_all_addresses_and_localhost_are_valid_addresses() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    for (listen, loopback) in [("0", true), ("localhost:0", true), (":0", false)] {
        let arguments = ["run", "--policy", "policy.yaml", "--listen", listen, "--log-format", "json"];
        let daemon: Daemon<'_> = Daemon::start(site.command(&arguments));
        let (host, port) = daemon.address.rsplit_once(':').unwrap();
        assert_eq!(host == "127.0.0.1", loopback, "{listen}: {host}");
        let asked = listen.strip_suffix('0').unwrap().to_owned() + port;
        let asked = Program::start(site.command(&["healthcheck", "--listen", &asked])).finish();
        assert_eq!(asked.code, Some(0), "{asked:?}");
        assert_eq!(status(&format!("127.0.0.1:{port}"), "evil.example"), if loopback { "421" } else { "200" });
    }
}

#[test]
fn a_wrong_address_is_a_usage_error_with_the_accepted_forms() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    for (listen, why) in [("nowhere", "there is no port"), ("::1:80", "in brackets"), (":65536", "up to 65535")] {
        let ended = Program::start(site.command(&["run", "--policy", "policy.yaml", "--listen", listen])).finish();
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(why) && ended.stderr.contains(":9847 for all addresses"), "{}", ended.stderr);
    }
}

#[test]
fn a_socket_other_than_tcp_is_refused() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let socket = UnixListener::bind(site.path("socket")).unwrap();
    let ended = passing(&site, socket.into(), &[]).finish();
    assert_eq!(ended.code, Some(1));
    let expected = "kms-rotationd: cannot use the socket of systemd, expected one TCP socket: ";
    assert!(ended.stderr.lines().any(|line| line.starts_with(expected)), "{}", ended.stderr);
}

#[test]
fn a_socket_for_another_process_is_left_alone() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let mut command =
        site.command(&["run", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
    let daemon: Daemon<'_> = Daemon::start(command);
    assert_eq!(daemon.get("/healthz").0, 200);
}

#[test]
fn the_daemon_can_listen_on_ipv6() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy::of_one_key(cloud.url()));
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let arguments = ["run", "--policy", "policy.yaml", "--listen", "[::1]:0", "--log-format", "json"];
    let program = Program::start(site.command(&arguments));
    if !has_ipv6 {
        let ended = program.finish();
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("kms-rotationd: cannot listen on [::1]:0: "), "{}", ended.stderr);
        return;
    }
    let daemon: Daemon<'_> = Daemon::serving(program);
    assert!(daemon.address.starts_with("[::1]:"), "{}", daemon.address);
    assert_eq!(daemon.get("/healthz").0, 200);
    let asked = Program::start(site.command(&["healthcheck", "--listen", &daemon.address])).finish();
    assert_eq!(asked.code, Some(0), "{asked:?}");
}
