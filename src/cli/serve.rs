//! `run` and `rehearse`: the daemon with everything around it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tracing::{error, info};

use super::arguments::{LeaseOptions, LogOptions};
use super::leadership::Leadership;
use super::rehearsal::Rehearsal;
use super::{Exit, complain, file_limit, load, variable};
use crate::connect::{Connector, Kept};
use crate::daemon::{CronAlarm, Daemon, PolicyFile, Signals, Supervisor};
use crate::kms::KmsClient;
use crate::logging::Format;
use crate::policy::Policy;
use crate::reconcile::{Memory, Reconciler, RunProgress, Target};
use crate::support::clock::Clock;
use crate::support::error_chain::Chain;
use crate::web::{Health, ListenAddress, Server, StatusStore, WebError, WebFile};
use kms_simulator::Preset;

/// A loop that gives no sign of life for so long is dead: several times the pause between two of its beats.
const SILENCE: Duration = Duration::from_secs(2 * 60);

/// Where and to whom is served.
pub(super) struct Front {
    pub(super) listen: ListenAddress,
    /// What systemd has opened for us (`sd_listen_fds(3)`).
    pub(super) passed: ListenFd,
    pub(super) web_config: Option<PathBuf>,
}

/// What systemd has opened for us. To be called before there are other threads: it takes what is for us out of the
/// environment.
pub(super) fn passed() -> ListenFd {
    ListenFd::from_env()
}

impl Front {
    /// The web configuration; or the exit code after its problems were shown.
    fn web(&mut self, log: &LogOptions) -> Result<Option<WebFile>, Exit> {
        let Some(path) = self.web_config.take() else { return Ok(None) };
        WebFile::open(path, variable).map(Some).map_err(|refused| {
            let text = Chain(&refused).to_string();
            match (&refused, log.log_format) {
                (_, Format::Json) => {
                    for problem in text.lines() {
                        error!(problem, "web configuration refused");
                    }
                    Exit::Invalid
                }
                (WebError::Invalid(_), _) => {
                    let _ = writeln!(std::io::stderr(), "{text}");
                    Exit::Invalid
                }
                _ => complain(Exit::Invalid, &text),
            }
        })
    }

    async fn server(mut self, store: Arc<StatusStore>, health: Health) -> std::io::Result<Server> {
        let unfit = |why: &dyn std::fmt::Display| {
            std::io::Error::other(format!("cannot use what systemd has passed, expected one TCP socket: {why}"))
        };
        match self.passed.len() {
            0 => Server::listen(&self.listen, store, health).await,
            1 => match self.passed.take_tcp_listener(0) {
                Ok(Some(listener)) => Ok(Server::adopt(listener, store, health)?.called(self.listen.name())),
                Ok(None) => Err(unfit(&"it is taken")),
                Err(error) => Err(unfit(&error)),
            },
            count => Err(unfit(&format_args!("there are {count}"))),
        }
    }
}

pub(super) async fn run(file: PathBuf, mut front: Front, lease: LeaseOptions, log: &LogOptions) -> Exit {
    let mut file = PolicyFile::new(file, variable, Clock::system());
    let loaded = load(&mut file, log).and_then(|policy| Ok((policy, front.web(log)?)));
    let (policy, web) = match loaded {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match Leadership::of(lease).await {
        Ok(leadership) => serve(file, policy, front, web, None, leadership).await,
        Err(exit) => exit,
    }
}

pub(super) async fn rehearse(file: PathBuf, mut front: Front, faults: Option<Preset>, log: &LogOptions) -> Exit {
    let mut file = PolicyFile::new(file, variable, Clock::system());
    let loaded = load(&mut file, log).and_then(|policy| Ok((policy, front.web(log)?)));
    let (policy, web) = match loaded {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match Rehearsal::start(&policy, faults).await {
        Ok(rehearsal) => serve(file, policy, front, web, Some(rehearsal), Leadership::default()).await,
        Err(error) => complain(Exit::Failed, &format_args!("cannot start the simulated cloud: {error}")),
    }
}

async fn serve(
    file: PolicyFile,
    policy: Policy,
    front: Front,
    web: Option<WebFile>,
    rehearsal: Option<Rehearsal>,
    mut leadership: Leadership,
) -> Exit {
    let scheme = if web.as_ref().is_some_and(WebFile::speaks_tls) { "https" } else { "http" };
    match prepare(file, front, web, rehearsal.as_ref(), &leadership).await {
        Ok(Prepared { daemon, server, signals }) => {
            info!(address = %server.address(), "serving");
            if let Some(rehearsal) = &rehearsal {
                let shown = super::print(Exit::Well, |out| rehearsal.introduce(scheme, server.local_address(), out));
                if shown != Exit::Well {
                    return shown;
                }
            }
            leadership.begin();
            let server = tokio::spawn(server.serve(signals.stop.clone()));
            let live = async {
                daemon.run(policy).await;
                leadership.release().await;
                // The loop has ended, so nothing more will be shown; the server drains on the same signal.
                signals.stop.cancel();
                let _ = server.await;
            };
            tokio::select! {
                biased;
                () = signals.end_now.cancelled() => Exit::Failed,
                () = live => Exit::Well,
            }
        }
        Err(error) => complain(Exit::Failed, &Chain(&*error)),
    }
}

struct Prepared<C> {
    daemon: Daemon<CronAlarm, C>,
    server: Server,
    signals: Signals,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn prepare(
    policy_file: PolicyFile,
    front: Front,
    web: Option<WebFile>,
    rehearsal: Option<&Rehearsal>,
    leadership: &Leadership,
) -> Result<Prepared<impl FnMut(&Policy) -> Vec<Target<KmsClient>> + use<>>, AnyError> {
    let signals = Signals::listen()?;
    let clock = Clock::system();
    let gate = leadership.gate.clone();
    let store = Arc::new(StatusStore::new()?.behind(gate.clone()));
    let health = Health::new(SILENCE);
    let supervisor = Supervisor::from_environment(health.clone());
    let server = front.server(Arc::clone(&store), health).await?;
    let server = match web {
        Some(web) => server.guarded_by(web),
        None => server,
    };
    let mut connector = Connector {
        clock: clock.clone(),
        stop: signals.stop.clone(),
        gate: gate.clone(),
        observer: {
            let store = Arc::clone(&store);
            Box::new(move |project| store.observer(project))
        },
        // A rehearsal logs in to its own cloud, so that nothing in the environment can be wrong for it.
        environment: if rehearsal.is_some() { |_| None } else { variable },
        redirect: rehearsal.map(Rehearsal::redirect),
        // The simulated cloud has the other end of each connection.
        kept: Kept::for_descriptors(if rehearsal.is_some() { file_limit() / 2 } else { file_limit() }),
    };
    let on_connect = rehearsal.map(Rehearsal::keep_up);
    let daemon = Daemon {
        policy_file,
        connect: move |policy: &Policy| {
            if let Some(keep_up) = &on_connect {
                keep_up(policy);
            }
            connector.connect(policy)
        },
        alarm: CronAlarm::new().await?,
        reconciler: Arc::new(Reconciler {
            clock: clock.clone(),
            stop: signals.stop.clone(),
            gate,
            memory: Memory::default(),
            progress: RunProgress::default(),
        }),
        signals: signals.clone(),
        store,
        supervisor,
        clock,
        lease_duration: leadership.duration,
    };
    Ok(Prepared { daemon, server, signals })
}
