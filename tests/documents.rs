//! The documents name tests that exist, and every row and requirement has one.

use std::collections::BTreeSet;
use std::path::Path;

use longshore_test_support::repository;

fn read(name: &str) -> String {
    std::fs::read_to_string(repository::root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names of all functions of the repository.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<_> = ["image", "lifecycle", "sandbox", "src", "tests"]
        .iter()
        .map(|name| repository::root().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for child in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = child.expect("a file of the repository").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let after = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
                names.extend(after.map(str::to_owned));
            }
        }
    }
    names
}

/// First and last cell of each row of the tables whose last column says what shows it.
fn rows(text: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut shows = false;
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, first, .., last, ""] = cells[..] else {
            shows = false;
            continue;
        };
        if shows && !last.starts_with("---") {
            rows.push((first.to_owned(), last.to_owned()));
        }
        shows |= last == "test" || last == "shown by";
    }
    rows
}

/// The names between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn assert_exists(name: &str, row: &str, functions: &BTreeSet<String>) {
    let exists = |folder: &str| Path::new(&repository::root()).join(folder).join(name).exists();
    let is_path = name.contains('/') || name.contains('.');
    let found = if is_path { exists("") || exists("image/tests/registry") } else { functions.contains(name) };
    assert!(found, "`{row}` is shown by {name}, which does not exist");
}

#[test]
fn registries_and_faults_name_tests_that_exist() {
    let functions = functions();
    for document in ["docs/registries.md", "docs/faults.md"] {
        let rows = rows(&read(document));
        assert!(rows.len() > 30, "the tables of {document}");
        for (row, shown) in rows {
            let names = quoted(&shown).inspect(|name| assert_exists(name, &row, &functions)).count();
            let is_excused = shown.starts_with("none: ") || shown.starts_with("the same");
            assert!(names > 0 || is_excused, "nothing shows `{row}` of {document}");
        }
    }
}

#[test]
fn every_row_and_requirement_is_shown() {
    let faults = rows(&read("docs/faults.md"));
    for number in 1..=47 {
        let row = faults.iter().find(|(row, _)| *row == number.to_string());
        let (_, shown) = row.unwrap_or_else(|| panic!("docs/faults.md has no row {number}"));
        let prefix = format!("row_{number:02}_");
        assert!(quoted(shown).any(|name| name.starts_with(&prefix)), "no test is named after row {number}");
    }
    let requirements: BTreeSet<String> =
        rows(&read("docs/registries.md")).into_iter().map(|(row, _)| row).collect();
    for (letter, count) in [("F", 8), ("A", 12), ("C", 5), ("Z", 6), ("D", 4), ("M", 5)] {
        for number in 1..=count {
            let id = format!("{letter}{number}");
            assert!(requirements.contains(&id), "docs/registries.md has no requirement {id}");
        }
    }
}
