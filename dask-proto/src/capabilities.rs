//! The forms of messages that a scheduler understands.
//!
//! Messages are the keyword arguments of the scheduler's methods, which change from release to release. An unknown or
//! missing argument closes the connection, and may leave a worker registered that can't be removed. So a client or
//! worker first [asks](question) for the parameters of these methods, and derives the [`Forms`] from the reply. Where
//! the scheduler doesn't run functions for others, its release decides.

use std::collections::HashMap;
use std::{error, fmt};

use crate::call::{CallError, map_reply, request};
use crate::frame::Outgoing;
use crate::graph::GraphForm;
use crate::pack::Pack;
use crate::pickle::{self, Pickler};
use crate::serialized::Content;
use crate::value::Value;
use crate::{WireError, failure};

/// The oldest release that is supported.
pub const OLDEST: Version = Version(2024, 11, 0);

/// The forms of those messages that differ between releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    /// The form of `update-graph`.
    pub graph: GraphForm,
    /// Whether `cancel-keys` has a reason. The scheduler either requires or refuses it.
    pub cancel_has_reason: bool,
    /// Whether `long-running` has the number of the run. The scheduler either requires or refuses it.
    pub long_running_has_run: bool,
}

/// Why a scheduler isn't supported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// One of its methods requires a parameter that isn't sent, or lacks one that is.
    Unknown {
        /// The release of Dask.
        release: String,
        /// The method.
        method: String,
        /// The required parameters that aren't sent.
        wants: Vec<String>,
        /// The sent parameters that the method lacks.
        refuses: Vec<String>,
    },
    /// The release is older than [`OLDEST`], or can't be read.
    Release(String),
    /// The reply can't be read.
    Wire(WireError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { release, method, wants, refuses } => {
                write!(f, "the scheduler (Dask {release}) isn't supported by this version:")?;
                write!(f, " its `{method}`")?;
                if !wants.is_empty() {
                    write!(f, " needs {}", list(wants))?;
                }
                if !refuses.is_empty() {
                    let and = if wants.is_empty() { "" } else { " and" };
                    write!(f, "{and} doesn't take {}", list(refuses))?;
                }
                Ok(())
            }
            Self::Release(release) => {
                write!(f, "the scheduler is Dask {release}; {OLDEST} or later is needed")
            }
            Self::Wire(error) => error.fmt(f),
        }
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

impl error::Error for Refusal {}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// A method of the scheduler, with the parameters that messages have or that the scheduler adds.
struct Method {
    name: &'static str,
    sent: &'static [&'static str],
}

/// The methods that are checked. `update_graph`, `stimulus_cancel` and `handle_long_running` have more parameters,
/// which depend on the form.
const METHODS: [Method; 18] = [
    Method {
        name: "update_graph",
        sent: &["client", "keys", "span_metadata", "internal_priority", "submitting_task"],
    },
    Method { name: "stimulus_cancel", sent: &["client", "keys", "force"] },
    Method { name: "client_releases_keys", sent: &["client", "keys"] },
    Method { name: "client_desires_keys", sent: &["client", "keys"] },
    Method { name: "client_heartbeat", sent: &["client"] },
    Method { name: "remove_client", sent: &["client"] },
    Method { name: "add_client", sent: &["comm", "client", "versions"] },
    Method { name: "add_worker", sent: &REGISTER },
    Method {
        name: "heartbeat_worker",
        sent: &["address", "now", "metrics", "executing", "extensions"],
    },
    Method {
        name: "handle_task_finished",
        sent: &["worker", "key", "run_id", "stimulus_id", "nbytes", "type", "typename", "metadata"],
    },
    Method {
        name: "handle_task_erred",
        sent: &["worker", "key", "run_id", "stimulus_id", "exception", "traceback"],
    },
    Method {
        name: "_transition_processing_memory",
        sent: &["worker", "key", "stimulus_id", "nbytes", "type", "typename", "startstops"],
    },
    Method {
        name: "_transition_processing_erred",
        sent: &["worker", "key", "stimulus_id", "exception", "traceback"],
    },
    Method {
        name: "handle_long_running",
        sent: &["worker", "key", "compute_duration", "stimulus_id"],
    },
    Method { name: "release_worker_data", sent: &["worker", "key", "stimulus_id"] },
    Method { name: "add_keys", sent: &["worker", "keys", "stimulus_id"] },
    Method { name: "handle_request_refresh_who_has", sent: &["worker", "keys", "stimulus_id"] },
    Method { name: "handle_worker_status_change", sent: &["worker", "status", "stimulus_id"] },
];

