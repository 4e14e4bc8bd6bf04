//! The page as text.

use super::*;
use crate::admin::{BanCause, BanReport, fixtures};

const TOKEN: &str = "5ecret";

fn ban(reason: &str) -> BanReport {
    let now = fixtures::overview().at;
    BanReport {
        network: "203.0.113.0/24".parse().unwrap(),
        since: now,
        until: now,
        remaining_seconds: 840,
        cause: BanCause::Operator,
        reason: Some(reason.into()),
        strikes: 2,
    }
}

#[test]
fn the_three_questions_are_answered() {
    let page = render(&fixtures::overview(), TOKEN);
    for part in [
        "All is well",
        "Is the door open?",
        "Who knocks?",
        "How does it feel?",
        "60 days left",
        "http://192.168.1.20:8123",
        "203.0.113.7",
        "rate limit",
        "guard.rate_limits.api",
        "Nobody is banned.",
        "generation 3",
        "https 0.0.0.0:443",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains(TOKEN), "a page without a form needs no token");
}

#[test]
fn whatever_strangers_and_operators_write_is_escaped() {
    let evil = "</td><script>alert('1')</script>\"&";
    let mut overview = fixtures::overview();
    overview.bans.bans = vec![ban(evil)];
    overview.status.hosts[0].name = evil.into();
    overview.status.hosts[0].upstream = evil.into();
    overview.status.hosts[0].health = evil.into();
    overview.status.hosts[0].advice = Some(evil.into());
    overview.status.version = evil.into();
    overview.unready = Some(evil.into());
    overview.certificates.certificates[0].host = evil.into();
    overview.certificates.certificates[0].served.as_mut().unwrap().last_error = Some(evil.into());
    overview.status.last_reload.as_mut().unwrap().outcome = crate::admin::ReloadOutcome::Refused;
    overview.status.last_reload.as_mut().unwrap().errors = vec![evil.into()];
    overview.refusals[0].refusal.host = Some(evil.into());
    overview.refusals[0].refusal.reason = evil.into();
    overview.refusals[0].refusal.key = Some(evil.into());
    let page = render(&overview, TOKEN);
    assert_eq!(page.matches("<script").count(), 1, "its own");
    assert!(page.matches("&lt;/td&gt;&lt;script&gt;alert('1')&lt;/script&gt;&quot;&amp;").count() >= 12, "{page}");
}

#[test]
fn each_ban_has_a_form_that_proves_where_it_comes_from() {
    let mut overview = fixtures::overview();
    overview.bans.bans = vec![ban("scans"), ban("more scans")];
    overview.bans.total = 40;
    let page = render(&overview, TOKEN);
    assert_eq!(page.matches(r#"<form method="post" action="/bans/remove">"#).count(), 2);
    assert_eq!(page.matches(r#"name="token" value="5ecret""#).count(), 2);
    assert_eq!(page.matches(r#"name="network" value="203.0.113.0/24""#).count(), 2);
    assert!(page.contains("The newest 2 of 40"));
}

#[test]
fn what_is_wrong_comes_with_what_to_do() {
    let mut overview = fixtures::overview();
    overview.status.hosts[0].is_up = Some(false);
    overview.status.hosts[0].health = "refused".into();
    overview.status.hosts[0].advice = Some("connection refused; is it running".into());
    let page = render(&overview, TOKEN);
    assert!(page.contains("<title>trouble · Hearthgate</title>"));
    assert!(page.contains("does not answer (refused)") && page.contains("connection refused; is it running"));
    assert!(!page.contains("All is well"));
}

#[test]
fn the_page_keeps_its_own_policy() {
    let page = render(&fixtures::overview(), TOKEN);
    for forbidden in [" style=", " onclick=", "javascript:", "href=\"http", "src=\"http", "<style"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for (file, forbidden) in
        [(STYLE, "@import"), (STYLE, "url("), (SCRIPT, "innerHTML"), (SCRIPT, "eval("), (SCRIPT, "http")]
    {
        assert!(!file.contains(forbidden), "{forbidden}");
    }
    // What is brought up to date is found by its id.
    let ids: Vec<_> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    assert_eq!(page.matches("data-live").count(), 8);
}
