//! The examples for other programs: at least they are what they say they are.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_yaml::Value;

fn conf(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(file)).unwrap()
}

fn documents(file: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&conf(file)).map(|document| Value::deserialize(document).unwrap()).collect()
}

#[test]
fn the_automation_says_what_is_told_and_hears_nobody_from_outside() {
    let automation = &documents("home-assistant/automation.yaml")[0][0];
    let trigger = &automation["triggers"][0];
    assert_eq!((&trigger["trigger"], &trigger["local_only"]), (&"webhook".into(), &true.into()));
    assert_eq!(trigger["allowed_methods"][0], "POST");
    let action = &automation["actions"][0];
    assert_eq!(action["action"], "persistent_notification.create");
    assert_eq!(action["data"]["message"], "{{ trigger.json.message }}");
}

#[test]
fn log_readers_look_at_the_units_journal() {
    assert_eq!(
        documents("crowdsec/acquis.d/hearthgate.yaml")[0]["journalctl_filter"][0],
        "_SYSTEMD_UNIT=hearthgate.service"
    );
    assert_eq!(documents("logs/vector.yaml")[0]["sources"]["hearthgate"]["include_units"][0], "hearthgate.service");
    for file in ["fail2ban/filter.d/hearthgate.conf", "logs/config.alloy"] {
        assert!(conf(file).contains("_SYSTEMD_UNIT=hearthgate.service"), "{file}");
    }
}

#[test]
fn crowdsecs_scenarios_ask_for_what_its_parser_makes() {
    let parser = conf("crowdsec/parsers/hearthgate.yaml");
    for scenario in documents("crowdsec/scenarios/hearthgate.yaml") {
        let filter = scenario["filter"].as_str().unwrap().to_owned();
        let log_type = filter.strip_prefix("evt.Meta.log_type == '").unwrap().trim_end_matches('\'').to_owned();
        assert!(parser.contains(&format!("value: {log_type}\n")), "{log_type}");
    }
}
