//! Flags that several commands share, with their environment variables. Each struct is flattened into
//! a command; its methods read what the flags mean.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf, absolute};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;

use crate::config::{CtldbUrl, Problems, Settings, Sources, load, shown_url};
use ctlstore_core::disk::{read_secret, secret_from};
use ctlstore_core::schema::{
    FamilyName, Field, FieldName, FieldType, TableName, TableRef, WriterName, check_header_text,
};
use ctlstore_ctldb::{Location, ServerAddress};
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::client::ServerClient;
use super::failure::Failure;

/// Where the original's programs look for their files.
const SPOOL: &str = "/var/spool/ctlstore";
const DEFAULT_EXECUTIVE: &str = "http://127.0.0.1:3000";
const EXECUTIVE_VARIABLE: &str = "CTLSTORE_EXECUTIVE";
const LDB_VARIABLE: &str = "CTLSTORE_LDB";

/// Where settings come from, besides the environment.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// TOML file with the settings that differ from the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Role to play instead of those in the settings: executive, reflector,
    /// reader, snapshotter or heartbeat; may be given several times
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    pub roles: Vec<String>,
}

impl SettingsArgs {
    pub fn load(self) -> Result<Settings, Problems> {
        load(&Sources {
            file: self.config,
            environment: std::env::vars_os().collect(),
            roles: self.roles,
            ..Sources::default()
        })
    }
}

/// Whether the value of a flag was given on the command line, and not by its variable.
pub fn is_by_flag(value: impl AsRef<OsStr>, variable: &str) -> bool {
    std::env::var_os(variable).is_none_or(|given| given != value.as_ref())
}

#[derive(Debug, Args)]
pub struct ExecutiveArg {
    /// The executive's URL, or its host and port
    #[arg(short, long, value_name = "URL", env = EXECUTIVE_VARIABLE, default_value = DEFAULT_EXECUTIVE)]
    pub executive: String,
}

impl ExecutiveArg {
    /// Whether it was given on the command line.
    pub fn is_by_flag(&self) -> bool {
        self.executive != DEFAULT_EXECUTIVE && is_by_flag(&self.executive, EXECUTIVE_VARIABLE)
    }

    pub fn client(&self) -> anyhow::Result<ServerClient> {
        ServerClient::new("executive", "--executive or CTLSTORE_EXECUTIVE", &self.executive)
    }
}

#[derive(Debug, Args)]
pub struct LdbArg {
    /// The LDB file of this host [default: ldb.db in $CTLSTORE_PATH or /var/spool/ctlstore]
    #[arg(short, long = "ldb", value_name = "FILE", env = LDB_VARIABLE)]
    pub ldb: Option<PathBuf>,
}

impl LdbArg {
    /// Whether it was given on the command line.
    pub fn is_by_flag(&self) -> bool {
        self.ldb.as_ref().is_some_and(|path| is_by_flag(path, LDB_VARIABLE))
    }

    pub fn path(&self) -> PathBuf {
        self.ldb.clone().unwrap_or_else(|| {
            let directory = std::env::var_os("CTLSTORE_PATH").filter(|path| !path.is_empty());
            directory.map_or_else(|| PathBuf::from(SPOOL), PathBuf::from).join("ldb.db")
        })
    }
}

#[derive(Debug, Args)]
pub struct FamilyArg {
    /// The family
    #[arg(short, long, value_name = "FAMILY")]
    pub family: FamilyName,
}

/// A table, by the names of its family and its own.
#[derive(Debug, Args)]
pub struct TableArg {
    /// The table's family
    #[arg(short, long, value_name = "FAMILY")]
    family: FamilyName,
    /// The table's name within its family
    #[arg(short, long, value_name = "TABLE")]
    table: TableName,
}

impl TableArg {
    pub fn table(&self) -> anyhow::Result<TableRef> {
        table_ref(&self.family, &self.table)
    }
}

pub fn table_ref(family: &FamilyName, table: &TableName) -> anyhow::Result<TableRef> {
    Ok(TableRef::new(family.clone(), table.clone()).map_err(|error| Failure::usage(error.to_string()))?)
}

