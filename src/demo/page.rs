//! The stand-in's page: what the upstream saw of the request, and a WebSocket to talk to.
//!
//! Everything reflected is escaped, and the page's policy lets no script run but its own.

use std::io;

use http::HeaderMap;
use rustls::crypto::aws_lc_rs;

/// What the page tells about the request that asked for it.
pub(super) struct Seen<'a> {
    /// The other end of the upstream's connection: the gate.
    pub(super) peer: String,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) fields: &'a HeaderMap,
}

/// The page and the `Content-Security-Policy` that belongs to it.
pub(super) fn render(seen: &Seen<'_>) -> io::Result<(String, String)> {
    let nonce = random_word()?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    // What strangers sent goes in last, so that no marker in it is ever filled in.
    let page = TEMPLATE.replace("{{nonce}}", &nonce).replace("{{rows}}", &rows(seen));
    Ok((page, policy))
}

fn rows(seen: &Seen<'_>) -> String {
    let client = seen.fields.get("x-forwarded-for").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut rows = String::new();
    push_row("client", client.as_deref().unwrap_or("not told: no gate in between"), &mut rows);
    push_row("connected from", &seen.peer, &mut rows);
    push_row("request", &format!("{} {}", seen.method, seen.target), &mut rows);
    for (name, value) in seen.fields {
        let is_secret = matches!(name.as_str(), "cookie" | "authorization");
        let value = if is_secret { "present, not shown".into() } else { String::from_utf8_lossy(value.as_bytes()) };
        push_row(name.as_str(), &value, &mut rows);
    }
    rows
}

fn push_row(name: &str, value: &str, rows: &mut String) {
    rows.push_str("<tr><th>");
    escape(name, rows);
    rows.push_str("</th><td>");
    escape(value, rows);
    rows.push_str("</td></tr>\n");
}

fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
}

/// 128 random bits as hexadecimal digits.
pub(super) fn random_word() -> io::Result<String> {
    let mut bytes = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

const TEMPLATE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_is_reflected_is_escaped_and_fills_no_marker() {
        let mut fields = HeaderMap::new();
        fields.insert("user-agent", HeaderValue::from_static("</td><script>alert('1')</script> {{nonce}} {{rows}}"));
        fields.insert("cookie", HeaderValue::from_static("session=hunter2"));
        fields.insert(HeaderName::from_static("x-odd"), HeaderValue::from_bytes(b"\xff\t").unwrap());
        let seen = Seen { peer: "p".into(), method: "GET", target: "/?<b>&\"", fields: &fields };
        let (page, policy) = render(&seen).unwrap();
        assert!(page.contains("&lt;/td&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; {{nonce}} {{rows}}"));
        assert!(page.contains("GET /?&lt;b&gt;&amp;&quot;"));
        assert!(!page.contains("hunter2"));
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!policy.contains("unsafe"));
    }

    #[test]
    fn each_page_has_a_nonce_of_its_own() {
        let fields = HeaderMap::new();
        let seen = Seen { peer: "p".into(), method: "GET", target: "/", fields: &fields };
        let ((page, policy), (_, other)) = (render(&seen).unwrap(), render(&seen).unwrap());
        assert_ne!(policy, other);
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "one script, one style sheet");
        assert!(!page.contains("{{"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for foreign in ["http://", "https://", "//cdn", "src=", " onclick=", " style=", "innerHTML"] {
            assert!(!TEMPLATE.contains(foreign), "{foreign}");
        }
    }
}
