//! The simulated cloud of `rehearse`, with keys made from the policy, and what happens in it meanwhile.
//!
//! The daemon is the real one. Only the endpoints and the credentials of its clients are replaced, so that a policy can
//! be rehearsed without network and secrets.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::arguments::SEED;
use super::population::{Population, simulated_id};
use super::recording::RehearsalLog;
use super::simulation_arguments::RehearseOptions;
use super::story::{Story, minute};
use super::{Exit, fail, file_limit};
use crate::connect::{ClientCache, EndpointOverride};
use crate::daemon::{Course, MOST_RUNS, PastClock, thinned};
use crate::evidence::recorder::RecorderSettings;
use crate::kms::auth::{Credentials, Login, Named, Password, SecretLocation};
use crate::kms::endpoint::Endpoints;
use crate::policy::Policy;
use crate::rotation::report::Report;
use crate::support::duration::duration_text;
use crate::support::printable::printable;
use crate::support::small_file;
use crate::views::wording;
use kms_simulator::{Cassette, Journal, Preset, Setup, Simulator};

/// More requests per second than a rehearsal makes.
const UNLIMITED: f64 = 1e6;
/// Characters of a token in fast-forward: it is sent with every request, and real ones are sixteen times as long.
const SHORT_TOKEN: usize = 256;
const USER_NAME: &str = "rehearsal";
const DOMAIN_NAME: &str = "simulated-account";
/// The most keys that the end of a rehearsal names.
const MAX_NAMED: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

/// A running simulated cloud; it ends when it is dropped.
pub(super) struct Rehearsal {
    simulator: Arc<Simulator>,
    population: Arc<Mutex<Population>>,
    password: SecretLocation,
    faults: Option<Preset>,
    /// Where its answers were recorded, if they were.
    recorded: Option<String>,
    /// It ends by itself, so there is nothing to watch.
    once: bool,
    every: Option<Duration>,
    past: Option<Past>,
    log: Option<RehearsalLog>,
    report: Option<PathBuf>,
    /// Cancelled when the fast-forward has reached the present.
    present: CancellationToken,
}

/// The past through which a rehearsal goes in fast-forward.
struct Past {
    start: SystemTime,
    seed: u64,
    /// The shortest time between two runs, if the schedule has more of them.
    shortest_step: Option<Duration>,
    story: Story,
}

/// The clock of a rehearsal with these options. It stands still unless the daemon runs in real time.
pub(super) fn clock(options: &RehearseOptions) -> PastClock {
    if options.fast_forward.is_none() && !options.once {
        return PastClock::running();
    }
    let now = SystemTime::now();
    let into_minute = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() % MINUTE.as_nanos();
    // It is less than a minute.
    let present = now - Duration::from_nanos(u64::try_from(into_minute).unwrap_or_default());
    PastClock::standing(present - options.fast_forward.unwrap_or_default(), present)
}

/// The HTTP clients of a process, which may be a rehearsal.
pub(super) fn client_cache(rehearsal: Option<&Rehearsal>) -> ClientCache {
    match rehearsal {
        Some(rehearsal) if rehearsal.is_repeatable() => ClientCache::one_at_a_time(),
        // The simulated cloud opens the other end of each connection in this process.
        Some(_) => ClientCache::for_descriptors(file_limit() / 2),
        None => ClientCache::for_descriptors(file_limit()),
    }
}

/// The evidence log of a rehearsal with these options; or the exit code, if the reason is printed.
pub(super) fn log(options: &RehearseOptions) -> Result<Option<RehearsalLog>, Exit> {
    if options.evidence.is_none() && options.fast_forward.is_none() {
        return Ok(None);
    }
    let log = RehearsalLog::new(options.evidence.as_deref(), options.seed, options.fast_forward.is_none());
    log.map(Some).map_err(|error| {
        let folder = options.evidence.as_deref().unwrap_or(Path::new("")).display();
        fail(Exit::Invalid, &format_args!("cannot use {folder} for the evidence log: {error}"))
    })
}

/// The recorded answers of these options; or the exit code, if the reason is printed.
pub(super) fn cassette(options: &RehearseOptions) -> Result<Option<Cassette>, Exit> {
    let Some(file) = options.cassette.as_deref() else { return Ok(None) };
    let refused = |why: &dyn std::fmt::Display| {
        fail(Exit::Invalid, &format_args!("cannot use the cassette {}: {why}", file.display()))
    };
    let text = small_file::read(file).map_err(|error| refused(&error))?;
    Cassette::read(&text).map(Some).map_err(|why| refused(&why))
}

