//! Forms as aiohttp reads them, so long as there is one way to read them.
//!
//! Scripts and apps send `application/x-www-form-urlencoded`, the browser `multipart/form-data` with a boundary of the
//! moment. Both become the same sorted fields. aiohttp reads much more (other charsets, encoded parts, lengths within
//! parts, preambles, a `_charset_` field); whatever is not what a client sends is not read here at all, because a
//! field that the gate sees and Home Assistant does not would hide a guess.

use std::collections::BTreeMap;

use super::login::BODY_LIMIT;

/// The fields, each of them once.
pub(super) type Fields = BTreeMap<String, String>;

/// Reads a form; `None` if it is in any way unusual.
pub(super) fn read(content_type: &str, body: &[u8]) -> Option<Fields> {
    let body = if body.len() > BODY_LIMIT { None } else { std::str::from_utf8(body).ok() }?;
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let parameters = parameters.trim();
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" if is_default_charset(parameters) => read_encoded(body),
        "multipart/form-data" => read_multipart(boundary(parameters)?, body),
        _ => None,
    }
}

fn is_default_charset(parameters: &str) -> bool {
    parameters.is_empty()
        || ["charset=utf-8", "charset=\"utf-8\""].iter().any(|utf8| parameters.eq_ignore_ascii_case(utf8))
}

fn read_encoded(body: &str) -> Option<Fields> {
    let mut fields = Fields::new();
    // `bytes.rstrip`, which knows ASCII only.
    let body = body.trim_end_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    for (name, value) in form_urlencoded::parse(body.as_bytes()) {
        // Different broken bytes would look alike.
        if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
            return None;
        }
        insert(&mut fields, name.into_owned(), value.into_owned())?;
    }
    Some(fields)
}

fn insert(fields: &mut Fields, name: String, value: String) -> Option<()> {
    fields.insert(name, value).is_none().then_some(())
}

/// The one parameter that a multipart type has; quotes are allowed, what would need them is not.
fn boundary(parameters: &str) -> Option<&str> {
    let (name, value) = parameters.split_once('=')?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let is_plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.'+".contains(&b));
    (name.eq_ignore_ascii_case("boundary") && (1..=70).contains(&value.len()) && is_plain).then_some(value)
}

/// The delimiter stands nowhere but between parts: then there is nothing to find it in by mistake.
fn read_multipart(boundary: &str, body: &str) -> Option<Fields> {
    let delimiter = format!("--{boundary}");
    let inner = body.strip_prefix(&delimiter)?;
    let mut pieces: Vec<&str> = inner.split(&delimiter).collect();
    if !matches!(pieces.pop()?, "--" | "--\r\n") {
        return None;
    }
    let mut fields = Fields::new();
    for piece in pieces {
        let (name, value) = part(piece.strip_prefix("\r\n")?.strip_suffix("\r\n")?)?;
        insert(&mut fields, name.to_owned(), value.to_owned())?;
    }
    Some(fields)
}

/// One part: its name, and its text as it is.
fn part(text: &str) -> Option<(&str, &str)> {
    let (head, value) = text.split_once("\r\n\r\n")?;
    let mut name = None;
    for line in head.split("\r\n") {
        let (field, content) = line.split_once(':')?;
        let content = content.trim_matches(' ');
        if line.chars().any(char::is_control) {
            return None;
        }
        match field.to_ascii_lowercase().as_str() {
            "content-disposition" if name.is_none() => name = Some(name_in(content)?),
            "content-type" if is_text(content) => {}
            _ => return None,
        }
    }
    Some((name?, value))
}

fn name_in(disposition: &str) -> Option<&str> {
    let name = disposition.strip_prefix("form-data;")?.trim_start_matches(' ');
    let name = name.strip_prefix("name=\"")?.strip_suffix('"')?;
    // `_charset_` changes how aiohttp reads the others.
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_plain && name != "_charset_").then_some(name)
}