#[derive(Debug, Args)]
pub struct JsonArg {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A writer and its secret.
#[derive(Debug, Args)]
pub struct CredentialsArg {
    /// The writer's name
    #[arg(short, long, value_name = "NAME", env = "CTLSTORE_WRITER")]
    pub writer: WriterName,
    #[command(flatten)]
    secret: SecretArg,
}

impl CredentialsArg {
    pub fn secret(&self) -> anyhow::Result<SecretString> {
        self.secret.read()
    }
}

/// A writer's secret. It is better in the environment or a file, since other users of this machine can
/// see the command line.
#[derive(Debug, Args)]
pub struct SecretArg {
    /// The writer's secret; other users of this machine can see it here, so
    /// the environment or a file is better
    #[arg(long, value_name = "SECRET", env = "CTLSTORE_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// File with the secret, "-" for standard input; its last line end is not part of the secret
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArg {
    pub fn read(&self) -> anyhow::Result<SecretString> {
        match (&self.secret_file, &self.secret) {
            (Some(_), Some(secret)) if is_by_flag(secret, "CTLSTORE_SECRET") => {
                Err(Failure::usage("--secret and --secret-file both give the secret: give one of them").into())
            }
            (Some(path), _) => secret_in(path),
            (None, Some(secret)) => secret_of(secret),
            (None, None) => Err(Failure::usage("no secret: set CTLSTORE_SECRET or give --secret-file").into()),
        }
    }
}

/// Reads the secret in a file, or in standard input for "-".
pub fn secret_in(path: &Path) -> anyhow::Result<SecretString> {
    let secret = if path == Path::new("-") { secret_from(std::io::stdin().lock()) } else { read_secret(path) };
    let secret = secret.with_context(|| format!("secret file {}", path.display()))?;
    secret_of(&secret)
}

/// A secret. Refuses characters that its HTTP header can't carry.
pub fn secret_of(text: &str) -> anyhow::Result<SecretString> {
    match check_header_text(text.as_bytes()) {
        Ok(secret) => Ok(secret.into()),
        Err(reason) => Err(Failure::usage(format!("the secret {reason}")).into()),
    }
}

/// Reads a table's field, `name:type`.
pub fn field(text: &str) -> Result<Field, String> {
    let (name, field_type) = text.split_once(':').ok_or("it is name:type, such as id:integer")?;
    let name = FieldName::new(name).map_err(|error| error.to_string())?;
    let Some(field_type) = FieldType::from_api_name(field_type) else {
        let known: Vec<&str> = FieldType::ALL.iter().map(|t| t.api_name()).collect();
        return Err(format!("no type {field_type:?}, there are {}", known.join(", ")));
    };
    Ok(Field { name, field_type })
}

/// The ctldb that a command opens.
#[derive(Debug, Args)]
pub struct CtldbArg {
    /// The ctldb, sqlite:PATH or mysql://…, instead of the one in the settings
    #[arg(long, value_name = "URL")]
    pub ctldb: Option<String>,
    /// The node's settings file, which has ctldb.url
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl CtldbArg {
    /// Where the ctldb is, and the name of its ledger table.
    pub fn location(&self) -> anyhow::Result<(Location, String)> {
        let settings = SettingsArgs { config: self.config.clone(), roles: Vec::new() }.load()?;
        let ledger = settings.ctldb.ledger_table;
        let url = match &self.ctldb {
            Some(url) => url.parse().map_err(|why| Failure::usage(format!("--ctldb: {why}")))?,
            None => settings.ctldb.url,
        };
        Ok((location(&url), ledger))
    }
}

pub fn location(url: &CtldbUrl) -> Location {
    match url {
        CtldbUrl::Sqlite(path) => Location::Sqlite(path.clone()),
        CtldbUrl::Mysql(url) => {
            Location::Mysql(ServerAddress::new(url.expose()).with_password_file(url.password_file()))
        }
    }
}

/// A snapshot's URL as it was given. The command reads it instead of clap, whose errors would repeat
/// the whole value with its secrets.
#[derive(Clone)]
pub struct UrlArg(String);

impl UrlArg {
    /// The URL; a relative path counts from the working directory. `name` is the argument's.
    pub fn read(&self, name: &str) -> anyhow::Result<SnapshotUrl> {
        let refused = |why: &str| Failure::usage(format!("{name} {}: {why}", shown_url(&self.0)));
        match self.0.parse().map_err(refused)? {
            SnapshotUrl::File(path) => {
                absolute(path).map(SnapshotUrl::File).map_err(|error| refused(&error.to_string()).into())
            }
            other => Ok(other),
        }
    }
}

impl FromStr for UrlArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for UrlArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(&self.0))
    }
}
