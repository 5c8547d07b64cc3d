//! `run` and `rehearse`: the daemon, its server, signals and lease.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tracing::{error, info};

use super::arguments::{LeaseOptions, LogOptions};
use super::leadership::Leadership;
use super::recording::Process;
use super::rehearsal::{self, Rehearsal};
use super::simulation_arguments::RehearseOptions;
use super::{Exit, fail, load, recording, variable};
use crate::connect::Connector;
use crate::daemon::{Alarm, Announcer, CronAlarm, Daemon, FastForward, Histories, PolicyFile, Signals, Supervisor};
use crate::kms::KmsClient;
use crate::logging::Format;
use crate::policy::Policy;
use crate::reconcile::{Memory, Reconciler, Target};
use crate::support::clock::Clock;
use crate::support::error_chain::ErrorChain;
use crate::web::{Health, ListenAddress, Server, StatusStore, WebError, WebFile};

/// `/healthz` fails after this time without a heartbeat of the loop: several heartbeat intervals.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// The options of the server.
pub(super) struct ListenOptions {
    pub(super) listen: ListenAddress,
    /// Sockets that systemd has passed (`sd_listen_fds(3)`).
    pub(super) systemd_sockets: ListenFd,
    pub(super) web_config: Option<PathBuf>,
}

/// Takes the sockets that systemd has passed. To be called before other threads exist: it changes the environment.
pub(super) fn systemd_sockets() -> ListenFd {
    ListenFd::from_env()
}

impl ListenOptions {
    /// Loads the web configuration; or prints its problems and returns the exit code.
    fn web(&mut self, log: &LogOptions) -> Result<Option<WebFile>, Exit> {
        let Some(path) = self.web_config.take() else { return Ok(None) };
        WebFile::open(path, variable).map(Some).map_err(|refused| {
            let text = ErrorChain(&refused).to_string();
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
                _ => fail(Exit::Invalid, &text),
            }
        })
    }

    async fn server(mut self, store: Arc<StatusStore>, health: Health) -> std::io::Result<Server> {
        let invalid = |why: &dyn std::fmt::Display| {
            std::io::Error::other(format!("cannot use the socket of systemd, expected one TCP socket: {why}"))
        };
        match self.systemd_sockets.len() {
            0 => Server::listen(&self.listen, store, health).await,
            1 => match self.systemd_sockets.take_tcp_listener(0) {
                Ok(Some(listener)) => Ok(Server::adopt(listener, store, health)?.called(self.listen.name())),
                Ok(None) => Err(invalid(&"it is already in use")),
                Err(error) => Err(invalid(&error)),
            },
            count => Err(invalid(&format_args!("{count} sockets were passed"))),
        }
    }
}

