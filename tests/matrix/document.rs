//! The tables in docs/registries.md.

use std::fs;

use longshore_test_support::repository;

use super::column::{Cell, Column};

/// A row: what an image is, and what becomes of it in each column.
pub(super) struct Row {
    title: String,
    cells: Vec<Cell>,
}

/// Lets all columns work on all subjects, each one for itself, and returns the rows. A subject is what the image is, its
/// name for the clients, and the word that it says.
///
/// # Panics
/// When a client neither runs an image nor refuses it in a way that is known.
pub(super) fn run(columns: &[Column], subjects: &[(String, String, String)]) -> Vec<Row> {
    let of_column = |column: &Column| -> Vec<Result<Cell, String>> {
        subjects.iter().map(|(title, name, word)| column.cell(title, name, word)).collect()
    };
    let columns: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = columns.iter().map(|column| scope.spawn(move || of_column(column))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a column")).collect()
    });
    let surprises: Vec<_> =
        columns.iter().flatten().filter_map(|cell| cell.as_ref().err()).cloned().collect();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let cells = |index: usize| columns.iter().filter_map(|column| column[index].clone().ok()).collect();
    let titles = subjects.iter().enumerate();
    titles.map(|(index, (title, ..))| Row { title: title.clone(), cells: cells(index) }).collect()
}

/// Requires that the table `name` of the document is this one, or makes it so where `make matrix` asks for that.
///
/// # Panics
/// When it is another one.
pub(super) fn check(name: &str, columns: &[Column], rows: &[Row]) {
    let file = repository::root().join("docs/registries.md");
    let text = fs::read_to_string(&file).expect("docs/registries.md");
    let start = format!("<!-- matrix of {name} -->\n");
    let (before, rest) = text.split_once(&start).expect("the start of the table");
    let (written, after) = rest.split_once("<!-- end -->").expect("the end of the table");
    let table = render(columns, rows);
    if std::env::var_os("LONGSHORE_WRITE_MATRIX").is_some() {
        let text = format!("{before}{start}{table}<!-- end -->{after}");
        fs::write(&file, text).expect("docs/registries.md is written");
    } else {
        let changed: Vec<_> =
            table.lines().filter(|line| !written.lines().any(|known| known == *line)).collect();
        assert!(
            written == table,
            "docs/registries.md says otherwise; `make matrix` writes these lines:\n{}",
            changed.join("\n")
        );
    }
}

fn render(columns: &[Column], rows: &[Row]) -> String {
    let mut table = String::from("| image |");
    for column in columns {
        table.push_str(&format!(" {} |", column.title));
    }
    table.push_str("\n| --- |");
    table.push_str(&" --- |".repeat(columns.len()));
    table.push('\n');
    for row in rows {
        let cells: Vec<_> = row.cells.iter().map(ToString::to_string).collect();
        table.push_str(&format!("| {} | {} |\n", row.title, cells.join(" | ")));
    }
    table
}
