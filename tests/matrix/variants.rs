//! Images as they are found in registries, whether they are right or not.

use longshore_test_support::FaultyRegistry;
use longshore_test_support::variants::VARIANTS;

use super::{column, document};

#[test]
fn clients_make_of_variants_what_the_document_says() {
    let registry = FaultyRegistry::start([]);
    let subjects: Vec<_> = VARIANTS
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let word = format!("variant-{index}");
            (variant.title.to_owned(), variant.put(&registry, &word, &word), word)
        })
        .collect();
    let columns = column::pulling();
    document::check("variants", &columns, &document::run(&columns, &subjects));
}
