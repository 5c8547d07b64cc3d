//! The evidence log of `run`, `apply` and `plan`: its settings from the policy, and its start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::warn;

use super::{Exit, fail, variable};
use crate::evidence::key::SigningKey;
use crate::evidence::log::LogError;
use crate::evidence::record::StartRecord;
use crate::evidence::recorder::{Recorder, RecorderSettings, RecorderStatus, SigningKeySource};
use crate::evidence::restore::{Restored, restore};
use crate::policy::Policy;
use crate::policy::types::{Evidence, OnFailure};
use crate::reconcile::{Intent, Memory, RunRecorder};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::support::hex::hex;
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
        replaced: None,
    })
}

/// The log of a rehearsal, which is marked as simulated.
pub(super) struct RehearsalLog {
    folder: PathBuf,
    is_temporary: bool,
    seed: u64,
    sync: bool,
}

impl RehearsalLog {
    /// A log in this folder, which must be missing or empty, or in a temporary one. The seed decides its name and its
    /// signing key, which everyone can compute.
    pub(super) fn new(folder: Option<&Path>, seed: u64, sync: bool) -> io::Result<Self> {
        let Some(folder) = folder else {
            let folder = std::env::temp_dir().join(format!("kms-rotationd-{}", uuid::Uuid::new_v4().simple()));
            return Ok(Self { folder, is_temporary: true, seed, sync });
        };
        match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
            Ok(false) => return Err(io::Error::other("it is not empty; a rehearsal needs a folder of its own")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(true) | Err(_) => {}
        }
        Ok(Self { folder: folder.to_owned(), is_temporary: false, seed, sync })
    }

    /// Whether it is removed at the end.
    pub(super) fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its settings, for a simulated cloud at this address, which is another one each time.
    pub(super) fn settings(&self, address: &str) -> RecorderSettings {
        let digest =
            |what: &str| <[u8; 32]>::from(Sha256::digest(format!("kms-rotationd rehearsal {} {what}", self.seed)));
        RecorderSettings {
            folder: self.folder.clone(),
            name: "rehearsal".to_owned(),
            signing_key: Some(SigningKeySource::Pem(SigningKey::pem_from_seed(&digest("signing key")))),
            origin_suffix: Some(hex(&digest("origin")[..8])),
            retention: None,
            stops_writes: false,
            simulated: true,
            sync: self.sync,
            replaced: Some((address.to_owned(), "simulated-cloud".to_owned())),
        }
    }
}

impl Drop for RehearsalLog {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// What the record of a process's start has.
#[derive(Clone)]
pub(super) enum Process {
    /// This one, with the name of the replica among several.
    Real(Option<String>),
    /// A rehearsal.
    Simulated,
}

/// A recorder without a log yet.
pub(super) fn recorder(
    clock: Clock,
    process: Process,
    block: WriteBlock,
    show: impl Fn(Option<EvidenceStatus>) + Send + Sync + 'static,
) -> Recorder {
    let start = move || start_record(process.clone());
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
    let recorder = recorder(Clock::system(), Process::Real(None), block, |_| ());
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
fn start_record(process: Process) -> StartRecord {
    let simulated = matches!(process, Process::Simulated);
    StartRecord {
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        executable_sha256: executable_sha256().ok(),
        // A rehearsal is the same on every machine.
        host: if simulated { Some("rehearsal".to_owned()) } else { kernel("hostname") },
        boot_id: if simulated { None } else { kernel("random/boot_id") },
        replica: match process {
            Process::Real(replica) => replica,
            Process::Simulated => None,
        },
        simulated,
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
