//! A simulated cloud in a process of its own, for the policy of `config/kubernetes`: its project, its user, and keys
//! whose rotation is off.
//!
//! Its arguments are the port of the loopback that it serves on, the user's password, and the keys. It obeys the lines
//! that it reads, repeats each once that is done, and serves until they end. `tests/pod/run` tries pods with it.

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

#[expect(clippy::print_stdout, reason = "so that who commands knows when it is done")]
fn obey(cloud: &Handle) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            // As whoever changes the password in the console does.
            ["password", password] => {
                cloud.set_password(USER, DOMAIN, password);
                cloud.revoke_tokens();
            }
            ["off", key] => {
                cloud.change_key(PROJECT, key, |key| key.rotation.enabled = false);
            }
            ["forbid"] => cloud.behave(|behaviour| behaviour.forbidden = OperationSet::WRITES),
            ["permit"] => cloud.behave(|behaviour| behaviour.forbidden = OperationSet::NONE),
            _ => return Err(Error::other(format!("the cloud does not know how to {line}"))),
        }
        println!("{line}");
    }
    Ok(())
}