fn is_text(content_type: &str) -> bool {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    kind.eq_ignore_ascii_case("text/plain") && is_default_charset(parameters.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENCODED: &str = "application/x-www-form-urlencoded";

    fn multipart(boundary: &str, fields: &Fields) -> String {
        let parts = fields.iter().map(|(name, value)| {
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        });
        parts.chain([format!("--{boundary}--\r\n")]).collect()
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_forms_are_the_same_fields() {
        let expected = fields(&[("client_id", "http://ha/"), ("code", "a b")]);
        for content_type in [ENCODED, "Application/X-WWW-Form-Urlencoded; charset=UTF-8"] {
            assert_eq!(read(content_type, b"code=a+b&&client_id=http%3A%2F%2Fha%2F \r\n"), Some(expected.clone()));
        }
        let body = multipart("----WebKitFormBoundary7MA4YWxkTrZu0gW", &expected);
        let content_type = "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW";
        assert_eq!(read(content_type, body.as_bytes()), Some(expected.clone()));
        let typed = body.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
        assert_eq!(read(content_type, typed.as_bytes()), Some(expected));
        assert_eq!(read(ENCODED, b""), Some(Fields::new()));
        assert_eq!(read(ENCODED, "code=a\u{85}".as_bytes()), Some(fields(&[("code", "a\u{85}")])));
    }

    #[test]
    fn what_could_be_read_otherwise_is_not_read() {
        for (content_type, body) in [
            ("application/json", "{}"),
            ("", "code=a"),
            ("application/x-www-form-urlencoded; charset=utf-16", "code=a"),
            ("application/x-www-form-urlencoded; charset=utf-8; x=y", "code=a"),
            (ENCODED, "code=a&code=b"),
            (ENCODED, "code=%FF"),
            ("multipart/form-data", "--b--"),
            ("multipart/form-data; boundary=", "----"),
            ("multipart/form-data; boundary=a b", "--a b--"),
            ("multipart/form-data; boundary=b; charset=utf-8", "--b--"),
        ] {
            assert_eq!(read(content_type, body.as_bytes()), None, "{content_type} {body}");
        }
        assert_eq!(read(ENCODED, b"code=\xff"), None);
        assert_eq!(read(ENCODED, &vec![b'a'; BODY_LIMIT + 1]), None);
    }

    #[test]
    fn odd_multiparts_are_not_read() {
        let disposition = "Content-Disposition: form-data; name=\"code\"";
        for body in [
            format!("preamble\r\n--b\r\n{disposition}\r\n\r\na\r\n--b--"),
            format!("--b\r\n{disposition}\r\n\r\na\r\n--b--\r\nepilogue"),
            format!("--b\r\n{disposition}\r\n\r\na\r\n--b\r\n"),
            format!("--b\r\n{disposition}\r\n\r\na\n--b--"),
            format!("--b\n{disposition}\n\na\n--b--"),
            format!("--b\r\n{disposition}\n\nx\r\n\r\na\r\n--b--"),
            format!("--b\r\n{disposition}\r\n\r\na--b\r\n--b--"),
            format!("--b\r\n{disposition}; filename=\"f\"\r\n\r\na\r\n--b--"),
            format!("--b\r\n{disposition}\r\nContent-Length: 0\r\n\r\na\r\n--b--"),
            format!("--b\r\n{disposition}\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--b--"),
            format!("--b\r\n{disposition}\r\nContent-Type: text/plain; charset=utf-7\r\n\r\na\r\n--b--"),
            format!("--b\r\n{disposition}\r\n{disposition}\r\n\r\na\r\n--b--"),
            format!("--b\r\n{disposition}\r\n\r\na\r\n--b\r\n{disposition}\r\n\r\nb\r\n--b--"),
            "--b\r\nContent-Disposition: form-data; name=\"_charset_\"\r\n\r\nutf-7\r\n--b--".to_owned(),
            "--b\r\n\r\na\r\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data; name*=utf-8''code\r\n\r\na\r\n--b--".to_owned(),
        ] {
            assert_eq!(read("multipart/form-data; boundary=b", body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(content_type in ".{0,60}", body in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&content_type, &body);
            read("multipart/form-data; boundary=b", &body);
            read(ENCODED, &body);
        }

        #[test]
        fn a_multipart_of_any_boundary_is_the_encoded_form(
            boundary in "[A-Za-z0-9-]{8,60}",
            pairs in prop::collection::btree_map("[a-z]{1,12}", "[ -~é\r\n]{0,40}", 0..5),
        ) {
            prop_assume!(!pairs.values().any(|value| value.contains(&boundary)));
            let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let content_type = format!("multipart/form-data; boundary={boundary}");
            prop_assert_eq!(read(&content_type, multipart(&boundary, &pairs).as_bytes()), Some(pairs.clone()));
            prop_assert_eq!(read(ENCODED, encoded.as_bytes()), Some(pairs));
        }
    }
}
