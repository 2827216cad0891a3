//! The part of the state machine that decides which results to request from which workers, and when.
//!
//! # States of a peer
//!
//! A peer is remembered while its queue isn't empty, a request is under way, or it has to be left alone.
//!
//! | State           | Meaning                                    | Next states |
//! |-----------------|--------------------------------------------|-------------|
//! | `data_needed`   | its queue isn't empty; it can be asked     | in flight when a request is sent |
//! | in flight       | one request is under way, never two        | `data_needed` after an answer; `busy_workers` if it's busy or has failed |
//! | `busy_workers`  | it must not be asked before a point in time | `data_needed` at that time |
//!
//! A key is in the queues of all of its holders at once. It's requested from the first of them that can be asked; the
//! other queues keep an outdated entry, which is skipped when it's reached. This makes cancelling a fetch cheap.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::task::Table;
use crate::dask::wire::WireKey;

/// The maximum number of peers that are asked at the same time.
const MAX_REQUESTS: usize = 16;
/// The size of a request, unless a single result is larger.
const REQUEST_BYTES: u64 = 50 << 20;
const REQUEST_KEYS: usize = 1000;
/// A busy peer is asked again after this time.
const BUSY_PAUSE: Duration = Duration::from_millis(150);
/// A peer that failed is left alone for twice as long each time, between these bounds.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);
const MAX_FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// The scheduler is asked again after this time about keys that still have no holder.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The results that are wanted from other workers.
pub(super) struct Gather {
    /// The address of this worker, which is never asked.
    own_address: Arc<str>,
    fetches: Table<WireKey, Fetch>,
    peers: Table<Arc<str>, Peer>,
    requests: Table<u64, Request>,
    data_needed: BTreeSet<Arc<str>>,
    busy_workers: BTreeSet<(Instant, Arc<str>)>,
    /// The keys without a known holder.
    missing: BTreeSet<WireKey>,
    /// Those of `missing` that the scheduler is to be asked about now.
    refresh_who_has: Vec<WireKey>,
    refresh_at: Option<Instant>,
    /// The bytes of all requests under way, and their limit.
    incoming_bytes: u64,
    max_incoming_bytes: u64,
    next_request: u64,
}

struct Fetch {
    holders: Vec<Arc<str>>,
    size: u64,
    state: FetchState,
    /// Whether the scheduler wants a replica on this worker, independently of any task.
    is_replica: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FetchState {
    /// State `fetch`: in the queue of each of its holders.
    Queued,
    /// State `flight`: part of this request.
    Flight(u64),
    Missing,
}

#[derive(Default)]
struct Peer {
    /// The keys to request from it. Those that aren't wanted any more, or are in flight, are skipped.
    queue: VecDeque<WireKey>,
    request: Option<u64>,
    busy_until: Option<Instant>,
    failures: u32,
}

struct Request {
    peer: Arc<str>,
    keys: Vec<WireKey>,
    /// The number of these keys that are still wanted.
    wanted: usize,
    bytes: u64,
}

/// A request for the results of these keys to one peer.
#[derive(Debug, PartialEq)]
pub(crate) struct GatherDep {
    pub(crate) request: u64,
    pub(crate) peer: Arc<str>,
    pub(crate) keys: Vec<WireKey>,
    /// The number of failed requests to this peer since the last answer.
    pub(crate) failures: u32,
}

/// The outcome of a [`GatherDep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatherDepOutcome {
    /// The peer answered. It doesn't have the keys that were not received.
    Success,
    Busy,
    /// The connection failed, timed out, or the answer was malformed.
    NetworkFailure,
}

impl Gather {
    pub(super) fn new(own_address: Arc<str>, max_incoming_bytes: u64) -> Self {
        Self {
            own_address,
            fetches: Table::default(),
            peers: Table::default(),
            requests: Table::default(),
            data_needed: BTreeSet::new(),
            busy_workers: BTreeSet::new(),
            missing: BTreeSet::new(),
            refresh_who_has: Vec::new(),
            refresh_at: None,
            incoming_bytes: 0,
            max_incoming_bytes,
            next_request: 0,
        }
    }

