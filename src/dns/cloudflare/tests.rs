use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::dns::fixtures::{Seen, WebServer, http_client};

const TOKEN: &str = "f3P0_QZxSecretOfThisTest-0123456789abcdef";
const NAME: &str = "_acme-challenge.ha.example.org";

/// Cloudflare with the zones example.org and de.example.org, which keeps records as the real one does.
#[derive(Clone, Default)]
struct StandIn {
    records: Arc<Mutex<Vec<Value>>>,
}

impl StandIn {
    async fn start(&self) -> WebServer {
        let records = self.records.clone();
        WebServer::start(move |request| {
            if request.authorization.as_deref() != Some(&format!("Bearer {TOKEN}")) {
                return refusal(400, 6003, "Invalid request headers");
            }
            answer(&mut records.lock(), request)
        })
        .await
    }

    fn holds(&self, records: Value) {
        self.records.lock().extend(records.as_array().unwrap().clone());
    }
}

fn refusal(status: u16, code: u64, message: &str) -> (u16, String) {
    let errors = json!([{ "code": code, "message": message }]);
    (status, json!({ "success": false, "errors": errors, "messages": [], "result": null }).to_string())
}

fn result(result: &Value) -> (u16, String) {
    (200, json!({ "success": true, "errors": [], "messages": [], "result": result }).to_string())
}

fn answer(records: &mut Vec<Value>, request: &Seen) -> (u16, String) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let asked = |key: &str| query.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value);
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let parts: Vec<_> = path.split('/').skip(1).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["zones"]) => match asked("name") {
            "example.org" => result(&json!([{ "id": "zone-1", "name": "example.org" }])),
            "de.example.org" => result(&json!([{ "id": "zone-2", "name": "de.example.org" }])),
            _ => result(&json!([])),
        },
        ("GET", ["zones", _, "dns_records"]) => {
            let found =
                records.iter().filter(|record| record["type"] == asked("type") && record["name"] == asked("name"));
            result(&Value::Array(found.cloned().collect()))
        }
        ("POST", ["zones", _, "dns_records"]) => {
            if records.iter().any(|record| record["name"] == body["name"] && record["content"] == body["content"]) {
                return refusal(400, 81058, "An identical record already exists.");
            }
            let mut record = body;
            record["id"] = format!("record-{}", records.len() + 1).into();
            records.push(record.clone());
            result(&record)
        }
        (method @ ("PATCH" | "DELETE"), ["zones", _, "dns_records", id]) => {
            let Some(at) = records.iter().position(|record| record["id"] == *id) else {
                return refusal(404, 81044, "Record does not exist.");
            };
            if method == "DELETE" {
                return result(&json!({ "id": records.remove(at)["id"] }));
            }
            for (key, value) in body.as_object().unwrap() {
                records[at][key] = value.clone();
            }
            result(&records[at])
        }
        _ => refusal(404, 7003, "Could not route"),
    }
}

fn account(server: &WebServer) -> Cloudflare {
    Cloudflare { http: http_client(), token: Secret::new(TOKEN.to_owned()), url: server.url() }
}

fn ipv4(address: &str) -> Addresses {
    Addresses { ipv4: Some(address.parse().unwrap()), ipv6: None }
}

#[test]
fn a_zone_is_looked_for_from_the_longest_name_down() {
    let names = |name| zone_names(name).collect::<Vec<_>>();
    assert_eq!(names(NAME), ["ha.example.org", "example.org"]);
    assert_eq!(names("example.org"), ["example.org"]);
    assert_eq!(names("org"), [""; 0]);
    assert_eq!(names("1.2.3.4.5.6.7.8.9.10.11.12").len(), MAX_ZONE_NAMES);
    assert_eq!(names("1.2.3.4.5.6.7.8.9.10.11.12").last(), Some(&"11.12"));
}

#[tokio::test]
async fn a_txt_record_comes_and_goes_and_others_of_its_name_stay() {
    let stand_in = StandIn::default();
    stand_in.holds(json!([{ "id": "other", "type": "TXT", "name": NAME, "content": "\"other\"" }]));
    let server = stand_in.start().await;
    let id = account(&server).set_txt(NAME, "value-1").await.unwrap();
    let made = json!({ "id": "record-2", "type": "TXT", "name": NAME, "content": "\"value-1\"", "ttl": 60 });
    assert_eq!(stand_in.records.lock()[1], made);
    let again = RecordId { zone: id.zone.clone(), record: id.record.clone() };
    account(&server).clear_txt(NAME, "value-1", Some(id)).await.unwrap();
    assert_eq!(stand_in.records.lock().len(), 1);
    // Gone is gone.
    account(&server).clear_txt(NAME, "value-1", Some(again)).await.unwrap();
    let targets: Vec<_> = server.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let expected = [
        "GET /zones?name=ha.example.org",
        "GET /zones?name=example.org",
        "POST /zones/zone-1/dns_records",
        "DELETE /zones/zone-1/dns_records/record-2",
        "DELETE /zones/zone-1/dns_records/record-2",
    ];
    assert_eq!(targets, expected);
}

