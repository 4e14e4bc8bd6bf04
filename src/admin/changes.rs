//! Whether a form may change something: only the status page's own may. Pure rules.
//!
//! A page from elsewhere can have the operator's browser send a form here, with the operator's credentials. Two walls
//! stand against that, each enough by itself: the browser says where the form comes from, and the form holds a word
//! that only our page can know.

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Uri};

use super::access::are_equal_in_constant_time;

/// Why a form is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disbelief {
    /// It is no form.
    NoForm,
    /// It was sent from another page, or the browser does not say from which.
    FromElsewhere,
    /// It lacks the word, or has another one: the page is of an earlier start of the gate.
    WrongToken,
}

/// The two fields of the form that lifts a ban.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unban {
    pub network: String,
    token: String,
}

/// Reads the form that lifts a ban and checks where it comes from.
pub(super) fn unban(fields: &HeaderMap, body: &[u8], token: &str) -> Result<Unban, Disbelief> {
    let form =
        fields.get(CONTENT_TYPE).map(|value| value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default());
    if !form.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(FORM)) {
        return Err(Disbelief::NoForm);
    }
    if !is_from_our_page(fields) {
        return Err(Disbelief::FromElsewhere);
    }
    let mut unban = Unban::default();
    for (name, value) in form_urlencoded::parse(body) {
        match &*name {
            "network" => unban.network = value.into_owned(),
            "token" => unban.token = value.into_owned(),
            _ => {}
        }
    }
    match are_equal_in_constant_time(unban.token.as_bytes(), token.as_bytes()) && !token.is_empty() {
        true => Ok(unban),
        false => Err(Disbelief::WrongToken),
    }
}

/// Browsers send `Sec-Fetch-Site` to https and to loopback, and `Origin` with every form. What is there must be right;
/// a request without either is no browser's, and has the Unix socket to ask.
fn is_from_our_page(fields: &HeaderMap) -> bool {
    let site = match one(fields, &SEC_FETCH_SITE) {
        Ok(None) => None,
        Ok(Some(site)) => Some(site == "same-origin"),
        Err(TwoOrOdd) => Some(false),
    };
    let origin = match (one(fields, &ORIGIN), one(fields, &HOST)) {
        (Ok(None), Ok(Some(_))) => None,
        (Ok(Some(origin)), Ok(Some(host))) => Some(is_origin_of(origin, host)),
        _ => Some(false),
    };
    match (site, origin) {
        (None, None) => false,
        (site, origin) => site.unwrap_or(true) && origin.unwrap_or(true),
    }
}

/// Whether `origin` is a page of `host`. Its scheme may be https where a proxy stands before the listener.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let is_web = matches!(origin.scheme_str(), Some("http" | "https"));
    let is_bare = origin.path() == "/" && origin.query().is_none();
    is_web && is_bare && origin.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host))
}

/// A field occurs twice, or holds more than visible ASCII.
struct TwoOrOdd;

fn one<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Result<Option<&'f str>, TwoOrOdd> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| TwoOrOdd),
        (Some(_), Some(_)) => Err(TwoOrOdd),
    }
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in list {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    fn sent(list: &[(&'static str, &'static str)], body: &str) -> Result<String, Disbelief> {
        unban(&fields(list), body.as_bytes(), TOKEN).map(|unban| unban.network)
    }

    const KIND: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const BODY: &str = "network=203.0.113.0%2F24&token=0123456789abcdef";

    #[test]
    fn only_our_own_page_is_believed() {
        let host = ("host", "127.0.0.1:9180");
        let (ours, theirs) = (("origin", "http://127.0.0.1:9180"), ("origin", "http://evil.example"));
        let same = ("sec-fetch-site", "same-origin");
        let table: [(&[(&str, &str)], bool); 16] = [
            (&[host, same], true),
            (&[host, ours], true),
            (&[host, same, ours], true),
            (&[("host", "gate.lan"), ("origin", "https://GATE.lan")], true),
            (&[host], false),
            (&[host, ("sec-fetch-site", "cross-site")], false),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "none")], false),
            (&[host, ("sec-fetch-site", "cross-site"), ours], false),
            (&[host, same, theirs], false),
            (&[host, theirs], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("origin", "http://127.0.0.1:9181")], false),
            (&[host, same, same], false),
            (&[host, ours, theirs], false),
            (&[host, ("origin", "ftp://127.0.0.1:9180")], false),
        ];
        for (list, expected) in table {
            let list: Vec<_> = list.iter().copied().chain([KIND]).collect();
            let expected = if expected { Ok("203.0.113.0/24".to_owned()) } else { Err(Disbelief::FromElsewhere) };
            assert_eq!(sent(&list, BODY), expected, "{list:?}");
        }
    }

    #[test]
    fn only_a_form_with_the_whole_token_is_believed() {
        let ours = [("host", "localhost"), ("sec-fetch-site", "same-origin")];
        let with = |kind: &'static str| [ours[0], ours[1], ("content-type", kind)];
        assert!(sent(&with("application/x-www-form-urlencoded; charset=utf-8"), BODY).is_ok());
        for kind in ["text/plain", "multipart/form-data", "application/json", ""] {
            assert_eq!(sent(&with(kind), BODY), Err(Disbelief::NoForm), "{kind}");
        }
        assert_eq!(sent(&ours, BODY), Err(Disbelief::NoForm));
        for body in [
            "",
            "network=x",
            "network=x&token=",
            "network=x&token=0123456789abcdeg",
            "token=0123456789abcdef0",
            "\u{ff}%%%",
        ] {
            assert_eq!(sent(&with(KIND.1), body), Err(Disbelief::WrongToken), "{body}");
        }
        assert_eq!(unban(&fields(&with(KIND.1)), b"network=x&token=", ""), Err(Disbelief::WrongToken));
    }
}
