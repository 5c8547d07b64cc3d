//! The evidence log of `run`, `apply` and `plan`: its settings from the policy, and its start.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::warn;

use super::{Exit, fail, variable};
use crate::evidence::hex;
use crate::evidence::log::LogError;
use crate::evidence::record::StartRecord;
use crate::evidence::recorder::{Recorder, RecorderSettings, RecorderStatus, SigningKeySource};
use crate::evidence::restore::{Restored, restore};
use crate::policy::Policy;
use crate::policy::types::{Evidence, OnFailure};
use crate::reconcile::{Intent, Memory, RunRecorder};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::version::{REVISION, VERSION};
use crate::support::write_gate::WriteBlock;
use crate::views::EvidenceStatus;

/// The settings of a real log.
pub(super) fn settings(policy: &Policy) -> Option<RecorderSettings> {
    let Evidence { directory, name, signing_key_file, retention, on_failure } = policy.evidence.clone()?;
    Some(RecorderSettings {
        folder: directory,
        name: name.unwrap_or_else(default_name),
        signing_key: signing_key_file.map(SigningKeySource::File),
        origin_suffix: None,
        retention,
        stops_writes: on_failure == OnFailure::Stop,
        simulated: false,
        sync: true,
    })
}

/// A recorder without a log yet. `replica` is the name of this one among several.
pub(super) fn recorder(
    clock: Clock,
    replica: Option<String>,
    block: WriteBlock,
    show: impl Fn(Option<EvidenceStatus>) + Send + Sync + 'static,
) -> Recorder {
    let start = move || start_record(replica.clone());
    let status = |RecorderStatus { origin, records, checkpoint, write_successful }| EvidenceStatus {
        origin,
        records,
        checkpoint,
        write_successful,
    };
    Recorder::new(clock, start, block, move |shown| show(shown.map(status)))
}

/// Opens the log of the first policy. A log that cannot be opened now is tried again with each run; only a log of the
/// other kind, simulated or not, ends the program.
pub(super) fn open(
    recorder: &Recorder,
    settings: Option<RecorderSettings>,
    text: Option<Arc<str>>,
) -> Result<Option<Restored>, Exit> {
    match recorder.policy_in_force(settings, text) {
        Ok(restored) => Ok(restored),
        Err(error @ LogError::OtherKind { .. }) => Err(fail(Exit::Invalid, &ErrorChain(&error))),
        Err(_) => Ok(None),
    }
}

/// The log of one run of `apply`, which is written, or of `plan`, which is only read.
pub(super) async fn of_command(
    policy: &Policy,
    text: Option<Arc<str>>,
    intent: Intent,
    block: WriteBlock,
    memory: &Memory,
) -> Result<Option<Arc<dyn RunRecorder>>, Exit> {
    let Some(settings) = settings(policy) else { return Ok(None) };
    if intent == Intent::Plan {
        match restore(&settings.folder) {
            Ok(restored) => memory.restore(restored.projects),
            Err(error) => warn!(%error, "the evidence log cannot be read; planning without it"),
        }
        return Ok(None);
    }
    let recorder = recorder(Clock::system(), None, block, |_| ());
    if let Some(restored) = open_for_apply(&recorder, settings, text).await? {
        memory.restore(restored.projects);
    }
    Ok(Some(Arc::new(recorder)))
}

/// Opens the log for one run of `apply`: waits for a process that has it open, and then goes on without it or ends, as
/// the policy says.
async fn open_for_apply(
    recorder: &Recorder,
    settings: RecorderSettings,
    text: Option<Arc<str>>,
) -> Result<Option<Restored>, Exit> {
    /// Between two attempts to get the lock, and their number: ten seconds.
    const WAIT: Duration = Duration::from_millis(250);
    const ATTEMPTS: u32 = 40;
    let stops = settings.stops_writes;
    let mut attempt = 0;
    let error = loop {
        match recorder.policy_in_force(Some(settings.clone()), text.clone()) {
            Ok(restored) => return Ok(restored),
            Err(LogError::Locked(_)) if attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(WAIT).await;
            }
            Err(error) => break error,
        }
    };
    match error {
        LogError::OtherKind { .. } => Err(fail(Exit::Invalid, &ErrorChain(&error))),
        _ if stops => {
            let why = format_args!("{}; nothing is written, as `on_failure: stop` says", ErrorChain(&error));
            Err(fail(Exit::Failed, &why))
        }
        _ => {
            warn!(error = %ErrorChain(&error), "going on without the evidence log");
            Ok(None)
        }
    }
}

/// What a process is, for the log.
fn start_record(replica: Option<String>) -> StartRecord {
    StartRecord {
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        executable_sha256: executable_sha256().ok(),
        host: kernel("hostname"),
        boot_id: kernel("random/boot_id"),
        replica,
        simulated: false,
    }
}

fn executable_sha256() -> io::Result<String> {
    let mut file = File::open("/proc/self/exe")?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// A value of the kernel.
fn kernel(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// The name of the pod or of the host, as far as the origin of a log can have it.
fn default_name() -> String {
    let name = variable("POD_NAME").or_else(|| kernel("hostname")).unwrap_or_default().to_ascii_lowercase();
    let fits = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-') { c } else { '-' };
    let name: String = name.trim().chars().take(64).map(fits).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}
