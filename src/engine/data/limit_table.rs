//! The declared limits and rates, by name and by pattern.
//!
//! Each has a *slot*: an index that the requests for it use. A name may have two, one for its limit and one for its rate. Those
//! of a pattern get theirs when they're first needed, and lose it once no task needs them and, for a rate, its bucket is full:
//! a new slot would be the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::mem;

use crate::engine::data::bucket::Bucket;
use crate::engine::data::turns::{Age, Place, Turns};
use crate::task::rate::Rate;

/// What is declared for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Limit(usize),
    Rate(Rate),
}

/// A declaration, of one name or of all that match a pattern.
#[derive(Clone)]
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) is_pattern: bool,
    pub(crate) amount: Amount,
}

/// As text: for a client's `Debug`.
impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount {
            Amount::Limit(n) => write!(f, "{} {n}", self.name),
            Amount::Rate(rate) => write!(f, "{} {rate}", self.name),
        }
    }
}

/// The index of a slot.
pub(crate) type SlotId = usize;

/// A slot, and the amount that's needed of it.
pub(crate) type Need = (SlotId, usize);

/// The index of a line of waiting requests.
pub(crate) type LineId = usize;

/// The rank of a line, which is that of its next request: by priority, then those whose turn it is as the oldest, by their
/// numbers, and then by place. The least is served first, at all slots.
pub(crate) type Rank = (Reverse<i32>, u64, Place);

pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The most that it has had: no request needs more.
    most: usize,
    pub(crate) made_by: MadeBy,
    /// The number of tasks that need it, unless it stays.
    leases: usize,
    /// The number of requests for it that wait.
    pub(crate) waiting: usize,
    /// What is kept for one request that would else be overtaken for ever.
    pub(crate) kept: usize,
    pub(crate) turns: Turns,
    /// The lines that wait for it, by their ranks and by the ages of their oldest requests.
    pub(crate) by_rank: BTreeSet<(Rank, LineId)>,
    pub(crate) by_age: BTreeSet<(Age, LineId)>,
}

/// What made a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeBy {
    /// The declaration of its name. It stays.
    Declaration,
    /// The pattern at this index. It goes with the last lease.
    Pattern(usize),
    /// Whoever has its first lease. It goes with the last one.
    Lease,
}

pub(crate) enum Kind {
    Limit {
        total: usize,
        used: usize,
        /// A priority that none of its holders is below, as far as is known here.
        lent: i32,
    },
    Rate(Bucket),
}

struct Pattern {
    text: String,
    amount: Amount,
    most: usize,
}

#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<SlotId>,
    /// By name, of limits and of rates.
    names: [HashMap<String, SlotId>; 2],
    /// The slots of declared names, in order.
    declared: Vec<SlotId>,
    patterns: Vec<Pattern>,
    /// The slots of rates that a pattern has made and no task needs, by the time when their buckets are full. Some were needed
    /// again since.
    unused: BTreeSet<(u64, SlotId)>,
}

impl Amount {
    fn size(self) -> usize {
        match self {
            Self::Limit(total) => total,
            Self::Rate(rate) => rate.most_at_once(),
        }
    }

    fn kind(self) -> usize {
        usize::from(matches!(self, Self::Rate(_)))
    }
}

impl Slot {
    fn new(name: String, amount: Amount, most: usize, made_by: MadeBy) -> Self {
        let kind = match amount {
            Amount::Limit(total) => Kind::Limit { total, used: 0, lent: i32::MAX },
            Amount::Rate(rate) => Kind::Rate(Bucket::new(rate)),
        };
        Self {
            name,
            kind,
            most,
            made_by,
            leases: 0,
            waiting: 0,
            kept: 0,
            turns: Turns::default(),
            by_rank: BTreeSet::new(),
            by_age: BTreeSet::new(),
        }
    }

    fn set(&mut self, amount: Amount, now: u64) {
        self.most = self.most.max(amount.size());
        match (&mut self.kind, amount) {
            (Kind::Limit { total, .. }, Amount::Limit(new)) => *total = new,
            (Kind::Rate(bucket), Amount::Rate(rate)) => bucket.set(rate, now),
            _ => unreachable!("limits and rates have slots of their own"),
        }
    }

