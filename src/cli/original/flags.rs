//! The original's flags, command by command: what each takes, its default there, and the
//! setting that it becomes here. Entry points: [`OriginalCommand`] and [`flags_of`]. The
//! parser, the translation, the help and the tables of docs/migration.md come from this list.

/// The commands of the original that run a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginalCommand {
    Reflector,
    MultiReflector,
    Sidecar,
    Executive,
    Supervisor,
    Heartbeat,
}

impl OriginalCommand {
    pub const ALL: [Self; 6] =
        [Self::Reflector, Self::MultiReflector, Self::Sidecar, Self::Executive, Self::Supervisor, Self::Heartbeat];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Reflector => "reflector",
            Self::MultiReflector => "multi-reflector",
            Self::Sidecar => "sidecar",
            Self::Executive => "executive",
            Self::Supervisor => "supervisor",
            Self::Heartbeat => "heartbeat",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }

    /// The roles of a node that does the same.
    pub const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Reflector | Self::MultiReflector => &["reflector"],
            Self::Sidecar => &["reader"],
            Self::Executive => &["executive"],
            Self::Supervisor => &["reflector", "snapshotter"],
            Self::Heartbeat => &["heartbeat"],
        }
    }

    /// The part before the names of the reflector's flags, if this command has them.
    pub const fn reflector_prefix(self) -> Option<&'static str> {
        match self {
            Self::Reflector | Self::MultiReflector => Some(""),
            Self::Supervisor => Some("reflector."),
            Self::Sidecar | Self::Executive | Self::Heartbeat => None,
        }
    }
}

/// One flag of a command.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Without its dash, with the names of its parts: `reflector.ldb-path`.
    pub name: String,
    pub takes: Takes,
    /// As the original has it; empty is none.
    pub default: &'static str,
    pub is_required: bool,
    pub becomes: Becomes,
}

/// The kind of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Text,
    /// A path, relative to the current directory.
    Path,
    Paths,
    Address,
    Duration,
    Whole,
    Number,
    /// True without a value.
    Switch,
}

impl Takes {
    /// As the help shows it.
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Text => " TEXT",
            Self::Path => " PATH",
            Self::Paths => " PATH,PATH",
            Self::Address => " HOST:PORT",
            Self::Duration => " DURATION",
            Self::Whole => " N",
            Self::Number => " NUMBER",
            Self::Switch => "",
        }
    }
}

/// The counterpart of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    /// The setting of this key.
    Setting(&'static str, Form),
    /// There is none, for this reason.
    Nothing(&'static str),
}

/// How a flag's value becomes a setting's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is, but for the way that durations, paths and addresses are written.
    Value,
    /// A negative number is 0.
    NotNegative,
    /// The list of this one.
    One,
    /// A list, separated by commas.
    List,
    /// A log level of `debug` if it is on.
    Debug,
    /// Together with the name of the driver.
    DataSource,
    /// The driver that says how the data source is read.
    Driver,
    /// A data source of MySQL.
    MysqlSource,
    /// A URL to which `http://` may be missing.
    HttpUrl,
    /// The changelog's path; there is none without one.
    Changelog,
    /// The changelog's size, if it has a path.
    ChangelogSize,
    /// Whether a size of the WAL is heeded.
    WalPoll,
    /// The size of the WAL, if it is heeded.
    WalSize,
    /// At least the least datagram here; 0 is the default.
    Datagram,
    /// An agent's address.
    Agent,
    /// 0 to 1.
    Fraction,
    /// A tag of this name.
    Tag(&'static str),
    /// Lowered to the maximum.
    WarnSize,
    /// The LDBs of a multi-reflector.
    Ldbs,
    /// The LDB of a reflector.
    Ldb,
}

impl Form {
    /// A note on the setting for readers of the table.
    pub const fn note(self) -> &'static str {
        match self {
            Self::Value | Self::List | Self::HttpUrl => "",
            Self::NotNegative => "a negative number is 0",
            Self::One => "the one URL of the list",
            Self::Debug => "`debug` if it is on",
            Self::DataSource => "read as `-upstream-driver` says",
            Self::Driver => "`mysql` or `sqlite3`: how the data source is read",
            Self::MysqlSource => "a `mysql://` URL",
            Self::Changelog => "without it there is no changelog",
            Self::ChangelogSize => "if there is a changelog",
            Self::WalPoll => {
                "if above 0, `-wal-checkpoint-threshold-size` counts; the WAL is looked at after each commit"
            }
            Self::WalSize => "if `-wal-poll-interval` is above 0; otherwise the setting's own default",
            Self::Datagram => "512 to 65,507",
            Self::Agent => "`udp://` before it is taken",
            Self::Fraction => "at most 1",
            Self::Tag(_) => "as a tag",
            Self::WarnSize => "lowered to `-max-table-size` if it is above",
            Self::Ldbs => "at least two",
            Self::Ldb => "its directory is also `node.data_dir`",
        }
    }
}

