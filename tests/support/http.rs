//! A small blocking HTTP client. Every status is an answer; only a broken exchange is an error.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(60)))
        // A node may be killed and started again, and an old connection must not be used then.
        .max_idle_connections(0)
        .build()
        .new_agent()
});

/// An answer: status, headers and the whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Asserts the status and returns the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "body: {}", self.text());
        self
    }
}

/// One exchange; an error if the server could not be reached or closed the connection early.
pub fn exchange(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Result<Answer, ureq::Error> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.as_ref();
    // An empty body is sent (as Content-Length: 0) only if the method may have a body.
    let mut response = if body.is_empty() && matches!(method, "GET" | "HEAD" | "DELETE" | "OPTIONS") {
        AGENT.run(request.body(())?)?
    } else {
        AGENT.run(request.body(body)?)?
    };
    let body = response.body_mut().with_config().limit(256 << 20).read_to_vec()?;
    Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

/// As [`exchange`]; panics if there is no answer.
#[track_caller]
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    exchange(method, url, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

#[track_caller]
pub fn get(url: &str) -> Answer {
    request("GET", url, &[], "")
}

#[track_caller]
pub fn post(url: &str, body: impl AsRef<[u8]>) -> Answer {
    request("POST", url, &[], body)
}

/// Whether the URL answers with a 2xx status. No answer is false.
pub fn is_ok(url: &str) -> bool {
    exchange("GET", url, &[], "").is_ok_and(|answer| (200..300).contains(&answer.status))
}