    /// Whether it goes with the last lease.
    fn is_leased(&self) -> bool {
        self.made_by != MadeBy::Declaration
    }

    pub(crate) fn is_rate(&self) -> bool {
        matches!(self.kind, Kind::Rate(_))
    }

    /// The most that a request can have of it at present.
    pub(crate) fn size(&self) -> usize {
        match &self.kind {
            Kind::Limit { total, .. } => *total,
            Kind::Rate(bucket) => bucket.rate().most_at_once(),
        }
    }

    /// Whether `n` can be taken now, and leave what is kept for another request.
    pub(crate) fn has(&self, n: usize, now: u64) -> bool {
        let n = n.saturating_add(self.kept);
        match &self.kind {
            Kind::Limit { total, used, .. } => used.checked_add(n).is_some_and(|all| all <= *total),
            Kind::Rate(bucket) => bucket.has(n, now),
        }
    }

    /// Takes `n` for a task of this priority.
    pub(crate) fn take(&mut self, n: usize, priority: i32, now: u64) {
        match &mut self.kind {
            Kind::Limit { used, lent, .. } => {
                *used += n;
                *lent = (*lent).min(priority);
            }
            Kind::Rate(bucket) => bucket.take(n, now),
        }
    }
}

impl Table {
    pub(crate) fn slot(&self, id: SlotId) -> &Slot {
        match &self.slots[id] {
            Some(slot) => slot,
            None => unreachable!("a slot stays as long as a request needs it"),
        }
    }

