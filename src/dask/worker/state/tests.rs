//! Random orders and news, and what must hold after each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::dask::wire::worker::order::{Compute, Order, Priority};

const US: &str = "tcp://us:1";
const THREADS: usize = 2;

impl State {
    /// Panics if what is known doesn't fit together.
    fn check(&self) {
        self.fetches.check();
        let tasks =
            || self.entries.iter().filter_map(|(key, entry)| Some((key, entry.task.as_ref()?)));
        let mut counts = Counts::default();
        for (key, entry) in &self.entries {
            assert!(!entry.is_nothing(), "nothing is known of {key:?}");
            let users = tasks().filter(|(_, task)| task.inputs.contains(key)).count();
            assert_eq!(entry.users, users, "{key:?}");
            counts.memory += usize::from(entry.held.is_some());
            assert!(entry.held.is_none() || entry.task.is_none(), "{key:?} is made again");
            let is_awaited = tasks().any(|(_, task)| {
                task.inputs.contains(key) && !matches!(task.phase, Phase::Executing(_))
            });
            let ways = [entry.held.is_some(), entry.task.is_some(), self.fetches.is_wanted(key)];
            let ways = ways.into_iter().filter(|way| *way).count();
            assert!(ways <= 1 && (ways == 1 || !is_awaited), "{key:?}: {ways} ways to get it");
        }
        for (key, task) in tasks() {
            let held = |input: &WireKey| self.entries[input].held.is_some();
            let missing = task.inputs.iter().filter(|input| !held(input)).count();
            match &task.phase {
                Phase::Waiting(count, _) => {
                    counts.waiting += 1;
                    let ghost = usize::from(self.entries[key].ghost.is_some());
                    assert_eq!(*count, missing + ghost, "{key:?}");
                    for input in task.inputs.iter().filter(|input| !held(input)) {
                        let waiter = (key.clone(), task.rank.order);
                        assert!(self.entries[input].waiters.contains(&waiter));
                    }
                }
                Phase::Ready(_) => {
                    counts.ready += 1;
                    assert_eq!(missing, 0, "{key:?}");
                }
                Phase::Executing(attempt) => {
                    assert!(self.running[attempt].is_wanted && self.running[attempt].key == *key);
                }
            }
        }
        assert!(self.running.len() <= THREADS);
        let running: BTreeSet<_> = self.running.values().map(|running| &running.key).collect();
        assert_eq!(running.len(), self.running.len(), "a key runs twice");
        let known = self.counts();
        assert_eq!(
            (known.waiting, known.ready, known.memory),
            (counts.waiting, counts.ready, counts.memory)
        );
    }
}

/// A worker, with what goes on around it.
struct World {
    state: State,
    now: Instant,
    /// What is stored.
    store: BTreeSet<WireKey>,
    /// What was ordered and neither was freed nor has ended, and the run.
    ordered: BTreeMap<WireKey, i64>,
    running: BTreeMap<u64, (WireKey, Rust)>,
    flights: BTreeMap<u64, Vec<WireKey>>,
    /// What the worker has asked about.
    asked: Vec<WireKey>,
    run: i64,
}

