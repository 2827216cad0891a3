//! Random sequences of messages and events, with the invariants checked after each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::instruction::TaskCounts;
use super::task::Phase;
use super::*;
use crate::dask::wire::WireKey;
use crate::dask::wire::worker::order::{Compute, Order, Priority, Rust};
use crate::dask::wire::worker::report::{StartStop, Stolen};

const US: &str = "tcp://us:1";
const THREADS: usize = 2;

impl WorkerState {
    /// Panics if the tables contradict each other.
    fn check(&self) {
        self.gather.check();
        let tasks =
            || self.tasks.iter().filter_map(|(key, state)| Some((key, state.task.as_ref()?)));
        let mut counts = TaskCounts::default();
        for (key, state) in &self.tasks {
            assert!(!state.is_unused(), "{key:?} is remembered for nothing");
            let dependents = tasks().filter(|(_, task)| task.inputs.contains(key)).count();
            assert_eq!(state.dependents, dependents, "{key:?}");
            counts.memory += usize::from(state.result.is_some());
            let is_computed_again = state.result.is_some() && state.task.is_some();
            assert!(!is_computed_again, "{key:?} is computed again");
            let is_awaited = tasks().any(|(_, task)| {
                task.inputs.contains(key) && !matches!(task.phase, Phase::Executing(_))
            });
            let ways = [state.result.is_some(), state.task.is_some(), self.gather.is_wanted(key)];
            let ways = ways.into_iter().filter(|way| *way).count();
            assert!(ways <= 1 && (ways == 1 || !is_awaited), "{key:?}: {ways} ways to get it");
        }
        for (key, task) in tasks() {
            let is_stored = |input: &WireKey| self.tasks[input].result.is_some();
            let missing = task.inputs.iter().filter(|input| !is_stored(input)).count();
            match &task.phase {
                Phase::Waiting(count, _) => {
                    counts.waiting += 1;
                    let cancelled = usize::from(self.tasks[key].cancelled.is_some());
                    assert_eq!(*count, missing + cancelled, "{key:?}");
                    for input in task.inputs.iter().filter(|input| !is_stored(input)) {
                        let waiter = (key.clone(), task.rank.sequence);
                        assert!(self.tasks[input].waiters.contains(&waiter));
                    }
                }
                Phase::Ready(_) => {
                    counts.ready += 1;
                    assert_eq!(missing, 0, "{key:?}");
                }
                Phase::Executing(attempt) => {
                    let attempt = &self.attempts[attempt];
                    assert!(attempt.is_wanted && attempt.key == *key);
                }
            }
        }
        assert!(self.attempts.len() <= THREADS);
        let running: BTreeSet<_> = self.attempts.values().map(|attempt| &attempt.key).collect();
        assert_eq!(running.len(), self.attempts.len(), "a key runs twice");
        let known = self.counts();
        assert_eq!(
            (known.waiting, known.ready, known.memory),
            (counts.waiting, counts.ready, counts.memory)
        );
    }
}

/// The state machine, with a model of the worker and the scheduler around it.
struct World {
    state: WorkerState,
    now: Instant,
    /// The keys in the store.
    store: BTreeSet<WireKey>,
    /// The tasks that were ordered, and neither freed nor reported, with their run.
    ordered: BTreeMap<WireKey, i64>,
    running: BTreeMap<u64, (WireKey, Rust)>,
    requests: BTreeMap<u64, Vec<WireKey>>,
    /// The keys whose holders the worker has asked for.
    asked: Vec<WireKey>,
    run: i64,
}

#[derive(Clone, Debug)]
enum Step {
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
    Arrive { which: usize, keys: usize, outcome: u8 },
    Place(u8),
    Full(bool),
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Step> {
    let key = || 0..8u8;
    let peers = || proptest::collection::vec(0..4u8, 0..3);
    let keys = || proptest::collection::vec(0..8u8, 1..4);
    let with_peers = || proptest::collection::vec((0..8u8, peers()), 0..3);
    prop_oneof![
        6 => (key(), with_peers(), any::<i8>(), any::<bool>())
            .prop_map(|(key, inputs, priority, gpu)| Step::Compute { key, inputs, priority, gpu }),
        2 => keys().prop_map(Step::Free),
        1 => keys().prop_map(Step::DropResults),
        1 => keys().prop_map(Step::RemoveReplicas),
        1 => with_peers().prop_map(Step::Acquire),
        2 => key().prop_map(Step::Steal),
        1 => key().prop_map(Step::Cancel),
        1 => (0..4u8).prop_map(Step::Gone),
        1 => any::<bool>().prop_map(Step::Status),
        2 => peers().prop_map(Step::WhoHas),
        4 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, ok, stays)| Step::Finish { which, ok, stays }),
        2 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::LoseInputs),
        1 => key().prop_map(Step::Lose),
        4 => (any::<usize>(), 0..3usize, 0..4u8)
            .prop_map(|(which, keys, outcome)| Step::Arrive { which, keys, outcome }),
        1 => key().prop_map(Step::Place),
        1 => any::<bool>().prop_map(Step::Full),
        1 => any::<u16>().prop_map(Step::Pass),
    ]
}

