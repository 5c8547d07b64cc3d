//! The top level of a policy: schedule, retry, limits, guards, and the list of projects.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::calendar::{Calendar, InvalidCalendar, LargeStep, Zone};
use super::conflict;
use super::defaults::{DEFAULTS, Inherited};
use super::evidence::{EVIDENCE, evidence};
use super::project::PROJECT;
use super::types::{Guards, Limits, Policy, Retry, Schedule};
use crate::rotation::key::SECONDS_PER_DAY;
use crate::rotation::project::{Mode, PerKey};
use crate::support::duration::duration_text;
use crate::yaml::decode::{Decoder, Field, optional};
use crate::yaml::schema::{Count, FieldKind, FieldSchema, Form, Rate, Schema};
use crate::yaml::source::Span;
use crate::yaml::tree::Node;
use crate::yaml::wording::quoted;

pub(super) const POLICY: Schema = Schema::of(
    "the policy",
    &[
        FieldSchema::optional("schedule", FieldKind::Mapping(&SCHEDULE), "when to check every key"),
        FieldSchema::optional("retry", FieldKind::Mapping(&RETRY), "how to retry after a temporary failure"),
        FieldSchema::optional(
            "limits",
            FieldKind::Mapping(&LIMITS),
            "limits of the requests to the cloud, for each project",
        ),
        FieldSchema::optional("guards", FieldKind::Mapping(&GUARDS), "limits the damage of a mistake"),
        FieldSchema::optional(
            "evidence",
            FieldKind::Mapping(&EVIDENCE),
            "records what the daemon observes and does, for auditors",
        ),
        FieldSchema::optional("metrics", FieldKind::Mapping(&METRICS), "bounds the metrics of large accounts"),
        FieldSchema::default(
            "mode",
            FieldKind::Choice(|| Mode::ALL.map(Mode::as_str).into()),
            "\"enforce\"",
            "`monitor` reads and never writes, in all projects",
        ),
        FieldSchema::optional(
            "defaults",
            FieldKind::Mapping(&DEFAULTS),
            "what projects leave out: `cloud`, `region`, `credentials`, `assume_agency`, `proxy`, `ca_file`, `mode`, \
             `coverage`, `proof`, `grace`; a field of a project replaces the one here",
        ),
        FieldSchema::required("projects", FieldKind::List(&PROJECT), "the projects, each with its keys"),
    ],
);
const SCHEDULE: Schema = Schema::of(
    "`schedule`",
    &[
        FieldSchema::default("cron", FieldKind::Form(&CRON), "\"*/30 * * * *\"", "when runs start"),
        FieldSchema::default(
            "timezone",
            FieldKind::Form(&TIMEZONE),
            "\"UTC\"",
            "for `cron` and for the days of `until`",
        ),
        FieldSchema::default(
            "jitter",
            FieldKind::Duration(&JITTER),
            "\"0s\"",
            "random delay of each run, at most this long",
        ),
        FieldSchema::default("run_on_start", FieldKind::Boolean, "true", "run once when the daemon starts"),
    ],
);
const RETRY: Schema = Schema::of(
    "`retry`",
    &[
        FieldSchema::default("initial_interval", FieldKind::Duration(&WAIT), "\"500ms\"", "longest first wait"),
        FieldSchema::default(
            "max_interval",
            FieldKind::Duration(&WAIT),
            "\"30s\"",
            "longest wait, not shorter than `initial_interval`",
        ),
        FieldSchema::default(
            "max_elapsed",
            FieldKind::Duration(&OPERATION),
            "\"2m\"",
            "time limit of one operation with all its retries",
        ),
    ],
);
const LIMITS: Schema = Schema::of(
    "`limits`",
    &[
        FieldSchema::default(
            "requests_per_second",
            FieldKind::Rate(&REQUESTS),
            "10",
            "the cloud allows 20 for one user",
        ),
        FieldSchema::default("concurrency", FieldKind::Count(&CONCURRENCY), "4", "requests in flight"),
        FieldSchema::default(
            "request_timeout",
            FieldKind::Duration(&REQUEST_TIMEOUT),
            "\"8s\"",
            "time limit of one attempt",
        ),
    ],
);
const GUARDS: Schema = Schema::of(
    "`guards`",
    &[
        FieldSchema::default(
            "max_changes_per_run",
            FieldKind::Count(&CHANGES),
            "50",
            "most keys matched by selectors that one run changes",
        ),
        FieldSchema::default(
            "flap_repairs",
            FieldKind::Count(&REPAIRS),
            "3",
            "a key that was repaired this often within `flap_window` is left alone",
        ),
        FieldSchema::default(
            "flap_window",
            FieldKind::Duration(&FLAP_WINDOW),
            "\"24h\"",
            "period in which repairs are counted",
        ),
    ],
);