#[derive(Clone, Debug)]
enum Happens {
    Compute { key: u8, inputs: Vec<(u8, Vec<u8>)>, priority: i8, gpu: bool },
    Free(Vec<u8>),
    DropResults(Vec<u8>),
    RemoveReplicas(Vec<u8>),
    Acquire(Vec<(u8, Vec<u8>)>),
    Steal(u8),
    Cancel(u8),
    Gone(u8),
    Status(bool),
    WhoHas(Vec<u8>),
    Finish { which: usize, ok: bool, stays: bool },
    End(usize),
    LoseInputs(usize),
    Lose(u8),
    Arrive { which: usize, keys: usize, landing: u8 },
    Place(u8),
    Full(bool),
    Pass(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    let key = || 0..8u8;
    let peers = || proptest::collection::vec(0..4u8, 0..3);
    let keys = || proptest::collection::vec(0..8u8, 1..4);
    let with_peers = || proptest::collection::vec((0..8u8, peers()), 0..3);
    prop_oneof![
        6 => (key(), with_peers(), any::<i8>(), any::<bool>())
            .prop_map(|(key, inputs, priority, gpu)| Happens::Compute { key, inputs, priority, gpu }),
        2 => keys().prop_map(Happens::Free),
        1 => keys().prop_map(Happens::DropResults),
        1 => keys().prop_map(Happens::RemoveReplicas),
        1 => with_peers().prop_map(Happens::Acquire),
        2 => key().prop_map(Happens::Steal),
        1 => key().prop_map(Happens::Cancel),
        1 => (0..4u8).prop_map(Happens::Gone),
        1 => any::<bool>().prop_map(Happens::Status),
        2 => peers().prop_map(Happens::WhoHas),
        4 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, ok, stays)| Happens::Finish { which, ok, stays }),
        2 => any::<usize>().prop_map(Happens::End),
        1 => any::<usize>().prop_map(Happens::LoseInputs),
        1 => key().prop_map(Happens::Lose),
        4 => (any::<usize>(), 0..3usize, 0..4u8)
            .prop_map(|(which, keys, landing)| Happens::Arrive { which, keys, landing }),
        1 => key().prop_map(Happens::Place),
        1 => any::<bool>().prop_map(Happens::Full),
        1 => any::<u16>().prop_map(Happens::Pass),
    ]
}

fn key(number: u8) -> WireKey {
    WireKey::from(&*format!("k-{number}"))
}

/// The last is the worker itself, which the scheduler may believe to have what it hasn't.
fn peers(numbers: &[u8]) -> Vec<String> {
    let peer = |number: &u8| if *number == 3 { US.to_owned() } else { format!("tcp://p:{number}") };
    numbers.iter().map(peer).collect()
}

fn pick<K: Copy, V>(map: &BTreeMap<K, V>, which: usize) -> Option<K> {
    map.keys().nth(which.checked_rem(map.len())?).copied()
}

const SPAN: Span = Span { start: 0.0, stop: 0.0 };

impl World {
    fn new() -> Self {
        Self {
            state: State::new(US, THREADS, [("gpu".to_owned(), 1.0)], 1 << 20),
            now: Instant::now(),
            store: BTreeSet::new(),
            ordered: BTreeMap::new(),
            running: BTreeMap::new(),
            flights: BTreeMap::new(),
            asked: Vec::new(),
            run: 0,
        }
    }

