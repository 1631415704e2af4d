//! Tables and properties for the resolution of build plans.

use longshore_cnb::plan::{Provide, Require};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

/// One potential plan: `+x` provides x, `-x` requires x.
fn sections(text: &str) -> PlanSections {
    let names = |sign: char| text.split_whitespace().filter_map(move |word| word.strip_prefix(sign));
    PlanSections {
        provides: names('+').map(|name| Provide { name: name.to_owned() }).collect(),
        requires: names('-').map(|name| Require { name: name.to_owned(), ..Require::default() }).collect(),
    }
}

/// A participant: `id plan | plan`, with `id?` when it is optional and `id!` when it is an extension.
fn participant(text: &str) -> Participant {
    let (name, plans) = text.split_once(' ').unwrap_or((text, ""));
    let id = name.trim_end_matches(['?', '!']);
    Participant {
        kind: if name.ends_with('!') { ModuleKind::Extension } else { ModuleKind::Buildpack },
        id: id.to_owned(),
        version: "1".to_owned(),
        optional: name != id,
        alternatives: plans.split('|').map(sections).collect(),
    }
}

fn participants(texts: &[&str]) -> Vec<Participant> {
    texts.iter().map(|text| participant(text)).collect()
}

/// The entries as `providers > name x number of requires`.
fn entries(plan: &Plan) -> Vec<String> {
    plan.entries
        .iter()
        .map(|entry| {
            let providers: Vec<_> = entry.providers.iter().map(|provider| provider.id.as_str()).collect();
            format!("{} > {}x{}", providers.join(","), entry.requires[0].name, entry.requires.len())
        })
        .collect()
}

/// Who takes part, and the plan.
type Expected<'a> = Result<(&'a str, &'a [&'a str]), &'a [&'a str]>;

#[test]
fn plans_are_resolved() {
    let cases: &[(&[&str], Expected<'_>)] = &[
        (&["a", "b"], Ok(("a b", &[]))),
        (&["a +x", "b -x"], Ok(("a b", &["a > xx1"]))),
        (&["a +x -x"], Ok(("a", &["a > xx1"]))),
        (&["a -x", "b +x"], Err(&["a@1 requires 'x', which nothing up to it provides"])),
        (&["a +x"], Err(&["a@1 provides 'x', which nothing from it on requires"])),
        (&["a -x"], Err(&["a@1 requires 'x', which nothing up to it provides"])),
        (&["a -x", "b +x -x"], Err(&["a@1 requires 'x', which nothing up to it provides"])),
        // A later provider needs a requirement of its own or after it.
        (&["a +x", "b -x", "c +x"], Err(&["c@1 provides 'x', which nothing from it on requires"])),
        (&["a +x", "b -x", "c +x -x"], Ok(("a b c", &["a,c > xx2"]))),
        (&["a +x", "b +x", "c -x"], Ok(("a b c", &["a,b > xx1"]))),
        (&["a +x +x", "b -x -x"], Ok(("a b", &["a > xx2"]))),
        (&["a +y +x", "b -x -y"], Ok(("a b", &["a > yx1", "a > xx1"]))),
        // Optional participants are given up.
        (&["a? -x", "b"], Ok(("b", &[]))),
        (&["a? +x", "b"], Ok(("b", &[]))),
        (&["a? +x", "b? -x", "c"], Ok(("a b c", &["a > xx1"]))),
        (&["a? +x", "b? -x -y", "c"], Ok(("c", &[]))),
        (&["a? +x -z", "b? -x +y", "c? -y", "d"], Ok(("d", &[]))),
        (&["a? +x -z", "b -x"], Err(&["b@1 requires 'x', which nothing up to it provides"])),
        (&["a +x", "b? -x -y"], Err(&["a@1 provides 'x', which nothing from it on requires"])),
        (&["a? +x"], Err(&["no buildpack is left in the group"])),
        (&[], Err(&["no buildpack is left in the group"])),
        // Alternatives: leftmost first; an optional participant is given up with its last one only.
        (&["a +x | +y", "b -y"], Ok(("a b", &["a > yx1"]))),
        (&["a +x | ", "b"], Ok(("a b", &[]))),
        (&["a | +x -x"], Ok(("a", &[]))),
        (&["a? +x | +y", "b -y"], Ok(("a b", &["a > yx1"]))),
        (&["a? +x | +y", "b"], Ok(("b", &[]))),
        (&["a? +x | ", "b"], Ok(("a b", &[]))),
        (&["a +x | +y", "b -x | -y"], Ok(("a b", &["a > xx1"]))),
        (&["a +x +y | +y", "b -y"], Ok(("a b", &["a > yx1"]))),
        (
            &["a +x | +y", "b -z"],
            Err(&[
                "a@1 provides 'x', which nothing from it on requires",
                "a@1 provides 'y', which nothing from it on requires",
            ]),
        ),
        // Extensions.
        (&["e! +x", "b -x"], Ok(("e b", &["e > xx1"]))),
        (&["e! +x", "b"], Ok(("b", &[]))),
        (&["e!", "b"], Ok(("e b", &[]))),
        (&["e! +x", "a? +x", "b -x"], Ok(("e a b", &["e,a > xx1"]))),
        (&["e!", "a? -x"], Err(&["no buildpack is left in the group"])),
    ];
    for (texts, expected) in cases {
        let participants = participants(texts);
        match (resolve(&participants), expected) {
            (Ok(resolved), Ok((names, plan))) => {
                let ids: Vec<_> =
                    resolved.participating.iter().map(|index| participants[*index].id.as_str()).collect();
                assert_eq!(ids.join(" "), *names, "{texts:?}");
                assert_eq!(entries(&resolved.plan), *plan, "{texts:?}");
            }
            (Err(reasons), Err(expected)) => {
                let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                assert_eq!(reasons, *expected, "{texts:?}");
            }
            (actual, _) => panic!("{texts:?}: {actual:?}"),
        }
    }
}

#[test]
fn many_alternatives_take_no_exponential_time() {
    // Without pruning this is 8^30 trials.
    let alternatives: Vec<_> = (0..8).map(|number| format!("-missing{number}")).collect();
    let text = format!("a {}", alternatives.join(" | "));
    let participants: Vec<_> = (0..30).map(|_| participant(&text)).collect();
    assert_eq!(resolve(&participants).expect_err("nothing provides").len(), 8);
}

/// The search as the spec words it: every combination, from the left.
fn exhaustive(participants: &[Participant]) -> Option<Resolved> {
    fn combinations<'a>(
        participants: &'a [Participant],
        index: usize,
        chosen: &mut Vec<Choice<'a>>,
    ) -> Option<Resolved> {
        let Some(participant) = participants.get(index) else { return trial(chosen).ok() };
        let last = participant.alternatives.len() - 1;
        participant.alternatives.iter().enumerate().find_map(|(number, sections)| {
            let optional = participant.optional && number == last;
            chosen.push(Choice { index, participant, sections, optional });
            let found = combinations(participants, index + 1, chosen);
            chosen.pop();
            found
        })
    }
    combinations(participants, 0, &mut Vec::new())
}

