//! Many images, several at once: one that fails does not stop the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use longshore_image::Reference;
use longshore_lifecycle::rebase::{Change, RebaseError};

use super::Rebaser;
use super::outcome::{Kind, Outcome};
use super::selection::{Selected, Selection};
use crate::output;

/// Rebases all, and says so of each as it is done; what became of them, in their order.
pub(super) fn run(rebaser: &Rebaser<'_>, selection: Selection) -> Vec<Outcome> {
    let total = selection.images.len();
    let mut done = 0;
    let outcomes =
        map(&selection.images, rebaser.arguments.jobs.get(), |selected| rebase(rebaser, selected), {
            |outcome: &Outcome| {
                done += 1;
                tracing::info!(
                    "[{done}/{total}] {} {}",
                    output::symbol(&outcome.image),
                    outcome.result.words()
                );
            }
        });
    selection.failed.into_iter().chain(outcomes).collect()
}

fn rebase(rebaser: &Rebaser<'_>, selected: &Selected) -> Outcome {
    let Selected { name, publish, is_named } = selected;
    let image = with_tag(name);
    if rebaser.arguments.dry_run {
        return match rebaser.preview(name, *publish) {
            Ok(preview) => {
                let kind = if preview.change.is_current { Kind::UpToDate } else { Kind::WouldBeRebased };
                let warnings = preview.warnings.join("; ");
                Outcome {
                    run_image: Some(preview.run_image),
                    cause: Some(warnings).filter(|warnings| !warnings.is_empty()),
                    ..changed(Outcome::new(image, kind), preview.change)
                }
            }
            Err(error) => failed(image, &error, *is_named),
        };
    }
    match rebaser.rebase(name, *publish) {
        Ok(rebased) => {
            let kind = if rebased.is_unchanged { Kind::UpToDate } else { Kind::Rebased };
            Outcome {
                run_image: Some(rebased.run_image),
                digest: Some(rebased.manifest.digest().to_string()),
                ..changed(Outcome::new(image, kind), rebased.change)
            }
        }
        Err(error) => failed(image, &error, *is_named),
    }
}

fn changed(outcome: Outcome, change: Change) -> Outcome {
    Outcome { from: change.from, to: Some(change.to), ..outcome }
}

/// What a pattern matches need not be an app image, nor one for this run image.
fn failed(image: String, error: &anyhow::Error, is_named: bool) -> Outcome {
    let is_none_to_rebase =
        |error: &RebaseError| error.is_no_app() || matches!(error, RebaseError::Refused { .. });
    let is_skipped = !is_named && error.downcast_ref::<RebaseError>().is_some_and(is_none_to_rebase);
    let kind = if is_skipped { Kind::Skipped } else { Kind::Failed };
    Outcome { cause: Some(format!("{error:#}")), ..Outcome::new(image, kind) }
}

/// A name as people write it, with its tag.
pub(super) fn with_tag(name: &Reference) -> String {
    match name.digest() {
        Some(_) => name.familiar(),
        None => name.with_tag(name.tag_or_latest()).familiar(),
    }
}

/// Does `work` for all items, some at once; `done` hears of each as it ends. The answers are in the order of the items.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut done: impl FnMut(&R),
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut answers: Vec<(usize, R)> = Vec::with_capacity(items.len());
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    if sender.send((index, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, answer) in receiver {
            done(&answer);
            answers.push((index, answer));
        }
    });
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let mut heard = 0;
        let answers = map(&items, 7, |item| item * 2, |_| heard += 1);
        assert_eq!(answers, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(heard, 100);
        assert!(map(&[] as &[u8], 8, |_| (), |()| ()).is_empty());
    }
}
