//! Asking a server of a node over HTTP: one question, one answer, or one line
//! that says what went wrong and the exit code that goes with it.

use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use ctlstore_core::schema::WriterName;

use super::failure::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// To the end of the answer; an executive answers within 30 s by itself.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Between two pieces of an answer that has no end; a reader's feed has a heartbeat in it.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest answer; a reader's has up to 64 MiB unless it is told otherwise.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// The longest piece of a server's error that is repeated, in characters.
const SHOWN_CHARS: usize = 400;

/// One server.
pub struct ServerClient {
    http: reqwest::Client,
    base: Url,
    /// The same as it may be shown: without a password.
    shown: String,
    /// What it is to the user, such as `executive`.
    server: &'static str,
    /// How another one is named.
    by: &'static str,
}

/// An answer that goes on.
pub struct Stream<'c> {
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
        let bad = || Failure::usage(format!("{address:?} is no URL of an {server}, as http://host:port is; see {by}"));
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

    /// A question to the path of these segments with these parameters.
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
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(Failure::new(Exit::Failed, format!("the answer to {asked} is too long")));
            }
        }
        Ok(ServerAnswer { status, headers, body, asked, server: self.server })
    }

    /// The answer if it is a 2xx.
    pub async fn ask(&self, request: RequestBuilder) -> Result<ServerAnswer, Failure> {
        self.send(request).await?.success()
    }

    /// The body of a 2xx as it comes, for as long as both sides want.
    pub async fn open(&self, request: RequestBuilder) -> Result<Stream<'_>, Failure> {
        let opening = async {
            let (answer, asked) = self.execute(request).await?;
            match answer.status().is_success() {
                true => Ok(Stream { client: self, answer }),
                false => Err(self.whole(answer, asked).await?.failure()),
            }
        };
        tokio::time::timeout(TIMEOUT, opening).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// The server's address, as it may be shown.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn silent(&self) -> Failure {
        let message = format!("the {} at {} does not answer in time", self.server, self.shown());
        Failure::new(Exit::Unavailable, message)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let (server, base, by) = (self.server, self.shown(), self.by);
        let message = match error {
            _ if error.is_timeout() => return self.silent(),
            _ => format!("the {server} at {base} can't be reached: {}; name another by {by}", root_cause(error)),
        };
        let failure = Failure::new(Exit::Unavailable, message);
        if error.is_connect() { failure.unsent() } else { failure }
    }
}

impl Stream<'_> {
    /// What comes next; `None` at an orderly end.
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

    /// What an answer other than a 2xx means.
    pub fn failure(&self) -> Failure {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = super::output::printable(text.trim()).chars().take(SHOWN_CHARS).collect();
        let exit = exit_of(self.status);
        // What is not found by a server of the right kind is named; these are other ways to say so.
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

    /// The last seq that the request wrote, where it wrote the ledger.
    pub fn seq(&self) -> Option<i64> {
        self.header(crate::http::executive::SEQ_HEADER)?.parse().ok()
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::new(Exit::Failed, format!("the answer to {} can't be read: {error}", self.asked)))
    }
}

/// The request with a writer's credentials.
pub fn signed(request: RequestBuilder, writer: &WriterName, secret: &SecretString) -> RequestBuilder {
    // As bytes: a name or a secret may have letters beyond ASCII.
    let (writer, secret) = (writer.as_str().as_bytes(), secret.expose_secret().as_bytes());
    request.header("ctlstore-writer", writer).header("ctlstore-secret", secret)
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

/// The innermost reason: the outer ones only repeat the URL.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Runs a command that asks over the network, to its end.
pub fn run<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(command)
}
