//! The requests that wait for limits and rates, and the order in which they're served.
//!
//! Requests for the same set of slots, whatever amounts, form a *line*. Of a line, one request is next: the first by
//! [`turns`](crate::engine::data::turns), or the oldest once it's its turn at a slot. If it can't be served no other one of the line
//! can, and the line waits for one slot of which the next one lacks something: for a rate if it lacks any, else for a limit.
//!
//! | a line | when |
//! |---|---|
//! | waits for a slot | its next request lacks some of that, or others that wait for it come first |
//! | moves to another slot | it's the first that waits for its slot, which has enough, but lacks another one |
//! | has things kept for it | it has moved several times, and waits for a limit |
//!
//! So the slots that a request doesn't lack can be used by others meanwhile: a host that is slow doesn't keep the connections
//! from other hosts. A change of a slot concerns only the lines that wait for it, in order, up to the first that still lacks
//! it. A request that needs several slots might find another one taken each time. So after some moves, what it needs is kept
//! for it, for one line at a time; while it waits for a rate nothing is, since that comes by itself.
//!
//! A request that needs more than a limit was lowered to is put [aside](Line::aside) until a limit is changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use crate::engine::base::lock::Lock;
use crate::engine::data::limit_pass::Pass;
use crate::engine::data::limit_table::{Kind, LineId, Need, Rank, SlotId, Table};
use crate::engine::data::turns::{Age, Place, Turns};
use crate::engine::task::header::Task;

/// How often a line moves before things are kept for it.
const MOVES: u32 = 4;

/// In place of the number of one whose turn it is.
const NO_TURN: u64 = u64::MAX;

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) table: Table,
    lines: Vec<Option<Line>>,
    free_lines: Vec<LineId>,
    /// By their slots.
    line_ids: BTreeMap<Vec<SlotId>, LineId>,
    /// The tasks that hold something, by the number of their request.
    pub(crate) holders: BTreeMap<u64, Holder>,
    /// The line that things are kept for, and these.
    kept: Option<(LineId, Vec<Need>)>,
    count: u64,
}

struct Line {
    slots: Vec<SlotId>,
    waiting: BTreeMap<Place, Waiting>,
    by_age: BTreeMap<Age, Place>,
    /// The requests that need more than a limit has, or a burst, since that was lowered.
    aside: BTreeMap<Place, Waiting>,
    /// The slot that it waits for, and its keys there.
    at: Option<(SlotId, Rank, Age)>,
    /// It's the turn of its oldest request.
    is_for_oldest: bool,
    /// How often it moved since it was served.
    moves: u32,
}

pub(crate) struct Waiting {
    pub(crate) holder: Holder,
    pub(crate) waker: Waker,
}

/// A task and what it takes; without a task for blocking work whose task was dropped.
pub(crate) struct Holder {
    pub(crate) needs: Needs,
    pub(crate) task: Option<Task>,
}

/// What is needed: slots, and the amount of each. Shared by the attempts of a task.
#[derive(Clone)]
pub(crate) struct Needs {
    pub(crate) amounts: Arc<[Need]>,
    /// Keeps slots that a pattern has made.
    pub(crate) _lease: Option<Arc<Lease>>,
}

pub(crate) struct Lease {
    pub(crate) book: Arc<Lock<Book>>,
    pub(crate) slots: Vec<SlotId>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.book.lock().table.end_leases(&self.slots);
    }
}

impl Holder {
    pub(crate) fn to_task(&self) -> Option<Task> {
        self.task.as_ref().map(|task| task.as_ref().to_task())
    }

    /// The amount of a slot that it takes.
    pub(crate) fn amount(&self, slot: SlotId) -> usize {
        self.needs.amounts.iter().find(|(id, _)| *id == slot).map_or(0, |(_, n)| *n)
    }
}

impl Line {
    /// The place of the request that is next.
    fn next(&self) -> Option<Place> {
        if self.is_for_oldest { self.oldest() } else { self.waiting.keys().next().copied() }
    }

    fn rank(&self, next: Place) -> Rank {
        let turn = if self.is_for_oldest { next.number } else { NO_TURN };
        (Reverse(next.priority()), turn, next)
    }

    fn oldest(&self) -> Option<Place> {
        self.by_age.values().next().copied()
    }
}

impl Book {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Whether a new request can be served at once: there's enough of all, and no other one waits for any of it.
    pub(crate) fn is_free(&self, needs: &Needs, pass: &mut Pass<'_>) -> bool {
        needs.amounts.iter().all(|(id, n)| {
            let slot = self.table.slot(*id);
            slot.by_rank.is_empty() && slot.has(*n, pass.now(slot))
        })
    }