fn key(number: u8) -> WireKey {
    WireKey::from(&*format!("k-{number}"))
}

/// Number 3 is the worker itself, which the scheduler may wrongly name as a holder.
fn peers(numbers: &[u8]) -> Vec<String> {
    let peer = |number: &u8| if *number == 3 { US.to_owned() } else { format!("tcp://p:{number}") };
    numbers.iter().map(peer).collect()
}

fn pick<K: Copy, V>(map: &BTreeMap<K, V>, which: usize) -> Option<K> {
    map.keys().nth(which.checked_rem(map.len())?).copied()
}

const SPAN: StartStop = StartStop { start: 0.0, stop: 0.0 };

impl World {
    fn new() -> Self {
        Self {
            state: WorkerState::new(US, THREADS, [("gpu".to_owned(), 1.0)], 1 << 20),
            now: Instant::now(),
            store: BTreeSet::new(),
            ordered: BTreeMap::new(),
            running: BTreeMap::new(),
            requests: BTreeMap::new(),
            asked: Vec::new(),
            run: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        let stimulus = String::new();
        match step {
            Step::Compute { key: number, inputs, priority, gpu } => {
                // No cycles: a task takes only keys of smaller numbers.
                let inputs: BTreeMap<_, _> =
                    inputs.iter().filter(|(input, _)| input < number).cloned().collect();
                self.compute(*number, &inputs, *priority, *gpu);
            }
            Step::Free(numbers) => {
                let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
                keys.iter().for_each(|key| {
                    self.ordered.remove(key);
                });
                self.state.handle_order(Order::Free { keys, stimulus });
            }
            Step::DropResults(numbers) => {
                let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
                self.state.drop_results(&keys);
            }
            Step::RemoveReplicas(numbers) => {
                let keys = numbers.iter().map(|number| key(*number)).collect();
                self.state.handle_order(Order::RemoveReplicas { keys, stimulus });
            }
            Step::Acquire(who_has) => {
                let who_has: Vec<_> =
                    who_has.iter().map(|(number, at)| (key(*number), peers(at))).collect();
                let sizes = who_has.iter().map(|(key, _)| (key.clone(), 30 << 20)).collect();
                self.state.handle_order(Order::AcquireReplicas { who_has, sizes, stimulus });
            }
            Step::Steal(number) => {
                self.state.handle_order(Order::Steal { key: key(*number), stimulus });
            }
            Step::Cancel(number) => {
                let key = key(*number);
                if !self.running.values().any(|(running, _)| *running == key) {
                    self.ordered.remove(&key);
                }
                // A task that waits for a cancelled attempt of its key hasn't started, so it's cancelled as well.
                let starts = self.state.executing().any(|(executing, _)| *executing == key);
                if !starts {
                    self.ordered.remove(&key);
                }
                self.state.handle_order(Order::Cancel { key });
            }
            Step::Gone(number) => {
                let address = peers(&[*number]).remove(0);
                self.state.handle_order(Order::Gone { address });
            }
            Step::Status(runs) => {
                let status = if *runs { "running" } else { "closing_gracefully" }.to_owned();
                self.state.handle_order(Order::Status { status, stimulus });
            }
            Step::WhoHas(at) => {
                let asked = std::mem::take(&mut self.asked);
                let who_has = asked.into_iter().map(|key| (key, peers(at))).collect();
                self.state.handle_order(Order::WhoHas { who_has, stimulus });
            }
            Step::Finish { which, ok, stays } => {
                let Some(attempt) = pick(&self.running, *which) else { return };
                self.finish(attempt, *ok, *stays);
            }
            Step::End(which) => {
                let Some(attempt) = pick(&self.running, *which) else { return };
                let key = &self.running[&attempt].0;
                if self.state.executing().any(|(executing, _)| executing == key) {
                    return;
                }
                self.running.remove(&attempt);
                self.state.attempt_exited(attempt);
            }
            Step::LoseInputs(which) => {
                let Some(attempt) = pick(&self.running, *which) else { return };
                let (_, work) = self.running.remove(&attempt).unwrap();
                let inputs = work.inputs.clone();
                self.state.inputs_lost(attempt, work, &inputs);
            }
            Step::Lose(number) => self.state.result_lost(&key(*number)),
            Step::Arrive { which, keys, outcome } => {
                let Some(request) = pick(&self.requests, *which) else { return };
                let asked = self.requests.remove(&request).unwrap();
                for key in asked.iter().take(*keys) {
                    if self.state.data_received(request, key, ResultMeta::complete(1), 0.0) {
                        self.store.insert(key.clone());
                    }
                }
                let outcome = match outcome {
                    0 | 1 => GatherDepOutcome::Success,
                    2 => GatherDepOutcome::Busy,
                    _ => GatherDepOutcome::NetworkFailure,
                };
                self.state.gather_finished(request, outcome, self.now);
            }
            Step::Place(number) => {
                let key = key(*number);
                self.state.update_data(&key, ResultMeta::complete(1), 0.0);
                self.store.insert(key);
            }
            Step::Full(is_full) => {
                self.state.set_memory_full(*is_full);
                self.state.set_paused(*is_full);
            }
            Step::Pass(millis) => {
                self.now += Duration::from_millis((*millis).into());
                self.state.advance(self.now);
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
        self.state.handle_order(Order::Compute(Box::new(Compute {
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
        let failure = TaskFailure { class: "RuntimeError", text: String::new() };
        let outcome = if ok { Ok(ResultMeta::complete(1)) } else { Err(failure) };
        if self.state.attempt_finished(attempt, outcome, SPAN) {
            assert!(self.store.insert(key.clone()), "{key:?} is stored already");
        }
        if !stays {
            self.running.remove(&attempt);
            self.state.attempt_exited(attempt);
        }
    }

    fn act(&mut self) {
        for instruction in self.state.instructions(self.now) {
            match instruction {
                Instruction::Execute(Execute { attempt, key, work }) => {
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
                Instruction::CancelExecute(attempt) => {
                    assert!(self.running.contains_key(&attempt));
                }
                Instruction::DropResult(key) => {
                    assert!(self.store.remove(&key), "{key:?} isn't stored");
                }
                Instruction::GatherDep(GatherDep { request, peer, keys, .. }) => {
                    assert!(&*peer != US && !keys.is_empty());
                    self.requests.insert(request, keys);
                }
                Instruction::CancelGather(request) => {
                    assert!(self.requests.remove(&request).is_some());
                }
                Instruction::SendMessage(message) => self.sent(message),
                Instruction::Close(_) => unreachable!("no step closes the worker"),
            }
        }
        self.state.check();
        // The worker has exactly the tasks that the scheduler waits for.
        let tasks = self.state.tasks.iter().filter(|(_, state)| state.task.is_some());
        let tasks: BTreeSet<_> = tasks.map(|(key, _)| key).collect();
        assert_eq!(tasks, self.ordered.keys().collect());
        let in_memory: BTreeSet<_> = self.state.in_memory().cloned().collect();
        assert_eq!(in_memory, self.store);
    }

    fn sent(&mut self, message: SchedulerMessage) {
        match message {
            SchedulerMessage::TaskFinished { task: TaskRun { key, run, .. }, .. } => {
                assert!(self.store.contains(&key), "{key:?} is reported but not stored");
                assert_eq!(self.ordered.remove(&key), Some(run), "of {key:?}");
            }
            SchedulerMessage::TaskErred { task: TaskRun { key, run, .. }, .. } => {
                assert_eq!(self.ordered.remove(&key), Some(run), "of {key:?}");
            }
            SchedulerMessage::AddKeys(keys) => {
                assert!(keys.iter().all(|key| self.store.contains(key)));
            }
            SchedulerMessage::ReleaseWorkerData(key) => assert!(!self.store.contains(&key)),
            SchedulerMessage::StealResponse { key, state, .. } => match state {
                Stolen::Ready | Stolen::Waiting => {
                    assert!(self.ordered.remove(&key).is_some());
                }
                Stolen::Executing => assert!(self.ordered.contains_key(&key)),
                Stolen::Memory => assert!(self.store.contains(&key)),
                Stolen::Unknown | Stolen::LongRunning => {
                    assert!(!self.ordered.contains_key(&key));
                }
            },
            SchedulerMessage::RequestRefreshWhoHas(keys) => self.asked.extend(keys),
            SchedulerMessage::StatusChange { .. } => {}
        }
    }

    /// Lets all attempts and requests succeed, and checks that every task finishes.
    fn settle(&mut self) {
        self.take(&Step::Full(false));
        self.take(&Step::Status(true));
        for _ in 0..1000 {
            if self.ordered.is_empty() && self.running.is_empty() && self.requests.is_empty() {
                assert_eq!(self.state.ready.free()["gpu"], 1.0);
                return;
            }
            while let Some(attempt) = pick(&self.running, 0) {
                self.finish(attempt, true, false);
                self.act();
            }
            while !self.requests.is_empty() {
                self.take(&Step::Arrive { which: 0, keys: 3, outcome: 0 });
            }
            self.take(&Step::WhoHas(vec![0]));
            self.take(&Step::Pass(1000));
        }
        panic!("left: {:?}", self.ordered);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_task_is_lost_or_runs_twice_and_freed_tasks_are_not_reported(
        sequence in proptest::collection::vec(steps(), 1..80)
    ) {
        let mut world = World::new();
        sequence.iter().for_each(|step| world.take(step));
        world.settle();
    }
}

#[test]
fn updated_data_finishes_the_task_of_the_same_key() {
    for has_begun in [false, true] {
        let mut world = World::new();
        world.state.set_memory_full(!has_begun);
        world.compute(1, &BTreeMap::new(), 0, false);
        world.act();
        assert_eq!(world.state.executing().count(), usize::from(has_begun));
        world.state.update_data(&key(1), ResultMeta::complete(5), 3.0);
        world.store.insert(key(1));
        let finished: Vec<_> = world.state.instructions(world.now);
        let [.., Instruction::SendMessage(SchedulerMessage::TaskFinished { task, meta, took })] =
            &*finished
        else {
            panic!("{finished:?}");
        };
        assert_eq!((&task.key, task.run, *meta), (&key(1), 1, ResultMeta::complete(5)));
        assert_eq!((took.start, took.stop), (3.0, 3.0));
        assert_eq!(finished.len(), 1 + usize::from(has_begun));
    }
}

/// Returns a world in which 40 MB are stored, and a task that takes them has been ordered.
fn with_a_large_input() -> World {
    let mut world = World::new();
    world.state.update_data(&key(1), ResultMeta::complete(40 << 20), 0.0);
    world.store.insert(key(1));
    world.compute(2, &BTreeMap::from([(1, vec![0])]), 0, false);
    world
}

#[test]
fn a_result_that_is_fetched_again_has_its_size() {
    type Lose = fn(&mut World);
    let lost: Lose = |world| world.state.result_lost(&key(1));
    let freed: Lose = |world| {
        world.state.handle_order(Order::Free { keys: vec![key(1)], stimulus: String::new() });
    };
    let dropped: Lose = |world| world.state.drop_results(&[key(1)]);
    let unreadable: Lose = |world| {
        world.act();
        let (attempt, (_, work)) = world.running.pop_first().unwrap();
        world.state.inputs_lost(attempt, work, &[key(1)]);
    };
    for lose in [lost, freed, dropped, unreadable] {
        let mut world = with_a_large_input();
        lose(&mut world);
        world.act();
        assert!(world.store.is_empty());
        world.take(&Step::WhoHas(vec![0]));
        let counts = world.state.counts();
        assert_eq!((counts.requests, counts.incoming_bytes), (1, 40 << 20));
    }
}

fn started(state: &mut WorkerState) -> Vec<String> {
    let instructions = state.instructions(Instant::now());
    let start = |instruction| match instruction {
        Instruction::Execute(start) => Some(start.key.to_string()),
        _ => None,
    };
    instructions.into_iter().filter_map(start).collect()
}

#[test]
fn the_most_urgent_task_starts_first_and_one_without_its_resource_delays_no_other() {
    let mut world = World::new();
    world.state.set_memory_full(true);
    world.compute(1, &BTreeMap::new(), -5, true);
    world.compute(2, &BTreeMap::new(), -4, true);
    world.compute(3, &BTreeMap::new(), 7, false);
    world.compute(4, &BTreeMap::new(), 3, false);
    assert!(started(&mut world.state).is_empty());
    world.state.set_memory_full(false);
    assert_eq!(started(&mut world.state), ["k-1", "k-4"]);
    assert_eq!(world.state.counts().ready, 2);
}

#[test]
fn tasks_that_a_rust_worker_cannot_run_fail_with_a_reason() {
    let rust = |input| Rust { inputs: vec![key(input)], ..Rust::default() };
    let cases = [
        (None, None, "Rust worker"),
        (None, Some("`args` isn't bytes".to_owned()), "`args` isn't bytes"),
        (Some(rust(4)), None, "`k-4` is among its `deps`"),
    ];
    for (rust, misread, text) in cases {
        let mut world = World::new();
        world.compute(1, &BTreeMap::new(), 0, false);
        world.state.handle_order(Order::Compute(Box::new(Compute {
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
        let instructions = world.state.instructions(Instant::now());
        let erred = instructions.iter().find_map(|instruction| match instruction {
            Instruction::SendMessage(SchedulerMessage::TaskErred { task, failure, .. }) => {
                Some((task, failure))
            }
            _ => None,
        });
        let (task, failure) = erred.unwrap();
        assert_eq!((task.run, &*task.stimulus), (7, "s"));
        assert!(failure.text.contains(text), "{failure:?}");
        assert!(
            !instructions
                .iter()
                .any(|instruction| matches!(instruction, Instruction::GatherDep(_)))
        );
    }
}