const METRICS: Schema = Schema::of(
    "`metrics`",
    &[FieldSchema::default(
        "per_key",
        FieldKind::Choice(|| PerKey::ALL.map(PerKey::as_str).into()),
        "\"all\"",
        "keys with metrics of their own: `problems` are keys with a reason and keys that are neither on policy nor \
         exempt; the alerts need none",
    )],
);

const DEFAULT_CRON: &str = "*/30 * * * *";
const DEFAULT_TIMEZONE: &str = "UTC";

const DEFAULT_RETRY: Retry = Retry {
    initial_interval: Duration::from_millis(500),
    max_interval: Duration::from_secs(30),
    max_elapsed: Duration::from_secs(120),
};

const DEFAULT_LIMITS: Limits =
    Limits { requests_per_second: 10.0, concurrency: 4, request_timeout: Duration::from_secs(8) };

const CRON: Form = Form {
    what: "a cron expression in quotes, five fields or six with leading seconds",
    pattern: r"^\s*(@\w+|\S+(\s+\S+){4,5})\s*$",
    numeric: false,
};
const TIMEZONE: Form = Form { what: "the IANA name of a time zone", pattern: r"^[A-Za-z0-9_+/-]+$", numeric: false };
/// With a longer delay, most schedules would have their next run before the delayed one.
const JITTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
/// A longer operation would delay all others of the run.
const OPERATION: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const CONCURRENCY: Count = Count { least: 1, most: 64, of: "" };
/// The upper end is for simulators; above the cloud's own limit there is a warning.
const REQUESTS: Rate = Rate { least: 0.01, most: 100_000.0 };
/// More than the keys of any account.
const CHANGES: Count = Count { least: 1, most: 100_000, of: "keys" };
const REPAIRS: Count = Count { least: 1, most: 100, of: "" };
/// Two runs need at least a minute, and one repair in a month is not flapping.
const FLAP_WINDOW: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);

/// Decodes the whole file. The policy may be used only if the decoder has found no error.
pub(super) fn policy(decoder: &mut Decoder<'_>, root: &Node<'_>) -> Option<Policy> {
    let fields = decoder.fields(Field { name: "the file's content", key: root.span, node: root }, &POLICY)?;
    let (schedule, zone) = schedule(decoder, fields.get("schedule"));
    let retry = match fields.get("retry") {
        Some(field) => retry(decoder, field),
        None => Some(DEFAULT_RETRY),
    };
    let (limits, rate) = match fields.get("limits") {
        Some(field) => limits(decoder, field),
        None => (Some(DEFAULT_LIMITS), None),
    };
    let guards = match fields.get("guards") {
        Some(field) => guards(decoder, field),
        None => Some(Guards::default()),
    };
    let evidence = fields.get("evidence").map(|field| evidence(decoder, field));
    let per_key = match fields.get("metrics") {
        Some(field) => metrics(decoder, field),
        None => Some(PerKey::default()),
    };
    let mode =
        fields.get("mode").and_then(|field| Some((decoder.choice(field, &Mode::ALL, Mode::as_str)?, field.span())));
    let defaults = fields.get("defaults").map(|field| decoder.defaults(field, mode));
    let items = decoder.items(fields.get("projects")?, "project");
    // With an invalid zone the dates are checked in UTC, to find all problems.
    let zone = zone.or_else(|| Zone::find(DEFAULT_TIMEZONE).ok())?;
    let inherited = Inherited { zone: &zone, mode, defaults: defaults.as_ref() };
    let drafts: Vec<_> = items
        .iter()
        .filter_map(|item| decoder.project(Field { name: "a project", key: item.span, node: item }, inherited))
        .collect();
    conflict::check(decoder, &drafts, schedule.as_ref().map(|schedule| &schedule.calendar), rate);
    let projects = drafts.into_iter().filter_map(|draft| draft.project).collect();
    let mut files = std::mem::take(&mut decoder.files);
    // Those in `defaults` were found for each project that uses them.
    let mut known = BTreeSet::new();
    files.retain(|file| known.insert(file.position));
    let (schedule, retry, limits, guards) = (schedule?, retry?, limits?, guards?);
    Some(Policy { schedule, retry, limits, guards, evidence: optional(evidence)?, per_key: per_key?, projects, files })
}

