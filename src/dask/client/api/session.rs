//! The session that all clones of a client share; it turns submissions into tasks of the local engine.
//!
//! Each task on the cluster has a task in a local engine, which ends when the cluster's does and fetches its value when
//! that's wanted. So handles work as those of an embedded client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::batched_calls::{BatchedCall, FEW, MapCalls, SlowFunctions};
use super::error::ConnectError;
use super::prepared::{Function, Prepared};
use super::python::python_name;
use super::remote_task::{DeferredTask, Producer, RemoteTask, Work};
use crate::client::options::TaskOptions;
use crate::client::portable::{Portable, PortableInputs};
use crate::client::submit;
use crate::dask::RUST;
use crate::dask::client::io::identity::rust_workers;
use crate::dask::client::io::link::Link;
use crate::dask::codec::{self, Encoded, Encoder};
use crate::dask::net::Address;
use crate::dask::registry::Registry;
use crate::dask::wire::graph::Annotations;
use crate::dask::wire::value::Map;
use crate::engine::life::create;
use crate::engine::remote::{self, RemoteName};
use crate::engine::task::header::Interest;
use crate::task::key;
use crate::task::seal::SEAL;
use crate::task::subject::Subject;
use crate::{Error, ErrorKind, Handle, Retry};

/// The assumed number of threads of a cluster that had no workers when the client asked.
const UNKNOWN_THREADS: usize = 16;

/// The session of a client, shared by its clones.
pub(crate) struct Session {
    /// Runs the tasks that stand for those on the cluster. User code runs on the workers only.
    local: crate::Client,
    link: Link,
    registry: Registry,
    /// A part of the keys, which tells them from those of other clients.
    id: u32,
    slow: Arc<SlowFunctions>,
    /// The number of threads of the Rust workers when the client last asked.
    threads: AtomicUsize,
}

/// The workers that may run a task.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    pub(super) resources: Vec<(Arc<str>, f64)>,
    pub(super) workers: Vec<Arc<str>>,
    pub(super) allow_other_workers: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Handles may still exist, and would keep the connection open.
        self.link.leave();
    }
}

impl Session {
    pub(super) fn new(link: Link, registry: Registry) -> Self {
        let mut id = [0; 4];
        // Without a source of randomness, the process number is unlikely to be another client's.
        if getrandom::fill(&mut id).is_err() {
            id = std::process::id().to_ne_bytes();
        }
        Self {
            // One thread: its tasks only wait and decode.
            local: crate::Client::builder().workers(1).name("ensue-dask-client").build(),
            link,
            registry,
            id: u32::from_ne_bytes(id),
            slow: Arc::default(),
            threads: AtomicUsize::new(0),
        }
    }

    pub(super) fn scheduler(&self) -> &Address {
        self.link.scheduler()
    }

    /// Asks for the scheduler's identity, with its workers.
    pub(super) async fn identity(&self) -> Result<Map, ConnectError> {
        let identity = self.link.identity().await?;
        let threads = rust_workers(&identity).filter_map(|worker| worker.get("nthreads")?.as_int());
        let threads = threads.map(|threads| usize::try_from(threads).unwrap_or(0)).sum();
        self.threads.store(threads, Ordering::Relaxed);
        Ok(identity)
    }

    /// Estimates how many tasks may run at once. Workers that have joined since the last question aren't counted.
    fn threads(&self) -> usize {
        match self.threads.load(Ordering::Relaxed) {
            0 => UNKNOWN_THREADS,
            threads => threads,
        }
    }

    pub(super) async fn idle(&self) {
        self.local.idle().await;
    }

    pub(super) async fn close(&self) {
        // In this order: closing the local engine waits for its tasks, which end with the link.
        self.link.close().await;
        self.local.close().await;
    }

    /// Submits a call of a Rust function, whose type is `F`.
    pub(super) fn call<F, I, A, T>(
        &self,
        settings: TaskOptions,
        placement: Placement,
        inputs: I,
    ) -> Handle<T>
    where
        F: 'static,
        I: PortableInputs<A>,
        T: Portable,
    {
        let named = self.named(&settings, || key::short_name(std::any::type_name::<F>()).into());
        let mut encoder = Encoder::new();
        inputs.visit_all(&mut encoder, SEAL);
        match self.registry.name_of::<F>() {
            Ok(name) => self.submit(named, settings, placement, Function::Rust(name), encoder),
            // As a handle's error, so that a dependent of it fails, too.
            Err(problem) => self.refused(named.subject(), problem.text),
        }
    }