/// The parameters of a worker's registration; the scheduler adds `comm`.
const REGISTER: [&str; 17] = [
    "comm",
    "address",
    "status",
    "server_id",
    "nthreads",
    "name",
    "now",
    "resources",
    "memory_limit",
    "metrics",
    "pid",
    "services",
    "local_directory",
    "versions",
    "nanny",
    "extra",
    "stimulus_id",
];

const EXPRESSION: &[&str] = &["expr_ser"];
const HEADER: &[&str] = &["graph_header", "graph_frames"];
const REASON: &[&str] = &["reason", "msg"];
const RUN: &[&str] = &["run_id"];

/// Returns the call that asks for the parameters of the methods.
pub fn question() -> Outgoing {
    let names: Vec<_> = METHODS.iter().map(|method| format!("'{}'", method.name)).collect();
    // A line for each method: its name and its parameters, those that are optional with `?`, `**kwargs` with `?*`.
    let source = format!(
        "'\\n'.join(m + ':' + ','.join(n + ('?' if q.kind in (2, 4) else '' if q.default is q.empty else '?') \
         + ('*' if q.kind == 4 else '') \
         for n, q in __import__('inspect').signature(getattr(s, m)).parameters.items()) \
         for s in [__import__('distributed.scheduler').scheduler.Scheduler] \
         for m in [{}] if hasattr(s, m))",
        names.join(", ")
    );
    let function = pickle::class("builtins", "eval");
    let mut args = Pickler::new();
    args.tuple(|args| args.str(&source));
    let mut named = Pickler::new();
    named.dict(|_| ());
    let pickles = [function, args.finish(), named.finish()].map(bytes::Bytes::from);
    let [function, args, named] = &pickles;
    request(
        "run_function",
        &[
            ("function", function as &dyn Pack),
            ("args", args),
            ("kwargs", named),
            ("wait", &true),
            ("serializers", &["msgpack"]),
        ],
    )
}

/// Returns the forms for a scheduler, from its reply to the [`question`], or from its release if it doesn't answer
/// that.
///
/// # Errors
///
/// If the scheduler isn't supported.
pub fn forms(reply: Value, release: &str) -> Result<Forms, Refusal> {
    if Version::parse(release).is_some_and(|version| version < OLDEST) {
        return Err(Refusal::Release(release.to_owned()));
    }
    match answer(reply) {
        Ok(Some(text)) => Signatures::parse(&text).forms(release),
        Ok(None) => by_release(release),
        Err(error) => Err(error.into()),
    }
}

/// Returns the text of the reply, or `None` if the scheduler doesn't run functions for others.
fn answer(reply: Value) -> Result<Option<String>, WireError> {
    let mut map = match map_reply(reply) {
        Ok(map) => map,
        Err(CallError::Wire(error)) => return Err(error),
        Err(CallError::Failed(_) | CallError::Nothing) => return Ok(None),
    };
    if map.text("status") != Some("OK") {
        log::debug!(
            "the scheduler refused to report its methods: {}",
            failure::exception(&map.take("exception"))
        );
        return Ok(None);
    }
    match map.take("result") {
        Value::Str(text) => Ok(Some(text)),
        Value::Serialized(object) => match object.content()? {
            Content::Plain(Value::Str(text)) => Ok(Some(text)),
            Content::Pickle(pickled, _) => {
                let objects = pickle::read(&pickled)?;
                match objects.get(objects.root()) {
                    pickle::Node::Str(text) => Ok(Some(text.clone())),
                    _ => Err(WireError::malformed("a function's result that is no text")),
                }
            }
            _ => Err(WireError::malformed("a function's result that is no text")),
        },
        _ => Err(WireError::malformed("a function's result that is no text")),
    }
}

