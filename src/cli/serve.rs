//! `run` and `rehearse`: the daemon with everything around it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::arguments::LogOptions;
use super::rehearsal::Rehearsal;
use super::{Exit, complain, load, variable};
use crate::chain::Chain;
use crate::clock::Clock;
use crate::daemon::{Connector, CronAlarm, Daemon, Kept, PolicyFile, Signals, Supervisor};
use crate::kms::Client;
use crate::observability::{Board, Health, Server};
use crate::policy::Policy;
use crate::reconcile::{Reconciler, Target};
use crate::simulator::Preset;

/// A loop that gives no sign of life for so long is dead: several times the pause between two of its beats.
const SILENCE: Duration = Duration::from_secs(2 * 60);

pub(super) async fn run(file: PathBuf, listen: SocketAddr, log: &LogOptions) -> Exit {
    let mut file = PolicyFile::new(file, variable, Clock::system());
    match load(&mut file, log) {
        Ok(policy) => serve(file, policy, listen, None).await,
        Err(exit) => exit,
    }
}

pub(super) async fn rehearse(file: PathBuf, listen: SocketAddr, faults: Option<Preset>, log: &LogOptions) -> Exit {
    let mut file = PolicyFile::new(file, variable, Clock::system());
    let policy = match load(&mut file, log) {
        Ok(policy) => policy,
        Err(exit) => return exit,
    };
    match Rehearsal::start(&policy, faults).await {
        Ok(rehearsal) => serve(file, policy, listen, Some(rehearsal)).await,
        Err(error) => complain(Exit::Failed, &format_args!("cannot start the simulated cloud: {error}")),
    }
}

async fn serve(file: PolicyFile, policy: Policy, listen: SocketAddr, rehearsal: Option<Rehearsal>) -> Exit {
    match prepare(file, listen, rehearsal.as_ref()).await {
        Ok(Prepared { daemon, server, signals }) => {
            info!(address = %server.address(), "serving");
            if let Some(rehearsal) = &rehearsal {
                let shown = super::print(Exit::Well, |out| rehearsal.introduce(server.address(), out));
                if shown != Exit::Well {
                    return shown;
                }
            }
            let server = tokio::spawn(server.serve(signals.stop.clone()));
            let live = async {
                let ended = daemon.run(policy).await;
                // The loop has ended, so nothing more will be shown; the server drains on the same signal.
                signals.stop.cancel();
                let _ = server.await;
                ended
            };
            tokio::select! {
                biased;
                () = signals.end_now.cancelled() => Exit::Failed,
                ended = live => match ended {
                    Ok(()) => Exit::Well,
                    Err(error) => complain(Exit::Failed, &Chain(&error)),
                },
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
    listen: SocketAddr,
    rehearsal: Option<&Rehearsal>,
) -> Result<Prepared<impl FnMut(&Policy) -> Vec<Target<Arc<Client>>> + use<>>, AnyError> {
    let signals = Signals::listen()?;
    let clock = Clock::system();
    let board = Arc::new(Board::new()?);
    let health = Health::new(SILENCE);
    let supervisor = Supervisor::from_environment(health.clone());
    let server = Server::bind(listen, Arc::clone(&board), health).await?;
    let mut connector = Connector {
        clock: clock.clone(),
        stop: signals.stop.clone(),
        observer: {
            let board = Arc::clone(&board);
            Box::new(move |project| board.observer(project))
        },
        // A rehearsal logs in to its own cloud, so that nothing in the environment can be wrong for it.
        environment: if rehearsal.is_some() { |_| None } else { variable },
        redirect: rehearsal.map(Rehearsal::redirect),
        kept: Kept::default(),
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
        reconciler: Reconciler { clock: clock.clone(), stop: signals.stop.clone(), ..Reconciler::default() },
        signals: signals.clone(),
        board,
        supervisor,
        clock,
    };
    Ok(Prepared { daemon, server, signals })
}