    fn happen(&mut self, what: &Happens) {
        let stimulus = String::new();
        match what {
            Happens::Compute { key: number, inputs, priority, gpu } => {
                // No task needs itself, or one of a later number.
                let inputs: BTreeMap<_, _> =
                    inputs.iter().filter(|(input, _)| input < number).cloned().collect();
                self.compute(*number, &inputs, *priority, *gpu);
            }
            Happens::Free(numbers) => {
                let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
                keys.iter().for_each(|key| {
                    self.ordered.remove(key);
                });
                self.state.order(Order::Free { keys, stimulus });
            }
            Happens::DropResults(numbers) => {
                let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
                self.state.drop_results(&keys);
            }
            Happens::RemoveReplicas(numbers) => {
                let keys = numbers.iter().map(|number| key(*number)).collect();
                self.state.order(Order::RemoveReplicas { keys, stimulus });
            }
            Happens::Acquire(who_has) => {
                let who_has: Vec<_> =
                    who_has.iter().map(|(number, at)| (key(*number), peers(at))).collect();
                let sizes = who_has.iter().map(|(key, _)| (key.clone(), 30 << 20)).collect();
                self.state.order(Order::AcquireReplicas { who_has, sizes, stimulus });
            }
            Happens::Steal(number) => {
                self.state.order(Order::Steal { key: key(*number), stimulus });
            }
            Happens::Cancel(number) => {
                let key = key(*number);
                if !self.running.values().any(|(running, _)| *running == key) {
                    self.ordered.remove(&key);
                }
                // One that hasn't started may wait for a ghost; then it's gone, too.
                let starts = self.state.executing().any(|(executing, _)| *executing == key);
                if !starts {
                    self.ordered.remove(&key);
                }
                self.state.order(Order::Cancel { key });
            }
            Happens::Gone(number) => {
                let address = peers(&[*number]).remove(0);
                self.state.order(Order::Gone { address });
            }
            Happens::Status(runs) => {
                let status = if *runs { "running" } else { "closing_gracefully" }.to_owned();
                self.state.order(Order::Status { status, stimulus });
            }
            Happens::WhoHas(at) => {
                let asked = std::mem::take(&mut self.asked);
                let who_has = asked.into_iter().map(|key| (key, peers(at))).collect();
                self.state.order(Order::WhoHas { who_has, stimulus });
            }
            Happens::Finish { which, ok, stays } => {
                let Some(attempt) = pick(&self.running, *which) else { return };
                self.finish(attempt, *ok, *stays);
            }
            Happens::End(which) => {
                let Some(attempt) = pick(&self.running, *which) else { return };
                let key = &self.running[&attempt].0;
                if self.state.executing().any(|(executing, _)| executing == key) {
                    return;
                }
                self.running.remove(&attempt);
                self.state.gone(attempt);
            }
            Happens::LoseInputs(which) => {
                let Some(attempt) = pick(&self.running, *which) else { return };
                let (_, work) = self.running.remove(&attempt).unwrap();
                let inputs = work.inputs.clone();
                self.state.lost_inputs(attempt, work, &inputs);
            }
            Happens::Lose(number) => self.state.lost(&key(*number)),
            Happens::Arrive { which, keys, landing } => {
                let Some(flight) = pick(&self.flights, *which) else { return };
                let asked = self.flights.remove(&flight).unwrap();
                for key in asked.iter().take(*keys) {
                    if self.state.arrived(flight, key, Made::whole(1), 0.0) {
                        self.store.insert(key.clone());
                    }
                }
                let landing =
                    [Landing::Answered, Landing::Answered, Landing::Busy, Landing::Failed]
                        [usize::from(*landing)];
                self.state.landed(flight, landing, self.now);
            }
            Happens::Place(number) => {
                let key = key(*number);
                self.state.placed(&key, Made::whole(1), 0.0);
                self.store.insert(key);
            }
            Happens::Full(is_full) => {
                self.state.set_full(*is_full);
                self.state.pause(*is_full);
            }
            Happens::Pass(millis) => {
                self.now += Duration::from_millis((*millis).into());
                self.state.wake(self.now);
            }
        }
        self.act();
    }

    fn compute(&mut self, number: u8, inputs: &BTreeMap<u8, Vec<u8>>, priority: i8, gpu: bool) {
        self.run += 1;
        let key = key(number);
        self.ordered.insert(key.clone(), self.run);
        let inputs: Vec<_> =
            inputs.iter().map(|(number, at)| (super::tests::key(*number), peers(at))).collect();
        let rust = Rust {
            inputs: inputs.iter().map(|(key, _)| key.clone()).collect(),
            args: Bytes::new(),
            ..Rust::default()
        };
        self.state.order(Order::Compute(Box::new(Compute {
            key,
            run: self.run,
            priority: Priority(vec![priority.into()]),
            stimulus: String::new(),
            sizes: inputs.iter().map(|(key, _)| (key.clone(), 1 << 20)).collect(),
            who_has: inputs,
            rust: Some(rust),
            resources: if gpu { vec![("gpu".to_owned(), 1.0)] } else { Vec::new() },
            actor: false,
            misread: None,
        })));
    }

    fn finish(&mut self, attempt: u64, ok: bool, stays: bool) {
        let key = self.running[&attempt].0.clone();
        let failure = Failure { class: "RuntimeError", text: String::new() };
        let outcome = if ok { Ok(Made::whole(1)) } else { Err(failure) };
        if self.state.ended(attempt, outcome, SPAN) {
            assert!(self.store.insert(key), "it's there already");
        }
        if !stays {
            self.running.remove(&attempt);
            self.state.gone(attempt);
        }
    }

