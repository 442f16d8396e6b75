//! Decides which redirects of a server are followed. A store's requests are signed and carry
//! tokens, so its redirects must stay at its own address. A plain web server may redirect a
//! client to another HTTPS server, which gets no credentials. Pure.

use reqwest::redirect::{Attempt, Policy};
use url::Url;

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// A redirect that was not followed. It shows neither path nor query, which may be secrets.
#[derive(Debug, thiserror::Error)]
#[error("redirected to {to}, which is not followed: {why}")]
pub(super) struct RefusedRedirect {
    to: String,
    why: &'static str,
}

/// The policy for object stores: within one origin.
pub(super) fn of_stores() -> Policy {
    policy(|from, to| {
        if is_same_origin(from, to) {
            return Ok(());
        }
        Err("its requests are signed for one address; check the endpoint and the region")
    })
}

/// The policy for plain web servers: within one origin, from http to https of the same host,
/// and from https to any https. The client sends credentials to the first origin only.
pub(super) fn of_web() -> Policy {
    policy(|from, to| {
        let is_upgrade = from.scheme() == "http" && to.scheme() == "https" && from.host_str() == to.host_str();
        match (from.scheme(), to.scheme()) {
            _ if is_same_origin(from, to) || is_upgrade => Ok(()),
            ("https", "https") => Ok(()),
            ("https", _) => Err("it would leave https"),
            _ => Err("only https may lead to another host"),
        }
    })
}

fn policy(may_follow: impl Fn(&Url, &Url) -> Result<(), &'static str> + Send + Sync + 'static) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        let judged = match attempt.previous() {
            previous if previous.len() > MAX_REDIRECTS => Err("too many in a row"),
            [.., from] => may_follow(from, attempt.url()),
            [] => Ok(()),
        };
        match judged {
            Ok(()) => attempt.follow(),
            Err(why) => {
                let to = attempt.url().origin().ascii_serialization();
                attempt.error(RefusedRedirect { to, why })
            }
        }
    })
}

fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}
