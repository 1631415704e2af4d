//! Tables for the resolution of orders.

use std::collections::HashMap;

use longshore_cnb::buildpack_toml::Descriptor;

use super::*;

/// An order, the composite buildpacks it is resolved with, and what is expected.
type Case<'a, E> = (&'a str, &'a [(&'a str, &'a str)], E);

/// Modules by `id@version`, and the groups that were tried: none of them passes.
#[derive(Default)]
struct Tried {
    modules: HashMap<String, Arc<Module>>,
    groups: Vec<String>,
}

impl Candidates for Tried {
    type Found = ();

    fn module(&mut self, kind: ModuleKind, entry: &OrderEntry) -> Result<Arc<Module>, DetectError> {
        let module = self.modules.get(&entry.to_string()).cloned();
        Ok(module.unwrap_or_else(|| module_of(kind, &entry.id, "")))
    }

    fn try_group(&mut self, members: &[Member]) -> ControlFlow<()> {
        let names: Vec<_> = members
            .iter()
            .map(|member| {
                let version = if member.version == "1" { "" } else { &member.version };
                format!("{}{version}{}", member.id, if member.optional { "?" } else { "" })
            })
            .collect();
        self.groups.push(names.join(" "));
        ControlFlow::Continue(())
    }
}

fn module_of(kind: ModuleKind, id: &str, rest: &str) -> Arc<Module> {
    let table = if kind == ModuleKind::Buildpack { "buildpack" } else { "extension" };
    let text = format!("api = '0.12'\n[{table}]\nid = '{id}'\n{rest}");
    let descriptor = Descriptor::parse(kind, &text).expect("valid");
    Arc::new(Module { descriptor, root: "/".into() })
}

/// Groups separated by `|`; members by spaces; `?` for optional, `@` before a version other than 1, `:` before the
/// execution environments of the entry.
fn groups(text: &str) -> Vec<OrderGroup> {
    let entry = |word: &str| {
        let (word, exec_env) = word.split_once(':').unwrap_or((word, ""));
        let (word, optional) = word.strip_suffix('?').map_or((word, false), |word| (word, true));
        let (id, version) = word.split_once('@').unwrap_or((word, "1"));
        OrderEntry {
            id: id.to_owned(),
            version: version.to_owned(),
            optional,
            exec_env: exec_env.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        }
    };
    text.split('|').map(|group| OrderGroup { group: group.split_whitespace().map(entry).collect() }).collect()
}

fn order_toml(text: &str) -> String {
    #[derive(serde::Serialize)]
    struct File {
        order: Vec<OrderGroup>,
    }
    toml::to_string(&File { order: groups(text) }).expect("serializable")
}

/// Resolves an order with composite buildpacks, and returns the groups that are tried.
fn tried(
    order: &str,
    extensions: Option<&str>,
    composites: &[(&str, &str)],
) -> Result<Vec<String>, DetectError> {
    let mut candidates = Tried::default();
    for (id, inner) in composites {
        let module = module_of(ModuleKind::Buildpack, id, &order_toml(inner));
        candidates.modules.insert(format!("{id}@1"), module);
    }
    let orders = Orders {
        buildpacks: &groups(order),
        extensions: &extensions.map(groups).unwrap_or_default(),
        exec_env: Some("production"),
    };
    orders.search(&mut candidates)?;
    Ok(candidates.groups)
}

#[test]
fn orders_are_expanded_depth_first_from_the_left() {
    let spec_o = ("O", "a b | c d");
    let spec_p = ("P", "e f | g h");
    let cases: &[Case<'_, &[&str]>] = &[
        ("a b | c", &[], &["a b", "c"]),
        ("a? b", &[], &["a? b"]),
        ("", &[], &[""]),
        // The two examples of the spec.
        ("e O f", &[spec_o], &["e a b f", "e c d f"]),
        ("O P", &[spec_o, spec_p], &["a b e f", "a b g h", "c d e f", "c d g h"]),
        // An optional composite is also left out; that of a component is the resolver's business.
        ("O? e", &[spec_o], &["a b e", "c d e", "e"]),
        ("e O?", &[spec_o], &["e a b", "e c d", "e"]),
        ("O?", &[spec_o], &["a b", "c d", ""]),
        ("O? P", &[spec_o, spec_p], &["a b e f", "a b g h", "c d e f", "c d g h", "e f", "g h"]),
        // Composites within composites.
        ("Q z", &[("Q", "x O | y"), spec_o], &["x a b z", "x c d z", "y z"]),
        ("Q z", &[("Q", "O? y"), spec_o], &["a b y z", "c d y z", "y z"]),
        // Members keep what their own entry says about them.
        ("Q", &[("Q", "a? b")], &["a? b"]),
        // The first of equal ids stays, whatever the version.
        ("a b a", &[], &["a b"]),
        ("a@2 b a", &[], &["a2 b"]),
        ("a O", &[spec_o], &["a b", "a c d"]),
        ("O O", &[("O", "a")], &["a"]),
        // What follows in the group may name a composite that was left already.
        ("Q R", &[("Q", "O"), ("R", "O"), spec_o], &["a b", "a b c d", "c d a b", "c d"]),
    ];
    for (order, composites, expected) in cases {
        assert_eq!(tried(order, None, composites).expect("resolvable"), *expected, "{order} {composites:?}");
    }
}

#[test]
fn extensions_come_first_and_are_optional() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("a", "x", &["x? a", "a"]),
        ("a | b", "x", &["x? a", "a", "x? b", "b"]),
        ("a", "x y | z", &["x? y? a", "z? a", "a"]),
        // An extension and a buildpack may share an id.
        ("a", "a", &["a? a", "a"]),
    ];
    for (order, extensions, expected) in cases {
        assert_eq!(
            tried(order, Some(extensions), &[]).expect("resolvable"),
            *expected,
            "{order} with {extensions}"
        );
    }
}

#[test]
fn cycles_are_reported_with_their_path() {
    let cases: &[Case<'_, &str>] = &[
        ("Q", &[("Q", "Q")], "Q@1 -> Q@1"),
        ("a Q", &[("Q", "b R"), ("R", "c S?"), ("S", "Q")], "Q@1 -> R@1 -> S@1 -> Q@1"),
        ("Q", &[("Q", "R?"), ("R", "R")], "Q@1 -> R@1 -> R@1"),
    ];
    for (order, composites, expected) in cases {
        match tried(order, None, composites) {
            Err(DetectError::Cycle { path }) => assert_eq!(path.join(" -> "), *expected),
            other => panic!("{order}: {other:?}"),
        }
    }
}

#[test]
fn entries_of_other_execution_environments_are_skipped() {
    let cases: &[Case<'_, &[&str]>] = &[
        ("a:test b", &[], &["b"]),
        ("a:production b", &[], &["a b"]),
        ("a:* b:test,production", &[], &["a b"]),
        ("Q:test b", &[("Q", "a")], &["b"]),
        ("Q b", &[("Q", "a:test | c")], &["b", "c b"]),
        // A skipped entry does not stand in the way of another version.
        ("a@2:test a", &[], &["a"]),
    ];
    for (order, composites, expected) in cases {
        assert_eq!(tried(order, None, composites).expect("resolvable"), *expected, "{order}");
    }
}