    fn act(&mut self) {
        for action in self.state.actions(self.now) {
            match action {
                Action::Start(Start { attempt, key, work }) => {
                    assert!(self.ordered.contains_key(&key), "{key:?} isn't to run");
                    assert!(
                        self.running.values().all(|(running, _)| *running != key),
                        "{key:?} runs twice"
                    );
                    let missing: Vec<_> =
                        work.inputs.iter().filter(|key| !self.store.contains(*key)).collect();
                    assert!(missing.is_empty(), "{key:?} starts without {missing:?}");
                    self.running.insert(attempt, (key, work));
                }
                Action::Abort(attempt) => {
                    assert!(self.running.contains_key(&attempt));
                }
                Action::Forget(key) => assert!(self.store.remove(&key), "{key:?} isn't stored"),
                Action::Fetch(Fetch { flight, peer, keys, .. }) => {
                    assert!(&*peer != US && !keys.is_empty());
                    self.flights.insert(flight, keys);
                }
                Action::StopFetch(flight) => {
                    assert!(self.flights.remove(&flight).is_some());
                }
                Action::Report(report) => self.told(report),
                Action::Leave(_) => unreachable!("nobody says so"),
            }
        }
        self.state.check();
        // The scheduler waits for these, so each is still to be done, and none besides.
        let tasks = self.state.entries.iter().filter(|(_, entry)| entry.task.is_some());
        let tasks: BTreeSet<_> = tasks.map(|(key, _)| key).collect();
        assert_eq!(tasks, self.ordered.keys().collect());
        let held: BTreeSet<_> = self.state.held().cloned().collect();
        assert_eq!(held, self.store);
    }

    fn told(&mut self, report: Report) {
        match report {
            Report::Finished { task: Ended { key, run, .. }, .. } => {
                assert!(self.store.contains(&key), "{key:?} is said to be here");
                assert_eq!(self.ordered.remove(&key), Some(run), "of {key:?}");
            }
            Report::Erred { task: Ended { key, run, .. }, .. } => {
                assert_eq!(self.ordered.remove(&key), Some(run), "of {key:?}");
            }
            Report::Has(keys) => assert!(keys.iter().all(|key| self.store.contains(key))),
            Report::Released(key) => assert!(!self.store.contains(&key)),
            Report::Stolen { key, state, .. } => match state {
                Stolen::Ready | Stolen::Waiting => {
                    assert!(self.ordered.remove(&key).is_some());
                }
                Stolen::Executing => assert!(self.ordered.contains_key(&key)),
                Stolen::Memory => assert!(self.store.contains(&key)),
                Stolen::Unknown | Stolen::LongRunning => {
                    assert!(!self.ordered.contains_key(&key));
                }
            },
            Report::WhoHas(keys) => self.asked.extend(keys),
            Report::Status { .. } => {}
        }
    }

