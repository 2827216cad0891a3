//! The connection of a client to its scheduler.
//!
//! A thread of its own reads and writes it. The state is here, behind one lock that is never held for long:
//! which tasks are held, and what waits to be said.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use async_io::Timer;
use event_listener::Event as Notice;
use futures_lite::future::or;

use super::drive;
use crate::dask::client::io::dask_future::{Failure, Remote};
use crate::dask::client::io::fetch::Fetches;
use crate::dask::client::io::register::{ConnectError, Joined, join};
use crate::dask::client::state::batched_send::{Op, Outbox};
use crate::dask::client::state::future_state::Version;
use crate::dask::client::state::pending_fetches::Found;
use crate::dask::client::state::pins::Pins;
use crate::dask::client::state::sent_tasks::Sent;
use crate::dask::client::state::task_spec::Spec;
use crate::dask::net::{Address, Io, NetError, Pool, Tls};
use crate::dask::wire::call;
use crate::dask::wire::capabilities::Forms;
use crate::dask::wire::client::Event;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::{Map, Value};
use crate::dask::wire::{WireKey, failure};
use crate::engine::base::lock::Lock;

/// How long a connection for calls may take to be made, unless its first call may take less.
const CONNECT: Duration = Duration::from_secs(30);
/// Why the scheduler doesn't take the tasks of a graph.
const REFUSED: &str = "lost dependencies";
/// How long leaving may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// How soon a scheduler is missed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How often it hears that we are there.
    pub(crate) heartbeat: Duration,
    /// After such a silence it's asked whether it's there: to an idle client it may have nothing to say for ever.
    pub(crate) doubt: Duration,
    /// How long it may be silent where it owes an answer, or may take nothing.
    pub(crate) silence: Duration,
    /// When values are given again that couldn't be given.
    pub(crate) again: Duration,
}

const PACE: Pace = Pace {
    heartbeat: Duration::from_secs(5),
    doubt: Duration::from_secs(20),
    silence: Duration::from_secs(60),
    again: Duration::from_millis(500),
};

/// A client of a scheduler. Clones are the same one, and when the last of them and the last task is dropped, the
/// connection is closed.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    inner: Arc<Inner>,
}

/// What links and tasks share. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct Inner {
    core: Arc<Core>,
    io: Io,
}

/// What the thread knows, too.
#[derive(Debug)]
pub(crate) struct Core {
    scheduler: Address,
    /// The same as text.
    pub(crate) address: String,
    pub(crate) id: String,
    pub(crate) forms: Forms,
    pub(crate) pace: Pace,
    pub(crate) pool: Pool,
    state: Lock<State>,
    /// Something waits to be said.
    pub(crate) filled: Notice,
    /// Something is to run again.
    pub(crate) retries: Notice,
    /// Some value is to be given away.
    pub(crate) values: Notice,
    pub(crate) fetches: Fetches,
    /// The thread has nothing more to do.
    pub(crate) is_over: AtomicBool,
    pub(crate) over: Notice,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The tasks that are held.
    pub(crate) remotes: HashMap<Arc<str>, Weak<Remote>>,
    /// Those of them that the scheduler has forgotten. A graph that has one of these among its inputs fails as a
    /// whole, so nothing that takes one is sent.
    gone: HashSet<Arc<str>>,
    pub(crate) outbox: Outbox,
    pub(crate) sent: Sent,
    pub(crate) pins: Pins,
    pub(crate) retries: Vec<Arc<str>>,
    ended: Option<Failure>,
}

impl Link {
    /// Becomes a client of the scheduler at this address.
    pub(crate) async fn connect(
        address: &Address,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        Self::connect_at(PACE, address, tls, timeout).await
    }

