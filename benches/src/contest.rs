//! Programs that run in turn on the same data: whatever else the machine does meets all of them.

use std::process::Command;
use std::time::Duration;

use crate::bench::Bench;
use crate::measure::{Run, measure};
use crate::series::Series;

/// A run that takes longer than this is repeated less often, and one that is shorter more often: it varies more, and costs
/// less.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(3);

type Prepare<'a> = Box<dyn FnMut() -> anyhow::Result<Command> + 'a>;
type Read<'a> = Box<dyn Fn(&Run) -> anyhow::Result<f64> + 'a>;

/// One of the programs.
pub(crate) struct Contender<'a> {
    name: String,
    prepare: Prepare<'a>,
    read: Option<Read<'a>>,
}

impl<'a> Contender<'a> {
    /// `prepare` clears what the last run left and returns the next run; it is not timed.
    pub(crate) fn new(
        name: impl Into<String>,
        prepare: impl FnMut() -> anyhow::Result<Command> + 'a,
    ) -> Self {
        Self { name: name.into(), prepare: Box::new(prepare), read: None }
    }

    /// Takes the seconds out of what the program printed instead of those from its start to its end.
    pub(crate) fn timed_by(mut self, read: impl Fn(&Run) -> anyhow::Result<f64> + 'a) -> Self {
        self.read = Some(Box::new(read));
        self
    }

    fn run(&mut self, bench: &Bench) -> anyhow::Result<Run> {
        self.run_by(bench, |command| command)
    }

    /// One run, by another program that starts it.
    pub(crate) fn run_by(
        &mut self,
        bench: &Bench,
        other: impl FnOnce(Command) -> Command,
    ) -> anyhow::Result<Run> {
        let command = other((self.prepare)()?);
        // What was written or removed to get here must not be paid for by the run.
        bench.settle(&command)?;
        let mut run = measure(&command, &bench.place)?;
        if let Some(read) = &self.read {
            run.sample.wall = read(&run)?;
        }
        Ok(run)
    }
}

/// How often each program runs, of which the longest took so many seconds.
fn usual(quick: bool, longest: f64) -> u64 {
    match longest {
        _ if quick => 1,
        longest if longest > LONG.as_secs_f64() => 3,
        longest if longest > SHORT.as_secs_f64() => 5,
        _ => 9,
    }
}

/// Runs all of them once without counting, and then in turn.
pub(crate) fn in_turn<const N: usize>(
    bench: &Bench,
    mut contenders: [Contender<'_>; N],
) -> anyhow::Result<[Series; N]> {
    in_turn_again(bench, &mut contenders)
}

/// As [`in_turn`], of programs that run once more later.
pub(crate) fn in_turn_again<const N: usize>(
    bench: &Bench,
    contenders: &mut [Contender<'_>; N],
) -> anyhow::Result<[Series; N]> {
    // What is read is in memory again after the runs that do not count.
    bench.forget()?;
    let mut longest: f64 = 0.0;
    for contender in contenders.iter_mut() {
        longest = longest.max(contender.run(bench)?.sample.wall);
    }
    let usual = usual(bench.options.quick, longest);
    let mut series =
        contenders.each_ref().map(|contender| Series { name: contender.name.clone(), samples: Vec::new() });
    for _ in 0..bench.options.runs.unwrap_or(usual) {
        for (contender, series) in contenders.iter_mut().zip(&mut series) {
            series.samples.push(contender.run(bench)?.sample);
        }
    }
    Ok(series)
}