    /// If all goes well from now on, everything that was ordered is done.
    fn settle(&mut self) {
        self.happen(&Happens::Full(false));
        self.happen(&Happens::Status(true));
        for _ in 0..1000 {
            if self.ordered.is_empty() && self.running.is_empty() && self.flights.is_empty() {
                assert_eq!(self.state.ready.free()["gpu"], 1.0);
                return;
            }
            while let Some(attempt) = pick(&self.running, 0) {
                self.finish(attempt, true, false);
                self.act();
            }
            while !self.flights.is_empty() {
                self.happen(&Happens::Arrive { which: 0, keys: 3, landing: 0 });
            }
            self.happen(&Happens::WhoHas(vec![0]));
            self.happen(&Happens::Pass(1000));
        }
        panic!("left: {:?}", self.ordered);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_is_lost_run_twice_or_told_of_what_was_freed(
        all in proptest::collection::vec(happens(), 1..80)
    ) {
        let mut world = World::new();
        all.iter().for_each(|what| world.happen(what));
        world.settle();
    }
}

#[test]
fn what_is_put_here_ends_the_task_that_would_make_it() {
    for has_begun in [false, true] {
        let mut world = World::new();
        world.state.set_full(!has_begun);
        world.compute(1, &BTreeMap::new(), 0, false);
        world.act();
        assert_eq!(world.state.executing().count(), usize::from(has_begun));
        world.state.placed(&key(1), Made::whole(5), 3.0);
        world.store.insert(key(1));
        let finished: Vec<_> = world.state.actions(world.now);
        let [.., Action::Report(Report::Finished { task, made, took })] = &*finished else {
            panic!("{finished:?}");
        };
        assert_eq!((&task.key, task.run, *made), (&key(1), 1, Made::whole(5)));
        assert_eq!((took.start, took.stop), (3.0, 3.0));
        assert_eq!(finished.len(), 1 + usize::from(has_begun));
    }
}

/// A result of 40 MB is here, and a task that takes it has been ordered.
fn with_a_large_input() -> World {
    let mut world = World::new();
    world.state.placed(&key(1), Made::whole(40 << 20), 0.0);
    world.store.insert(key(1));
    world.compute(2, &BTreeMap::from([(1, vec![0])]), 0, false);
    world
}

#[test]
fn the_size_of_what_is_to_be_got_again_is_known() {
    type Lose = fn(&mut World);
    let lost: Lose = |world| world.state.lost(&key(1));
    let freed: Lose = |world| {
        world.state.order(Order::Free { keys: vec![key(1)], stimulus: String::new() });
    };
    let dropped: Lose = |world| world.state.drop_results(&[key(1)]);
    let unreadable: Lose = |world| {
        world.act();
        let (attempt, (_, work)) = world.running.pop_first().unwrap();
        world.state.lost_inputs(attempt, work, &[key(1)]);
    };
    for lose in [lost, freed, dropped, unreadable] {
        let mut world = with_a_large_input();
        lose(&mut world);
        world.act();
        assert!(world.store.is_empty());
        world.happen(&Happens::WhoHas(vec![0]));
        let counts = world.state.counts();
        assert_eq!((counts.flights, counts.flying_bytes), (1, 40 << 20));
    }
}

fn started(state: &mut State) -> Vec<String> {
    let actions = state.actions(Instant::now());
    let start = |action| match action {
        Action::Start(start) => Some(start.key.to_string()),
        _ => None,
    };
    actions.into_iter().filter_map(start).collect()
}

#[test]
fn the_most_urgent_starts_first_and_what_lacks_a_resource_holds_up_nobody() {
    let mut world = World::new();
    world.state.set_full(true);
    world.compute(1, &BTreeMap::new(), -5, true);
    world.compute(2, &BTreeMap::new(), -4, true);
    world.compute(3, &BTreeMap::new(), 7, false);
    world.compute(4, &BTreeMap::new(), 3, false);
    assert!(started(&mut world.state).is_empty());
    world.state.set_full(false);
    assert_eq!(started(&mut world.state), ["k-1", "k-4"]);
    assert_eq!(world.state.counts().ready, 2);
}

#[test]
fn tasks_that_cannot_run_here_fail_and_say_why() {
    let rust = |input| Rust { inputs: vec![key(input)], ..Rust::default() };
    let cases = [
        (None, None, "Rust worker"),
        (None, Some("`args` isn't bytes".to_owned()), "`args` isn't bytes"),
        (Some(rust(4)), None, "`k-4` is among its `deps`"),
    ];
    for (rust, misread, text) in cases {
        let mut world = World::new();
        world.compute(1, &BTreeMap::new(), 0, false);
        world.state.order(Order::Compute(Box::new(Compute {
            key: key(2),
            run: 7,
            priority: Priority::default(),
            stimulus: "s".to_owned(),
            who_has: vec![(key(3), peers(&[1]))],
            sizes: Vec::new(),
            rust,
            misread,
            resources: Vec::new(),
            actor: false,
        })));
        let actions = world.state.actions(Instant::now());
        let erred = actions.iter().find_map(|action| match action {
            Action::Report(Report::Erred { task, failure, .. }) => Some((task, failure)),
            _ => None,
        });
        let (task, failure) = erred.unwrap();
        assert_eq!((task.run, &*task.stimulus), (7, "s"));
        assert!(failure.text.contains(text), "{failure:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Fetch(_))));
    }
}
