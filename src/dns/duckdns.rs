//! DuckDNS, <https://www.duckdns.org/spec.jsp>: one GET sets a domain's addresses or its TXT record.
//!
//! There is one TXT record per domain, and every name below the domain shows it: two challenges at a time overwrite each
//! other. The token is part of the URL, so no error shows one.

use form_urlencoded::Serializer;
use http::Request;
use http_body_util::Full;

use super::Addresses;
use crate::config::Secret;
use crate::http_client::{HttpClient, HttpError};

#[derive(Debug)]
pub(super) struct DuckDns {
    pub http: HttpClient,
    pub token: Secret,
    pub url: String,
    pub zones: Vec<String>,
}

/// What DuckDNS, or the way to it, has against a change.
#[derive(Debug, thiserror::Error)]
pub enum DuckDnsError {
    #[error(
        "DuckDNS says KO: the token is wrong, or the domain `{domain}` is not among those of its owner at duckdns.org"
    )]
    Refused { domain: String },
    #[error("DuckDNS answers with status {status} instead of OK or KO: try again later")]
    Unexpected { status: u16 },
    #[error("DuckDNS: {0}")]
    Http(#[from] HttpError),
    #[error("it is not below duckdns.org, nor below one of the account's `zones`")]
    NoDomain,
}

impl DuckDns {
    pub async fn set_txt(&self, record: &str, value: &str) -> Result<(), DuckDnsError> {
        self.update(record, &[("txt", value)]).await
    }

    /// The value goes along: `clear` alone would take the domain's addresses away.
    pub async fn clear_txt(&self, record: &str, value: &str) -> Result<(), DuckDnsError> {
        self.update(record, &[("txt", value), ("clear", "true")]).await
    }

    /// Sends only what is to change: with `ipv6` given, DuckDNS does not take the caller's own address for the missing
    /// `ip`, and without any address nothing may be sent, or it would.
    pub async fn point(&self, name: &str, addresses: Addresses) -> Result<(), DuckDnsError> {
        let ipv4 = addresses.ipv4.map(|address| ("ip", address.to_string()));
        let ipv6 = addresses.ipv6.map(|address| ("ipv6", address.to_string()));
        let change: Vec<_> = [&ipv4, &ipv6].into_iter().flatten().map(|(key, value)| (*key, value.as_str())).collect();
        if change.is_empty() { Ok(()) } else { self.update(name, &change).await }
    }

    async fn update(&self, name: &str, change: &[(&str, &str)]) -> Result<(), DuckDnsError> {
        let domain = domain(name, &self.zones).ok_or(DuckDnsError::NoDomain)?;
        let query = Serializer::new(String::new())
            .append_pair("domains", domain)
            .append_pair("token", self.token.expose())
            .extend_pairs(change)
            .finish();
        // Built from what the configuration has checked; what could be wrong with it is not shown, since it holds the token.
        let request = Request::get(format!("{}/update?{query}", self.url)).body(Full::default());
        let request = request.map_err(|_| HttpError::Broken("a request that cannot be sent".to_owned()))?;
        let answer = self.http.send(request).await?;
        match (answer.status().is_success(), answer.body().trim_ascii()) {
            (true, b"OK") => Ok(()),
            (_, b"KO") => Err(DuckDnsError::Refused { domain: domain.to_owned() }),
            _ => Err(DuckDnsError::Unexpected { status: answer.status().as_u16() }),
        }
    }
}

