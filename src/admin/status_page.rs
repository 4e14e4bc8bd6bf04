//! The status page's answers: the page, its two files, and the form that lifts a ban.

use std::io;

use aws_lc_rs::rand;
use http::header::{CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY};
use http::request::Parts;
use http::{HeaderName, StatusCode};

use super::answer::{Answer, Answers, answer, line, with};
use super::changes::{self, Disbelief};
use super::guard::BanTarget;
use super::page;

impl Answers {
    pub(super) fn page(&self) -> Answer {
        let text = page::render(&self.control.overview(), &self.form_token);
        hardened(answer(StatusCode::OK, "text/html; charset=utf-8", text.into()))
    }

    pub(super) fn style() -> Answer {
        hardened(answer(StatusCode::OK, "text/css; charset=utf-8", page::STYLE.into()))
    }

    pub(super) fn script() -> Answer {
        hardened(answer(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT.into()))
    }

    /// Lifts a ban and goes back to the page, which shows the ban no more: whether it was there is all the same.
    pub(super) fn unban(&self, head: &Parts, body: &[u8]) -> Answer {
        let unban = match changes::unban(&head.headers, body, &self.form_token) {
            Ok(unban) => unban,
            Err(why) => return refused(why),
        };
        match BanTarget::parse(&unban.network) {
            Ok(target) => {
                let removal = self.control.remove_bans(target);
                log::info!("ban lifted on the status page network={target} lifted={}", removal.removed.len());
                with(line(StatusCode::SEE_OTHER, "done"), LOCATION, "/#bans")
            }
            Err(why) => line(StatusCode::BAD_REQUEST, &why),
        }
    }
}

fn refused(why: Disbelief) -> Answer {
    match why {
        Disbelief::NoForm => line(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not a form"),
        Disbelief::FromElsewhere => line(StatusCode::FORBIDDEN, "this form is not of the status page"),
        Disbelief::WrongToken => {
            line(StatusCode::FORBIDDEN, "the gate has been started anew since this page was loaded: load it again")
        }
    }
}

/// What a browser may do with an answer. The policy also holds where an answer is opened by itself.
fn hardened(answer: Answer) -> Answer {
    // `no-referrer` would make the origin of the page's own forms `null`.
    let answer = with(answer, REFERRER_POLICY, "same-origin");
    let answer = with(answer, HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    with(answer, CONTENT_SECURITY_POLICY, page::POLICY)
}

/// 128 random bits in hex, made once per process: what the page's forms must hold.
pub(super) fn form_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