    pub(crate) async fn connect_at(
        pace: Pace,
        address: &Address,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let io = Io::start("ensue-dask").map_err(ConnectError::System)?;
        let (pool, scheduler) = (Pool::new(tls.cloned(), CONNECT), address.clone());
        let tls = tls.cloned();
        let joined = io.spawn(async move { join(&scheduler, tls.as_ref(), timeout).await });
        let Joined { stream, forms, id } = joined.await?;
        let core = Arc::new(Core {
            scheduler: address.clone(),
            address: address.to_string(),
            id,
            forms,
            pace,
            pool,
            state: Lock::default(),
            filled: Notice::new(),
            retries: Notice::new(),
            values: Notice::new(),
            fetches: Fetches::default(),
            is_over: AtomicBool::new(false),
            over: Notice::new(),
        });
        let (writer, reader) = stream.split();
        io.spawn(drive::run(core.clone(), writer, reader)).detach();
        Ok(Self { inner: Arc::new(Inner { core, io }) })
    }

    /// Submits a task. One that has had the key hasn't any more: nobody wants it, though it may not be dropped yet.
    ///
    /// Its inputs must be held until it has ended.
    pub(crate) fn submit(&self, spec: Spec) -> Arc<Remote> {
        let key = spec.key.clone();
        self.inner.core.hold(&key, &self.inner, |state, remote| state.submit(remote, spec))
    }

    /// Gives a value to the cluster, where it's as if it were a task's result.
    pub(crate) fn scatter(&self, key: &str, value: Serialized) -> Arc<Remote> {
        let core = &self.inner.core;
        let key: Arc<str> = key.into();
        core.hold(&key, &self.inner, |state, _| {
            state.outbox.push(Op::Give(key.clone(), value));
            core.values.notify(1);
        })
    }

    /// Leaves the cluster: tasks that are held fail, and nothing can be submitted. The scheduler learns of it soon.
    pub(crate) fn leave(&self) {
        self.inner.core.close();
    }

    /// Leaves the cluster: tasks that are held fail, and nothing can be submitted. Waits until the scheduler knows,
    /// but not for long.
    pub(crate) async fn close(&self) {
        self.leave();
        let core = &self.inner.core;
        let over = async {
            while !core.is_over.load(Ordering::SeqCst) {
                let over = core.over.listen();
                if !core.is_over.load(Ordering::SeqCst) {
                    over.await;
                }
            }
        };
        or(over, async { _ = Timer::after(FAREWELL).await }).await;
    }

    /// What the scheduler says of itself and its workers.
    pub(crate) async fn identity(&self) -> Result<Map, NetError> {
        let core = self.inner.core.clone();
        let ask =
            async move { core.pool.call(&core.address, call::identity(), core.pace.silence).await };
        let answer = self.inner.io.spawn(ask).await?;
        call::map_reply(answer).map_err(|error| NetError::Handshake {
            address: self.inner.core.address.clone(),
            what: error.to_string(),
        })
    }

    /// How often something that waits to be said was looked at.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.inner.core.lock().outbox.looks
    }

    /// The scheduler's address.
    pub(crate) fn scheduler(&self) -> &Address {
        &self.inner.core.scheduler
    }
}

impl Inner {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Core {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A new task of this key, which is begun.
    fn hold(
        &self,
        key: &Arc<str>,
        inner: &Arc<Inner>,
        begin: impl FnOnce(&mut State, &Arc<Remote>),
    ) -> Arc<Remote> {
        let mut state = self.lock();
        if let Some(ended) = state.ended.clone() {
            drop(state);
            return Arc::new(Remote::new(key.clone(), inner.clone(), Some(ended)));
        }
        let remote = Arc::new(Remote::new(key.clone(), inner.clone(), None));
        if state.remotes.insert(key.clone(), Arc::downgrade(&remote)).is_some() {
            // It has failed or is given up, and will find that it's not the one any more.
            state.release(key);
        }
        state.gone.remove(key);
        begin(&mut state, &remote);
        drop(state);
        self.filled.notify(1);
        remote
    }

