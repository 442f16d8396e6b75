//! The values of labels. Each label has a closed set of values, so no request and no data can make a
//! new time series.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// An enum whose variants are label values. The library's derive would write them in Rust's
/// spelling.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

labels!(
    /// The part of the node in which an error was handled.
    Component {
        Poller = "poller",
        Applier = "applier",
        Changelog = "changelog",
        Executive = "executive",
        /// The executive's pruning of the ledger.
        Retention = "retention",
        Heartbeat = "heartbeat",
        /// The fetcher of versions of the LDB.
        Fetcher = "fetcher",
        Reader = "reader",
        Snapshotter = "snapshotter",
        Ops = "ops",
        /// The actor that sends metrics to an agent.
        Dogstatsd = "dogstatsd",
    }
);

labels!(
    /// The kind of a failure.
    ErrorKind {
        /// The other side could not be reached or hung up.
        Unavailable = "unavailable",
        /// The other side did not answer in time.
        Timeout = "timeout",
        /// The other side answered with a refusal.
        Refused = "refused",
        /// A deadlock or a lock-wait timeout.
        Contention = "contention",
        /// A statement of the ledger failed in the LDB.
        Statement = "statement",
        /// The ledger is not the one followed, is pruned, or contradicts itself.
        Ledger = "ledger",
        /// A snapshot is damaged, or not what it is said to be.
        Snapshot = "snapshot",
        /// The disk is full.
        DiskFull = "disk_full",
        /// Any other failure of a file or of SQLite.
        Storage = "storage",
        /// A panic, or a state that should not exist.
        Internal = "internal",
    }
);

labels!(
    /// Why a server closed a connection that its client still used.
    CloseReason {
        /// Places ran short, and the connection was idle longest.
        Idle = "idle",
        /// Places ran short, and the rest of its request's head or body did not come.
        Stalled = "stalled",
        /// Its client's address had as many connections as it may have.
        Address = "address",
    }
);

labels!(
    /// The bounded queues between parts of the node.
    Queue {
        /// Batches that the applier got and has not committed yet.
        ApplierBatches = "applier_batches",
        /// Requests that wait for the ledger lock.
        ExecutiveWrites = "executive_writes",
    }
);

labels!(
    /// How a statement of the ledger was executed.
    ExecutionPath {
        /// As a prepared statement with bound values, because its form is known.
        Bound = "bound",
        /// As text.
        Text = "text",
    }
);

labels!(
    /// Why the executive repeated a transaction.
    RetryReason {
        /// A deadlock, a lock-wait time-out, or a schema that changed meanwhile.
        Contention = "contention",
        /// The ctldb could not be reached, or closed the connection.
        Unavailable = "unavailable",
    }
);

labels!(
    /// The HTTP servers of a node.
    Server {
        Executive = "executive",
        Reader = "reader",
        Ops = "ops",
    }
);

labels!(
    /// How a query ended.
    QueryOutcome {
        Answered = "answered",
        /// It is wrong, or does something that is not allowed.
        Refused = "refused",
        /// It has more rows, bytes or long values than allowed.
        TooLarge = "too_large",
        OutOfTime = "out_of_time",
        OutOfMemory = "out_of_memory",
        /// Its client disconnected, or the node stops.
        Cancelled = "cancelled",
        /// The LDB or this program is at fault.
        Failed = "failed",
    }
);

labels!(
    /// A request's method. All methods that no route takes are `Other`.
    Method {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Other = "other",
    }
);

impl Method {
    /// The method by its name on the wire.
    pub fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|method| method.as_str() == name).unwrap_or(Self::Other)
    }
}
