//! Which results are to be got from which workers, and when.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Table;
use crate::dask::wire::WireKey;

/// How many workers are asked at the same time.
const FLIGHTS: usize = 16;
/// How much is asked of one at once, unless a single result is larger.
const BATCH_BYTES: u64 = 50 << 20;
const BATCH_KEYS: usize = 1000;
/// A worker that is busy is asked again after this.
const BUSY: Duration = Duration::from_millis(150);
/// One that failed rests for twice as long each time, between these.
const REST: Duration = Duration::from_millis(250);
const LONG_REST: Duration = Duration::from_secs(30);
/// The scheduler is asked who has a result, and asked again after this while nobody does.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is to be got from other workers.
pub(super) struct Fetches {
    /// Who we are: we aren't asked.
    address: Arc<str>,
    wanted: Table<WireKey, Wanted>,
    peers: Table<Arc<str>, Peer>,
    flights: Table<u64, Flight>,
    /// Who can be asked at once: those with a queue that aren't under way and don't rest.
    hungry: BTreeSet<Arc<str>>,
    resting: BTreeSet<(Instant, Arc<str>)>,
    /// What nobody is known to have.
    missing: BTreeSet<WireKey>,
    /// Those of them that the scheduler is to be asked about now.
    questions: Vec<WireKey>,
    ask_again: Option<Instant>,
    /// What is under way, and how much that may be.
    bytes: u64,
    most_bytes: u64,
    next_flight: u64,
}

struct Wanted {
    holders: Vec<Arc<str>>,
    size: u64,
    at: At,
    /// Whether it's wanted though no task here takes it.
    replica: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the queue of each of its holders.
    Queued,
    Flying(u64),
    Missing,
}

#[derive(Default)]
struct Peer {
    /// What to ask it for; what isn't wanted any more, or is under way, is passed over.
    queue: VecDeque<WireKey>,
    flight: Option<u64>,
    rests: Option<Instant>,
    failures: u32,
}

struct Flight {
    peer: Arc<str>,
    keys: Vec<WireKey>,
    /// How many of these are still wanted.
    left: usize,
    bytes: u64,
}

/// One worker is to be asked for these.
#[derive(Debug, PartialEq)]
pub(crate) struct Fetch {
    pub(crate) flight: u64,
    pub(crate) peer: Arc<str>,
    pub(crate) keys: Vec<WireKey>,
    /// How often it has failed of late.
    pub(crate) failures: u32,
}

/// How asking a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// It answered; what hasn't arrived it doesn't have.
    Answered,
    Busy,
    /// It's gone, silent, or talks nonsense.
    Failed,
}

impl Fetches {
    pub(super) fn new(address: Arc<str>, most_bytes: u64) -> Self {
        Self {
            address,
            wanted: Table::default(),
            peers: Table::default(),
            flights: Table::default(),
            hungry: BTreeSet::new(),
            resting: BTreeSet::new(),
            missing: BTreeSet::new(),
            questions: Vec::new(),
            ask_again: None,
            bytes: 0,
            most_bytes,
            next_flight: 0,
        }
    }

