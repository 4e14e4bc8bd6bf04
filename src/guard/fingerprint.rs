//! What is remembered of a secret: a keyed hash of it, and nothing else.

use aws_lc_rs::hmac;

/// 128 bits of an HMAC-SHA-256 under a key that strangers do not know: nobody can aim at another's, and nothing can be
/// read back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub(super) u128);

impl Fingerprint {
    /// Half of it, where eight bytes have to do.
    pub fn short(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// As the state directory holds it.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(Self)
    }
}

/// What a secret is; equal bytes of two kinds have different fingerprints.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// An access token, an `Authorization` field, or anything else sent as proof of a session.
    Token,
    Password,
    Account,
    Flow,
    Cookie,
    CookieSignature,
}

/// Makes fingerprints under one key.
pub struct Fingerprints(hmac::Key);

impl Fingerprints {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The fingerprint of `secret` at `host`: what is good at one host is nothing at another.
    pub fn of(&self, kind: Kind, host: &str, secret: &[u8]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[kind as u8]);
        context.update(&(host.len() as u64).to_be_bytes());
        context.update(host.as_bytes());
        context.update(secret);
        let tag = context.sign();
        let half = tag.as_ref().first_chunk().expect("an HMAC-SHA-256 has 32 bytes");
        Fingerprint(u128::from_be_bytes(*half))
    }
}

impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprints")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_hosts_keys_and_secrets_all_matter() {
        let (one, other) = (Fingerprints::new(&[1; 32]), Fingerprints::new(&[2; 32]));
        let print = one.of(Kind::Token, "ha", b"x");
        assert_eq!(print, one.of(Kind::Token, "ha", b"x"));
        assert_ne!(print, one.of(Kind::Token, "ha", b"y"));
        assert_ne!(print, one.of(Kind::Token, "h", b"ax"));
        assert_ne!(print, one.of(Kind::Token, "hb", b"x"));
        assert_ne!(print, one.of(Kind::Password, "ha", b"x"));
        assert_ne!(print, other.of(Kind::Token, "ha", b"x"));
    }
}