    pub(crate) fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        match &mut self.slots[id] {
            Some(slot) => slot,
            None => unreachable!("a slot stays as long as a request needs it"),
        }
    }

    /// Declares a name or a pattern, or changes it. Returns the slots that have changed.
    pub(crate) fn declare(&mut self, new: Declaration, now: u64) -> BTreeSet<SlotId> {
        let Declaration { name, is_pattern, amount } = new;
        if is_pattern {
            return self.declare_pattern(name, amount, now);
        }
        let known = self.names[amount.kind()].get(&name).copied();
        let id = known.unwrap_or_else(|| {
            self.insert(Slot::new(name, amount, 0, MadeBy::Declaration), amount.kind())
        });
        let slot = self.slot_mut(id);
        slot.set(amount, now);
        let made_by = mem::replace(&mut slot.made_by, MadeBy::Declaration);
        if known.is_none() || made_by != MadeBy::Declaration {
            self.declared.push(id);
        }
        BTreeSet::from([id])
    }

    fn declare_pattern(&mut self, text: String, amount: Amount, now: u64) -> BTreeSet<SlotId> {
        let is_same = |it: &Pattern| it.text == text && it.amount.kind() == amount.kind();
        let Some(at) = self.patterns.iter().position(is_same) else {
            self.patterns.push(Pattern { text, amount, most: amount.size() });
            return BTreeSet::new();
        };
        let pattern = &mut self.patterns[at];
        pattern.amount = amount;
        pattern.most = pattern.most.max(amount.size());
        let set = |(id, slot): (SlotId, &mut Option<Slot>)| {
            slot.as_mut().filter(|slot| slot.made_by == MadeBy::Pattern(at))?.set(amount, now);
            Some(id)
        };
        self.slots.iter_mut().enumerate().filter_map(set).collect()
    }

    fn insert(&mut self, slot: Slot, kind: usize) -> SlotId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.names[kind].insert(slot.name.clone(), id);
        self.slots[id] = Some(slot);
        id
    }

    /// Returns the slots of the limit and of the rate of a name; makes those that a pattern declares.
    fn find(&mut self, name: &str) -> [Option<SlotId>; 2] {
        [0, 1].map(|kind| {
            if let Some(id) = self.names[kind].get(name) {
                return Some(*id);
            }
            let is_match = |it: &Pattern| it.amount.kind() == kind && matches(&it.text, name);
            let at = self.patterns.iter().position(is_match)?;
            let Pattern { amount, most, .. } = self.patterns[at];
            Some(self.insert(Slot::new(name.into(), amount, most, MadeBy::Pattern(at)), kind))
        })
    }

    /// Makes a limit that goes with its last lease. Returns that lease.
    pub(crate) fn insert_leased(&mut self, name: String, n: usize) -> SlotId {
        let amount = Amount::Limit(n);
        let mut slot = Slot::new(name, amount, n, MadeBy::Lease);
        slot.leases = 1;
        self.insert(slot, amount.kind())
    }

    /// Changes a slot.
    pub(crate) fn set(&mut self, id: SlotId, amount: Amount, now: u64) {
        self.slot_mut(id).set(amount, now);
    }

    /// Looks names up, and adds amounts up. Returns also the slots that patterns have made, which stay until these leases
    /// [end](Self::end_leases). An error says why the request can never be served.
    pub(crate) fn lease(
        &mut self,
        wanted: &[(String, usize)],
        now: impl Fn() -> u64,
    ) -> Result<(Vec<Need>, Vec<SlotId>), String> {
        if !self.unused.is_empty() {
            self.free_unused(now());
        }
        let mut needs = BTreeMap::<_, usize>::new();
        let mut result = Ok(());
        for (name, n) in wanted {
            let found = self.find(name);
            if found == [None, None] {
                result = Err(self.undeclared(name));
                break;
            }
            for id in found.into_iter().flatten() {
                let needed = needs.entry(id).or_default();
                *needed = needed.saturating_add(*n);
                let slot = self.slot(id);
                // One that was never more than 0 was declared to hold its tasks back.
                if *needed > slot.most && slot.most > 0 && result.is_ok() {
                    result = Err(too_much(slot, *needed));
                }
            }
        }
        let is_leased = |id: &SlotId| self.slot(*id).is_leased();
        let leases: Vec<_> = needs.keys().copied().filter(is_leased).collect();
        leases.iter().for_each(|id| self.slot_mut(*id).leases += 1);
        match result {
            Ok(()) => Ok((needs.into_iter().filter(|(_, n)| *n > 0).collect(), leases)),
            Err(text) => {
                self.end_leases(&leases);
                Err(text)
            }
        }
    }

    fn undeclared(&self, name: &str) -> String {
        let names = self.declared.iter().map(|id| &self.slot(*id).name);
        let names = names.chain(self.patterns.iter().map(|pattern| &pattern.text));
        let mut known: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        known.dedup();
        let more = known.len().saturating_sub(SHOWN);
        known.truncate(SHOWN);
        if more > 0 {
            known.push(format!("{more} more"));
        }
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        format!(
            "the limit `{name}` was not declared (declared: {known}): declare it with \
             `Client::builder().limit(\"{name}\", n)`, or as the client runs with `set_limit`"
        )
    }

    /// Ends leases. A slot that a pattern has made and no task needs any more is freed, or will be when its bucket is full.
    pub(crate) fn end_leases(&mut self, ids: &[SlotId]) {
        for id in ids.iter().copied() {
            let slot = self.slot_mut(id);
            slot.leases -= 1;
            if slot.leases > 0 || !slot.is_leased() {
                continue;
            }
            match &slot.kind {
                Kind::Rate(bucket) if bucket.full_at() > 0 => {
                    let at = bucket.full_at();
                    self.unused.insert((at, id));
                }
                _ => self.free(id),
            }
        }
    }

    /// Frees the slots of rates that no task needs and whose buckets are full.
    pub(crate) fn free_unused(&mut self, now: u64) {
        while let Some((at, id)) = self.unused.first().copied().filter(|(at, _)| *at <= now) {
            self.unused.remove(&(at, id));
            let is_unused = |slot: &Slot| {
                let is_full = match &slot.kind {
                    Kind::Rate(bucket) => bucket.full_at() <= now,
                    Kind::Limit { .. } => false,
                };
                slot.leases == 0 && slot.is_leased() && is_full
            };
            if self.slots[id].as_ref().is_some_and(is_unused) {
                self.free(id);
            }
        }
    }

    fn free(&mut self, id: SlotId) {
        if let Some(slot) = self.slots[id].take() {
            self.names[usize::from(slot.is_rate())].remove(&slot.name);
            self.free.push(id);
        }
    }

    /// The slots to be shown: those of declared names in the order of their declaration, and then those that patterns have
    /// made and that are in use, by name.
    pub(crate) fn shown(&self, now: u64) -> Vec<SlotId> {
        let is_used = |slot: &Slot| {
            let is_taken = match &slot.kind {
                Kind::Limit { used, .. } => *used > 0,
                Kind::Rate(bucket) => bucket.full_at() > now,
            };
            slot.is_leased() && (slot.waiting > 0 || is_taken)
        };
        let used = |(id, slot): (SlotId, &Option<Slot>)| {
            slot.as_ref().filter(|it| is_used(it)).map(|_| id)
        };
        let mut made: Vec<_> = self.slots.iter().enumerate().filter_map(used).collect();
        made.sort_by(|a, b| self.slot(*a).name.cmp(&self.slot(*b).name));
        let mut shown = self.declared.clone();
        shown.append(&mut made);
        shown
    }

    /// The declarations as they are now.
    pub(crate) fn declarations(&self) -> Vec<Declaration> {
        let declared = self.declared.iter().map(|id| {
            let slot = self.slot(*id);
            let amount = match &slot.kind {
                Kind::Limit { total, .. } => Amount::Limit(*total),
                Kind::Rate(bucket) => Amount::Rate(bucket.rate()),
            };
            Declaration { name: slot.name.clone(), is_pattern: false, amount }
        });
        let patterns = self.patterns.iter().map(|pattern| Declaration {
            name: pattern.text.clone(),
            is_pattern: true,
            amount: pattern.amount,
        });
        declared.chain(patterns).collect()
    }

    /// The text of the pattern that made a slot.
    pub(crate) fn pattern_of(&self, slot: &Slot) -> Option<&str> {
        match slot.made_by {
            MadeBy::Pattern(at) => Some(&self.patterns[at].text),
            MadeBy::Declaration | MadeBy::Lease => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// The most names in a text.
const SHOWN: usize = 8;

fn too_much(slot: &Slot, needed: usize) -> String {
    let (name, most) = (&slot.name, slot.most);
    match slot.is_rate() {
        false => format!("it asks for {needed} of the limit `{name}`, which is {most}"),
        true => format!(
            "it asks for {needed} starts of the rate `{name}` at once, whose burst is {most}: a larger one is declared with \
             `Rate::burst`"
        ),
    }
}

/// Whether a name matches a pattern, in which each `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, is_match) in [
            ("host:*", "host:a", true),
            ("host:*", "host:", true),
            ("host:*", "hosts", false),
            ("*", "", true),
            ("a*b", "ab", true),
            ("a*b", "a", false),
            ("ab*ba", "aba", false),
            ("*x*y*", "axby", true),
            ("*x*y*", "ayx", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn what_a_pattern_makes_is_freed_when_it_is_unused() {
        let mut table = Table::default();
        let rate = Amount::Rate(Rate::new(1, std::time::Duration::from_nanos(10)));
        for (name, amount) in [("limit:*", Amount::Limit(2)), ("rate:*", rate)] {
            let new = Declaration { name: name.into(), is_pattern: true, amount };
            table.declare(new, 0);
        }
        let mut now = 0;
        for n in 0..1000 {
            let wanted = [(format!("limit:{n}"), 1), (format!("rate:{n}"), 1)];
            let (needs, leases) = table.lease(&wanted, || now).unwrap();
            needs.iter().for_each(|(id, n)| table.slot_mut(*id).take(*n, 0, now));
            assert_eq!(table.shown(now).len(), if n == 0 { 2 } else { 3 });
            if let Kind::Limit { used, .. } = &mut table.slot_mut(needs[0].0).kind {
                *used = 0;
            }
            table.end_leases(&leases);
            // The bucket of the one before is full again.
            now += 5;
        }
        assert!(table.len() <= 3, "{}", table.len());
        table.free_unused(now + 10);
        assert_eq!(table.len(), 0);
    }
}
