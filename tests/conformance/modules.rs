//! Files of buildpacks, image extensions, orders and groups, from what a case says of them.

use std::fmt::Write as _;

use super::case::{Case, Module};

/// The text of `group.toml`.
pub(super) fn group(case: &Case) -> String {
    let mut text = String::new();
    for (table, elements, modules) in [
        ("group", &case.group, &case.buildpacks),
        ("group-extensions", &case.group_extensions, &case.extensions),
    ] {
        for element in elements {
            let (id, version) = element.split_once('@').expect("id@version");
            let api = modules.get(element).and_then(|module| module.api.as_deref()).unwrap_or("0.10");
            writeln!(text, "[[{table}]]\nid = \"{id}\"\nversion = \"{version}\"\napi = \"{api}\"")
                .expect("written to a string");
        }
    }
    text
}

/// The text of `order.toml`.
pub(super) fn order(groups: &[Vec<String>], extensions: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (table, groups) in [("order", groups), ("order-extensions", extensions)] {
        for group in groups {
            writeln!(text, "[[{table}]]").expect("written to a string");
            for element in group {
                let (id, version) = element.trim_end_matches('?').split_once('@').expect("id@version");
                writeln!(text, "[[{table}.group]]\nid = \"{id}\"").expect("written to a string");
                if !version.is_empty() {
                    writeln!(text, "version = \"{version}\"").expect("written to a string");
                }
                if element.ends_with('?') {
                    writeln!(text, "optional = true").expect("written to a string");
                }
            }
        }
    }
    text
}

/// The text of `buildpack.toml` or `extension.toml`.
pub(super) fn descriptor(kind: &str, (id, version): (&str, &str), module: &Module) -> String {
    let mut text = format!(
        "api = \"{}\"\n[{kind}]\nid = \"{id}\"\nversion = \"{version}\"\nname = \"{id}\"\n{}\n",
        module.api.as_deref().unwrap_or("0.10"),
        module.descriptor.as_deref().unwrap_or_default(),
    );
    if let Some(groups) = &module.order {
        text.push_str(&order(groups, &[]));
    }
    text
}

/// The programs of a module with their scripts.
pub(super) fn programs(kind: &str, module: &Module) -> [(&'static str, Option<String>); 3] {
    let mut detect = module.detect.clone().unwrap_or_default();
    if let Some(plan) = &module.plan {
        // The second argument is what every Buildpack API passes.
        write!(detect, "\ncat > \"$2\" <<'END'\n{plan}\nEND").expect("written to a string");
    }
    let build = (kind == "buildpack").then(|| module.build.clone().unwrap_or_default());
    [
        ("detect", (!module.no_detect).then_some(detect)),
        ("build", build),
        ("generate", module.generate.clone()),
    ]
}