fn any_participants() -> impl Strategy<Value = Vec<Participant>> {
    let word = (prop_oneof![Just('+'), Just('-')], prop_oneof![Just('x'), Just('y'), Just('z')])
        .prop_map(|(sign, name)| format!("{sign}{name}"));
    let plan = prop::collection::vec(word, 0..4).prop_map(|words| sections(&words.join(" ")));
    let participant =
        (any::<bool>(), prop::collection::vec(plan, 1..4)).prop_map(|(optional, alternatives)| Participant {
            kind: ModuleKind::Buildpack,
            id: String::new(),
            version: "1".to_owned(),
            optional,
            alternatives,
        });
    prop::collection::vec(participant, 0..6).prop_map(|mut participants| {
        for (index, participant) in participants.iter_mut().enumerate() {
            participant.id = format!("p{index}");
        }
        participants
    })
}

proptest! {
    #[test]
    fn pruning_changes_no_result(participants in any_participants()) {
        prop_assert_eq!(resolve(&participants).ok(), exhaustive(&participants));
    }

    #[test]
    fn resolved_plans_hold(participants in any_participants()) {
        let Ok(resolved) = resolve(&participants) else { return Ok(()) };
        // The order of the group is kept, and nobody required is missing.
        prop_assert!(resolved.participating.is_sorted());
        for (index, participant) in participants.iter().enumerate() {
            prop_assert!(participant.optional || resolved.participating.contains(&index));
        }
        let position = |provider: &Provider| {
            participants.iter().position(|participant| participant.id == provider.id)
        };
        for entry in &resolved.plan.entries {
            // One name per entry, with someone who provides it and someone who wants it.
            prop_assert!(!entry.providers.is_empty() && !entry.requires.is_empty());
            prop_assert!(entry.requires.iter().all(|require| require.name == entry.requires[0].name));
            for provider in &entry.providers {
                let provides = position(provider);
                prop_assert!(provides.is_some_and(|index| resolved.participating.contains(&index)));
            }
            // Some participant at or after the last provider requires it, none before the first one.
            let first = entry.providers.first().and_then(position).unwrap_or_default();
            let last = entry.providers.last().and_then(position).unwrap_or_default();
            prop_assert!(first <= last);
            let name = &entry.requires[0].name;
            prop_assert!(participants[last..].iter().any(|participant| participant
                .alternatives
                .iter()
                .any(|sections| sections.requires.iter().any(|require| require.name == *name))));
        }
        let names: HashSet<_> = resolved.plan.entries.iter().map(|entry| &entry.requires[0].name).collect();
        prop_assert_eq!(names.len(), resolved.plan.entries.len());
    }
}
