//! Checks the map from the tests of the .NET DistributedLock library to cases of ours.

use std::collections::{BTreeMap, BTreeSet};

const NAMES: &str = include_str!("../dotnet-names.txt");
const MAP: &str = include_str!("../dotnet-tests.toml");

/// Every name, with the section that it is in.
fn names() -> BTreeSet<(String, String)> {
    let mut section = String::new();
    let mut names = BTreeSet::new();
    for line in NAMES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(heading) = line.strip_prefix('[') {
            section = heading.split_once(']').expect("a section ends").0.to_owned();
        } else {
            assert!(names.insert((section.clone(), line.to_owned())), "{line} stands twice in section {section}");
        }
    }
    names
}

fn problems(names: &BTreeSet<(String, String)>, map: &str) -> Vec<String> {
    let map: BTreeMap<String, BTreeMap<String, toml::Table>> = toml::from_str(map).expect("the map is TOML");
    let cases: BTreeSet<_> = crate::case::every().into_iter().map(|variant| variant.name).collect();
    let mut problems = Vec::new();
    for (section, name) in names {
        if !map.get(section).is_some_and(|rows| rows.contains_key(name)) {
            problems.push(format!("{section} {name}: no row"));
        }
    }
    for (section, rows) in &map {
        for (name, row) in rows {
            let row_problem = match (row.get("cases"), row.get("reason"), row.len()) {
                (Some(toml::Value::Array(listed)), None, 1) if !listed.is_empty() => listed
                    .iter()
                    .find(|case| !case.as_str().is_some_and(|case| cases.contains(case)))
                    .map(|case| format!("there is no case {case}")),
                (None, Some(toml::Value::String(reason)), 1) if !reason.is_empty() => None,
                _ => Some("a row has either `cases` or a `reason`".to_owned()),
            };
            problems.extend(row_problem.map(|problem| format!("{section} {name}: {problem}")));
            if !names.contains(&(section.clone(), name.clone())) {
                problems.push(format!("{section} {name}: no such name"));
            }
        }
    }
    problems
}

#[test]
fn every_dotnet_test_has_cases_or_a_reason() {
    let problems = problems(&names(), MAP);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_check_finds_what_is_wrong() {
    let names = BTreeSet::from([("5.2".to_owned(), "A".to_owned()), ("5.2".to_owned(), "B".to_owned())]);
    let found = |map: &str| problems(&names, map);
    let good = "[\"5.2\"]\nA = { cases = [\"async::mutex::basic\"] }\nB = { reason = \"because\" }";
    assert_eq!(found(good), [""; 0]);
    assert_eq!(found("[\"5.2\"]\nA = { reason = \"because\" }"), ["5.2 B: no row"]);
    assert_eq!(found(&good.replace("basic", "bassic")).len(), 1, "a case that does not exist");
    assert_eq!(found(&good.replace("because", "")).len(), 1, "an empty reason");
    assert_eq!(found(&good.replace("reason", "excuse")).len(), 1, "neither cases nor a reason");
    assert_eq!(found(&good.replace("[\"async::mutex::basic\"]", "[]")).len(), 1, "no cases");
    assert_eq!(found(&format!("{good}\nC = {{ reason = \"because\" }}")), ["5.2 C: no such name"]);
}

#[test]
fn all_fixtures_of_the_survey_are_there() {
    let count = |section: &str| names().iter().filter(|(found, _)| found == section).count();
    assert_eq!(["5.2", "5.3", "5.4", "5.5", "5.8"].map(count), [18, 3, 6, 5, 7]);
}