    /// How many results are wanted, and how many of these are under way.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.wanted.len(), self.flights.values().map(|flight| flight.left).sum())
    }

    /// How many workers are asked just now, and for how much.
    pub(super) fn under_way(&self) -> (usize, u64) {
        (self.flights.len(), self.bytes)
    }

    pub(super) fn is_us(&self, address: &str) -> bool {
        *self.address == *address
    }

    pub(super) fn is_wanted(&self, key: &WireKey) -> bool {
        self.wanted.contains_key(key)
    }

    /// From now on this result is wanted.
    pub(super) fn want(&mut self, key: &WireKey, holders: &[String], size: u64, replica: bool) {
        if let Some(wanted) = self.wanted.get_mut(key) {
            wanted.replica |= replica;
            wanted.size = wanted.size.max(size);
            if wanted.at == At::Missing {
                self.found(key, holders);
            }
            return;
        }
        let wanted = Wanted { holders: self.others(holders), size, at: At::Missing, replica };
        self.wanted.insert(key.clone(), wanted);
        self.enqueue(key);
    }

    /// It isn't wanted any more, unless for its own sake. Gives what has become of no use.
    pub(super) fn unwant(&mut self, key: &WireKey, replica_too: bool) -> Option<u64> {
        let wanted = self.wanted.get(key)?;
        if wanted.replica && !replica_too {
            return None;
        }
        match self.remove(key)?.at {
            At::Flying(flight) => self.stop_if_useless(flight),
            _ => None,
        }
    }

    fn remove(&mut self, key: &WireKey) -> Option<Wanted> {
        let wanted = self.wanted.remove(key)?;
        if let At::Flying(flight) = wanted.at {
            if let Some(flight) = self.flights.get_mut(&flight) {
                flight.left -= 1;
            }
        }
        self.missing.remove(key);
        Some(wanted)
    }

    fn stop_if_useless(&mut self, flight: u64) -> Option<u64> {
        if self.flights.get(&flight)?.left > 0 {
            return None;
        }
        let peer = self.end(flight)?.peer;
        self.settle(&peer);
        Some(flight)
    }

    fn others(&mut self, holders: &[String]) -> Vec<Arc<str>> {
        let others = holders.iter().filter(|holder| ***holder != *self.address);
        others
            .map(|holder| match self.peers.get_key_value(holder.as_str()) {
                Some((known, _)) => known.clone(),
                None => holder.as_str().into(),
            })
            .collect()
    }

    /// The scheduler says who has it.
    pub(super) fn found(&mut self, key: &WireKey, holders: &[String]) {
        let holders = self.others(holders);
        let Some(wanted) = self.wanted.get_mut(key) else { return };
        wanted.holders = holders;
        match wanted.at {
            At::Flying(_) => {}
            // It's asked about again after a while.
            At::Missing if wanted.holders.is_empty() => {}
            At::Missing | At::Queued => self.enqueue(key),
        }
    }

    /// Puts it in the queues of its holders.
    fn enqueue(&mut self, key: &WireKey) {
        let Some(wanted) = self.wanted.get_mut(key) else { return };
        if wanted.holders.is_empty() {
            wanted.at = At::Missing;
            if self.missing.insert(key.clone()) {
                self.questions.push(key.clone());
            }
            return;
        }
        self.missing.remove(key);
        wanted.at = At::Queued;
        for holder in &wanted.holders {
            let peer = self.peers.entry(holder.clone()).or_default();
            peer.queue.push_back(key.clone());
            if peer.flight.is_none() && peer.rests.is_none() {
                self.hungry.insert(holder.clone());
            }
        }
    }

    /// A result has come. Whether it's wanted.
    pub(super) fn arrived(&mut self, flight: u64, key: &WireKey) -> bool {
        match self.wanted.get(key) {
            Some(wanted) if wanted.at == At::Flying(flight) => self.remove(key).is_some(),
            _ => false,
        }
    }

    /// Nothing more comes.
    pub(super) fn landed(&mut self, flight: u64, landing: Landing, now: Instant) {
        let Some(Flight { peer, keys, .. }) = self.end(flight) else { return };
        let left = keys.into_iter().filter(|key| {
            self.wanted.get(key).is_some_and(|wanted| wanted.at == At::Flying(flight))
        });
        let left: Vec<_> = left.collect();
        match landing {
            Landing::Answered => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.failures = 0;
                }
                left.iter().for_each(|key| self.lose(key, &peer));
                // The scheduler may believe that it has it, and would say so at once, again and again.
                self.questions.retain(|key| !left.contains(key));
                if !left.is_empty() {
                    self.ask_again.get_or_insert(now + ASK_AGAIN);
                }
            }
            Landing::Busy => {
                self.rest(&peer, now + BUSY);
                left.iter().for_each(|key| self.enqueue(key));
            }
            Landing::Failed => {
                let failures = self.peers.get_mut(&peer).map_or(0, |peer| {
                    peer.failures += 1;
                    peer.failures
                });
                let rest = REST.saturating_mul(1 << failures.min(10)).min(LONG_REST);
                self.rest(&peer, now + rest);
                self.forsake(&peer, left);
            }
        }
        self.settle(&peer);
    }

    /// A worker is gone. Gives what was under way from it.
    pub(super) fn gone(&mut self, address: &str) -> Option<u64> {
        let (peer, known) = self.peers.get_key_value(address)?;
        let (peer, flight) = (peer.clone(), known.flight);
        let keys = flight.and_then(|flight| self.end(flight)).map(|flight| flight.keys);
        self.forsake(&peer, keys.unwrap_or_default());
        self.settle(&peer);
        flight
    }

    /// Nothing is expected of this one: neither these, nor what it would have been asked for.
    fn forsake(&mut self, peer: &Arc<str>, keys: Vec<WireKey>) {
        let queue = self.peers.get_mut(peer).map(|peer| std::mem::take(&mut peer.queue));
        for key in keys.iter().chain(&queue.unwrap_or_default()) {
            self.lose(key, peer);
        }
    }

    /// This worker doesn't have it, or doesn't give it.
    fn lose(&mut self, key: &WireKey, peer: &Arc<str>) {
        let Some(wanted) = self.wanted.get_mut(key) else { return };
        wanted.holders.retain(|holder| holder != peer);
        match wanted.at {
            // Another one gives it just now.
            At::Flying(flight) if self.flights.contains_key(&flight) => {}
            At::Missing => {}
            // It's in the other ones' queues already.
            At::Queued if !wanted.holders.is_empty() => {}
            At::Flying(_) | At::Queued => self.enqueue(key),
        }
    }

    fn end(&mut self, flight: u64) -> Option<Flight> {
        let ended = self.flights.remove(&flight)?;
        self.bytes -= ended.bytes;
        if let Some(peer) = self.peers.get_mut(&ended.peer) {
            peer.flight = None;
        }
        Some(ended)
    }

    fn rest(&mut self, address: &Arc<str>, until: Instant) {
        let Some(peer) = self.peers.get_mut(address) else { return };
        if let Some(before) = peer.rests.replace(until) {
            self.resting.remove(&(before, address.clone()));
        }
        self.resting.insert((until, address.clone()));
    }

    /// Makes it hungry, or forgets it if there's nothing to remember.
    fn settle(&mut self, address: &Arc<str>) {
        let Some(peer) = self.peers.get(address) else { return };
        if peer.flight.is_some() || peer.rests.is_some() {
            return;
        }
        if peer.queue.is_empty() {
            self.hungry.remove(address);
            self.peers.remove(address);
        } else {
            self.hungry.insert(address.clone());
        }
    }

    /// Whom to ask now.
    pub(super) fn dispatch(&mut self, mut ask: impl FnMut(Fetch)) {
        while self.flights.len() < FLIGHTS
            && (self.flights.is_empty() || self.bytes < self.most_bytes)
        {
            let Some(address) = self.hungry.pop_first() else { return };
            let flight = self.next_flight;
            let (keys, bytes) = self.batch(&address, flight);
            if keys.is_empty() {
                self.settle(&address);
                continue;
            }
            self.next_flight += 1;
            self.bytes += bytes;
            let Some(peer) = self.peers.get_mut(&address) else {
                unreachable!("it had a queue");
            };
            peer.flight = Some(flight);
            let failures = peer.failures;
            let (peer, left) = (address.clone(), keys.len());
            self.flights.insert(flight, Flight { peer, keys: keys.clone(), left, bytes });
            ask(Fetch { flight, peer: address, keys, failures });
        }
    }

    fn batch(&mut self, address: &Arc<str>, flight: u64) -> (Vec<WireKey>, u64) {
        let (mut keys, mut bytes) = (Vec::new(), 0);
        let Some(peer) = self.peers.get_mut(address) else { return (keys, bytes) };
        while keys.len() < BATCH_KEYS {
            let Some(key) = peer.queue.pop_front() else { break };
            let Some(wanted) = self.wanted.get_mut(&key) else { continue };
            if wanted.at != At::Queued || !wanted.holders.contains(address) {
                continue;
            }
            if !keys.is_empty() && bytes + wanted.size > BATCH_BYTES {
                peer.queue.push_front(key);
                break;
            }
            wanted.at = At::Flying(flight);
            bytes += wanted.size;
            keys.push(key);
        }
        (keys, bytes)
    }

    /// What the scheduler is to be asked about.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<WireKey> {
        if !self.questions.is_empty() {
            self.ask_again.get_or_insert(now + ASK_AGAIN);
        }
        std::mem::take(&mut self.questions)
    }

    /// When [`wake`](Self::wake) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let rested = self.resting.first().map(|(until, _)| *until);
        rested.into_iter().chain(self.ask_again).min()
    }

    /// Time has passed.
    pub(super) fn wake(&mut self, now: Instant) {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, address)) = self.resting.pop_first() else { break };
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.rests = None;
            }
            self.settle(&address);
        }
        if self.ask_again.is_some_and(|at| at <= now) {
            self.questions = self.missing.iter().cloned().collect();
            self.ask_again = None;
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        for (key, wanted) in &self.wanted {
            match wanted.at {
                At::Queued => assert!(
                    wanted.holders.iter().any(|holder| self.peers[holder].queue.contains(key)),
                    "{key:?} is in no queue"
                ),
                At::Flying(flight) => assert!(self.flights[&flight].keys.contains(key)),
                At::Missing => assert!(self.missing.contains(key), "{key:?} is not missed"),
            }
        }
        for (address, peer) in &self.peers {
            let can_be_asked =
                peer.flight.is_none() && peer.rests.is_none() && !peer.queue.is_empty();
            assert_eq!(can_be_asked, self.hungry.contains(address), "{address}");
            let nothing = peer.flight.is_none() && peer.rests.is_none() && peer.queue.is_empty();
            assert!(!nothing, "{address} is remembered for nothing");
            assert_ne!(**address, *self.address);
        }
        for (id, flight) in &self.flights {
            assert_eq!(self.peers[&flight.peer].flight, Some(*id));
            let left = flight.keys.iter().filter(|key| {
                self.wanted.get(*key).is_some_and(|wanted| wanted.at == At::Flying(*id))
            });
            assert_eq!(left.count(), flight.left);
        }
        assert_eq!(self.bytes, self.flights.values().map(|flight| flight.bytes).sum::<u64>());
        assert!(self.missing.iter().all(|key| self.wanted[key].at == At::Missing));
    }
}