pub(super) async fn run(file: PathBuf, mut options: ListenOptions, lease: LeaseOptions, log: &LogOptions) -> Exit {
    let mut file = PolicyFile::new(file, variable, Clock::system()).keeping_text();
    let loaded = load(&mut file, log).and_then(|policy| Ok((policy, options.web(log)?)));
    let (policy, web) = match loaded {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match Leadership::from_options(lease).await {
        Ok(leadership) => {
            let timing =
                Timing { clock: Clock::system(), alarm: |alarm, _: &Signals| alarm, announcer: Announcer::default() };
            Box::pin(serve(file, policy, Some((options, web)), None, leadership, timing)).await
        }
        Err(exit) => exit,
    }
}

pub(super) async fn rehearse(
    file: PathBuf,
    mut listen: ListenOptions,
    options: RehearseOptions,
    log: &LogOptions,
) -> Exit {
    let past = rehearsal::clock(&options);
    let clock = past.clock();
    let evidence = match rehearsal::log(&options) {
        Ok(evidence) => evidence,
        Err(exit) => return exit,
    };
    let cassette = match rehearsal::cassette(&options) {
        Ok(cassette) => cassette,
        Err(exit) => return exit,
    };
    let mut file = PolicyFile::new(file, variable, clock.clone()).keeping_text();
    let loaded = load(&mut file, log).and_then(|policy| Ok((policy, listen.web(log)?)));
    let (mut policy, web) = match loaded {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    // Otherwise it would end without a run.
    policy.schedule.run_on_start |= options.once && options.fast_forward.is_none();
    match Rehearsal::start(&policy, &options, cassette, evidence, past.clone()).await {
        Ok(rehearsal) => {
            let (announcer, course) = (Announcer::brief(past.clone()), rehearsal.course());
            let alarm = |alarm, signals: &Signals| FastForward::new(past, course(&signals.stop), alarm);
            let server = (!options.once).then_some((listen, web));
            let timing = Timing { clock, alarm, announcer };
            Box::pin(serve(file, policy, server, Some(rehearsal), Leadership::default(), timing)).await
        }
        Err(error) => fail(Exit::Failed, &format_args!("cannot start the simulated cloud: {error}")),
    }
}

/// How the daemon's time passes.
struct Timing<F> {
    clock: Clock,
    /// Makes the daemon's alarm of one that rings at wall-clock times.
    alarm: F,
    announcer: Announcer,
}

async fn serve<A: Alarm, F: FnOnce(CronAlarm, &Signals) -> A>(
    file: PolicyFile,
    policy: Policy,
    server: Option<(ListenOptions, Option<WebFile>)>,
    rehearsal: Option<Rehearsal>,
    mut leadership: Leadership,
    timing: Timing<F>,
) -> Exit {
    let uses_tls = server.as_ref().is_some_and(|(_, web)| web.as_ref().is_some_and(WebFile::uses_tls));
    let scheme = if uses_tls { "https" } else { "http" };
    match prepare(file, &policy, server, rehearsal.as_ref(), &leadership, timing).await {
        Ok(Err(exit)) => exit,
        Ok(Ok(Prepared { daemon, server, signals })) => {
            let store = Arc::clone(&daemon.store);
            if let Some(server) = &server {
                info!(address = %server.address(), "serving");
            }
            if let Some(rehearsal) = &rehearsal {
                let address = server.as_ref().map(|server| (scheme, server.local_address()));
                let printed = super::print(Exit::Success, |out| rehearsal.introduce(address, out));
                if printed != Exit::Success {
                    return printed;
                }
            }
            leadership.start();
            let server = server.map(|server| tokio::spawn(server.serve(signals.stop.clone())));
            let daemon = async {
                daemon.run(policy).await;
                leadership.release().await;
                // The loop has ended, so the server stops as well.
                signals.stop.cancel();
                if let Some(server) = server {
                    let _ = server.await;
                }
            };
            let with_report = async {
                let Some(rehearsal) = &rehearsal else {
                    daemon.await;
                    return Exit::Success;
                };
                let (mut daemon, mut report) = (std::pin::pin!(daemon), std::pin::pin!(rehearsal.report()));
                let exit = tokio::select! {
                    exit = &mut report => {
                        daemon.await;
                        exit
                    }
                    () = &mut daemon => if rehearsal.has_reached_present() { report.await } else { Exit::Success },
                };
                let (report, retries) = (store.report(), store.retries());
                super::print(exit, |out| rehearsal.conclude(exit, report.as_deref(), retries, out))
            };
            tokio::select! {
                biased;
                () = signals.exit_now.cancelled() => Exit::Failed,
                exit = with_report => exit,
            }
        }
        Err(error) => fail(Exit::Failed, &ErrorChain(&*error)),
    }
}

struct Prepared<A, C> {
    daemon: Daemon<A, C>,
    server: Option<Server>,
    signals: Signals,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that the daemon needs; or the exit code, if the reason is printed.
async fn prepare<A: Alarm, F: FnOnce(CronAlarm, &Signals) -> A>(
    policy_file: PolicyFile,
    policy: &Policy,
    server: Option<(ListenOptions, Option<WebFile>)>,
    rehearsal: Option<&Rehearsal>,
    leadership: &Leadership,
    Timing { clock, alarm, announcer }: Timing<F>,
) -> Result<Result<Prepared<A, impl FnMut(&Policy) -> Vec<Target<KmsClient>> + use<A, F>>, Exit>, AnyError> {
    let signals = Signals::listen().map_err(|error| format!("cannot install signal handlers: {error}"))?;
    let (block, gate) = leadership.gate.clone().blockable();
    let store = if rehearsal.is_some() { StatusStore::simulated() } else { StatusStore::new() };
    let store = Arc::new(store?.behind(gate.clone()));
    let health = Health::new(HEARTBEAT_TIMEOUT);
    let supervisor = Supervisor::from_environment(health.clone());
    let server = match server {
        Some((options, web)) => {
            let server = options.server(Arc::clone(&store), health).await?;
            Some(web.into_iter().fold(server, Server::guarded_by))
        }
        None => None,
    };
    let mut connector = Connector {
        clock: clock.clone(),
        stop: signals.stop.clone(),
        gate: gate.clone(),
        observer: {
            let store = Arc::clone(&store);
            Box::new(move |project| store.observer(project))
        },
        // A rehearsal uses its own cloud and credentials, and nothing of the environment.
        environment: if rehearsal.is_some() { |_| None } else { variable },
        endpoint_override: rehearsal.map(Rehearsal::endpoint_override),
        cache: rehearsal::client_cache(rehearsal),
    };
    let add_keys = rehearsal.map(Rehearsal::add_keys);
    // A rehearsal leaves the log of the policy alone.
    let rehearsed = rehearsal.map(Rehearsal::log_settings);
    let settings = move |policy: &Policy| rehearsed.clone().unwrap_or_else(|| recording::settings(policy));
    let process = match rehearsal {
        Some(_) => Process::Simulated,
        None => Process::Real(leadership.replica.clone()),
    };
    let recorder = Arc::new(recording::recorder(clock.clone(), process, block, {
        let store = Arc::clone(&store);
        move |status| store.evidence(status)
    }));
    let memory = Memory::default();
    match recording::open(&recorder, settings(policy), policy_file.text()) {
        Ok(restored) => restored.into_iter().for_each(|restored| memory.restore(restored.projects)),
        Err(exit) => return Ok(Err(exit)),
    }
    let histories = Arc::new(Histories::default());
    store.show_histories(histories.clone());
    let policy_in_force = {
        let (recorder, histories) = (Arc::clone(&recorder), Arc::clone(&histories));
        move |policy: &Policy, text| {
            let settings = settings(policy);
            histories.log_is_in(settings.as_ref().map(|settings| settings.folder.clone()));
            // An error is logged, and the next run tries again.
            drop(recorder.policy_in_force(settings, text));
        }
    };
    let daemon = Daemon {
        policy_file,
        connect: move |policy: &Policy| {
            if let Some(add_keys) = &add_keys {
                add_keys(policy);
            }
            connector.connect(policy)
        },
        alarm: alarm(CronAlarm::new().await?, &signals),
        every: rehearsal.and_then(Rehearsal::every),
        announcer,
        reconciler: Arc::new(Reconciler {
            clock: clock.clone(),
            stop: signals.stop.clone(),
            gate,
            memory,
            progress: store.progress(),
            recorder: Some(recorder),
        }),
        signals: signals.clone(),
        histories: histories.clone(),
        store,
        supervisor,
        clock,
        lease_duration: leadership.duration,
        policy_in_force: Box::new(policy_in_force),
    };
    Ok(Ok(Prepared { daemon, server, signals }))
}