#[tokio::test]
async fn the_longest_zone_holds_the_name() {
    let server = StandIn::default().start().await;
    let id = account(&server).set_txt("_acme-challenge.de.example.org", "value-1").await.unwrap();
    assert_eq!(id.zone, "zone-2");
}

#[tokio::test]
async fn a_record_left_by_an_earlier_run_is_taken_over() {
    let stand_in = StandIn::default();
    stand_in.holds(json!([{ "id": "left", "type": "TXT", "name": NAME, "content": "\"value-1\"" }]));
    let server = stand_in.start().await;
    let id = account(&server).set_txt(NAME, "value-1").await.unwrap();
    account(&server).clear_txt(NAME, "value-1", Some(id)).await.unwrap();
    assert!(stand_in.records.lock().is_empty());
}

#[tokio::test]
async fn a_record_whose_making_was_not_confirmed_is_found_by_its_content() {
    let stand_in = StandIn::default();
    let record = |id, content| json!({ "id": id, "type": "TXT", "name": NAME, "content": content });
    stand_in.holds(json!([record("other", "\"other\""), record("unconfirmed", "\"value-1\"")]));
    let server = stand_in.start().await;
    for _ in 0..2 {
        account(&server).clear_txt(NAME, "value-1", None).await.unwrap();
        assert_eq!(*stand_in.records.lock(), [record("other", "\"other\"")]);
    }
}

#[tokio::test]
async fn an_address_is_made_changed_and_left_alone() {
    let stand_in = StandIn::default();
    let server = stand_in.start().await;
    let both = Addresses { ipv6: Some("2001:db8::7".parse().unwrap()), ..ipv4("203.0.113.7") };
    account(&server).point("ha.example.org", both).await.unwrap();
    let content = |at: usize| stand_in.records.lock()[at]["content"].clone();
    assert_eq!((content(0), content(1)), (json!("203.0.113.7"), json!("2001:db8::7")));
    assert_eq!(stand_in.records.lock()[0]["proxied"], json!(false));
    // What the operator has set since stays.
    stand_in.records.lock()[0]["proxied"] = json!(true);
    stand_in.records.lock()[0]["ttl"] = json!(1);
    account(&server).point("ha.example.org", ipv4("203.0.113.8")).await.unwrap();
    let changed = json!({
        "id": "record-1", "type": "A", "name": "ha.example.org", "content": "203.0.113.8", "proxied": true, "ttl": 1
    });
    assert_eq!(stand_in.records.lock()[0], changed);
    assert_eq!(content(1), json!("2001:db8::7"));
    account(&server).point("ha.example.org", ipv4("203.0.113.8")).await.unwrap();
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PATCH").count(), 1);
}

#[tokio::test]
async fn of_several_addresses_none_is_guessed() {
    let stand_in = StandIn::default();
    let record = |id, content| json!({ "id": id, "type": "A", "name": "ha.example.org", "content": content });
    stand_in.holds(json!([record("1", "203.0.113.1"), record("2", "203.0.113.2")]));
    let server = stand_in.start().await;
    let error = account(&server).point("ha.example.org", ipv4("203.0.113.8")).await.unwrap_err();
    assert_eq!(error.to_string(), "it has 2 A records: leave one, which will then be kept up to date");
}

#[tokio::test]
async fn what_cloudflare_says_is_passed_on_without_the_token() {
    let server = StandIn::default().start().await;
    let error = account(&server).set_txt("_acme-challenge.example.com", "v").await.unwrap_err();
    assert!(matches!(error, CloudflareError::NoZone), "{error}");

    let mut wrong = account(&server);
    wrong.token = Secret::new("wrong".to_owned());
    let error = wrong.set_txt(NAME, "v").await.unwrap_err().to_string();
    assert!(error.contains("does not take the token: 6003 \"Invalid request headers\" (status 400)"), "{error}");

    let bad = WebServer::start(|_| refusal(429, 971, &format!("slow down\n{TOKEN}"))).await;
    let error = account(&bad).set_txt(NAME, "v").await.unwrap_err();
    assert_eq!(error.to_string(), "Cloudflare says 971 \"slow down\\n***\" (status 429)");
    assert!(!format!("{error:?}").contains(TOKEN));

    let odd = WebServer::start(|_| (502, "<html>".to_owned())).await;
    let error = account(&odd).set_txt(NAME, "v").await.unwrap_err().to_string();
    assert!(error.contains("status 502"), "{error}");

    wrong.token = Secret::new("line\nbreak".to_owned());
    let error = wrong.set_txt(NAME, "v").await.unwrap_err();
    assert!(!format!("{error} {error:?} {wrong:?}").contains("break\""), "{error:?}");
}
