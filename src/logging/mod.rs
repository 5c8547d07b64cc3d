//! Logs on standard error: text for people, JSON for machines.
//!
//! A level finer than `info` applies to this crate only: at `trace`, an HTTP library logs headers that contain tokens.
//! The command line calls [`init`] once.

mod queue;

use std::fmt::{self, Write as _};

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{FilterExt, FilterFn, Targets};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

pub(crate) use queue::{FlushOnDrop, LogQueue};

use crate::support::printable::{is_unprintable, write_escaped};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// Every format.
    pub(crate) const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The name on the command line.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// The filter is not valid.
    #[error(
        "invalid log level {0:?}: expected off, error, warn, info, debug or trace, \
         or a list such as info,kms_rotationd::kms=debug"
    )]
    InvalidFilter(String),
    /// The process has a logger.
    #[error("logging is already set up")]
    AlreadySetUp,
}

/// Sends the process's logs to `writer` from now on.
///
/// `filter` is a level, or a list of `target=level` with at most one default level.
///
/// # Errors
/// An invalid filter, or a second call.
pub(crate) fn init<W>(format: Format, filter: &str, colour: bool, writer: W) -> Result<(), LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let subscriber = subscriber(format, filter, colour, writer)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySetUp)
}

/// Begins the targets of this crate's events.
const OWN_TARGET: &str = "kms_rotationd";
/// Logs each of its ticks at `info`.
const SCHEDULER_TARGET: &str = "tokio_cron_scheduler";

fn subscriber<W>(
    format: Format,
    filter: &str,
    colour: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Text => lines.fmt_fields(fields()).with_ansi(colour).with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).map_event_format(EscapedJson).boxed(),
    };
    let requested = parse(filter)?;
    Ok(tracing_subscriber::registry().with(lines.with_filter(requested.and(FilterFn::new(within_bounds)))))
}

/// Fields as `name=value`, the message without its name. The subscriber escapes values with `?` and not those with `%`:
/// a key's name or a server's error text could move the reader's cursor.
fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{field}=")?;
        }
        write!(Escaping(writer), "{value:?}")
    };
    debug_fn(field).delimited(" ")
}

/// Writes text with its unprintable characters escaped.
struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_escaped(self.0, text, is_unprintable, |writer, c| write!(writer, "{}", c.escape_default()))
    }
}

/// Events as JSON with every unprintable character escaped: people read these lines too.
struct EscapedJson<F>(F);

impl<S, N, F> FormatEvent<S, N> for EscapedJson<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        // A line break is the end of the line; those within it are already escaped.
        let is_escaped = |c| c != '\n' && is_unprintable(c);
        write_escaped(&mut writer, &line, is_escaped, |writer, c| {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))
        })
    }
}

/// [`Targets`] accepts any word as a target at level `trace`; here a word without a level must be a level.
fn parse(filter: &str) -> Result<Targets, LoggingError> {
    let invalid = || LoggingError::InvalidFilter(filter.to_owned());
    let is_level = |level: &str| level.parse::<LevelFilter>().is_ok() && !level.is_empty();
    let well_formed = filter.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    });
    if well_formed { filter.parse().map_err(|_| invalid()) } else { Err(invalid()) }
}

/// Whether an event may be logged, whatever the filter is.
fn within_bounds(metadata: &Metadata<'_>) -> bool {
    let is_of =
        |name: &str| metadata.target().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let bound = if is_of(OWN_TARGET) {
        LevelFilter::TRACE
    } else if is_of(SCHEDULER_TARGET) {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    *metadata.level() <= bound
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, colour: bool, events: impl FnOnce()) -> String {
        let log = Log::default();
        let sink = log.clone();
        let subscriber = subscriber(format, filter, colour, move || sink.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn chatter() {
        for_each_target();
        tracing::trace!(target: "kms_rotationd::kms", "own trace");
        tracing::info!(target: "kms_rotationd", "own info");
    }

    fn for_each_target() {
        tracing::trace!(target: "hyper::proto", "secret");
        tracing::debug!(target: "reqwest::connect", "secret");
        tracing::debug!(target: "rustls", "secret");
        tracing::debug!(target: "kms_rotationd_other", "secret");
        tracing::info!(target: "tokio_cron_scheduler::job", "secret");
        tracing::info!(target: "hyper", "other info");
    }

    #[test]
    fn the_finest_level_applies_to_this_crate_only() {
        for filter in ["trace", "trace,hyper=trace,reqwest=trace,tokio_cron_scheduler=trace"] {
            let log = logged(Format::Text, filter, false, chatter);
            assert!(!log.contains("secret"), "{log}");
            assert!(log.contains("own trace") && log.contains("own info") && log.contains("other info"), "{log}");
        }
    }

    #[test]
    fn a_level_hides_finer_events() {
        assert_eq!(logged(Format::Text, "warn", false, chatter), "");
        let log = logged(Format::Text, "warn,kms_rotationd::kms=trace", false, chatter);
        assert!(log.contains("own trace") && !log.contains("info"), "{log}");
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let log = logged(Format::Json, "info", false, || {
            let span = tracing::info_span!("run", trigger = "start");
            let _entered = span.enter();
            tracing::info!(key_id = "k", "rotation enabled");
        });
        let line: serde_json::Value = serde_json::from_str(log.trim_end()).unwrap();
        assert_eq!(line["message"], "rotation enabled");
        assert_eq!((&line["key_id"], &line["level"]), (&"k".into(), &"INFO".into()));
        assert_eq!(line["span"]["trigger"], "start");
    }

    #[test]
    fn colour_is_the_callers_choice() {
        assert!(!logged(Format::Text, "info", false, chatter).contains('\x1b'));
        assert!(logged(Format::Text, "info", true, chatter).contains('\x1b'));
    }

    #[test]
    fn escapes_in_a_field_do_not_reach_the_terminal() {
        let log = logged(Format::Text, "info", false, || {
            let name = "\x1b[2J\nü\u{9b}\u{202e}";
            tracing::info!(plain = name, shown = %name, debugged = ?name, "{name}");
        });
        let escaped = "\\u{1b}[2J\\nü\\u{9b}\\u{202e}";
        let wanted = format!("INFO {escaped} plain=\"{escaped}\" shown={escaped} debugged=\"{escaped}\"\n");
        assert!(log.ends_with(&wanted), "{log:?}");
    }

    #[test]
    fn a_json_line_has_no_invisible_character_and_keeps_the_value() {
        let name = "\x1b\nü\u{9b}\u{202e}\u{e0041}";
        let log = logged(Format::Json, "info", false, || tracing::info!(name, "{name}"));
        let (line, end) = log.split_at(log.len() - 1);
        assert!(end == "\n" && !line.contains(is_unprintable), "{log:?}");
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["message"], &line["name"]), (&name.into(), &name.into()));
    }

    #[test]
    fn an_invalid_level_is_refused() {
        for filter in ["", "bananas", "info,", "hyper=", "=info", "hyper=loud", "info;debug"] {
            let refused = subscriber(Format::Text, filter, false, io::sink).err();
            assert!(matches!(refused, Some(LoggingError::InvalidFilter(_))), "{filter}");
        }
    }
}