    /// Takes what `holder` needs, which is free.
    pub(crate) fn hold(&mut self, number: u64, holder: Holder, priority: i32, pass: &mut Pass<'_>) {
        for (id, n) in &*holder.needs.amounts {
            let slot = self.table.slot_mut(*id);
            let now = pass.now(slot);
            slot.take(*n, priority, now);
        }
        self.holders.insert(number, holder);
    }

    /// Enters a request, and serves it if that's possible. Returns its line.
    pub(crate) fn enter(&mut self, place: Place, waiting: Waiting, pass: &mut Pass<'_>) -> LineId {
        for (id, _) in &*waiting.holder.needs.amounts {
            self.table.slot_mut(*id).waiting += 1;
        }
        let slots = waiting.holder.needs.amounts.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        let line = self.line_ids.get(&slots).copied();
        let line = line.unwrap_or_else(|| {
            let line = Line {
                slots: slots.clone(),
                waiting: BTreeMap::new(),
                by_age: BTreeMap::new(),
                aside: BTreeMap::new(),
                at: None,
                is_for_oldest: false,
                moves: 0,
            };
            let id = self.free_lines.pop().unwrap_or_else(|| {
                self.lines.push(None);
                self.lines.len() - 1
            });
            self.lines[id] = Some(line);
            self.line_ids.insert(slots, id);
            id
        });
        let this = self.line(line);
        // One that is behind others changes nothing.
        let is_behind = this.next().is_some_and(|next| next < place)
            && this.oldest().is_some_and(|oldest| oldest.age() < place.age());
        this.waiting.insert(place, waiting);
        this.by_age.insert(place.age(), place);
        if !is_behind {
            self.settle(line, pass);
        }
        line
    }

    /// Removes a request that waits; `None` if it was served.
    pub(crate) fn leave(
        &mut self,
        place: Place,
        line: LineId,
        pass: &mut Pass<'_>,
    ) -> Option<Waiting> {
        let this = self.lines.get_mut(line)?.as_mut()?;
        if let Some(left) = this.aside.remove(&place) {
            self.count_off(&left.holder);
            self.settle(line, pass);
            return Some(left);
        }
        let (was_next, was_oldest) = (this.next() == Some(place), this.oldest() == Some(place));
        let left = this.waiting.remove(&place)?;
        this.by_age.remove(&place.age());
        if was_oldest {
            this.is_for_oldest = false;
        }
        self.count_off(&left.holder);
        if was_next || was_oldest {
            self.settle(line, pass);
        }
        Some(left)
    }

    fn count_off(&mut self, holder: &Holder) {
        for (id, _) in &*holder.needs.amounts {
            self.table.slot_mut(*id).waiting -= 1;
        }
    }

    /// The request at a place, if it waits.
    pub(crate) fn waiting(&mut self, place: Place, line: LineId) -> Option<&mut Waiting> {
        let line = self.lines.get_mut(line)?.as_mut()?;
        line.waiting.get_mut(&place).or_else(|| line.aside.get_mut(&place))
    }

