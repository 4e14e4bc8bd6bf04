//! Dashboard, alerts and documentation name the metrics that the gate has, and the gate has none that they leave out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hearthgate::metrics::{Family, Kind, Metrics};
use serde_json::Value;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn families() -> Vec<Family> {
    Metrics::new().families().to_vec()
}

/// Every name under which Prometheus knows a family, with its labels.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = BTreeMap::new();
    // Prometheus' own, of each scrape.
    series.insert("up".to_owned(), BTreeSet::new());
    for Family { name, kind, labels } in families() {
        let labels: BTreeSet<String> = labels.into_iter().collect();
        if kind == Kind::Histogram {
            series.insert(format!("{name}_sum"), labels.clone());
            series.insert(format!("{name}_count"), labels.clone());
            series.insert(format!("{name}_bucket"), labels.into_iter().chain(["le".to_owned()]).collect());
        } else {
            series.insert(name, labels);
        }
    }
    series
}

/// Every expression in a document, whatever lies around it.
fn expressions(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if key == "expr" => found.push(text.clone()),
                    Value::String(text) if key == "query" && text.starts_with("label_values(") => {
                        found.push(text.clone())
                    }
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn expressions_of(file: &str) -> Vec<String> {
    let mut found = Vec::new();
    // JSON is YAML too.
    expressions(&serde_yaml::from_str(&read(file)).unwrap(), &mut found);
    assert!(found.len() > 10, "{file} has {} expressions", found.len());
    found
}

/// The names of metrics in a PromQL expression, each with the labels that its braces ask for.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    let mut selectors = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        let word_end = rest[start..].find(|sign| !is_word(sign)).map_or(rest.len(), |end| start + end);
        let (word, behind) = (&rest[start..word_end], &rest[word_end..]);
        rest = behind;
        let is_metric = ["hearthgate_", "process_"].iter().any(|prefix| word.starts_with(prefix)) || word == "up";
        if is_metric {
            let (labels, behind) = matchers(behind);
            selectors.push((word.to_owned(), labels));
            rest = behind;
        } else if behind.starts_with('"') || behind.starts_with("=\"") {
            rest = behind;
        }
    }
    selectors
}

/// The labels in the braces at the beginning of `text`, and what comes behind them.
fn matchers(text: &str) -> (Vec<String>, &str) {
    let Some(inner) = text.strip_prefix('{') else { return (Vec::new(), text) };
    // No value in these files has a brace or a comma.
    let (inner, behind) = inner.split_once('}').unwrap();
    let label = |matcher: &str| matcher.split(['=', '!']).next().unwrap().trim().to_owned();
    (inner.split(',').map(label).collect(), behind)
}

/// The labels in `by (..)` and `on (..)`.
fn groupings(expression: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for keyword in ["by (", "on ("] {
        for behind in expression.split(keyword).skip(1) {
            let list = behind.split_once(')').unwrap().0;
            labels.extend(list.split(',').map(|label| label.trim().to_owned()));
        }
    }
    labels
}

/// What Prometheus adds to every series.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

#[test]
fn what_dashboard_and_alerts_ask_for_is_there() {
    let series = series();
    for file in ["grafana/hearthgate.json", "grafana/alerts.yaml"] {
        for expression in expressions_of(file) {
            let selectors = selectors(&expression);
            assert!(!selectors.is_empty(), "{file}: no metric in {expression}");
            let mut known: BTreeSet<&str> = TARGET_LABELS.into();
            for (name, asked) in &selectors {
                let labels = series.get(name).unwrap_or_else(|| panic!("{file}: no metric {name}, in {expression}"));
                for label in asked {
                    let fine = TARGET_LABELS.contains(&label.as_str()) || labels.contains(label);
                    assert!(fine, "{file}: {name} has no label {label}, in {expression}");
                }
                known.extend(labels.iter().map(String::as_str));
            }
            for label in groupings(&expression) {
                assert!(known.contains(label.as_str()), "{file}: nothing has the label {label}, in {expression}");
            }
        }
    }
}

#[test]
fn a_name_that_nobody_has_would_be_found() {
    let text =
        r#"sum by (host, le) (rate(hearthgate_a_bucket{host=~"$host",le="1"}[5m])) / up unless on (job) process_b"#;
    let found = selectors(text);
    let names: Vec<_> = found.iter().map(|(name, labels)| (name.as_str(), labels.join(" "))).collect();
    assert_eq!(
        names,
        [("hearthgate_a_bucket", "host le".to_owned()), ("up", String::new()), ("process_b", String::new())]
    );
    assert_eq!(groupings(text), ["host", "le", "job"]);
}

/// The rows of the README's table of metrics: name, type, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let readme = read("README.md");
    let section = readme.split("## Metrics and health").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `hearthgate_") || line.starts_with("| `process_"));
    let rows = rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 4 && cells[3].len() > 10, "name, type, labels and meaning: {line}");
        let labels =
            cells[2].split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`').to_owned());
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels.collect()))
    });
    rows.collect()
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let documented = documented();
    let families = families();
    for Family { name, kind, labels } in &families {
        let row = documented.get(name).unwrap_or_else(|| panic!("README.md has no row for {name} {labels:?}"));
        assert_eq!((row.0.as_str(), &row.1), (kind.as_str(), &labels.iter().cloned().collect()), "{name}");
    }
    let names: BTreeSet<_> = families.iter().map(|family| &family.name).collect();
    for name in documented.keys() {
        assert!(names.contains(name), "README.md documents {name}, which there is not");
    }
}

#[test]
fn names_are_conventional() {
    for Family { name, kind, labels } in families() {
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        assert!(name.starts_with("hearthgate_") || name.starts_with("process_"), "{name}");
        for unconventional in ["_ms", "_milliseconds", "_minutes", "_kb", "_percent"] {
            assert!(!name.contains(unconventional), "{name} is not in base units");
        }
        // Nothing that a stranger chooses.
        for label in labels {
            let closed = [
                "host",
                "class",
                "code",
                "reason",
                "kind",
                "outcome",
                "cause",
                "store",
                "file",
                "listener",
                "version",
                "direction",
                "reused",
                "certificate",
                "name",
            ];
            assert!(closed.contains(&label.as_str()), "{name} has a new label {label}: is it bounded?");
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_shown_firing_and_quiet() {
    let alerts: Value = serde_yaml::from_str(&read("grafana/alerts.yaml")).unwrap();
    let tests: Value = serde_yaml::from_str(&read("grafana/alerts_test.yaml")).unwrap();
    let runbooks = read("grafana/README.md");
    let rules: Vec<_> =
        alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 9);
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        let text = |key: &str| rule["annotations"][key].as_str().unwrap_or_else(|| panic!("{alert} has no {key}"));
        assert!(text("summary").len() > 10 && text("description").len() > 40, "{alert}");
        assert_eq!(text("runbook"), format!("grafana/README.md#{}", alert.to_lowercase()));
        assert!(runbooks.contains(&format!("\n### {alert}\n")), "grafana/README.md has no section {alert}");
        let shown: Vec<_> = tests["tests"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
            .filter(|test| test["alertname"] == alert)
            .map(|test| !test["exp_alerts"].as_array().unwrap().is_empty())
            .collect();
        assert!(shown.contains(&true) && shown.contains(&false), "{alert} is not shown firing and quiet: {shown:?}");
    }
}
