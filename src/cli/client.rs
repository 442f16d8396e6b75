//! The client of a node's servers over HTTP. Entry points: [`ServerClient`], and [`run`] for a command
//! that uses it. A request gives its answer, or a [`Failure`]: one line that says what went wrong,
//! with the exit code.

use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::http::json_error::explain;
use ctlstore_core::schema::WriterName;

use super::failure::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// To the end of the answer. An executive answers within 30 s.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest silence in an answer without end. A reader's feed has heartbeats.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest answer. A reader's has up to 64 MiB, unless its settings say otherwise.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// How much of a server's error is repeated, in characters.
const SHOWN_CHARS: usize = 400;

/// One server.
pub struct ServerClient {
    http: reqwest::Client,
    base: Url,
    /// The same without a password, to be shown.
    shown: String,
    /// Its name to the user, such as `executive`.
    server: &'static str,
    /// The flag and the variable by which the user names another one.
    by: &'static str,
}

/// An answer without end.
pub struct AnswerStream<'c> {
    client: &'c ServerClient,
    answer: Response,
}

/// A server's answer, whatever its status.
pub struct ServerAnswer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
    /// Method and URL, for messages.
    asked: String,
    server: &'static str,
}

impl ServerClient {
    /// `address` is a URL, or host and port alone.
    pub fn new(server: &'static str, by: &'static str, address: &str) -> anyhow::Result<Self> {
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let a = if server.starts_with('e') { "an" } else { "a" };
        let bad = || Failure::usage(format!("{address:?} is no URL of {a} {server}, as http://host:port is; see {by}"));
        let base = Url::parse(&full).map_err(|_| bad())?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(bad().into());
        }
        // A proxy of the environment would answer for a node that it cannot reach.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .context("http client")?;
        let mut shown = base.clone();
        // Neither can fail for a URL with a host, which these schemes need.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        let shown = shown.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, base, shown, server, by })
    }

    pub fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A request to the path of these segments.
    pub fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// A GET of the path of these segments with these parameters.
    pub fn get(&self, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(Method::GET, url)
    }

    /// The answer, whatever its status.
    pub async fn send(&self, request: RequestBuilder) -> Result<ServerAnswer, Failure> {
        let (answer, asked) = self.execute(request.timeout(TIMEOUT)).await?;
        self.whole(answer, asked).await
    }

    async fn execute(&self, request: RequestBuilder) -> Result<(Response, String), Failure> {
        let request = request.build().map_err(|error| Failure::usage(format!("the request: {error}")))?;
        let asked = format!("{} {}", request.method(), request.url());
        let answer = self.http.execute(request).await.map_err(|error| self.unreachable(&error))?;
        Ok((answer, asked))
    }

    async fn whole(&self, mut answer: Response, asked: String) -> Result<ServerAnswer, Failure> {
        let unreachable = |error: reqwest::Error| self.unreachable(&error);
        let status = answer.status();
        let headers = answer.headers().clone();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(Failure::new(Exit::Failed, format!("the answer to {asked} is too long")));
            }
        }
        Ok(ServerAnswer { status, headers, body, asked, server: self.server })
    }

    /// The answer, if it is a 2xx.
    pub async fn ask(&self, request: RequestBuilder) -> Result<ServerAnswer, Failure> {
        self.send(request).await?.success()
    }

    /// The body of a 2xx as it comes, until one side ends it.
    pub async fn open(&self, request: RequestBuilder) -> Result<AnswerStream<'_>, Failure> {
        let opening = async {
            let (answer, asked) = self.execute(request).await?;
            if answer.status().is_success() {
                return Ok(AnswerStream { client: self, answer });
            }
            Err(self.whole(answer, asked).await?.failure())
        };
        tokio::time::timeout(TIMEOUT, opening).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// The server's address, without a password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn silent(&self) -> Failure {
        let message = format!("the {} at {} does not answer in time", self.server, self.shown());
        Failure::new(Exit::Unavailable, message)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() {
            return self.silent();
        }
        let Self { server, shown, by, .. } = self;
        let message = format!("the {server} at {shown} can't be reached: {}; name another by {by}", root_cause(error));
        let failure = Failure::new(Exit::Unavailable, message);
        if error.is_connect() { failure.unsent() } else { failure }
    }
}

impl AnswerStream<'_> {
    /// The next piece; `None` at an orderly end.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        match tokio::time::timeout(SILENCE, self.answer.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.client.unreachable(&error)),
            Err(_) => Err(self.client.silent()),
        }
    }
}

impl ServerAnswer {
    pub fn success(self) -> Result<Self, Failure> {
        if self.status.is_success() { Ok(self) } else { Err(self.failure()) }
    }

    /// The failure that an answer other than a 2xx means.
    pub fn failure(&self) -> Failure {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = super::output::printable(text.trim()).chars().take(SHOWN_CHARS).collect();
        let exit = exit_of(self.status);
        // A server of the right kind names what it does not find. These texts come from another server.
        let is_strange = matches!(text.as_str(), "" | "no such route" | "404 page not found");
        if is_strange && matches!(self.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            let message = format!("what answers there is no {} ({} from {})", self.server, self.status, self.asked);
            return Failure::new(Exit::Failed, message);
        }
        let said = if text.is_empty() { String::new() } else { format!("{text} ") };
        Failure::new(exit, format!("{said}({} from {})", self.status, self.asked))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The last seq that the request wrote, if it wrote the ledger.
    pub fn seq(&self) -> Option<i64> {
        self.header(crate::http::executive::SEQ_HEADER)?.parse().ok()
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("the answer to {} can't be read: {}", self.asked, explain(&error));
            Failure::new(Exit::Failed, message)
        })
    }
}

/// A value, or the empty one for `null`: an executive of the original has that for a list without members.
pub fn or_empty<'de, T, D>(input: D) -> Result<T, D::Error>
where
    T: serde::Deserialize<'de> + Default,
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// The request with a writer's credentials.
pub fn signed(request: RequestBuilder, writer: &WriterName, secret: &SecretString) -> RequestBuilder {
    // As bytes, since both may have letters beyond ASCII.
    let request = request.header("ctlstore-writer", writer.as_str().as_bytes());
    request.header("ctlstore-secret", secret.expose_secret().as_bytes())
}

fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::NOT_FOUND => Exit::Absent,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Exit::Unavailable,
        StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        StatusCode::METHOD_NOT_ALLOWED => Exit::Failed,
        StatusCode::INSUFFICIENT_STORAGE => Exit::Refused,
        status if status.is_client_error() => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// The innermost cause; the outer ones only repeat the URL.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Runs a command that uses the network, to its end.
pub fn run<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(command)
}
