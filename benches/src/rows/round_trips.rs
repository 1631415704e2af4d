//! A registry that is far away: what counts is how often somebody waits for it.

use std::process::Command;
use std::time::Duration;

use longshore_test_support::layout::Layout;

use super::build::TinyBuild;
use super::rebase::Hundred;
use crate::app::push_run_image;
use crate::bench::Bench;
use crate::contest::{Contender, in_turn};
use crate::measure::quietly;
use crate::registry::Registry;
use crate::report::{Check, Findings};
use crate::series::Series;

const ROUND_TRIP: Duration = Duration::from_millis(50);

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    rebase(bench, findings)?;
    rebuild(bench, findings)
}

fn rebase(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let hundred = Hundred::new(bench)?;
    let mut version = 0;
    let mut rebase = || {
        version += 1;
        hundred.rebase(bench, version)
    };
    let waits = compare(
        bench,
        &hundred.registry,
        ("`rebase`, 100 layers", &mut rebase),
        &mut || Ok(hundred.copy()),
        findings,
    )?;
    findings.check(waits);
    Ok(())
}

/// A build of which nothing has changed, in a registry; skopeo copies the same image to where it is already.
fn rebuild(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let registry = Registry::start();
    let build = TinyBuild::new(bench, Vec::new())?;
    let app = build.environment.path("app");
    longshore_test_support::tiny::web_app(&app, "hello\n");
    push_run_image(bench, &registry, "run:latest", &[])?;
    let (image, run_image) = (registry.name("app"), registry.name("run:latest"));
    let command = || Ok(build.command(&app, &image, &["--publish", "--run-image", &run_image]));
    quietly(&mut command()?)?;
    let folder = bench.folder("pulled")?;
    let _ = Layout::open(&folder);
    let skopeo = |from: &str, to: &str| {
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]);
        command.args([from, to]);
        command
    };
    let (remote, local) = (format!("docker://{image}"), format!("oci:{}:app", folder.display()));
    quietly(&mut skopeo(&remote, &local))?;
    let waits = compare(
        bench,
        &registry,
        ("`build --publish`, nothing changed", &mut || command()),
        &mut || Ok(skopeo(&local, &remote)),
        findings,
    )?;
    findings.check(waits);
    Ok(())
}

type Next<'a> = &'a mut dyn FnMut() -> anyhow::Result<Command>;

/// Round trips that are waited for: what a run takes longer over a long line, in round trips.
fn compare(
    bench: &Bench,
    registry: &Registry,
    (what, ours): (&str, Next<'_>),
    peer: Next<'_>,
    findings: &mut Findings,
) -> anyhow::Result<Check> {
    let mut run = |delay: Duration, suffix: &str| {
        registry.line.set_round_trip(delay);
        in_turn(
            bench,
            [
                Contender::new(format!("Longshore's {what}{suffix}"), &mut *ours),
                Contender::new(format!("`skopeo copy` for {what}{suffix}"), &mut *peer),
            ],
        )
    };
    let near = run(Duration::ZERO, "")?;
    let far = run(ROUND_TRIP, ", 50 ms")?;
    registry.line.set_round_trip(Duration::ZERO);
    let waited =
        |far: &Series, near: &Series| ((far.wall() - near.wall()) / ROUND_TRIP.as_secs_f64()).max(0.0);
    let (own, other) = (waited(&far[0], &near[0]), waited(&far[1], &near[1]));
    let mut requests = Vec::new();
    for (name, next) in [("Longshore", &mut *ours as Next<'_>), ("skopeo", &mut *peer)] {
        let mut command = next()?;
        let (before, passed) = (registry.requests(), registry.line.passed());
        quietly(&mut command)?;
        let all = (registry.requests() - before).all;
        let connections = (registry.line.passed() - passed).connections;
        requests.push(format!("{name} {all} requests on {connections} connections"));
    }
    findings.all(&far);
    findings.note(format!("{what}: {}.", requests.join(", ")));
    Ok(Check {
        what: format!("{what}: round trips waited for, against `skopeo copy`"),
        ours: format!("{own:.1} in {}", far[0].spread()),
        peer: format!("{other:.1} in {}", far[1].spread()),
        found: format!("{own:.1}"),
        limit: format!("< {other:.1}"),
        met: own < other,
    })
}