fn metrics(decoder: &mut Decoder<'_>, field: Field<'_>) -> Option<PerKey> {
    match decoder.fields(field, &METRICS)?.get("per_key") {
        Some(field) => decoder.choice(field, &PerKey::ALL, PerKey::as_str),
        None => Some(PerKey::default()),
    }
}

/// The schedule and its zone.
fn schedule(decoder: &mut Decoder<'_>, field: Option<Field<'_>>) -> (Option<Schedule>, Option<Zone>) {
    let fields = field.map(|field| decoder.fields(field, &SCHEDULE));
    let Some(fields) = optional(fields) else { return (None, None) };
    let get = |name| fields.as_ref().and_then(|fields| fields.get(name));
    let zone = match get("timezone") {
        Some(field) => timezone(decoder, field),
        None => Zone::find(DEFAULT_TIMEZONE).ok(),
    };
    let due = match get("cron") {
        Some(field) => cron(decoder, field, zone.as_ref()),
        None => zone.clone().and_then(|zone| Some((DEFAULT_CRON, Calendar::in_zone(DEFAULT_CRON, zone).ok()?))),
    };
    let jitter = match get("jitter") {
        Some(field) => jitter(decoder, field, due.as_ref().map(|(_, calendar)| calendar)),
        None => Some(Duration::ZERO),
    };
    let run_on_start = match get("run_on_start") {
        Some(field) => decoder.boolean(field),
        None => Some(true),
    };
    let schedule = || {
        let ((cron, calendar), timezone) = (due?, zone.as_ref()?.name.clone());
        Some(Schedule { cron: cron.to_owned(), timezone, calendar, jitter: jitter?, run_on_start: run_on_start? })
    };
    (schedule(), zone)
}

fn jitter(decoder: &mut Decoder<'_>, field: Field<'_>, calendar: Option<&Calendar>) -> Option<Duration> {
    let jitter = decoder.duration(field, &JITTER)?;
    if let Some(gap) = calendar.and_then(|calendar| calendar.gap_shorter_than(jitter)) {
        let message = format!(
            "`jitter` ({}) is longer than the time between two runs ({}): some runs will be skipped",
            duration_text(jitter),
            duration_text(gap)
        );
        decoder.warning(field.span(), message);
    }
    Some(jitter)
}

fn timezone(decoder: &mut Decoder<'_>, field: Field<'_>) -> Option<Zone> {
    let name = decoder.text(field, TIMEZONE.what)?;
    match Zone::find(name) {
        Ok(zone) => Some(zone),
        Err(error) => {
            let message = format!("unknown time zone {}, expected an IANA name such as `Europe/Berlin`", quoted(name));
            let finding = decoder.error(field.span(), message);
            if let InvalidCalendar::UnknownZone(Some(near)) = error {
                finding.help(format!("did you mean `{near}`?"));
            }
            None
        }
    }
}

