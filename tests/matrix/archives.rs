//! Archives that Longshore writes, for those that load them.

use longshore_test_support::TestEnvironment;

use super::outputs::put_image;
use super::{column, document};
use crate::LONGSHORE;

/// What the archive is, and the arguments that make it.
const ARCHIVES: [(&str, &str, &[&str]); 7] = [
    ("`oci-archive:`, `tar+gzip`", "oci-archive", &["--layer-format", "tar+gzip"]),
    ("`oci-archive:`, `tar`", "oci-archive", &["--layer-format", "tar"]),
    ("`oci-archive:`, `tar+zstd`", "oci-archive", &["--layer-format", "tar+zstd"]),
    ("`oci-archive:`, `dual`", "oci-archive", &["--layer-format", "dual"]),
    ("`docker-archive:`, `tar+gzip`", "docker-archive", &["--layer-format", "tar+gzip"]),
    (
        "`docker-archive:`, `tar+gzip`, `docker`",
        "docker-archive",
        &["--layer-format", "tar+gzip", "--manifest-format", "docker"],
    ),
    ("`docker-archive:`, `tar+zstd`", "docker-archive", &["--layer-format", "tar+zstd"]),
];

#[test]
fn clients_make_of_archives_what_the_document_says() {
    let environment = TestEnvironment::new(LONGSHORE);
    let subjects: Vec<_> = ARCHIVES
        .iter()
        .enumerate()
        .map(|(index, (title, transport, more))| {
            let word = format!("archive-{index}");
            put_image(&environment, &word, &word);
            let file = environment.path(&format!("{word}.tar")).display().to_string();
            let target = format!("{transport}:{file}:{}", column::name_in(&file));
            environment.longshore(&[&["image", "copy", &word, &target][..], more].concat()).success();
            ((*title).to_owned(), file, word)
        })
        .collect();
    let columns = column::loading();
    document::check("archives", &columns, &document::run(&columns, &subjects));
}