    /// The task isn't needed any more.
    pub(crate) fn release(&self, remote: &Remote) {
        let mut state = self.lock();
        let held = state.remotes.get(remote.key());
        if held.is_some_and(|held| std::ptr::eq(held.as_ptr(), remote)) {
            state.remotes.remove(remote.key());
            state.gone.remove(remote.key());
            state.release(remote.key());
            drop(state);
            self.filled.notify(1);
        }
    }

    pub(crate) fn report(&self, key: &Arc<str>) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.outbox.push(Op::Report(key.clone()));
            drop(state);
            self.filled.notify(1);
        }
    }

    pub(crate) fn ask(&self, key: &Arc<str>, version: Version) -> Receiver<Found> {
        self.fetches.ask(key, version)
    }

    pub(crate) fn retry(&self, remote: &Arc<Remote>) {
        let mut state = self.lock();
        // A new task may have the key by now, and all that is said of it concerns that.
        let held = state.remotes.get(remote.key());
        let has_key = held.is_some_and(|held| std::ptr::eq(held.as_ptr(), Arc::as_ptr(remote)));
        if state.ended.is_none() && has_key && remote.record().retry() {
            // The scheduler would have what takes its result fail at once.
            state.outbox.hold(remote.key());
            state.retries.push(remote.key().clone());
            state.pins.watch(remote);
            drop(state);
            self.retries.notify(1);
        }
    }

    /// What the scheduler said. Says whether it goes on.
    pub(crate) fn hear(&self, events: Vec<Event>) -> bool {
        let mut goes_on = true;
        let mut state = self.lock();
        let mut refused = HashSet::new();
        // Changed and dropped when the lock isn't held any more.
        let mut concerned: Vec<(Arc<Remote>, Said)> = Vec::new();
        for event in events {
            match event {
                Event::InMemory { key, is_partial, .. } => {
                    concerned.extend(state.find(&key, Said::InMemory { is_partial }));
                }
                Event::Erred { key, exception, traceback }
                    if key.as_str().is_some_and(|key| state.sent.contains(key))
                        && failure::is_of_lost_dependencies(&exception, &traceback) =>
                {
                    refused.extend(key.as_str().map(Arc::from));
                }
                Event::Erred { key, exception, .. } => {
                    concerned.extend(state.find(&key, Said::Erred(exception)));
                }
                Event::Lost { key } => concerned.extend(state.find(&key, Said::Lost)),
                Event::Retried { key } => concerned.extend(state.find(&key, Said::Retried)),
                Event::Cancelled { keys, reason } => {
                    let why = cancelled(&self.address, reason.as_deref());
                    let keys = keys.iter().filter_map(WireKey::as_str);
                    let keys = keys.filter(|key| !state.outbox.hear_unknown(key));
                    let keys: HashSet<_> = keys.map(Arc::from).collect();
                    if reason.as_deref() == Some(REFUSED) {
                        refused.extend(keys);
                    } else {
                        concerned.extend(state.forget(keys, &why));
                    }
                }
                Event::Restarted => {
                    let why = format!("the cluster at {} was restarted", self.address);
                    let keys = state.remotes.keys().cloned().collect();
                    concerned.extend(state.forget(keys, &Failure::Lost(why.into())));
                }
                Event::Closed => goes_on = false,
                Event::Started { .. } | Event::Other(_) => {}
            }
        }
        if !refused.is_empty() {
            state.send_again(&mut refused);
            self.filled.notify(1);
            concerned.extend(state.forget(refused, &cancelled(&self.address, Some(REFUSED))));
        }
        if state.outbox.has_values() {
            self.values.notify(1);
        }
        drop(state);
        for (remote, said) in concerned {
            let runs_again = matches!(said, Said::Lost | Said::Retried);
            said.tell(&remote);
            if runs_again {
                self.lock().pins.watch(&remote);
            }
        }
        goes_on
    }

    /// What was on its way to the scheduler for these keys isn't any more, and they failed.
    pub(crate) fn give_up(&self, keys: &[Arc<str>], why: &str) {
        let mut state = self.lock();
        let lost = state.forget(keys.iter().cloned().collect(), &Failure::Lost(why.into()));
        state.outbox.settle(keys);
        drop(state);
        for (remote, said) in lost {
            said.tell(&remote);
        }
        self.filled.notify(1);
    }

    fn close(&self) {
        self.end(&Failure::Closed, Outbox::close);
        self.filled.notify(1);
    }

    /// Every task fails with this, if nothing was the end before.
    pub(crate) fn end(&self, why: &Failure, outbox: impl FnOnce(&mut Outbox)) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.ended = Some(why.clone());
            outbox(&mut state.outbox);
        }
        let remotes = std::mem::take(&mut state.remotes);
        state.gone.clear();
        state.sent.clear();
        drop(state);
        for remote in remotes.values().filter_map(Weak::upgrade) {
            remote.record().fail(why);
        }
    }
}

