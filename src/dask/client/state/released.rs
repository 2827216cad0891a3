//! Keys that were released, until the scheduler is known to have heard that.
//!
//! A key may be used again as soon as it's released. What the scheduler says of it then may still be of the task
//! before: it was said before the release was read, and nothing in it tells which task is meant. But the scheduler
//! reads and says everything in order, and answers at once when it's asked for a key that it doesn't know. So after
//! releases it's asked for such a key, and until the answer comes, all that is said of those that were released is old.
//!
//! It's asked when somebody uses a key again, and else rarely: an answer delays what the scheduler says next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What the keys begin with that no task has.
const QUESTION: &str = "(ensue asks) ";

/// After so many releases it's asked, so that not too many are remembered.
const MANY: usize = 10_000;

/// Keys that were released.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    keys: HashMap<Arc<str>, Releases>,
    /// What it was told since it was asked: a key twice, if the task that had it in between was never sent.
    told: Vec<Arc<str>>,
    /// What it was told before each question that it hasn't answered.
    asked: VecDeque<(u64, Vec<Arc<str>>)>,
    /// How often it was asked.
    questions: u64,
}

/// How often a key was released, where the scheduler hasn't answered after it.
#[derive(Debug, Default)]
struct Releases {
    /// In all.
    count: usize,
    /// Without those that wait for something before they're sent.
    going: usize,
    /// It was told of one since it was asked.
    is_told: bool,
}

impl Leaving {
    /// A key is to be released.
    pub(crate) fn add(&mut self, key: &Arc<str>) {
        self.keys.entry(key.clone()).or_default().count += 1;
    }

    /// Its release goes with the next message.
    pub(crate) fn go(&mut self, key: &str) {
        if let Some(releases) = self.keys.get_mut(key) {
            releases.going += 1;
        }
    }

    /// A release that didn't go will not be sent.
    pub(crate) fn take_back(&mut self, key: &str) {
        self.end(key, 0);
    }

    fn end(&mut self, key: &str, gone: usize) {
        if let Some(releases) = self.keys.get_mut(key) {
            releases.count -= 1;
            releases.going -= gone;
            if releases.count == 0 {
                self.keys.remove(key);
            }
        }
    }

    /// Whether what is said of the key is old.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Whether a release of the key is on its way.
    pub(crate) fn is_going(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|releases| releases.going > 0)
    }

    /// These are released now. Says whether there are many that it wasn't asked about.
    pub(crate) fn tell(&mut self, released: &[Arc<str>]) -> bool {
        for key in released {
            if let Some(releases) = self.keys.get_mut(key) {
                releases.is_told = true;
            }
        }
        self.told.extend_from_slice(released);
        self.told.len() >= MANY
    }

    /// Whether the key was released since it was asked.
    pub(crate) fn is_told(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|releases| releases.is_told)
    }

    /// The key to ask for, unless nothing was released since it was asked.
    pub(crate) fn ask(&mut self) -> Option<String> {
        if self.told.is_empty() {
            return None;
        }
        let told = std::mem::take(&mut self.told);
        for key in &told {
            if let Some(releases) = self.keys.get_mut(key) {
                releases.is_told = false;
            }
        }
        self.questions += 1;
        self.asked.push_back((self.questions, told));
        Some(format!("{QUESTION}{}", self.questions))
    }

    /// The scheduler doesn't know this key. Says whether that's an answer.
    pub(crate) fn hear(&mut self, key: &str) -> bool {
        let Some(number) = key.strip_prefix(QUESTION).and_then(|number| number.parse().ok()) else {
            return false;
        };
        while self.asked.front().is_some_and(|(asked, _)| *asked <= number) {
            for key in self.asked.pop_front().into_iter().flat_map(|(_, keys)| keys) {
                self.end(&key, 1);
            }
        }
        true
    }
}