    /// All requests that wait.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Place, &Waiting)> {
        self.lines.iter().flatten().flat_map(|line| line.waiting.iter().chain(&line.aside))
    }

    /// The number of requests that come before this one at a slot.
    pub(crate) fn ahead(&self, place: Place, slot: SlotId) -> usize {
        let lines = self.lines.iter().flatten().filter(|line| line.slots.contains(&slot));
        lines.map(|line| line.waiting.range(..place).count()).sum()
    }

    /// Gives back what the request of this number has taken; `started` tells whether its task has started, which counts for
    /// rates.
    pub(crate) fn release(
        &mut self,
        number: u64,
        started: bool,
        pass: &mut Pass<'_>,
    ) -> Option<Holder> {
        let holder = self.holders.remove(&number)?;
        for (id, n) in &*holder.needs.amounts {
            let slot = self.table.slot_mut(*id);
            match &mut slot.kind {
                Kind::Limit { used, .. } => *used -= n,
                Kind::Rate(_) if started => continue,
                Kind::Rate(bucket) => bucket.give_back(*n),
            }
            if !slot.by_rank.is_empty() {
                pass.changed.insert(*id);
            }
        }
        Some(holder)
    }

    /// Notes that slots were changed by a declaration.
    pub(crate) fn declared(&mut self, slots: BTreeSet<SlotId>, pass: &mut Pass<'_>) {
        for id in 0..self.lines.len() {
            let Some(line) = self.lines[id].as_mut().filter(|line| !line.aside.is_empty()) else {
                continue;
            };
            if line.slots.iter().any(|slot| slots.contains(slot)) {
                let aside = std::mem::take(&mut line.aside);
                line.by_age.extend(aside.keys().map(|place| (place.age(), *place)));
                line.waiting.extend(aside);
                self.settle(id, pass);
            }
        }
        pass.changed.extend(slots);
    }

    /// Notes that the time for a request may have come.
    pub(crate) fn woken(&mut self, line: LineId, pass: &mut Pass<'_>) {
        let at = self.lines.get(line).and_then(|line| line.as_ref()?.at);
        pass.changed.extend(at.map(|(slot, ..)| slot));
    }

    /// Serves every request that can be served, and sets the timers of rates that others wait for.
    pub(crate) fn serve(&mut self, pass: &mut Pass<'_>) {
        while let Some(slot) = pass.changed.pop_first() {
            self.serve_slot(slot, pass);
        }
        for id in std::mem::take(&mut pass.rates) {
            self.set_alarm(id, pass);
        }
    }

    /// Serves the lines that wait for a slot, up to the first that lacks it.
    fn serve_slot(&mut self, id: SlotId, pass: &mut Pass<'_>) {
        loop {
            let slot = self.table.slot(id);
            let oldest = slot.by_age.first().filter(|_| slot.turns.is_for_oldest());
            if let Some((_, line)) = oldest.copied() {
                if self.lines[line].as_ref().is_some_and(|line| !line.is_for_oldest) {
                    // It's then the first.
                    self.settle(line, pass);
                    continue;
                }
            }
            let Some((_, line)) = self.table.slot(id).by_rank.first().copied() else { break };
            if self.settle(line, pass) == Some(id) {
                break;
            }
        }
    }

    /// Serves the requests of a line that can be served, and has it wait for what the next one lacks: returns that slot.
    fn settle(&mut self, id: LineId, pass: &mut Pass<'_>) -> Option<SlotId> {
        let before = self.stop_waiting(id, pass);
        let kept = self.stop_keeping(id);
        let mut at = None;
        while let Some(place) = self.choose(id) {
            if self.is_too_large(id, place) {
                self.put_aside(id, place);
                continue;
            }
            match self.lacks(id, place, &kept, pass) {
                None => self.serve_next(id, place, pass),
                Some(slot) => {
                    at = Some(slot);
                    self.wait_at(id, slot, place, before, pass);
                    break;
                }
            }
        }
        let line = self.line(id);
        if line.waiting.is_empty() && line.aside.is_empty() {
            let slots = std::mem::take(&mut line.slots);
            self.line_ids.remove(&slots);
            self.lines[id] = None;
            self.free_lines.push(id);
        }
        if before != at {
            // Others are now the first that wait for the slot that it has left. Where it waits now, the oldest may be of it.
            pass.changed.extend(before.into_iter().chain(at));
        }
        if !kept.is_empty() && self.kept.as_ref().is_none_or(|(line, _)| *line != id) {
            pass.changed.extend(kept.iter().map(|(slot, _)| *slot));
        }
        at
    }

    fn line(&mut self, id: LineId) -> &mut Line {
        match &mut self.lines[id] {
            Some(line) => line,
            None => unreachable!("a line stays as long as a request is in it"),
        }
    }

    /// Returns the place of the request that is next in a line that waits for no slot.
    fn choose(&mut self, id: LineId) -> Option<Place> {
        let line = self.lines[id].as_mut()?;
        let oldest = line.oldest()?.age();
        let is_its_turn = |id: &SlotId| {
            let slot = self.table.slot(*id);
            slot.turns.is_for_oldest() && slot.by_age.first().is_none_or(|(age, _)| oldest < *age)
        };
        line.is_for_oldest |= line.slots.iter().any(is_its_turn);
        line.next()
    }

    /// Returns a slot of which a request lacks some, or for which others come first. They don't where something was kept for
    /// it.
    fn lacks(
        &mut self,
        id: LineId,
        place: Place,
        kept: &[Need],
        pass: &mut Pass<'_>,
    ) -> Option<SlotId> {
        let line = self.lines[id].as_ref()?;
        let (rank, waiting) = (line.rank(place), line.waiting.get(&place)?);
        let mut lacked = None;
        for (id, n) in &*waiting.holder.needs.amounts {
            let slot = self.table.slot(*id);
            let is_first = slot.by_rank.first().is_none_or(|(first, _)| rank < *first)
                || kept.iter().any(|(kept, _)| kept == id);
            if !is_first || !slot.has(*n, pass.now(slot)) {
                if slot.is_rate() {
                    return Some(*id);
                }
                lacked = lacked.or(Some(*id));
            }
        }
        lacked
    }

    fn is_too_large(&self, id: LineId, place: Place) -> bool {
        let waiting = self.lines[id].as_ref().and_then(|line| line.waiting.get(&place));
        let mut needs = waiting.iter().flat_map(|waiting| &*waiting.holder.needs.amounts);
        needs.any(|(slot, n)| *n > self.table.slot(*slot).size())
    }

    /// Takes a request out of those that wait.
    fn take_out(&mut self, id: LineId, place: Place) -> Option<Waiting> {
        let line = self.line(id);
        line.by_age.remove(&place.age());
        line.is_for_oldest = false;
        line.waiting.remove(&place)
    }

    fn put_aside(&mut self, id: LineId, place: Place) {
        let waiting = self.take_out(id, place);
        self.line(id).aside.extend(waiting.map(|waiting| (place, waiting)));
    }

    fn serve_next(&mut self, id: LineId, place: Place, pass: &mut Pass<'_>) {
        let Some(Waiting { holder, waker }) = self.take_out(id, place) else { return };
        let line = self.line(id);
        line.moves = 0;
        let is_alone = line.waiting.is_empty();
        for (id, _) in &*holder.needs.amounts {
            let slot = self.table.slot_mut(*id);
            slot.waiting -= 1;
            if is_alone && slot.by_rank.is_empty() {
                slot.turns = Turns::default();
            } else {
                let is_oldest = slot.by_age.first().is_none_or(|(age, _)| place.age() < *age);
                slot.turns.count(slot.turns.is_for_oldest() && is_oldest);
            }
        }
        self.hold(place.number, holder, place.priority(), pass);
        pass.served.push(waker);
    }

    /// Has a line wait for a slot, after it has waited for the one `before`.
    fn wait_at(
        &mut self,
        id: LineId,
        slot: SlotId,
        place: Place,
        before: Option<SlotId>,
        pass: &mut Pass<'_>,
    ) {
        let line = self.line(id);
        let age = line.oldest().map_or(place.age(), Place::age);
        line.moves += u32::from(before.is_some_and(|before| before != slot));
        let rank = line.rank(place);
        line.at = Some((slot, rank, age));
        let is_moving = line.moves >= MOVES;
        let there = self.table.slot_mut(slot);
        there.by_rank.insert((rank, id));
        there.by_age.insert((age, id));
        if there.is_rate() {
            pass.rates.insert(slot);
        } else if is_moving && self.kept.is_none() {
            self.keep(id, slot, place);
        }
    }

    fn stop_waiting(&mut self, id: LineId, pass: &mut Pass<'_>) -> Option<SlotId> {
        let (slot, rank, age) = self.line(id).at.take()?;
        let there = self.table.slot_mut(slot);
        there.by_rank.remove(&(rank, id));
        there.by_age.remove(&(age, id));
        if there.is_rate() {
            pass.rates.insert(slot);
        }
        Some(slot)
    }

    /// Keeps what a request needs besides the slot that it waits for: where it waits, those before it must be served.
    fn keep(&mut self, id: LineId, waits_at: SlotId, place: Place) {
        let Some(waiting) = self.line(id).waiting.get(&place) else { return };
        let needs = waiting.holder.needs.amounts.iter().copied();
        let kept: Vec<_> = needs.filter(|(slot, _)| *slot != waits_at).collect();
        for (slot, n) in &kept {
            self.table.slot_mut(*slot).kept = *n;
        }
        self.kept = Some((id, kept));
    }

    /// Keeps nothing any more for a line. Returns what was kept.
    fn stop_keeping(&mut self, id: LineId) -> Vec<Need> {
        let Some((_, kept)) = self.kept.take_if(|(line, _)| *line == id) else { return Vec::new() };
        for (slot, _) in &kept {
            self.table.slot_mut(*slot).kept = 0;
        }
        kept
    }

    /// Sets the timer of a rate for the request that is the next to be served.
    fn set_alarm(&mut self, id: SlotId, pass: &mut Pass<'_>) {
        let slot = self.table.slot(id);
        let first = slot.by_rank.first();
        let line = first.and_then(|(_, line)| self.lines[*line].as_ref());
        let request = line.and_then(|line| line.waiting.get_key_value(&line.next()?));
        let kept = slot.kept;
        let Kind::Rate(bucket) = &mut self.table.slot_mut(id).kind else { return };
        let next = request.and_then(|(place, waiting)| {
            let due = bucket.due(waiting.holder.amount(id).saturating_add(kept))?;
            Some((place.number, due, waiting.waker.clone()))
        });
        let number = next.as_ref().map(|(number, ..)| *number);
        let next = next.map(|(_, due, waker)| (due, waker));
        if let Err(waker) = bucket.set_alarm(pass.clock, next, &mut pass.unused) {
            pass.refused.extend(number.map(|number| (number, waker)));
        }
    }
}