    /// Returns the number of wanted results, and how many of them are in flight.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.fetches.len(), self.requests.values().map(|request| request.wanted).sum())
    }

    /// Returns the number of requests under way, and the bytes they ask for.
    pub(super) fn incoming(&self) -> (usize, u64) {
        (self.requests.len(), self.incoming_bytes)
    }

    pub(super) fn is_own_address(&self, address: &str) -> bool {
        *self.own_address == *address
    }

    pub(super) fn is_wanted(&self, key: &WireKey) -> bool {
        self.fetches.contains_key(key)
    }

    /// Starts to fetch a result.
    pub(super) fn want(&mut self, key: &WireKey, holders: &[String], size: u64, is_replica: bool) {
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.is_replica |= is_replica;
            fetch.size = fetch.size.max(size);
            // A key that is queued or in flight has holders that work, as far as is known.
            if fetch.state == FetchState::Missing {
                self.update_who_has(key, holders);
            }
            return;
        }
        let holders = self.peers_of(holders);
        let fetch = Fetch { holders, size, state: FetchState::Missing, is_replica };
        self.fetches.insert(key.clone(), fetch);
        self.enqueue(key);
    }

    /// Stops fetching a result that no task takes any more. A replica that the scheduler wants is fetched on, unless
    /// `even_replica`. Returns the request that has become useless, if any.
    pub(super) fn unwant(&mut self, key: &WireKey, even_replica: bool) -> Option<u64> {
        let fetch = self.fetches.get(key)?;
        if fetch.is_replica && !even_replica {
            return None;
        }
        match self.remove(key)?.state {
            FetchState::Flight(request) => self.cancel_if_useless(request),
            _ => None,
        }
    }

    fn remove(&mut self, key: &WireKey) -> Option<Fetch> {
        let fetch = self.fetches.remove(key)?;
        // The request goes on for its other keys. It is abandoned when none of them is wanted any more.
        if let FetchState::Flight(request) = fetch.state {
            if let Some(request) = self.requests.get_mut(&request) {
                request.wanted -= 1;
            }
        }
        self.missing.remove(key);
        Some(fetch)
    }

    fn cancel_if_useless(&mut self, request: u64) -> Option<u64> {
        if self.requests.get(&request)?.wanted > 0 {
            return None;
        }
        let peer = self.end_request(request)?.peer;
        self.reconsider(&peer);
        Some(request)
    }

    /// Returns the holders other than this worker. Addresses of known peers share one allocation.
    fn peers_of(&mut self, holders: &[String]) -> Vec<Arc<str>> {
        let others = holders.iter().filter(|holder| ***holder != *self.own_address);
        others
            .map(|holder| match self.peers.get_key_value(holder.as_str()) {
                Some((known, _)) => known.clone(),
                None => holder.as_str().into(),
            })
            .collect()
    }

    /// Replaces the holders of a key by those that the scheduler names.
    pub(super) fn update_who_has(&mut self, key: &WireKey, holders: &[String]) {
        let holders = self.peers_of(holders);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.holders = holders;
        match fetch.state {
            FetchState::Flight(_) => {}
            // The scheduler is asked again after the interval, not at once: it would only repeat itself.
            FetchState::Missing if fetch.holders.is_empty() => {}
            FetchState::Missing | FetchState::Queued => self.enqueue(key),
        }
    }

    /// Puts a key into the queues of its holders, or makes it `missing` if there are none.
    fn enqueue(&mut self, key: &WireKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        if fetch.holders.is_empty() {
            fetch.state = FetchState::Missing;
            if self.missing.insert(key.clone()) {
                self.refresh_who_has.push(key.clone());
            }
            return;
        }
        self.missing.remove(key);
        fetch.state = FetchState::Queued;
        for holder in &fetch.holders {
            let peer = self.peers.entry(holder.clone()).or_default();
            // The key may be in the queue already, from an earlier round. Duplicates are skipped like outdated
            // entries.
            peer.queue.push_back(key.clone());
            if peer.request.is_none() && peer.busy_until.is_none() {
                self.data_needed.insert(holder.clone());
            }
        }
    }

    /// Records that a request has delivered a result. Returns whether the result is still wanted.
    pub(super) fn received(&mut self, request: u64, key: &WireKey) -> bool {
        // A result of an abandoned fetch, or of one that another request has taken over, is dropped.
        match self.fetches.get(key) {
            Some(fetch) if fetch.state == FetchState::Flight(request) => self.remove(key).is_some(),
            _ => false,
        }
    }

    /// Ends a request, and queues anew the keys that it didn't deliver.
    pub(super) fn finished(&mut self, request: u64, outcome: GatherDepOutcome, now: Instant) {
        let Some(Request { peer, keys, .. }) = self.end_request(request) else { return };
        let undelivered = keys.into_iter().filter(|key| {
            let fetch = self.fetches.get(key);
            fetch.is_some_and(|fetch| fetch.state == FetchState::Flight(request))
        });
        let undelivered: Vec<_> = undelivered.collect();
        match outcome {
            GatherDepOutcome::Success => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.failures = 0;
                }
                undelivered.iter().for_each(|key| self.remove_holder(key, &peer));
                // The scheduler may still believe that the peer has them. Asked at once, it would name the peer again
                // and again.
                self.refresh_who_has.retain(|key| !undelivered.contains(key));
                if !undelivered.is_empty() {
                    self.refresh_at.get_or_insert(now + REFRESH_INTERVAL);
                }
            }
            GatherDepOutcome::Busy => {
                // Being busy is no failure: the peer stays a holder, and other holders may be asked meanwhile.
                self.set_busy(&peer, now + BUSY_PAUSE);
                undelivered.iter().for_each(|key| self.enqueue(key));
            }
            GatherDepOutcome::NetworkFailure => {
                let failures = self.peers.get_mut(&peer).map_or(0, |peer| {
                    peer.failures += 1;
                    peer.failures
                });
                let pause = FAILURE_PAUSE.saturating_mul(1 << failures.min(10));
                self.set_busy(&peer, now + pause.min(MAX_FAILURE_PAUSE));
                // The keys are requested from other holders. If there are none, the scheduler is asked, and may name
                // this peer again.
                self.abandon(&peer, undelivered);
            }
        }
        self.reconsider(&peer);
    }

    /// Removes a worker that has left the cluster. Returns the request to it that was under way.
    pub(super) fn remove_worker(&mut self, address: &str) -> Option<u64> {
        let (peer, known) = self.peers.get_key_value(address)?;
        let (peer, request) = (peer.clone(), known.request);
        let keys = request.and_then(|request| self.end_request(request)).map(|ended| ended.keys);
        self.abandon(&peer, keys.unwrap_or_default());
        self.reconsider(&peer);
        request
    }

    /// Removes a peer from the holders of these keys and of all keys in its queue.
    fn abandon(&mut self, peer: &Arc<str>, keys: Vec<WireKey>) {
        // The queue is taken whole, since `remove_holder` may add to the queues of other peers.
        let queue = self.peers.get_mut(peer).map(|peer| std::mem::take(&mut peer.queue));
        for key in keys.iter().chain(&queue.unwrap_or_default()) {
            self.remove_holder(key, peer);
        }
    }

    fn remove_holder(&mut self, key: &WireKey, peer: &Arc<str>) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.holders.retain(|holder| holder != peer);
        match fetch.state {
            // A request to another peer is under way.
            FetchState::Flight(request) if self.requests.contains_key(&request) => {}
            FetchState::Missing => {}
            // The key is in the queues of the other holders already.
            FetchState::Queued if !fetch.holders.is_empty() => {}
            FetchState::Flight(_) | FetchState::Queued => self.enqueue(key),
        }
    }

    fn end_request(&mut self, request: u64) -> Option<Request> {
        let ended = self.requests.remove(&request)?;
        self.incoming_bytes -= ended.bytes;
        if let Some(peer) = self.peers.get_mut(&ended.peer) {
            peer.request = None;
        }
        Some(ended)
    }

    fn set_busy(&mut self, address: &Arc<str>, until: Instant) {
        let Some(peer) = self.peers.get_mut(address) else { return };
        if let Some(before) = peer.busy_until.replace(until) {
            self.busy_workers.remove(&(before, address.clone()));
        }
        self.busy_workers.insert((until, address.clone()));
    }

    /// Moves a peer to `data_needed`, or forgets it if its queue is empty.
    fn reconsider(&mut self, address: &Arc<str>) {
        let Some(peer) = self.peers.get(address) else { return };
        // It is reconsidered when the request ends or the time has passed.
        if peer.request.is_some() || peer.busy_until.is_some() {
            return;
        }
        if peer.queue.is_empty() {
            self.data_needed.remove(address);
            self.peers.remove(address);
        } else {
            self.data_needed.insert(address.clone());
        }
    }

    /// Issues requests until a limit is reached. One is always allowed, however large its results are.
    pub(super) fn ensure_communicating(&mut self, mut issue: impl FnMut(GatherDep)) {
        while self.requests.len() < MAX_REQUESTS
            && (self.requests.is_empty() || self.incoming_bytes < self.max_incoming_bytes)
        {
            let Some(address) = self.data_needed.pop_first() else { return };
            let request = self.next_request;
            let (keys, bytes) = self.select_keys(&address, request);
            // All entries of the queue were outdated.
            if keys.is_empty() {
                self.reconsider(&address);
                continue;
            }
            self.next_request += 1;
            self.incoming_bytes += bytes;
            let Some(peer) = self.peers.get_mut(&address) else {
                unreachable!("a peer with a queue is known");
            };
            peer.request = Some(request);
            let failures = peer.failures;
            let (peer, wanted) = (address.clone(), keys.len());
            self.requests.insert(request, Request { peer, keys: keys.clone(), wanted, bytes });
            issue(GatherDep { request, peer: address, keys, failures });
        }
    }

    /// Takes the keys of one request from the queue of a peer.
    fn select_keys(&mut self, address: &Arc<str>, request: u64) -> (Vec<WireKey>, u64) {
        let (mut keys, mut bytes) = (Vec::new(), 0);
        let Some(peer) = self.peers.get_mut(address) else { return (keys, bytes) };
        while keys.len() < REQUEST_KEYS {
            let Some(key) = peer.queue.pop_front() else { break };
            let Some(fetch) = self.fetches.get_mut(&key) else { continue };
            // An outdated entry: the key is in flight from another peer, or this one was said not to have it.
            if fetch.state != FetchState::Queued || !fetch.holders.contains(address) {
                continue;
            }
            if !keys.is_empty() && bytes + fetch.size > REQUEST_BYTES {
                peer.queue.push_front(key);
                break;
            }
            fetch.state = FetchState::Flight(request);
            bytes += fetch.size;
            keys.push(key);
        }
        (keys, bytes)
    }

    /// Takes the keys that the scheduler is to be asked about.
    pub(super) fn take_refresh_who_has(&mut self, now: Instant) -> Vec<WireKey> {
        if !self.refresh_who_has.is_empty() {
            self.refresh_at.get_or_insert(now + REFRESH_INTERVAL);
        }
        std::mem::take(&mut self.refresh_who_has)
    }

    /// Returns when [`advance`](Self::advance) has to be called next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let busy_until = self.busy_workers.first().map(|(until, _)| *until);
        busy_until.into_iter().chain(self.refresh_at).min()
    }

    /// Handles the timeouts up to `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        while self.busy_workers.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, address)) = self.busy_workers.pop_first() else { break };
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.busy_until = None;
            }
            self.reconsider(&address);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_who_has = self.missing.iter().cloned().collect();
            self.refresh_at = None;
        }
    }

    /// Panics if the tables contradict each other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for (key, fetch) in &self.fetches {
            match fetch.state {
                FetchState::Queued => assert!(
                    fetch.holders.iter().any(|holder| self.peers[holder].queue.contains(key)),
                    "{key:?} is in no queue"
                ),
                FetchState::Flight(request) => {
                    assert!(self.requests[&request].keys.contains(key));
                }
                FetchState::Missing => {
                    assert!(self.missing.contains(key), "{key:?} is not in `missing`");
                }
            }
        }
        for (address, peer) in &self.peers {
            let is_free = peer.request.is_none() && peer.busy_until.is_none();
            let can_be_asked = is_free && !peer.queue.is_empty();
            assert_eq!(can_be_asked, self.data_needed.contains(address), "{address}");
            let is_unused = is_free && peer.queue.is_empty();
            assert!(!is_unused, "{address} is remembered for nothing");
            assert_ne!(**address, *self.own_address);
        }
        for (id, request) in &self.requests {
            assert_eq!(self.peers[&request.peer].request, Some(*id));
            let wanted = request.keys.iter().filter(|key| {
                let fetch = self.fetches.get(*key);
                fetch.is_some_and(|fetch| fetch.state == FetchState::Flight(*id))
            });
            assert_eq!(wanted.count(), request.wanted);
        }
        let bytes: u64 = self.requests.values().map(|request| request.bytes).sum();
        assert_eq!(self.incoming_bytes, bytes);
        let is_missing = |key| self.fetches[key].state == FetchState::Missing;
        assert!(self.missing.iter().all(is_missing));
    }
}
