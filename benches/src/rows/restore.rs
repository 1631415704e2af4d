//! The cached layers of an earlier build on the same machine.

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::tiny::web_app;

use super::build::{TinyBuild, phase_time};
use crate::bench::Bench;
use crate::contest::{Contender, in_turn};
use crate::data::BUILDPACK;
use crate::measure::quietly;
use crate::report::{Check, Findings};

/// Copies the tree once, and keeps it as long as the cache gives it back.
const SCRIPT: &str = r#"layer=$CNB_LAYERS_DIR/modules
if [ -d "$layer/node_modules" ]; then
    echo "the modules were restored"
else
    echo "the modules are copied"
    mkdir -p "$layer"
    cp -a /data/. "$layer"
fi
printf '[types]\nbuild = true\ncache = true\n' > "$layer.toml""#;

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let build = TinyBuild::new(bench, vec![ShellBuildpack::new("bench/modules", SCRIPT)])?;
    let app = build.environment.path("app");
    web_app(&app, "hello\n");
    let volume = format!("{}:/data:ro", bench.npm()?.join(BUILDPACK).join("tree").display());
    let command = || build.command(&app, "app", &["--volume", &volume]);
    quietly(&mut command())?;
    let phase = |phase: &'static str| {
        move |run: &crate::measure::Run| {
            anyhow::ensure!(
                run.output.contains("the modules were restored"),
                "nothing was restored:\n{}",
                run.output
            );
            phase_time(&run.output, phase)
        }
    };
    let restoring =
        Contender::new("Longshore's `build`, phase RESTORING", || Ok(command())).timed_by(phase("restoring"));
    let all = Contender::new("Longshore's `build`, all of it", || Ok(command())).timed_by(phase("build"));
    let [restoring, all] = in_turn(bench, [restoring, all])?;
    findings.series(&restoring).series(&all);
    findings.check(Check::seconds("phase RESTORING", &restoring, 0.15));
    findings.note("CPU and resident set are those of the whole build.");
    Ok(())
}