/// What DuckDNS calls the domain: the label below duckdns.org, or below the longest of the zones that lead there.
fn domain<'a>(name: &'a str, zones: &[String]) -> Option<&'a str> {
    let below = |zone: &str| name.strip_suffix(zone)?.strip_suffix('.');
    let rest = below("duckdns.org").or_else(|| {
        let longest = zones.iter().filter(|zone| below(zone).is_some()).max_by_key(|zone| zone.len())?;
        below(longest)
    })?;
    rest.rsplit('.').next().filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::fixtures::{Seen, WebServer, http_client};

    const TOKEN: &str = "a7c4d0ad-114e-40ef-ba1d-d217904a50f2";

    fn account(server: &WebServer) -> DuckDns {
        let token = Secret::new(TOKEN.to_owned());
        DuckDns { http: http_client(), token, url: server.url(), zones: vec!["duckdns.org".to_owned()] }
    }

    async fn asked(answer: &'static str, ask: impl AsyncFnOnce(DuckDns) -> Result<(), DuckDnsError>) -> (Seen, String) {
        let server = WebServer::start(move |_| (200, answer.to_owned())).await;
        let result = ask(account(&server)).await;
        let error = result.map_or_else(|error| format!("{error} {error:?}"), |()| String::new());
        (server.seen().remove(0), error)
    }

    #[test]
    fn the_domain_is_the_label_below_duckdns_org() {
        let zones = |zones: &[&str]| zones.iter().map(|zone| (*zone).to_owned()).collect::<Vec<_>>();
        for (name, own, expected) in [
            ("anna.duckdns.org", &["duckdns.org"][..], Some("anna")),
            ("_acme-challenge.www.anna.duckdns.org", &["duckdns.org"], Some("anna")),
            // However the operator cuts it.
            ("_acme-challenge.anna.duckdns.org", &["anna.duckdns.org"], Some("anna")),
            ("anna.duckdns.org", &[], Some("anna")),
            ("_acme-challenge.anna.example.test", &["test", "example.test"], Some("anna")),
            ("duckdns.org", &["duckdns.org"], None),
            ("annaduckdns.org", &["duckdns.org"], None),
            ("anna.example.org", &["duckdns.org"], None),
        ] {
            assert_eq!(domain(name, &zones(own)), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_txt_record_is_set_and_cleared_by_its_value() {
        let name = "_acme-challenge.anna.duckdns.org";
        let (seen, error) = asked("OK", async |account| account.set_txt(name, "a+b&c").await).await;
        assert_eq!(error, "");
        assert_eq!(seen.method, "GET");
        assert_eq!(seen.target, format!("/update?domains=anna&token={TOKEN}&txt=a%2Bb%26c"));
        let (seen, error) = asked("OK\n", async |account| account.clear_txt(name, "v").await).await;
        assert_eq!(error, "");
        assert_eq!(seen.target, format!("/update?domains=anna&token={TOKEN}&txt=v&clear=true"));
    }

    #[tokio::test]
    async fn only_the_families_that_are_known_are_sent() {
        let (ipv4, ipv6) = ("203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        for (addresses, expected) in [
            (Addresses { ipv4: Some(ipv4), ipv6: None }, "&ip=203.0.113.7"),
            (Addresses { ipv4: None, ipv6: Some(ipv6) }, "&ipv6=2001%3Adb8%3A%3A7"),
            (Addresses { ipv4: Some(ipv4), ipv6: Some(ipv6) }, "&ip=203.0.113.7&ipv6=2001%3Adb8%3A%3A7"),
        ] {
            let (seen, error) = asked("OK", async |account| account.point("anna.duckdns.org", addresses).await).await;
            assert_eq!(error, "");
            assert_eq!(seen.target, format!("/update?domains=anna&token={TOKEN}{expected}"));
        }
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_sent() {
        let server = WebServer::start(|_| (200, "OK".to_owned())).await;
        account(&server).point("anna.duckdns.org", Addresses::default()).await.unwrap();
        assert!(server.seen().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_names_the_domain_and_never_the_token() {
        let (_, error) = asked("KO", async |account| account.set_txt("anna.duckdns.org", "v").await).await;
        assert!(error.contains("says KO") && error.contains("`anna`") && !error.contains(TOKEN), "{error}");
        let (_, error) = asked("<html>", async |account| account.set_txt("anna.duckdns.org", "v").await).await;
        assert!(error.contains("status 200") && !error.contains(TOKEN), "{error}");
        let gone = WebServer::gone().await;
        let error = account(&gone).set_txt("anna.duckdns.org", "v").await.unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", account(&gone)).contains(TOKEN), "{error}");
    }
}