impl Rehearsal {
    /// Starts a cloud with keys in various states, made from the policy's entries.
    pub(super) async fn start(
        policy: &Policy,
        options: &RehearseOptions,
        cassette: Option<Cassette>,
        log: Option<RehearsalLog>,
        clock: PastClock,
    ) -> io::Result<Self> {
        let &RehearseOptions { faults, every, fast_forward, seed, once, .. } = options;
        // Jitter of the schedule and of retries.
        fastrand::seed(seed);
        let start = clock.now();
        let past = fast_forward.map(|span| Past {
            start,
            seed,
            shortest_step: thinned(&policy.schedule, every, start..start + span),
            // There it would not be the story that decides which rotations are missed.
            story: match faults {
                Some(Preset::Forgetful) => Story::default(),
                _ => Story::new(policy, start, span, seed),
            },
        });
        let password = uuid::Uuid::new_v4().to_string();
        let setup = Setup::new().seed(seed).journal(Journal::Counts).login(USER_NAME, DOMAIN_NAME, &password);
        let setup = faults.into_iter().fold(setup, Setup::preset);
        let recorded = cassette.as_ref().map(|cassette| {
            let calls = wording::count(cassette.calls(), "call", "calls");
            format!("answers as recorded on {} {}: {calls}", printable(cassette.cloud()), printable(cassette.region()))
        });
        let setup = cassette.into_iter().fold(setup, Setup::cassette);
        let setup = setup.timeline(past.iter().flat_map(|past| past.story.actions()));
        let setup = setup.clock(move || clock.now());
        let setup = if past.is_some() { setup.token_length(SHORT_TOKEN) } else { setup };
        let rehearsal = Self {
            simulator: Arc::new(Simulator::start(setup).await?),
            population: Arc::new(Mutex::new(Population::new(seed, start, past.is_some()))),
            password: SecretLocation::in_memory(password, "the rehearsal"),
            faults,
            recorded,
            once,
            every,
            past,
            log,
            report: options.report.clone(),
            present: CancellationToken::new(),
        };
        rehearsal.add_keys()(policy);
        Ok(rehearsal)
    }

    /// Starts a cloud for the one run of a command.
    pub(super) async fn of_command(policy: &Policy, faults: Option<Preset>) -> io::Result<Self> {
        let options = RehearseOptions {
            faults,
            cassette: None,
            every: None,
            fast_forward: None,
            seed: SEED,
            evidence: None,
            report: None,
            once: true,
        };
        Self::start(policy, &options, None, None, PastClock::running()).await
    }

    /// The time between two runs, if it is not the policy that says when they start.
    pub(super) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// How the daemon's time passes, where a token stops the daemon.
    pub(super) fn course(&self) -> impl FnOnce(&CancellationToken) -> Course + use<> {
        let shortest_step = self.past.as_ref().and_then(|past| past.shortest_step);
        if let Some(step) = shortest_step {
            warn!(
                minutes = step.as_secs().div_ceil(60),
                most_runs = MOST_RUNS,
                "schedule thinned: it has more runs in this time than a fast-forward makes"
            );
        }
        let absences = self.past.iter().flat_map(|past| past.story.absences()).collect();
        let (once, present) = (self.once, self.present.clone());
        move |stop| Course {
            absences,
            shortest_step: shortest_step.unwrap_or_default(),
            reached: present,
            stop: once.then(|| stop.clone()),
        }
    }

    /// Writes the report that was asked for, once the fast-forward has reached the present. `Success` whatever it says.
    pub(super) async fn report(&self) -> Exit {
        self.present.cancelled().await;
        let (Some(file), Some(log)) = (self.report.clone(), &self.log) else { return Exit::Success };
        let folder = log.folder().to_owned();
        let written = tokio::task::spawn_blocking(move || super::report::of_rehearsal(&folder, &file)).await;
        written.unwrap_or(Exit::Failed)
    }

    pub(super) fn has_reached_present(&self) -> bool {
        self.present.is_cancelled()
    }

    /// The settings of its evidence log, if it has one.
    pub(super) fn log_settings(&self) -> Option<RecorderSettings> {
        let url = self.simulator.url();
        self.log.as_ref().map(|log| log.settings(url.trim_start_matches("http://")))
    }

    /// Whether every request must be made in the same order each time.
    fn is_repeatable(&self) -> bool {
        self.past.is_some()
    }

    /// Adds the keys of a policy that the cloud does not have yet, also after a reload.
    pub(super) fn add_keys(&self) -> impl Fn(&Policy) + use<> {
        let (simulator, population) = (Arc::clone(&self.simulator), Arc::clone(&self.population));
        move |policy| {
            let mut population = population.lock().unwrap_or_else(PoisonError::into_inner);
            population.add(policy).into_iter().for_each(|project| simulator.add_project(project));
        }
    }