/// Said of flags that set an attribute of an ECS instance.
pub const ECS: &str = "no attribute of an ECS instance is set here: ask /readyz of the ops server instead";
const CHECKPOINTS: &str = "the applier chooses how it checkpoints the WAL by itself";
const ONE_WRITER: &str = "the applier is the only writer of its LDB and waits for no other";
const UNREAD: &str = "the original does not read it in this command";
const SUPERVISOR_LATENCY: &str = "the original does not read it; ask /readyz of the ops server";

fn flag(name: impl Into<String>, takes: Takes, becomes: Becomes) -> Flag {
    Flag { name: name.into(), takes, default: "", is_required: false, becomes }
}

/// A flag of a command that runs no node.
pub fn unmapped(name: &str, takes: Takes) -> Flag {
    flag(name, takes, Becomes::Nothing("")).required()
}

impl Flag {
    fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    fn required(self) -> Self {
        Self { is_required: true, ..self }
    }
}

/// All flags of `command`, in the original's order.
pub fn flags_of(command: OriginalCommand) -> Vec<Flag> {
    match command {
        OriginalCommand::Reflector => reflector("", command),
        OriginalCommand::MultiReflector => reflector("", command),
        OriginalCommand::Sidecar => sidecar(),
        OriginalCommand::Executive => executive(),
        OriginalCommand::Supervisor => supervisor(),
        OriginalCommand::Heartbeat => heartbeat(),
    }
}

use Becomes::{Nothing, Setting};
use Takes::{Address, Duration, Number, Path, Paths, Switch, Text, Whole};

fn reflector(prefix: &str, command: OriginalCommand) -> Vec<Flag> {
    let flag = |name: &str, takes, becomes| flag(format!("{prefix}{name}"), takes, becomes);
    let is_multi = command == OriginalCommand::MultiReflector;
    let ldb = if is_multi {
        flag("ldb-path", Path, Nothing("multi-reflector keeps the LDBs of -multi-reflector.ldb-paths"))
    } else {
        flag("ldb-path", Path, Setting("ldb.path", Form::Ldb)).required()
    };
    let mut flags = vec![
        ldb,
        flag("changelog-path", Path, Setting("changelog.path", Form::Changelog)),
        flag("changelog-size", Whole, Setting("changelog.max_bytes", Form::ChangelogSize)).default("1048576"),
        flag("upstream-driver", Text, Setting("ctldb.url", Form::Driver)).required(),
        flag("upstream-dsn", Text, Setting("ctldb.url", Form::DataSource)).required(),
        flag("upstream-ledger-table", Text, Setting("ctldb.ledger_table", Form::Value)).default("ctlstore_dml_ledger"),
        flag("bootstrap-url", Text, Setting("bootstrap.urls", Form::One)),
        flag("bootstrap-region", Text, Setting("bootstrap.s3_region", Form::Value)),
        flag("poll-interval", Duration, Setting("reflector.poll_interval", Form::Value)).default("1s"),
        flag("poll-jitter-coefficient", Number, Setting("reflector.poll_jitter", Form::Fraction)).default("0.25"),
        flag("poll-timeout", Duration, Setting("reflector.poll_timeout", Form::Value)).default("5s"),
        flag("query-block-size", Whole, Setting("reflector.block_rows", Form::Value)).default("100"),
        flag("debug", Switch, Setting("log.level", Form::Debug)),
    ];
    flags.extend(ledger_latency(&format!("{prefix}ledger-latency."), command));
    flags.extend(match command {
        OriginalCommand::Supervisor => unread_dogstatsd(prefix),
        _ => dogstatsd(),
    });
    let paths = if is_multi {
        flag("multi-reflector.ldb-paths", Paths, Setting("ldb.paths", Form::Ldbs)).required()
    } else {
        flag("multi-reflector.ldb-paths", Paths, Nothing("only multi-reflector keeps several LDBs"))
    };
    flags.extend([
        flag("metrics-bind", Address, Setting("ops.bind", Form::Value)),
        flag("wal-poll-interval", Duration, Setting("ldb.wal_checkpoint_bytes", Form::WalPoll)).default("0s"),
        flag("wal-checkpoint-threshold-size", Whole, Setting("ldb.wal_checkpoint_bytes", Form::WalSize))
            .default("8388608"),
        flag("wal-checkpoint-type", Text, Nothing(CHECKPOINTS)).default("PASSIVE"),
        flag("busy-timeout-ms", Whole, Nothing(ONE_WRITER)).default("0"),
        paths,
    ]);
    flags
}

