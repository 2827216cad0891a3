//! From a submission to a task on the cluster.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Inner};
use crate::dask::RUST;
use crate::dask::client::api::batched_calls::{Common, FEW, Place, Slice};
use crate::dask::client::api::options::Where;
use crate::dask::client::api::python::{python_args, python_name};
use crate::dask::client::api::remote_task::{Far, Later, Task, What};
use crate::dask::client::io::dask_future::Remote;
use crate::dask::client::io::link::Link;
use crate::dask::client::state::task_spec::{OwnedAnnotations, OwnedCall, Spec};
use crate::dask::codec::{self, Encoded, Encoder};
use crate::engine::life::cell;
use crate::engine::remote::{self, RemoteName};
use crate::engine::task::header::Interest;
use crate::options::TaskOptions;
use crate::portable::{Portable, PortableInputs};
use crate::{Error, ErrorKind, Handle, Key, Retry, key, submit};

/// What is to be run: by its name on the wire, which for Python is a path.
#[derive(Clone)]
pub(crate) enum Function {
    Rust(Arc<str>),
    Python(Arc<str>, Arc<str>),
}

/// A submission that is right, as far as that's known here.
struct Ready {
    key: Arc<str>,
    function: Function,
    encoded: Encoded,
    inputs: Vec<Source>,
    annotations: Arc<OwnedAnnotations>,
}

/// Where an input comes from. It's kept until what takes it is sent: the scheduler must know it until then.
enum Source {
    Task(Arc<Remote>),
    /// Where its result is will be known when it has ended.
    Slice(Arc<Slice>),
    /// The same of one that may not have been sent.
    Later(Arc<Later>),
    /// It has failed for good, so what takes it will never be sent.
    Gone(Arc<str>),
}

impl Source {
    /// What it's called on the cluster, and which item of that it is; none if that isn't known yet.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Task(remote) => Some(Place::whole(remote.key())),
            Self::Later(later) => later.sent().map(|remote| Place::whole(remote.key())),
            Self::Slice(slice) => slice.place(),
            Self::Gone(_) => None,
        }
    }
}

impl Client {
    /// Submits a call of a function of ours, whose type is `F`.
    pub(crate) fn call<F, I, A, T>(&self, settings: TaskOptions, at: Where, inputs: I) -> Handle<T>
    where
        F: 'static,
        I: PortableInputs<A>,
        T: Portable,
    {
        let inner = &*self.0;
        let named = inner.named(&settings, || key::short_name(std::any::type_name::<F>()).into());
        let mut encoder = Encoder::new();
        inputs.encode_all(&mut encoder);
        match inner.registry.name_of::<F>() {
            Ok(name) => inner.submit(named, settings, at, Function::Rust(name), encoder),
            Err(problem) => inner.refused(named.key, problem.text),
        }
    }

    /// Submits a call of a function in Python, whose arguments are encoded.
    pub(crate) fn call_python<T: Portable>(
        &self,
        settings: TaskOptions,
        at: Where,
        path: &str,
        encoder: Encoder,
    ) -> Handle<T> {
        let inner = &*self.0;
        let named =
            inner.named(&settings, || path.rsplit(['.', ':']).next().unwrap_or(path).into());
        if settings.timeout.is_some() {
            let text = "a function in Python can't be given a timeout".to_owned();
            return inner.refused(named.key, text);
        }
        match python_name(path) {
            Ok((module, name)) => {
                let function = Function::Python(module.into(), name.into());
                inner.submit(named, settings, at, function, encoder)
            }
            Err(text) => inner.refused(named.key, text),
        }
    }

    /// Gives a value to the cluster.
    pub(crate) fn scatter<T: Portable>(&self, settings: &TaskOptions, value: T) -> Handle<T> {
        let inner = &*self.0;
        let named = inner.named(settings, || "ready".into());
        let key = named.key.clone();
        match codec::write(value) {
            Ok(written) => inner.adopt(named, Vec::new(), || {
                Far::new(Task::One(inner.link.scatter(&key, written)), What::Data, None)
            }),
            Err(problem) => inner.refused(key, problem.text),
        }
    }