    /// Submits a call of a Python function, with encoded arguments.
    pub(super) fn call_python<T: Portable>(
        &self,
        settings: TaskOptions,
        placement: Placement,
        path: &str,
        encoder: Encoder,
    ) -> Handle<T> {
        let named = self.named(&settings, || path.rsplit(['.', ':']).next().unwrap_or(path).into());
        // Dask has no timeouts; Rust workers read theirs from an annotation.
        if settings.timeout.is_some() {
            let text =
                format!("the Python function `{path}` can't have a timeout: remove that option");
            return self.refused(named.subject(), text);
        }
        match python_name(path) {
            Ok((module, name)) => {
                let function = Function::Python(module.into(), name.into());
                self.submit(named, settings, placement, function, encoder)
            }
            Err(text) => self.refused(named.subject(), text),
        }
    }

    /// Gives a value to the cluster.
    pub(super) fn scatter<T: Portable>(&self, settings: &TaskOptions, value: T) -> Handle<T> {
        let named = self.named(settings, || "ready".into());
        let (key, origin) = (named.key.clone(), named.subject());
        match codec::write(value) {
            Ok(written) => self.adopt(named, Vec::new(), || {
                let future = self.link.scatter(&key, written);
                RemoteTask::new(Producer::Single(future), Work::Scattered, None)
            }),
            Err(problem) => self.refused(origin, problem.text),
        }
    }