/// With an invalid zone the expression is checked in UTC, to find all problems.
fn cron<'n>(decoder: &mut Decoder<'_>, field: Field<'n>, zone: Option<&Zone>) -> Option<(&'n str, Calendar)> {
    let expression = decoder.text(field, CRON.what)?;
    let zone = zone.cloned().or_else(|| Zone::find(DEFAULT_TIMEZONE).ok())?;
    match Calendar::in_zone(expression, zone) {
        Ok(calendar) => {
            if calendar.joins_days_by_or() {
                decoder
                    .warning(
                        field.span(),
                        "day of month and day of week are both set: runs start on days that match either of them",
                    )
                    .help("write `*` for one, or `+` before the day of week to require both");
            }
            if let Some(LargeStep { step, field: values_of, values }) = calendar.large_step() {
                let message = format!(
                    "the step {step} is larger than its range of {values} {values_of}: only the first value matches"
                );
                decoder.warning(field.span(), message);
            }
            if let Some(gap) = calendar.gap_over_a_year() {
                let years = gap.as_secs() / SECONDS_PER_DAY / 365;
                let years = if years < 2 { "more than a year".to_owned() } else { format!("up to {years} years") };
                let message =
                    format!("runs are {years} apart{}; no key is checked in between", next(decoder, &calendar));
                decoder.warning(field.span(), message);
            }
            Some((expression, calendar))
        }
        Err(error) => {
            let written = quoted(expression);
            let message = match error {
                InvalidCalendar::NeverDue => {
                    format!("the cron expression {written} never fires: no such date exists")
                }
                InvalidCalendar::FieldCount(count) => {
                    let fields = if count == 1 { "field" } else { "fields" };
                    format!(
                        "the cron expression {written} has {count} {fields}, expected five, or six with leading seconds"
                    )
                }
                InvalidCalendar::Expression(reason) => format!("invalid cron expression {written}: {reason}"),
                InvalidCalendar::UnknownZone(_) => format!("invalid cron expression {written}"),
            };
            decoder.error(field.span(), message);
            None
        }
    }
}

/// The day of the next run, in the zone of the calendar.
fn next(decoder: &Decoder<'_>, calendar: &Calendar) -> String {
    calendar.next_day(decoder.now).map_or_else(String::new, |day| format!(" (next run: {day})"))
}

fn retry(decoder: &mut Decoder<'_>, field: Field<'_>) -> Option<Retry> {
    let fields = decoder.fields(field, &RETRY)?;
    let mut duration = |name, range, default| match fields.get(name) {
        Some(field) => decoder.duration(field, range),
        None => Some(default),
    };
    let initial = duration("initial_interval", &WAIT, DEFAULT_RETRY.initial_interval);
    let max = duration("max_interval", &WAIT, DEFAULT_RETRY.max_interval);
    let max_elapsed = duration("max_elapsed", &OPERATION, DEFAULT_RETRY.max_elapsed);
    let (initial_interval, max_interval) = (initial?, max?);
    if max_interval < initial_interval {
        let (initial_field, max_field) = (fields.get("initial_interval"), fields.get("max_interval"));
        let span = max_field.or(initial_field).map_or(fields.span(), |field| field.span());
        let message = format!(
            "`max_interval` is {}, expected at least the {} of `initial_interval`",
            duration_text(max_interval),
            duration_text(initial_interval)
        );
        let finding = decoder.error(span, message);
        match (initial_field, max_field) {
            (Some(initial), Some(_)) => finding.related("set", initial.key),
            _ => finding.help("one of them has its default, set both"),
        };
        return None;
    }
    Some(Retry { initial_interval, max_interval, max_elapsed: max_elapsed? })
}

/// The limits, and the request rate with its span if it is set.
fn limits(decoder: &mut Decoder<'_>, field: Field<'_>) -> (Option<Limits>, Option<(f64, Span)>) {
    let Some(fields) = decoder.fields(field, &LIMITS) else { return (None, None) };
    let rate_field = fields.get("requests_per_second");
    let rate = match rate_field {
        Some(field) => decoder.decimal(field, &REQUESTS),
        None => Some(DEFAULT_LIMITS.requests_per_second),
    };
    let concurrency = match fields.get("concurrency") {
        Some(field) => decoder.integer(field, &CONCURRENCY).and_then(|concurrency| usize::try_from(concurrency).ok()),
        None => Some(DEFAULT_LIMITS.concurrency),
    };
    let request_timeout = match fields.get("request_timeout") {
        Some(field) => decoder.duration(field, &REQUEST_TIMEOUT),
        None => Some(DEFAULT_LIMITS.request_timeout),
    };
    let limits =
        (|| Some(Limits { requests_per_second: rate?, concurrency: concurrency?, request_timeout: request_timeout? }))(
        );
    (limits, rate.zip(rate_field.map(|field| field.span())))
}