    /// Submits a call for each of the inputs. Many that need nothing from other tasks go together.
    pub(crate) fn call_many<F, I, A, T>(
        &self,
        settings: TaskOptions,
        at: Where,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<T>>
    where
        F: 'static,
        I: PortableInputs<A>,
        T: Portable,
    {
        let inner = &*self.0;
        let inputs = inputs.into_iter();
        let together = settings.is_plain() && inputs.size_hint().0 >= FEW;
        let name = inner.registry.name_of::<F>();
        let function = match name {
            Ok(name) if together && !inner.slow.has(&name) => name,
            _ => {
                let mut numbered = submit::numbered(settings);
                let call = |input| self.call::<F, I, A, T>(numbered(), at.clone(), input);
                return inputs.map(call).collect();
            }
        };
        let annotations: Arc<_> = annotations(&settings, at.clone(), true).into();
        let named = inner.named(&settings, || key::short_name(std::any::type_name::<F>()).into());
        let core = inner.local.core().clone();
        let common = Arc::new(Common {
            link: inner.link.clone(),
            function: function.clone(),
            annotations: annotations.clone(),
            key: format!("{}-{:08x}", named.name, inner.id),
            number: Box::new(move || core.next_number()),
            slow: inner.slow.clone(),
        });
        let (mut handles, mut slices) = (Vec::with_capacity(inputs.size_hint().0), Vec::new());
        let mut waiting = Vec::new();
        for input in inputs {
            let mut encoder = Encoder::new();
            input.encode_all(&mut encoder);
            let named = inner.named(&settings, || named.name.clone());
            let handle = match encoder.finish() {
                Ok(encoded) if encoded.inputs.is_empty() => {
                    let key: Arc<str> = (*named.key).into();
                    let slice = Slice::new(key, encoded.msgpack.into(), common.clone());
                    slices.push(slice.clone());
                    // They may be waited for when they're sent.
                    waiting.push((handles.len(), named, slice));
                    None
                }
                Ok(encoded) => {
                    let function = Function::Rust(function.clone());
                    let ready = inner.ready(&named.key, function, encoded, annotations.clone());
                    Some(match ready {
                        Ok((ready, users)) => inner.begin(named, ready, users, What::Rust, None),
                        Err(text) => inner.refused(named.key, text),
                    })
                }
                Err(text) => Some(inner.refused(named.key, text)),
            };
            handles.push(handle);
        }
        common.send_all(&slices, inner.threads());
        for (at, named, slice) in waiting {
            let far = || Far::new(Task::Slice(slice), What::Rust, None);
            handles[at] = Some(inner.adopt(named, Vec::new(), far));
        }
        handles.into_iter().flatten().collect()
    }
}

impl Inner {
    fn submit<T: Portable>(
        &self,
        named: RemoteName,
        settings: TaskOptions,
        at: Where,
        function: Function,
        encoder: Encoder,
    ) -> Handle<T> {
        let what = match function {
            Function::Rust(_) => What::Rust,
            Function::Python(..) => What::Python,
        };
        let annotations = annotations(&settings, at, what == What::Rust).into();
        let ready = encoder
            .finish()
            .and_then(|encoded| self.ready(&named.key, function, encoded, annotations));
        match ready {
            Ok((ready, users)) => {
                let retry = settings.retry.filter(|retry| retry.plain().is_none());
                self.begin(named, ready, users, what, retry.map(Arc::new))
            }
            Err(text) => self.refused(named.key, text),
        }
    }

    /// Sends it as soon as it can be.
    fn begin<T: Portable>(
        &self,
        named: RemoteName,
        ready: Ready,
        users: Vec<Interest>,
        what: What,
        retry: Option<Arc<Retry>>,
    ) -> Handle<T> {
        let link = &self.link;
        self.adopt(named, users, || {
            let task = if ready.is_known() {
                Task::One(ready.send(link))
            } else {
                let (key, link) = (ready.key.clone(), link.clone());
                Task::Later(Arc::new(Later::new(key, move || ready.send(&link))))
            };
            Far::new(task, what, retry)
        })
    }

    /// The task here that stands for what `send` sends.
    fn adopt<T: Portable>(
        &self,
        named: RemoteName,
        inputs: Vec<Interest>,
        send: impl FnOnce() -> Far<T>,
    ) -> Handle<T> {
        let core = self.local.core();
        let key = named.key.clone();
        match remote::submit(core, named, inputs, send) {
            Ok(typed) => Handle::new(typed),
            Err(error) => Handle::new(cell::create_ended(core, Some(key), Err(error))),
        }
    }

    fn refused<T: Portable>(&self, key: Key, text: String) -> Handle<T> {
        let error = Error::far(ErrorKind::Refused, key.clone(), text);
        Handle::new(cell::create_ended(self.local.core(), Some(key), Err(error)))
    }

