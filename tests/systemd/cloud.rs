//! A simulated cloud as a process, for `tests/systemd/run`: one key with rotation off, on a port of the loopback.
//!
//! Its argument is the accepted token. It prints a policy that reads the token from `LoadCredential`, and serves until
//! it is killed.

use kms_simulator::{Key, ProjectSetup, Setup, Simulator};

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it prints the policy")]
async fn main() -> std::io::Result<()> {
    let token = std::env::args().nth(1).unwrap_or_default();
    let setup = Setup::new().project(ProjectSetup::new(PROJECT, "eu-de").key(Key::new(KEY)).token(token));
    let simulator = Simulator::start(setup).await?;
    println!(
        "schedule: {{cron: '0 0 1 1 *'}}\nprojects:\n- name: payments\n  cloud: open-telekom-cloud\n  region: eu-de\n  \
         project_id: {PROJECT}\n  kms_endpoint: {url}\n  iam_endpoint: {url}\n  credentials: {{token_file: \
         '${{CREDENTIALS_DIRECTORY}}/token'}}\n  keys: [{{key_id: {KEY}, rotation_interval: 90}}]",
        url = simulator.url()
    );
    std::future::pending().await
}