    /// Sets the simulated cloud's endpoints and credentials in a project's client.
    pub(super) fn endpoint_override(&self) -> EndpointOverride {
        let (url, password, fast_forward) = (self.simulator.url(), self.password.clone(), self.past.is_some());
        Box::new(move |project, settings| {
            settings.endpoints = Endpoints { kms: url.clone(), iam: url.clone() };
            settings.ca_file = None;
            settings.proxy = None;
            if fast_forward {
                // Thousands of runs take some seconds.
                settings.requests_per_second = UNLIMITED;
                settings.retry.skip_waits = true;
            }
            settings.scope.id = Some(simulated_id(project));
            let login = Login::Password(Password {
                user: Named::Name(USER_NAME.to_owned()),
                domain: Some(Named::Name(DOMAIN_NAME.to_owned())),
                password: password.clone(),
                project_name: None,
            });
            settings.credentials = Credentials::from(login);
        })
    }

    /// Prints the keys of the cloud, the story, and the addresses of the daemon, if it has any.
    pub(super) fn introduce(&self, server: Option<(&str, SocketAddr)>, out: &mut dyn Write) -> io::Result<()> {
        let mix = self.population.lock().unwrap_or_else(PoisonError::into_inner).mix();
        let keys = if mix.total() == 1 { "key" } else { "keys" };
        let url = server.map(|_| format!(" at {}", self.simulator.url())).unwrap_or_default();
        writeln!(out, "Simulated cloud{url} with {} {keys} of the policy:", mix.total())?;
        writeln!(out, "  {mix}")?;
        if let Some(preset) = self.faults {
            writeln!(out, "  faults: {}", preset.description())?;
        }
        if let Some(recorded) = &self.recorded {
            writeln!(out, "  {recorded}")?;
        }
        if let Some(past) = &self.past {
            past.introduce(out)?;
        }
        let Some((scheme, listen)) = server else { return Ok(()) };
        if let Some(every) = self.every {
            writeln!(out, "A run starts every {}.", duration_text(every))?;
        }
        writeln!(out, "Watch the daemon:")?;
        for (path, what) in
            [("/", "status page"), ("/metrics", "Prometheus metrics"), ("/api/v1/status", "status as JSON")]
        {
            writeln!(out, "  {:<42} {what}", format!("{scheme}://{listen}{path}"))?;
        }
        writeln!(out, "Stop with Ctrl-C.")
    }

    /// Prints how it has ended, and what to look at. With `Success`, the report that was asked for is written if the
    /// present was reached; otherwise an error said why it is not.
    pub(super) fn conclude(
        &self,
        written: Exit,
        report: Option<&Report>,
        retries: u64,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let Some(report) = report else { return writeln!(out, "The rehearsal ended before its first run.") };
        writeln!(out, "The rehearsal ended: {}.", wording::headline(&report.tally()))?;
        let need_attention = || report.keys().filter(|(project, key)| project.coverage.is_problem(key.status));
        for (project, key) in need_attention().take(MAX_NAMED) {
            let name = key.alias.as_deref().unwrap_or(key.subject.as_str());
            writeln!(
                out,
                "  {}: {}: {}",
                printable(&project.name),
                printable(name),
                printable(&wording::why(key).to_string())
            )?;
        }
        let others = need_attention().count().saturating_sub(MAX_NAMED);
        if others > 0 {
            writeln!(out, "  and {others} more")?;
        }
        if self.faults.is_some() {
            let retries = wording::count(usize::try_from(retries).unwrap_or(usize::MAX), "request", "requests");
            writeln!(out, "{retries} failed and were sent again.")?;
        }
        match &self.report {
            Some(file) if !self.has_reached_present() => {
                let file = file.display();
                writeln!(out, "{file} was not written: the rehearsal was stopped before it reached the present.")?;
            }
            Some(file) if written == Exit::Success => writeln!(out, "Next, open {} in a browser.", file.display())?,
            _ => {}
        }
        if let Some(log) = self.log.as_ref().filter(|log| !log.is_temporary()) {
            let folder = log.folder().display();
            writeln!(out, "Next, verify what was recorded: kms-rotationd evidence verify {folder}")?;
        }
        writeln!(out, "For your own account, kms-rotationd init prints a policy, and plan shows what it would change.")
    }
}

impl Past {
    fn introduce(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Fast-forward from {} to the present, with --seed {}.", minute(self.start), self.seed)?;
        if let Some(step) = self.shortest_step {
            let minutes = step.as_secs().div_ceil(60);
            writeln!(
                out,
                "  The schedule has more than {MOST_RUNS} runs in this time: one is made about every {minutes} minutes."
            )?;
        }
        if self.story.events.is_empty() {
            let text = "There is no story: the time is too short, no key of the policy can have a part, or the cloud is \
                        forgetful.";
            return writeln!(out, "{text}");
        }
        writeln!(out, "What happens in the story:")?;
        self.story.events.iter().try_for_each(|event| writeln!(out, "  {event}"))
    }
}