    /// By default a key that no other client uses: the words in front are what Dask groups tasks by.
    fn named(&self, settings: &TaskOptions, name: impl FnOnce() -> Arc<str>) -> RemoteName {
        let name = settings.name.clone().unwrap_or_else(name);
        match &settings.key {
            Some(key) => RemoteName { key: key.clone(), name, is_given: true },
            None => {
                let number = self.local.core().next_number();
                let key = format!("{name}-{:08x}-{number}", self.id).into();
                RemoteName { key, name, is_given: false }
            }
        }
    }

    /// What is to be sent, with the tasks here that its inputs are; or why it can't be.
    fn ready(
        &self,
        key: &Key,
        function: Function,
        mut encoded: Encoded,
        annotations: Arc<OwnedAnnotations>,
    ) -> Result<(Ready, Vec<Interest>), String> {
        let users = std::mem::take(&mut encoded.inputs);
        let inputs = users.iter().map(|user| self.source(user)).collect::<Result<Vec<_>, _>>()?;
        let ready = Ready { key: (**key).into(), function, encoded, inputs, annotations };
        if let Function::Python(..) = ready.function {
            // Whether Python can be told of these arguments doesn't depend on where the inputs are.
            let anywhere = vec![ready.key.clone(); ready.inputs.len()];
            python_args(&ready.encoded.msgpack.clone().into(), &anywhere)?;
        }
        Ok((ready, users))
    }

    fn source(&self, input: &Interest) -> Result<Source, String> {
        let is_ours = std::ptr::eq(input.core(), &**self.local.core());
        if !is_ours || !input.vtable.is_remote {
            return Err(format!(
                "its input `{}` isn't on this cluster: await it and pass the value, or give that to `ready`",
                input.key()
            ));
        }
        let gone = || Source::Gone((**input.key()).into());
        Ok(remote::tag(input).map_or_else(gone, |tag| {
            tag.downcast()
                .map(Source::Task)
                .or_else(|tag| tag.downcast().map(Source::Slice))
                .or_else(|tag| tag.downcast().map(Source::Later))
                .unwrap_or_else(|_| gone())
        }))
    }
}

impl Ready {
    /// Whether it's known where the inputs are, or will be.
    fn is_known(&self) -> bool {
        self.inputs.iter().all(|input| input.place().is_some())
    }

    /// Sends it, at the latest when the inputs have ended.
    fn send(self, link: &Link) -> Arc<Remote> {
        let Self { key, function, encoded, inputs, annotations } = self;
        let place = |input: &Source| match (input.place(), input) {
            (Some(place), _) => place,
            (None, Source::Gone(key)) => Place::whole(key),
            (None, _) => unreachable!("what isn't known is sent when the inputs have ended"),
        };
        let call = match function {
            Function::Rust(function) => {
                let places: Vec<_> = inputs.iter().map(place).collect();
                let items: Vec<_> = places.iter().map(Place::spare).collect();
                let args = match items.iter().any(Option::is_some) {
                    true => encoded.with_items(&items).into(),
                    false => encoded.msgpack.into(),
                };
                let inputs = places.into_iter().map(|place| place.key).collect();
                OwnedCall::Rust { function, args, inputs }
            }
            Function::Python(module, name) => {
                // Python can't make the call that goes with an item.
                for input in &inputs {
                    if let Source::Slice(slice) = input {
                        slice.stand_alone();
                    }
                }
                let keys: Vec<_> = inputs.iter().map(|input| place(input).key).collect();
                let Ok(args) = python_args(&encoded.msgpack.into(), &keys) else {
                    unreachable!("that was tried before");
                };
                OwnedCall::Python { module, name, args }
            }
        };
        let sent = link.submit(Spec { key, call, annotations, is_alone: false });
        drop(inputs);
        sent
    }
}

fn annotations(settings: &TaskOptions, at: Where, is_rust: bool) -> OwnedAnnotations {
    let mut resources: Vec<(Arc<str>, f64)> = at.resources;
    let limits = settings.limits.iter();
    resources.extend(limits.map(|(name, n)| (name.as_str().into(), *n as f64)));
    if is_rust && !resources.iter().any(|(name, _)| **name == *RUST) {
        resources.push((RUST.into(), 1.0));
    }
    OwnedAnnotations {
        priority: (settings.priority != 0).then_some(settings.priority.into()),
        retries: settings.retry.as_ref().and_then(Retry::plain),
        resources,
        workers: at.workers,
        allow_other_workers: at.allow_other_workers,
        timeout: settings.timeout.as_ref().map(Duration::as_secs_f64),
    }
}
