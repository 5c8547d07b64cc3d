//! A simulated cloud as a process, for `tests/pod/run`: project and user of `config/kubernetes`, and keys with rotation
//! off.
//!
//! Its arguments are a port of the loopback, the user's password, and the key ids. It carries out the commands on its
//! standard input, prints each when it is done, and serves until the input ends.

use std::io::{self, BufRead, Error};
use std::net::{Ipv4Addr, SocketAddr};

use kms_simulator::{Handle, Key, OperationSet, ProjectSetup, Setup, Simulator};

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const DOMAIN: &str = "OTC-EU-DE-00000000001000000001";
const USER: &str = "kms-rotation";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or_default();
    let password = arguments.next().unwrap_or_default();
    let project = ProjectSetup::new(PROJECT, "eu-de").domain(DOMAIN).keys(arguments.map(Key::new));
    let setup = Setup::new().address(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).project(project);
    let simulator = Simulator::start(setup.login(USER, DOMAIN, password)).await?;
    let cloud = simulator.handle().clone();
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || end.send(obey(&cloud)));
    ended.await.map_err(Error::other)?
}

#[expect(clippy::print_stdout, reason = "it confirms each command")]
fn obey(cloud: &Handle) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            // Like a change of the password in the console.
            ["password", password] => {
                cloud.set_password(USER, DOMAIN, password);
                cloud.revoke_tokens();
            }
            ["off", key] => {
                cloud.change_key(PROJECT, key, |key| key.rotation.enabled = false);
            }
            ["forbid"] => cloud.behave(|behaviour| behaviour.forbidden = OperationSet::WRITES),
            ["permit"] => cloud.behave(|behaviour| behaviour.forbidden = OperationSet::NONE),
            _ => return Err(Error::other(format!("unknown command: {line}"))),
        }
        println!("{line}");
    }
    Ok(())
}