/// `prefix` ends in a dot.
fn ledger_latency(prefix: &str, command: OriginalCommand) -> Vec<Flag> {
    let is_of_supervisor = prefix == "ledger-latency-health.";
    let nothing = if is_of_supervisor { SUPERVISOR_LATENCY } else { ECS };
    let latency = if is_of_supervisor || command == OriginalCommand::Supervisor {
        Nothing(nothing)
    } else {
        Setting("reader.ready_max_lag", Form::Value)
    };
    let default = |default: &'static str| if is_of_supervisor { "" } else { default };
    let flag = |name: &str, takes, becomes| flag(format!("{prefix}{name}"), takes, becomes);
    vec![
        flag("disable", Switch, Nothing(nothing)),
        flag("disable-ecs-behavior", Switch, Nothing(nothing)),
        // The original spells it so.
        flag("max-healty-latency", Duration, latency).default(default("1m")),
        flag("attribute-name", Text, Nothing(nothing)).default(default("ctlstore-status")),
        flag("healthy-attribute-value", Text, Nothing(nothing)).default(default("healthy")),
        flag("unhealth-attribute-value", Text, Nothing(nothing)).default(default("unhealthy")),
        flag("poll-interval", Duration, Nothing(nothing)).default(default("10s")),
        flag("aws-region", Text, Nothing(nothing)),
    ]
}

fn dogstatsd() -> Vec<Flag> {
    vec![
        flag("dogstatsd.address", Text, Setting("metrics.dogstatsd", Form::Agent)),
        flag("dogstatsd.buffer-size", Whole, Setting("metrics.dogstatsd_buffer_bytes", Form::Datagram)).default("1024"),
        flag("dogstatsd.flush-every", Duration, Setting("metrics.dogstatsd_flush_interval", Form::Value)).default("5s"),
    ]
}

/// A supervisor has flags of its own for that.
fn unread_dogstatsd(prefix: &str) -> Vec<Flag> {
    let unread = |flag: Flag| Flag { name: format!("{prefix}{}", flag.name), becomes: Nothing(UNREAD), ..flag };
    dogstatsd().into_iter().map(unread).collect()
}

fn sidecar() -> Vec<Flag> {
    let mut flags = vec![
        flag("bind-addr", Address, Setting("reader.bind", Form::Value)).default("0.0.0.0:1331"),
        flag("ldb-path", Path, Setting("ldb.path", Form::Ldb)).default("/var/spool/ctlstore/ldb.db"),
        flag("max-rows", Whole, Setting("reader.max_rows", Form::NotNegative)).default("0"),
        flag("application", Text, Setting("metrics.dogstatsd_tags", Form::Tag("application"))).default("unknown"),
    ];
    flags.extend(dogstatsd());
    flags
}

fn executive() -> Vec<Flag> {
    let mut flags = vec![
        flag("bind", Address, Setting("executive.bind", Form::Value)).required(),
        flag("ctldb", Text, Setting("ctldb.url", Form::MysqlSource)).required(),
        flag("debug", Switch, Setting("log.level", Form::Debug)),
        flag("handler-timeout", Duration, Setting("executive.request_timeout", Form::Value)).default("30s"),
        flag("max-table-size", Whole, Setting("executive.table_limit.max_bytes", Form::Value)).default("104857600"),
        flag("warn-table-size", Whole, Setting("executive.table_limit.warn_bytes", Form::WarnSize)).default("52428800"),
        flag("writer-limit-period", Duration, Setting("executive.writer_limit.period", Form::Value)).default("1m"),
        flag("writer-limit", Whole, Setting("executive.writer_limit.rows", Form::NotNegative)).default("1000"),
        shadow(),
    ];
    flags.extend(dogstatsd());
    let key = "executive.destructive_schema_changes";
    flags.push(flag("enable-destructive-schema-changes", Switch, Setting(key, Form::Value)).default("false"));
    flags
}

fn shadow() -> Flag {
    flag("shadow", Switch, Setting("metrics.dogstatsd_tags", Form::Tag("shadow"))).default("false")
}

fn supervisor() -> Vec<Flag> {
    let mut flags = vec![
        flag("snapshot-interval", Duration, Setting("snapshotter.interval", Form::Value)).default("5m"),
        flag("snapshot-url", Text, Setting("snapshotter.urls", Form::List)).required(),
        flag("debug", Switch, Setting("log.level", Form::Debug)),
    ];
    flags.extend(ledger_latency("ledger-latency-health.", OriginalCommand::Supervisor));
    flags.extend(reflector("reflector.", OriginalCommand::Supervisor));
    flags.push(shadow());
    flags.extend(dogstatsd());
    flags
}

fn heartbeat() -> Vec<Flag> {
    let mut flags = vec![
        flag("heartbeat-interval", Duration, Setting("heartbeat.interval", Form::Value)).default("15s"),
        flag("executive-url", Text, Setting("heartbeat.executive_url", Form::HttpUrl))
            .default("ctlstore-executive.segment.local"),
        flag("family-name", Text, Setting("heartbeat.family", Form::Value)).default("ctlstore"),
        flag("table-name", Text, Setting("heartbeat.table", Form::Value)).default("heartbeats"),
        flag("writer-name", Text, Setting("heartbeat.writer", Form::Value)).default("heartbeat"),
        flag("writer-secret", Text, Setting("heartbeat.secret", Form::Value)).required(),
        flag("debug", Switch, Setting("log.level", Form::Debug)),
    ];
    flags.extend(dogstatsd());
    flags
}