    /// Submits a call for each of the inputs. Calls that take no result of another task are sent in batches, if there
    /// are enough of them.
    pub(super) fn call_many<F, I, A, T>(
        &self,
        settings: TaskOptions,
        placement: Placement,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<T>>
    where
        F: 'static,
        I: PortableInputs<A>,
        T: Portable,
    {
        let inputs = inputs.into_iter();
        // A batch has one key, one priority and so on, so options are for single tasks.
        let can_batch = settings.is_plain() && inputs.size_hint().0 >= FEW;
        let function = match self.registry.name_of::<F>() {
            Ok(name) if can_batch && !self.slow.contains(&name) => name,
            _ => {
                let mut numbered = submit::numbered(settings);
                let call = |input| self.call::<F, I, A, T>(numbered(), placement.clone(), input);
                return inputs.map(call).collect();
            }
        };
        let annotations: Arc<_> = annotations(&settings, placement, Work::RustCall).into();
        let named = self.named(&settings, || key::short_name(std::any::type_name::<F>()).into());
        let core = self.local.core().clone();
        let calls = Arc::new(MapCalls {
            link: self.link.clone(),
            function: function.clone(),
            annotations: annotations.clone(),
            key_prefix: format!("{}-{:08x}", named.name, self.id),
            next_number: Box::new(move || core.next_number()),
            slow: self.slow.clone(),
        });
        let mut handles = Vec::with_capacity(inputs.size_hint().0);
        let (mut batched, mut to_adopt) = (Vec::new(), Vec::new());
        for input in inputs {
            let mut encoder = Encoder::new();
            input.visit_all(&mut encoder, SEAL);
            let named = self.named(&settings, || named.name.clone());
            let handle = match encoder.finish() {
                Ok(encoded) if encoded.inputs.is_empty() => {
                    let key: Arc<str> = (*named.key).into();
                    let call = BatchedCall::new(key, encoded.msgpack.into(), calls.clone());
                    batched.push(call.clone());
                    // Waiters need to know its batch, so it's adopted when all are sent.
                    to_adopt.push((handles.len(), named, call));
                    None
                }
                Ok(encoded) => {
                    let function = Function::Rust(function.clone());
                    Some(self.submit_encoded(named, function, encoded, annotations.clone(), None))
                }
                Err(text) => Some(self.refused(named.subject(), text)),
            };
            handles.push(handle);
        }
        // All at once, as their number decides the size of batches.
        calls.send_all(&batched, self.threads());
        for (at, named, call) in to_adopt {
            let task = || RemoteTask::new(Producer::Batched(call), Work::RustCall, None);
            handles[at] = Some(self.adopt(named, Vec::new(), task));
        }
        handles.into_iter().flatten().collect()
    }

    fn submit<T: Portable>(
        &self,
        named: RemoteName,
        settings: TaskOptions,
        placement: Placement,
        function: Function,
        encoder: Encoder,
    ) -> Handle<T> {
        let annotations = annotations(&settings, placement, function.work()).into();
        match encoder.finish() {
            Ok(encoded) => {
                // The scheduler does plain retries.
                let retry = settings.retry.filter(|retry| retry.plain().is_none()).map(Arc::new);
                self.submit_encoded(named, function, encoded, annotations, retry)
            }
            Err(text) => self.refused(named.subject(), text),
        }
    }

    fn submit_encoded<T: Portable>(
        &self,
        named: RemoteName,
        function: Function,
        encoded: Encoded,
        annotations: Arc<Annotations>,
        retry: Option<Arc<Retry>>,
    ) -> Handle<T> {
        let work = function.work();
        let prepared = Prepared::new(&named.key, function, encoded, annotations, self.local.core());
        let (prepared, users) = match prepared {
            Ok(prepared) => prepared,
            Err(text) => return self.refused(named.subject(), text),
        };
        let link = &self.link;
        self.adopt(named, users, || {
            // The scheduler orders and places tasks better the earlier it knows them.
            let producer = if prepared.is_located() {
                Producer::Single(prepared.send(link))
            } else {
                let (key, link) = (prepared.key().clone(), link.clone());
                let task = DeferredTask::new(key, move || prepared.send(&link));
                Producer::Deferred(Arc::new(task))
            };
            RemoteTask::new(producer, work, retry)
        })
    }

    /// Creates the local task that stands for the one that `send` returns.
    fn adopt<T: Portable>(
        &self,
        named: RemoteName,
        inputs: Vec<Interest>,
        send: impl FnOnce() -> RemoteTask<T>,
    ) -> Handle<T> {
        let core = self.local.core();
        let (key, submitted_at) = (named.key.clone(), named.submitted_at);
        match remote::submit(core, named, inputs, send) {
            Ok(typed) => Handle::new(typed),
            Err(error) => Handle::new(create::ended(core, Some(key), submitted_at, Err(error))),
        }
    }

    fn refused<T: Portable>(&self, origin: Subject, text: String) -> Handle<T> {
        let Subject { key, submitted_at } = origin.clone();
        let error = Error::far(ErrorKind::Refused, origin, &text);
        Handle::new(create::ended(self.local.core(), Some(key), submitted_at, Err(error)))
    }

    /// Returns the given key, or one that no other client uses. It begins with the name, since
    /// Dask groups tasks by the words that their keys begin with.
    fn named(&self, settings: &TaskOptions, name: impl FnOnce() -> Arc<str>) -> RemoteName {
        let name = settings.name.clone().unwrap_or_else(name);
        let &TaskOptions { deadline, submitted_at, .. } = settings;
        let (key, is_given) = match &settings.key {
            Some(key) => (key.clone(), true),
            None => {
                let number = self.local.core().next_number();
                (format!("{name}-{:08x}-{number}", self.id).into(), false)
            }
        };
        RemoteName { key, name, is_given, deadline, submitted_at }
    }
}

fn annotations(settings: &TaskOptions, placement: Placement, work: Work) -> Annotations {
    let mut resources = placement.resources;
    let limits = settings.limits.iter();
    resources.extend(limits.map(|(name, n)| (name.as_str().into(), *n as f64)));
    if work == Work::RustCall && !resources.iter().any(|(name, _)| **name == *RUST) {
        // Keeps it off the Python workers, which don't have that resource.
        resources.push((RUST.into(), 1.0));
    }
    Annotations {
        priority: (settings.priority != 0).then_some(settings.priority.into()),
        retries: settings.retry.as_ref().and_then(Retry::plain),
        resources,
        workers: placement.workers.into(),
        allow_other_workers: placement.allow_other_workers,
        timeout: settings.timeout.as_ref().map(Duration::as_secs_f64),
    }
}