impl State {
    fn submit(&mut self, remote: &Arc<Remote>, spec: Spec) {
        let inputs = spec.inputs();
        if let Some(input) = inputs.iter().find(|input| self.gone.contains(**input)) {
            let why = format!("it takes the result of `{input}`, which is gone");
            self.gone.insert(spec.key.clone());
            remote.record().fail(&Failure::Lost(why.into()));
        } else {
            self.pins.take(&inputs);
            if spec.is_for_python() && !self.pins.submit(remote, Instant::now()) {
                self.outbox.hold(&spec.key);
            }
            self.outbox.push(Op::Submit(spec));
        }
    }

    fn release(&mut self, key: &Arc<str>) {
        self.sent.forget(key);
        self.outbox.push(Op::Release(key.clone()));
    }

    /// The scheduler says something of a task, so it has it.
    fn find(&mut self, key: &WireKey, said: Said) -> Option<(Arc<Remote>, Said)> {
        let key = key.as_str().filter(|key| !self.outbox.is_leaving(key))?;
        self.sent.forget(key);
        Some((self.remotes.get(key)?.upgrade()?, said))
    }

    /// The scheduler has refused these. Leaves those that take what's gone.
    fn send_again(&mut self, keys: &mut HashSet<Arc<str>>) {
        keys.retain(|key| !self.outbox.is_leaving(key));
        for spec in self.sent.refused(keys, &self.gone) {
            self.outbox.push(Op::Submit(spec));
        }
    }

    /// The scheduler doesn't know these, and they failed. So did what isn't sent yet and takes them.
    fn forget(&mut self, mut keys: HashSet<Arc<str>>, why: &Failure) -> Vec<(Arc<Remote>, Said)> {
        keys.retain(|key| !self.outbox.is_leaving(key));
        self.outbox.drop_dependents(&mut keys);
        let mut lost = Vec::new();
        for key in keys {
            if let Some(remote) = self.remotes.get(&key) {
                lost.extend(remote.upgrade().map(|remote| (remote, Said::Failed(why.clone()))));
                self.gone.insert(key);
            }
        }
        lost
    }
}

/// Why the scheduler gave up a task.
fn cancelled(scheduler: &str, reason: Option<&str>) -> Failure {
    match reason {
        Some(REFUSED) => Failure::Lost("something that it takes is gone".into()),
        None | Some("already forgotten") => {
            Failure::Lost(format!("the scheduler at {scheduler} doesn't have it any more").into())
        }
        Some(reason) => Failure::Cancelled(reason.into()),
    }
}

/// What was said of a task.
enum Said {
    InMemory { is_partial: bool },
    Erred(Value),
    Lost,
    Retried,
    Failed(Failure),
}

impl Said {
    fn tell(self, remote: &Remote) {
        let record = remote.record();
        match self {
            Self::InMemory { is_partial } => record.in_memory(is_partial),
            Self::Erred(exception) => record.erred(failure::exception(&exception)),
            Self::Lost => record.lost(),
            Self::Retried => record.retried(),
            Self::Failed(why) => drop(record.fail(&why)),
        }
    }
}