fn guards(decoder: &mut Decoder<'_>, field: Field<'_>) -> Option<Guards> {
    let fields = decoder.fields(field, &GUARDS)?;
    let default = Guards::default();
    let mut count = |name, count, default| match fields.get(name) {
        Some(field) => decoder.integer(field, count).and_then(|count| usize::try_from(count).ok()),
        None => Some(default),
    };
    let max_changes_per_run = count("max_changes_per_run", &CHANGES, default.max_changes_per_run);
    let flap_repairs = count("flap_repairs", &REPAIRS, default.flap_repairs);
    let flap_window = match fields.get("flap_window") {
        Some(field) => decoder.duration(field, &FLAP_WINDOW),
        None => Some(default.flap_window),
    };
    Some(Guards { max_changes_per_run: max_changes_per_run?, flap_repairs: flap_repairs?, flap_window: flap_window? })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::policy;

    fn read(head: &str) -> Policy {
        let text = format!(
            "{head}\nprojects: [{{name: p, cloud: huawei-cloud, region: a, project_id: \
             0123456789abcdef0123456789abcdef, credentials: {{token_file: /t}}, keys: [{{key_id: \
             0d0466b0-e727-4d9c-b35d-f84bb474a37f, rotation_interval: 90}}]}}]\n"
        );
        match policy::read(text.as_bytes(), "p", |_| None, SystemTime::UNIX_EPOCH) {
            Ok((policy, _)) => policy,
            Err(problems) => panic!("{problems}"),
        }
    }

    #[test]
    fn absent_fields_have_their_defaults() {
        for policy in [read(""), read("schedule: {}\nretry: {}\nlimits: {}\nguards: {}")] {
            let Schedule { cron, timezone, calendar, jitter, run_on_start } = policy.schedule;
            assert_eq!((&*cron, &*timezone, jitter, run_on_start), ("*/30 * * * *", "UTC", Duration::ZERO, true));
            assert_eq!(calendar, Calendar::new(&cron, &timezone).unwrap());
            assert_eq!(policy.retry, DEFAULT_RETRY);
            assert_eq!(policy.limits, DEFAULT_LIMITS);
            assert_eq!(policy.guards, Guards::default());
        }
    }

    #[test]
    fn set_fields_are_used() {
        let policy = read(
            "schedule: {cron: '0 0 3 * * 1-5', timezone: europe/berlin, jitter: 5m, run_on_start: false}\n\
             retry: {initial_interval: 1s, max_interval: 1s, max_elapsed: 1h}\n\
             limits: {requests_per_second: 0.5, concurrency: 64, request_timeout: 1m30s}\n\
             guards: {max_changes_per_run: 1000, flap_repairs: 1, flap_window: 720h}",
        );
        let second = Duration::from_secs(1);
        assert_eq!(policy.schedule.timezone, "Europe/Berlin", "by its own name");
        assert_eq!(policy.schedule.calendar, Calendar::new("0 0 3 * * 1-5", "Europe/Berlin").unwrap());
        assert_eq!((policy.schedule.jitter, policy.schedule.run_on_start), (second * 300, false));
        assert_eq!(policy.retry, Retry { initial_interval: second, max_interval: second, max_elapsed: second * 3600 });
        let limits = Limits { requests_per_second: 0.5, concurrency: 64, request_timeout: second * 90 };
        assert_eq!(policy.limits, limits);
        let guards = Guards { max_changes_per_run: 1000, flap_repairs: 1, flap_window: second * 720 * 3600 };
        assert_eq!(policy.guards, guards);
    }
}
