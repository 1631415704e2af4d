//! What people read: events of [`tracing`] on the terminal, and errors with their causes.
//!
//! Information goes to standard output as it is, warnings and errors to standard error with a word in front. Colour follows
//! `NO_COLOR`, `CLICOLOR_FORCE`, `TERM=dumb`, and whether the stream is a terminal (anstream).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// How much is printed, and how.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct OutputArguments {
    /// Show only warnings, errors and the result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Show more details
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Begin every line with the time
    #[arg(long, global = true)]
    pub(crate) timestamps: bool,
    /// Print without colour
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Print in colour even where the output is not a terminal
    #[arg(long, global = true, conflicts_with = "no_color")]
    pub(crate) force_color: bool,
}

const PHASE: Style = AnsiColor::Cyan.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const TIP: Style = AnsiColor::Green.on_default().bold();
const SYMBOL: Style = AnsiColor::BrightBlue.on_default();
const FAINT: Style = Style::new().dimmed();

/// Sets up colour and the printing of events; to be called once.
pub(crate) fn start(arguments: OutputArguments) {
    if arguments.no_color {
        anstream::ColorChoice::Never.write_global();
    } else if arguments.force_color {
        anstream::ColorChoice::Always.write_global();
    }
    let most = match arguments {
        OutputArguments { quiet: true, .. } => Level::WARN,
        OutputArguments { verbose: true, .. } => Level::DEBUG,
        _ => Level::INFO,
    };
    let printer = Printer { most, timestamps: arguments.timestamps };
    // A second call would keep the first printer, which is what is wanted.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(printer));
}

struct Printer {
    most: Level,
    timestamps: bool,
}

/// The message of an event, and the one field we use ourselves.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

impl<S: Subscriber> Layer<S> for Printer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Of other people's crates (HTTP, TLS) only what the user must know.
        let ours = metadata.target().starts_with("longshore");
        *metadata.level() <= self.most && (ours || *metadata.level() <= Level::WARN)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}", line.message, line.fields);
        let time = if self.timestamps {
            format!("{FAINT}{}{FAINT:#} ", now().strftime("%Y/%m/%d %H:%M:%S.%6f"))
        } else {
            String::new()
        };
        match *event.metadata().level() {
            Level::ERROR => anstream::eprintln!("{time}{ERROR}ERROR: {ERROR:#}{text}"),
            Level::WARN => anstream::eprintln!("{time}{WARNING}Warning: {WARNING:#}{text}"),
            _ => anstream::println!("{time}{text}"),
        }
    }
}

fn now() -> jiff::Zoned {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::UTC)
}

/// The heading of a phase: `===> DETECTING`.
pub(crate) fn phase(name: &str) {
    tracing::info!("{PHASE}===> {name}{PHASE:#}");
}

/// How long a phase took, in faint letters.
pub(crate) fn took(name: &str, time: Duration) {
    tracing::info!("{FAINT}[{name}] took {}{FAINT:#}", duration(time));
}

/// A piece of advice.
pub(crate) fn tip(text: &str) {
    tracing::info!("{TIP}Tip: {TIP:#}{text}");
}

/// A name in a message: quoted, and in blue where there is colour.
pub(crate) fn symbol(name: impl std::fmt::Display) -> String {
    format!("{SYMBOL}'{name}'{SYMBOL:#}")
}

/// Whether standard output is in colour.
pub(crate) fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// The result of a command, which is printed even with `--quiet`.
pub(crate) fn result(text: impl std::fmt::Display) {
    anstream::println!("{text}");
}

/// Rows in columns; the last column is as wide as it likes.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) {
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        result(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// An error and its causes, one per line, to standard error.
pub(crate) fn error(error: &anyhow::Error) {
    let mut causes = error.chain();
    if let Some(first) = causes.next() {
        anstream::eprintln!("{ERROR}ERROR: {ERROR:#}{first}");
    }
    for cause in causes {
        anstream::eprintln!("  because: {cause}");
    }
}

/// A duration as people say it: `840 ms`, `3.2 s`, `2 min 5 s`.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..=99 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (milliseconds, text) in
            [(0, "0 ms"), (840, "840 ms"), (3_210, "3.2 s"), (99_900, "99.9 s"), (125_000, "2 min 5 s")]
        {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