struct Signatures<'a>(HashMap<&'a str, Parameters<'a>>);

#[derive(Default)]
struct Parameters<'a> {
    needed: Vec<&'a str>,
    optional: Vec<&'a str>,
    takes_any: bool,
}

impl<'a> Signatures<'a> {
    fn parse(text: &'a str) -> Self {
        let methods = text.lines().filter_map(|line| line.split_once(':'));
        Self(methods.map(|(name, list)| (name, Parameters::parse(list))).collect())
    }

    fn forms(&self, release: &str) -> Result<Forms, Refusal> {
        let takes = |method: &str, name: &str| {
            self.0.get(method).is_some_and(|parameters| parameters.knows(name))
        };
        let forms = Forms {
            graph: match takes("update_graph", "expr_ser") {
                true => GraphForm::Expression,
                false => GraphForm::Header,
            },
            cancel_has_reason: takes("stimulus_cancel", "reason"),
            long_running_has_run: takes("handle_long_running", "run_id"),
        };
        for method in &METHODS {
            // Some releases have these in an extension, which can't be asked.
            let Some(parameters) = self.0.get(method.name) else { continue };
            let more: &[&str] = match method.name {
                "update_graph" if forms.graph == GraphForm::Expression => EXPRESSION,
                "update_graph" => HEADER,
                "stimulus_cancel" if forms.cancel_has_reason => REASON,
                "handle_long_running" if forms.long_running_has_run => RUN,
                _ => &[],
            };
            parameters.check(method.name, &[method.sent, more].concat(), release)?;
        }
        Ok(forms)
    }
}

impl<'a> Parameters<'a> {
    fn parse(list: &'a str) -> Self {
        let mut parameters = Self::default();
        for name in list.split(',').filter(|name| !matches!(*name, "" | "self")) {
            match name.split_once('?') {
                Some((_, "*")) => parameters.takes_any = true,
                Some((name, _)) => parameters.optional.push(name),
                None => parameters.needed.push(name),
            }
        }
        parameters
    }

    fn knows(&self, name: &str) -> bool {
        self.needed.contains(&name) || self.optional.contains(&name)
    }

    fn check(&self, method: &str, sent: &[&str], release: &str) -> Result<(), Refusal> {
        let owned = |name: &&str| (*name).to_owned();
        let wants: Vec<_> =
            self.needed.iter().filter(|name| !sent.contains(name)).map(owned).collect();
        let refused = |name: &&&str| !self.takes_any && !self.knows(name);
        let refuses: Vec<_> = sent.iter().filter(refused).map(owned).collect();
        if wants.is_empty() && refuses.is_empty() {
            return Ok(());
        }
        let (release, method) = (release.to_owned(), method.to_owned());
        Err(Refusal::Unknown { release, method, wants, refuses })
    }
}

/// A release of Dask: year, month, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Parses `2026.8.0`, and the versions of later commits, such as `2026.8.0+3.gabc`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '+']).map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Returns the forms for a release. Those later than this crate are assumed to be like the latest that it knows.
///
/// # Errors
///
/// If the release is older than [`OLDEST`], or can't be parsed.
pub fn by_release(release: &str) -> Result<Forms, Refusal> {
    let version = Version::parse(release).filter(|version| *version >= OLDEST);
    let version = version.ok_or_else(|| Refusal::Release(release.to_owned()))?;
    Ok(Forms {
        graph: match version >= Version(2025, 4, 0) {
            true => GraphForm::Expression,
            false => GraphForm::Header,
        },
        cancel_has_reason: version >= Version(2025, 3, 0),
        long_running_has_run: version >= Version(2025, 2, 0),
    })
}
