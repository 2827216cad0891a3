//! The registration of a worker, and its heartbeats.

use crate::call::{CallError, EMPTY, map_reply, request};
use crate::frame::Outgoing;
use crate::pack::{FieldMap, Pack, Packer, Pairs};
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// The registration of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// The address where the worker listens, unique in the cluster.
    pub address: &'a str,
    /// The name of the worker, unique in the cluster.
    pub name: &'a str,
    /// An identifier, unique in the cluster.
    pub server_id: &'a str,
    /// The number of tasks that the worker runs at once.
    pub threads: u64,
    /// The memory that the worker may use, in bytes.
    pub memory_limit: Option<u64>,
    /// The resources that tasks on the worker may take.
    pub resources: &'a [(&'a str, f64)],
    /// The directory for the worker's files.
    pub directory: &'a str,
    /// The scheduler's reply to [`versions`](crate::call::versions).
    pub versions: &'a Map,
    /// The identifier of the process.
    pub pid: u64,
    /// The current time, in seconds since 1970.
    pub now: f64,
    /// The first metrics.
    pub metrics: &'a Metrics<'a>,
}

impl Registration<'_> {
    /// Returns the message that makes a connection the worker's stream.
    ///
    /// [`Registered::read`] reads the reply, which isn't in a batch. A scheduler that refuses the worker may not
    /// answer, so the wait needs a timeout.
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

/// The metrics of a worker. A scheduler fails if one of them is missing, and leaves the worker half registered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics<'a> {
    /// The memory of the process in bytes.
    pub memory: u64,
    /// The results in memory, in bytes.
    pub managed_bytes: u64,
    /// The size in memory of the results that are on disk, in bytes.
    pub spilled_memory: u64,
    /// Their size on disk, in bytes.
    pub spilled_disk: u64,
    /// The load in percent of one core.
    pub cpu: f64,
    /// The time of the measurement, in seconds since 1970.
    pub time: f64,
    /// The number of tasks by state: `executing`, `ready`, `memory` and others.
    pub task_counts: &'a [(&'a str, u64)],
    /// Transfers from other workers.
    pub incoming: Transfers,
    /// Transfers to other workers.
    pub outgoing: Transfers,
    /// The mean bandwidth from other workers, in bytes per second.
    pub bandwidth: f64,
    /// For each worker from which results were fetched since the last metrics: the sum of the bandwidths of the
    /// transfers, in bytes per second, and their number.
    pub bandwidth_from: &'a [(&'a str, (f64, u64))],
    /// The interval of the event loop in seconds.
    pub loop_interval: f64,
    /// The number of open files.
    pub files: u64,
    /// The traffic of the machine's network.
    pub network: Flow,
    /// The traffic of the machine's disks.
    pub disk: Flow,
}

/// Transfers of results between workers, in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfers {
    /// The size of the current transfers in bytes.
    pub bytes: u64,
    /// The number of current transfers.
    pub count: u64,
    /// The number of transfers since the worker started.
    pub total: u64,
}

/// Traffic in bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Received or read.
    pub read: f64,
    /// Sent or written.
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

/// The scheduler's reply to a registration.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// The worker is registered.
    Joined {
        /// The seconds between heartbeats.
        heartbeat: f64,
        /// The scheduler's warning about different versions, or an empty text.
        warning: String,
    },
    /// The scheduler refuses the worker, for this reason.
    Refused(String),
}

impl Registered {
    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// If the call failed, or the reply lacks a field.
    pub fn read(message: Value) -> Result<Self, CallError> {
        let mut map = map_reply(message)?;
        match map.text("status") {
            Some("OK") => Ok(Self::Joined {
                heartbeat: interval(&map)?,
                warning: map.take_text("warning").unwrap_or_default(),
            }),
            Some(_) => Ok(Self::Refused(map.take_text("message").unwrap_or_default())),
            None => Err(WireError::malformed("a registration without a status").into()),
        }
    }
}

fn interval(map: &Map) -> Result<f64, WireError> {
    let seconds = map.get("heartbeat-interval").and_then(Value::as_float);
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    seconds.ok_or_else(|| WireError::malformed("`heartbeat-interval` isn't a positive number"))
}

/// Returns the heartbeat of a worker. `executing` has the running tasks, with the seconds that they have run.
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

/// The scheduler's reply to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beat {
    /// The seconds until the next heartbeat.
    Again(f64),
    /// The worker isn't registered, or no longer.
    Unknown,
}

impl Beat {
    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// If the call failed, or the reply lacks a field.
    pub fn read(message: Value) -> Result<Self, CallError> {
        let map = map_reply(message)?;
        match map.text("status") {
            Some("OK") => Ok(Self::Again(interval(&map)?)),
            _ => Ok(Self::Unknown),
        }
    }
}
