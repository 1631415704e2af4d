//! The log of a program: what it does on the standard output, warnings and errors on the standard error.
//!
//! Spec: platform.md, the "Outputs" of each phase.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter};

/// The levels that the reference knows. Nothing but errors is left of "fatal".
pub(super) fn level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "debug" => Some(LevelFilter::DEBUG),
        "info" => Some(LevelFilter::INFO),
        "warn" | "warning" => Some(LevelFilter::WARN),
        "error" | "fatal" => Some(LevelFilter::ERROR),
        _ => None,
    }
}

/// Sends everything from now on to the standard output and error. A log that the caller set up stays.
pub(super) fn begin(level: LevelFilter, no_color: bool) {
    let is_ours = filter::filter_fn(|metadata| metadata.target().starts_with("longshore"));
    let writer = io::stderr.with_max_level(Level::WARN).or_else(io::stdout);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { no_color: no_color || !io::stderr().is_terminal() })
        .with_writer(writer)
        .with_filter(level)
        .with_filter(is_ours);
    // There is one only in tests, which see the log themselves.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}

/// One event, one message: nothing but warnings and errors is marked.
struct Lines {
    no_color: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> tracing_subscriber::fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &tracing_subscriber::fmt::FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        let (mark, style) = match *event.metadata().level() {
            Level::ERROR => ("ERROR: ", "\u{1b}[31;1m"),
            Level::WARN => ("Warning: ", "\u{1b}[33;1m"),
            _ => ("", ""),
        };
        if self.no_color || mark.is_empty() {
            writer.write_str(mark)?;
        } else {
            write!(writer, "{style}{mark}\u{1b}[0m")?;
        }
        writeln!(writer, "{}", message.0.trim_end_matches('\n'))
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_references_names() {
        for (name, expected) in [
            ("debug", Some(LevelFilter::DEBUG)),
            ("info", Some(LevelFilter::INFO)),
            ("INFO", Some(LevelFilter::INFO)),
            ("warn", Some(LevelFilter::WARN)),
            ("warning", Some(LevelFilter::WARN)),
            ("error", Some(LevelFilter::ERROR)),
            ("loud", None),
            ("", None),
        ] {
            assert_eq!(level(name), expected, "{name}");
        }
    }
}
