//! Joining a scheduler, and staying with it.

use crate::call::{CallError, EMPTY, map_reply, request};
use crate::frame::Outgoing;
use crate::pack::{FieldMap, Pack, Packer, Pairs};
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// What a worker is.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// Where it listens; no other worker may be known by it.
    pub address: &'a str,
    /// What no other worker is called.
    pub name: &'a str,
    /// Anything that no other worker has.
    pub server_id: &'a str,
    /// How many tasks it runs at once.
    pub threads: u64,
    /// In bytes.
    pub memory_limit: Option<u64>,
    /// What it has that tasks may ask for.
    pub resources: &'a [(&'a str, f64)],
    /// Where it keeps files.
    pub directory: &'a str,
    /// What the scheduler answered to [`versions`](crate::call::versions).
    pub versions: &'a Map,
    /// Of this process.
    pub pid: u64,
    /// Seconds since 1970.
    pub now: f64,
    /// How it is.
    pub metrics: &'a Metrics<'a>,
}

impl Registration<'_> {
    /// Makes this connection a worker's stream. The reply comes alone; [`Registered::read`] reads it. A
    /// scheduler that doesn't like it never answers.
    pub fn message(&self) -> Outgoing {
        Packer::message(&[
            ("op", &"register-worker"),
            ("reply", &false),
            ("address", &self.address),
            ("name", &self.name),
            ("status", &"running"),
            ("nthreads", &self.threads),
            ("now", &self.now),
            ("resources", &pairs(self.resources)),
            ("memory_limit", &self.memory_limit),
            ("metrics", self.metrics),
            ("services", &EMPTY),
            ("local_directory", &self.directory),
            ("versions", self.versions),
            ("nanny", &()),
            ("extra", &EMPTY),
            ("stimulus_id", &"register"),
            ("server_id", &self.server_id),
            ("pid", &self.pid),
        ])
    }
}

fn pairs<'a, V: Pack + Copy>(
    entries: &'a [(&'a str, V)],
) -> Pairs<impl ExactSizeIterator<Item = (&'a str, V)> + Clone> {
    Pairs(entries.iter().copied())
}

/// How a worker is. The scheduler fails half-way, and is broken from then on, if some of these are missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics<'a> {
    /// In bytes.
    pub memory: u64,
    /// Of its results, in memory.
    pub managed_bytes: u64,
    /// What results that are on disk took in memory.
    pub spilled_memory: u64,
    /// What they take on disk.
    pub spilled_disk: u64,
    /// In percent of one core.
    pub cpu: f64,
    /// Seconds since 1970.
    pub time: f64,
    /// How many tasks are in which state: `executing`, `ready`, `memory` and so on.
    pub task_counts: &'a [(&'a str, u64)],
    /// From workers.
    pub incoming: Transfers,
    /// To workers.
    pub outgoing: Transfers,
    /// Bytes in a second from other workers, as a mean.
    pub bandwidth: f64,
    /// From which worker how much since the last time, in bytes in a second, summed over so many transfers.
    pub bandwidth_from: &'a [(&'a str, (f64, u64))],
    /// Seconds between two looks at the sockets.
    pub loop_interval: f64,
    /// Open files.
    pub files: u64,
    /// Of the machine.
    pub network: Flow,
    /// Of the machine.
    pub disk: Flow,
}

/// What goes between workers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfers {
    /// Under way.
    pub bytes: u64,
    /// Under way.
    pub count: u64,
    /// Since it began.
    pub total: u64,
}

/// Bytes in a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    pub read: f64,
    pub write: f64,
}

impl Pack for Flow {
    fn pack(&self, packer: &mut Packer) {
        packer.fields(&[("read_bps", &self.read), ("write_bps", &self.write)]);
    }
}

impl Pack for (f64, u64) {
    fn pack(&self, packer: &mut Packer) {
        packer.array(2);
        self.0.pack(packer);
        self.1.pack(packer);
    }
}

impl Pack for Metrics<'_> {
    fn pack(&self, packer: &mut Packer) {
        let (coming, going) = (&self.incoming, &self.outgoing);
        packer.fields(&[
            ("task_counts", &pairs(self.task_counts)),
            (
                "bandwidth",
                &FieldMap(&[
                    ("total", &self.bandwidth),
                    ("workers", &pairs(self.bandwidth_from)),
                    ("types", &EMPTY),
                ]),
            ),
            ("digests_total_since_heartbeat", &EMPTY),
            ("managed_bytes", &self.managed_bytes),
            (
                "spilled_bytes",
                &FieldMap(&[("memory", &self.spilled_memory), ("disk", &self.spilled_disk)]),
            ),
            (
                "transfer",
                &FieldMap(&[
                    ("incoming_bytes", &coming.bytes),
                    ("incoming_count", &coming.count),
                    ("incoming_count_total", &coming.total),
                    ("outgoing_bytes", &going.bytes),
                    ("outgoing_count", &going.count),
                    ("outgoing_count_total", &going.total),
                ]),
            ),
            ("event_loop_interval", &self.loop_interval),
            ("cpu", &self.cpu),
            ("memory", &self.memory),
            ("time", &self.time),
            ("num_fds", &self.files),
            ("host_net_io", &self.network),
            ("host_disk_io", &self.disk),
        ]);
    }
}

/// What the scheduler says to a new worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// Welcome.
    Joined {
        /// How many seconds are to be between heartbeats.
        heartbeat: f64,
        /// What the scheduler thinks of the versions.
        warning: String,
    },
    /// It doesn't want this worker, and says why.
    Refused(String),
}

impl Registered {
    /// Reads the reply.
    pub fn read(message: Value) -> Result<Self, CallError> {
        let mut map = map_reply(message)?;
        match map.text("status") {
            Some("OK") => Ok(Self::Joined {
                heartbeat: interval(&map)?,
                warning: map.take_text("warning").unwrap_or_default(),
            }),
            Some(_) => Ok(Self::Refused(map.take_text("message").unwrap_or_default())),
            None => Err(WireError::malformed("a worker registered in an unknown state").into()),
        }
    }
}

fn interval(map: &Map) -> Result<f64, WireError> {
    let seconds = map.get("heartbeat-interval").and_then(Value::as_float);
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    seconds.ok_or_else(|| WireError::malformed("`heartbeat-interval` isn't a time"))
}

/// Tells the scheduler how the worker is. `executing` are the tasks it runs, and for how many seconds.
pub fn heartbeat(
    address: &str,
    now: f64,
    metrics: &Metrics<'_>,
    executing: &[(WireKey, f64)],
) -> Outgoing {
    let executing = Pairs(executing.iter().map(|(key, seconds)| (key, *seconds)));
    request(
        "heartbeat_worker",
        &[
            ("address", &address),
            ("now", &now),
            ("metrics", metrics),
            ("executing", &executing),
            ("extensions", &EMPTY),
        ],
    )
}

/// What the scheduler answers to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beat {
    /// So many seconds until the next.
    Again(f64),
    /// It doesn't know this worker, or not any more.
    Unknown,
}

impl Beat {
    /// Reads the reply.
    pub fn read(message: Value) -> Result<Self, CallError> {
        let map = map_reply(message)?;
        match map.text("status") {
            Some("OK") => Ok(Self::Again(interval(&map)?)),
            _ => Ok(Self::Unknown),
        }
    }
}
