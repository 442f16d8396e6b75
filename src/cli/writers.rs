//! `writer register`, `writer rotate`, `writer remove`, `cookie get` and `cookie set`: writers and their
//! cookies, at an executive.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use ctlstore_core::schema::WriterName;

use super::args::{self, CredentialsArg, ExecutiveArg, JsonArg, SecretArg};
use super::client::{self, ServerAnswer, ServerClient, signed};
use super::failure::Failure;
use super::output::{Closed, say_json};

#[derive(Debug, Subcommand)]
pub enum WriterCommand {
    /// Register a writer with its secret; if it has this secret already, nothing changes
    Register(RegisterArgs),
    /// Change a writer's secret
    Rotate(RotateArgs),
    /// Remove a writer, its cookie and its limit; the rows that it wrote stay
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  CTLSTORE_SECRET=a-secret ctlstore writer register loader")]
pub struct RegisterArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    secret: SecretArg,
    /// The writer's name, 3 to 50 bytes
    #[arg(value_name = "NAME")]
    name: WriterName,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  CTLSTORE_SECRET=old CTLSTORE_NEW_SECRET=new ctlstore writer rotate loader")]
pub struct RotateArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    secret: SecretArg,
    /// The new secret, 3 to 100 bytes; other users of this machine can see it here, so
    /// the environment or a file is better
    #[arg(long, value_name = "SECRET", env = "CTLSTORE_NEW_SECRET", hide_env_values = true)]
    new_secret: Option<String>,
    /// File with the new secret
    #[arg(long, value_name = "FILE")]
    new_secret_file: Option<PathBuf>,
    /// The writer's name
    #[arg(value_name = "NAME")]
    name: WriterName,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore writer remove loader --secret-file loader.secret")]
pub struct RemoveArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    secret: SecretArg,
    /// The writer's name
    #[arg(value_name = "NAME")]
    name: WriterName,
}

impl WriterCommand {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Register(RegisterArgs { executive, secret, name }) => {
                let executive = executive.client()?;
                let secret = secret.read()?;
                let request = executive.request(Method::POST, &["writers", name.as_str()]);
                ask(&executive, request.body(secret.expose_secret().to_owned()))
            }
            Self::Rotate(rotate) => {
                let executive = rotate.executive.client()?;
                let secret = rotate.secret.read()?;
                let request = executive.request(Method::PUT, &["writers", rotate.name.as_str()]);
                let new = rotate.new_secret()?.expose_secret().to_owned();
                ask_ours(&executive, signed(request, &rotate.name, &secret).body(new), "give a writer another secret")
            }
            Self::Remove(RemoveArgs { executive, secret, name }) => {
                let executive = executive.client()?;
                let secret = secret.read()?;
                let request = executive.request(Method::DELETE, &["writers", name.as_str()]);
                ask_ours(&executive, signed(request, name, &secret), "forget a writer")
            }
        }
    }
}

impl RotateArgs {
    fn new_secret(&self) -> anyhow::Result<SecretString> {
        match (&self.new_secret_file, &self.new_secret) {
            (Some(_), Some(secret)) if args::is_by_flag(secret, "CTLSTORE_NEW_SECRET") => {
                let message = "--new-secret and --new-secret-file both give the new secret: give one of them";
                Err(Failure::usage(message).into())
            }
            (Some(path), _) => args::secret_in(path),
            (None, Some(secret)) => args::secret_of(secret),
            (None, None) => {
                Err(Failure::usage("no new secret: set CTLSTORE_NEW_SECRET or give --new-secret-file").into())
            }
        }
    }
}

fn ask(executive: &ServerClient, request: reqwest::RequestBuilder) -> anyhow::Result<()> {
    client::run(async {
        executive.ask(request).await?;
        Ok(())
    })
}

/// The same for a route that the original's executive has not; `what` is what it can't do.
fn ask_ours(executive: &ServerClient, request: reqwest::RequestBuilder, what: &str) -> anyhow::Result<()> {
    client::run(async {
        let answer = executive.send(request).await?;
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            let server = executive.shown();
            let message = format!("the executive at {server} is the Go program's, which can't {what}: ask one of ours");
            return Err(Failure::refused(message).into());
        }
        answer.success()?;
        Ok(())
    })
}

#[derive(Debug, Subcommand)]
pub enum CookieCommand {
    /// Print a writer's cookie, byte for byte
    Get(GetCookieArgs),
    /// Set a writer's cookie, at most 1024 bytes
    Set(SetCookieArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore cookie get --writer loader --secret-file loader.secret")]
pub struct GetCookieArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    credentials: CredentialsArg,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctlstore cookie set --writer loader --secret-file loader.secret position-17")]
pub struct SetCookieArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    credentials: CredentialsArg,
    /// The cookie; standard input if it is left out
    #[arg(value_name = "COOKIE")]
    cookie: Option<String>,
}

impl CookieCommand {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Get(get) => get.run(),
            Self::Set(set) => set.run(),
        }
    }
}

impl GetCookieArgs {
    fn run(&self) -> anyhow::Result<()> {
        let executive = self.executive.client()?;
        let secret = self.credentials.secret()?;
        let cookie = client::run(cookie_of(&executive, &self.credentials.writer, &secret))?;
        if self.json.json {
            let text = std::str::from_utf8(&cookie).ok();
            return say_json(&json!({ "cookie": STANDARD.encode(&cookie), "text": text }));
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(&cookie).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Closed.into()),
            outcome => outcome.context("standard output"),
        }
    }
}

impl SetCookieArgs {
    fn run(&self) -> anyhow::Result<()> {
        let executive = self.executive.client()?;
        let secret = self.credentials.secret()?;
        let mut cookie = self.cookie.clone().unwrap_or_default().into_bytes();
        if self.cookie.is_none() {
            std::io::stdin().read_to_end(&mut cookie).context("standard input")?;
        }
        client::run(async {
            let request = executive.request(Method::POST, &["cookie"]).body(cookie);
            checked(executive.send(signed(request, &self.credentials.writer, &secret)).await?)?;
            Ok(())
        })
    }
}

/// A writer's cookie.
pub async fn cookie_of(
    executive: &ServerClient,
    writer: &WriterName,
    secret: &SecretString,
) -> anyhow::Result<Vec<u8>> {
    let request = signed(executive.request(Method::GET, &["cookie"]), writer, secret);
    Ok(checked(executive.send(request).await?)?.body)
}

/// The protocol answers 404 to a wrong secret here, as if there were no such writer.
fn checked(answer: ServerAnswer) -> Result<ServerAnswer, Failure> {
    match answer.status {
        StatusCode::NOT_FOUND if !answer.body.is_empty() => Err(Failure::refused(answer.failure().to_string())),
        _ => answer.success(),
    }
}
