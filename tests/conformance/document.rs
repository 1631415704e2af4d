//! docs/compatibility-must.md and the cases say the same.

use std::collections::{BTreeMap, BTreeSet};

use longshore_test_support::repository;

use super::case::{self, Case};

/// A row of a table: its id, and the last cell, which says what shows it.
struct Row {
    id: String,
    shown: String,
}

/// Rows look like `| P-1 | section | what must be | shown by |`.
fn rows() -> Vec<Row> {
    let path = repository::root().join("docs/compatibility-must.md");
    let text = std::fs::read_to_string(path).expect("docs/compatibility-must.md");
    let cells = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter_map(|cells| match cells[..] {
        ["", id, _, _, shown, ""] if is_id(id) => Some(Row { id: id.to_owned(), shown: shown.to_owned() }),
        _ => None,
    });
    rows.collect()
}

fn is_id(text: &str) -> bool {
    let number = ["P-", "B-", "X-"].iter().find_map(|prefix| text.strip_prefix(prefix));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The names between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn cases() -> Vec<Case> {
    let folders = case::folders();
    folders
        .iter()
        .map(|(folder, name)| Case::read(folder, name).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

#[test]
fn cases_name_sections_and_rows_that_exist() {
    let known: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    for case in cases() {
        let (file, heading) = case.section.split_once('#').unwrap_or_default();
        let is_known = ["platform.md", "buildpack.md", "image_extension.md"].contains(&file);
        assert!(is_known && !heading.is_empty(), "{} has the section `{}`", case.name, case.section);
        for id in &case.must {
            assert!(
                known.contains(id),
                "{} shows {id}, which is not in docs/compatibility-must.md",
                case.name
            );
        }
    }
}

#[test]
fn rows_name_what_shows_them() {
    let mut by_row: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for case in cases() {
        for id in case.must {
            by_row.entry(id).or_default().insert(case.name.clone());
        }
    }
    let mut seen = BTreeSet::new();
    for Row { id, shown } in rows() {
        assert!(seen.insert(id.clone()), "{id} is there twice");
        let names = quoted(&shown);
        let reasons = ["platform", "authors", "not on Linux"];
        let is_excused = reasons.iter().any(|reason| shown.starts_with(reason));
        assert!(is_excused || !names.is_empty(), "nothing is said to show {id}");
        let listed: BTreeSet<String> =
            names.iter().filter(|name| !name.contains(".rs::")).map(|&name| name.to_owned()).collect();
        assert_eq!(listed, by_row.remove(&id).unwrap_or_default(), "the cases that show {id}");
        for test in names.iter().filter(|name| name.contains(".rs::")) {
            assert_test_exists(&id, test);
        }
    }
}

/// `path.rs::function`.
fn assert_test_exists(id: &str, test: &str) {
    let (path, function) = test.split_once("::").expect("a function");
    let text = std::fs::read_to_string(repository::root().join(path))
        .unwrap_or_else(|error| panic!("{id} is shown by {path}: {error}"));
    assert!(text.contains(&format!("fn {function}()")), "{id} is shown by {test}, which does not exist");
}
