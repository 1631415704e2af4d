//! `docs/performance.md`: a part that each run writes, and one below it that people write.

use std::fmt::Write as _;
use std::process::Command;

use crate::bench::Bench;
use crate::measure::quietly;
use crate::report::{Report, figures};
use crate::rows;

/// What is below this line is kept.
const MARK: &str = "<!-- `make bench` writes what is above this line, and keeps what is below it. -->";

/// The peers and how they tell their version.
const PEERS: [(&str, &[&str]); 11] = [
    ("tar", &["--version"]),
    ("zstd", &["--version"]),
    ("pigz", &["--version"]),
    ("docker-registry", &["--version"]),
    ("skopeo", &["--version"]),
    ("umoci", &["--version"]),
    ("buildah", &["--version"]),
    ("dockerd", &["--version"]),
    ("bwrap", &["--version"]),
    ("strace", &["--version"]),
    ("rustc", &["--version"]),
];

/// Writes the document out of the last report of each row on this machine.
pub(crate) fn write(bench: &Bench) -> anyhow::Result<()> {
    let path = bench.options.document();
    let old = if path.exists() { fs_err::read_to_string(&path)? } else { String::new() };
    let reports: Vec<Option<Report>> =
        rows::ALL.iter().map(|row| bench.kept(row.id)).collect::<Result<_, _>>()?;
    let by_hand = old.split_once(MARK).map_or("\n", |(_, kept)| kept);
    Ok(fs_err::write(&path, format!("{}{MARK}{by_hand}", generated(bench, &reports)))?)
}

fn generated(bench: &Bench, reports: &[Option<Report>]) -> String {
    let mut text = String::from("# Performance\n\n");
    let machine = &bench.machine;
    let _ = writeln!(
        text,
        "Each row ran Longshore and the peer in turn on the same data, after a run that did not count. Times are medians, with \
         the least and the most; the resident set is the largest of any process of the tree, by the kernel's account. \
         `make bench` runs it all and writes this page, `make bench ROWS=\"cold-zstd push\"` some rows.\n"
    );
    let _ = writeln!(text, "{}. Peers:\n", machine.describe());
    for (program, arguments) in PEERS {
        let version = quietly(Command::new(program).args(arguments)).unwrap_or_default();
        let line = version.lines().next().filter(|line| !line.is_empty()).unwrap_or("not installed");
        let _ = writeln!(text, "- {program}: {}", line.trim_matches(['*', ' ']));
    }
    let busy = reports.iter().flatten().filter(|report| report.was_busy).count();
    if busy > 0 {
        let _ = writeln!(
            text,
            "\n**{busy} rows were measured while the machine did other things: their times say little.** The remarks tell which."
        );
    }
    text.push_str("\n## What is reached\n\n| row | what | Longshore | peer | found | must be | |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (row, report) in rows::ALL.iter().zip(reports) {
        checks(&mut text, row.id, row.scenario, report.as_ref());
    }
    text.push_str("\n## Everything that ran\n\n| row | program | wall | CPU | resident set | |\n| --- | --- | --- | --- | --- | --- |\n");
    for report in reports.iter().flatten() {
        for series in &report.findings.series {
            let [wall, cpu, memory, runs] = figures(series);
            let _ =
                writeln!(text, "| {} | {} | {wall} | {cpu} | {memory} | {runs} |", report.id, series.name);
        }
    }
    text.push_str("\n## Remarks of the run\n\n| row | when (UTC) | |\n| --- | --- | --- |\n");
    for report in reports.iter().flatten() {
        let mut remarks = report.findings.notes.clone();
        if report.was_busy {
            remarks
                .insert(0, format!("**The machine was busy, so the times say little** ({}).", report.load));
        }
        remarks.extend(report.failure.as_ref().map(|failure| format!("Failed: {}", in_cell(failure))));
        let _ = writeln!(text, "| {} | {} | {} |", report.id, report.date, remarks.join(" "));
    }
    text.push('\n');
    text
}

fn checks(text: &mut String, id: &str, scenario: &str, report: Option<&Report>) {
    let Some(report) = report else {
        let _ = writeln!(text, "| {id} | {scenario} | | | not measured | | not met |");
        return;
    };
    for check in &report.findings.checks {
        let verdict = if check.met { "met" } else { "**not met**" };
        let _ = writeln!(
            text,
            "| {id} | {scenario}: {} | {} | {} | {} | {} | {verdict} |",
            check.what, check.ours, check.peer, check.found, check.limit
        );
    }
    if report.failure.is_some() {
        let _ = writeln!(text, "| {id} | {scenario} | | | failed, see the remarks | | **not met** |");
    }
}

/// The first line, as a cell of a table.
fn in_cell(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "\\|")
}
