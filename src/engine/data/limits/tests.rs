//! Random requests and changes, without tasks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::*;
use crate::engine::data::clock::VirtualClock;
use crate::engine::data::limit_table::Amount;

const NAMES: [&str; 5] = ["a", "b", "c", "rate", "slow"];
const LIMITS: usize = 3;
const MOST: usize = 4;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Asked {
    wanted: Vec<(String, usize)>,
    request: Request,
    woken: Arc<Flag>,
}

/// Requests that wait and that were granted.
struct World {
    limits: Limits,
    clock: VirtualClock,
    waiting: BTreeMap<usize, Asked>,
    /// In the order in which they noticed it.
    held: Vec<(u64, Vec<(String, usize)>)>,
    count: usize,
}

impl World {
    fn new() -> Self {
        let declared = NAMES.iter().enumerate().map(|(at, name)| declaration(at, name, MOST));
        let limits = Limits::new(declared.collect());
        let clock = VirtualClock::new();
        Self { limits, clock, waiting: BTreeMap::new(), held: Vec::new(), count: 0 }
    }

    fn set(&self, at: usize, n: usize) {
        self.limits.declare(declaration(at, NAMES[at], n), &Clock::Virtual(&self.clock));
    }

    fn ask(&mut self, wanted: Vec<(String, usize)>, priority: i32) {
        let clock = Clock::Virtual(&self.clock);
        let needs = self.limits.needs(&wanted, &clock).unwrap();
        let request = match self.limits.take(needs, None, priority, &clock) {
            Ok(number) => return self.held.push((number, wanted)),
            Err(request) => request,
        };
        self.count += 1;
        let asked = Asked { wanted, request, woken: Arc::new(Flag(AtomicBool::new(false))) };
        self.poll(self.count, asked, priority);
    }

    fn poll(&mut self, id: usize, asked: Asked, priority: i32) {
        let Asked { wanted, request, woken } = asked;
        let clock = Clock::Virtual(&self.clock);
        let waker = Waker::from(woken.clone());
        match self.limits.request(request, priority, &waker, &clock).0 {
            Request::Granted(number) => self.held.push((number, wanted)),
            request => drop(self.waiting.insert(id, Asked { wanted, request, woken })),
        }
    }

    /// Polls the requests that were woken.
    fn poll_woken(&mut self) -> bool {
        let is_woken =
            |(id, it): (&usize, &Asked)| it.woken.0.swap(false, Ordering::Relaxed).then_some(*id);
        let woken: Vec<_> = self.waiting.iter().filter_map(is_woken).collect();
        for id in &woken {
            let asked = self.waiting.remove(id).unwrap();
            let Request::Waiting(place, _) = asked.request else { unreachable!() };
            self.poll(*id, asked, place.priority());
        }
        !woken.is_empty()
    }

    fn release(&mut self, at: usize) {
        let (number, _) = self.held.swap_remove(at);
        self.limits.release(number, &Clock::Virtual(&self.clock));
    }

    fn withdraw(&mut self, id: usize) {
        if let Some(Asked { request: Request::Waiting(place, line), .. }) = self.waiting.remove(&id)
        {
            self.limits.withdraw(place, line, &Clock::Virtual(&self.clock));
        }
    }

    /// What is used and there is of each limit.
    fn used(&self) -> Vec<(usize, usize)> {
        let usage = self.limits.usage(&Clock::Virtual(&self.clock)).into_iter();
        let limits = usage.filter_map(|usage| match usage.what {
            UsageWhat::Limit { of, used } => Some((used, of)),
            UsageWhat::Rate { .. } => None,
        });
        limits.collect()
    }

    /// Lets all that hold something end, and time go on, until none waits.
    fn drain(&mut self) {
        for _ in 0..1_000_000 {
            if self.waiting.is_empty() {
                return;
            }
            if self.poll_woken() {
                continue;
            }
            if self.held.is_empty() {
                let waiting = self.waiting.values().map(|it| &it.wanted).collect::<Vec<_>>();
                assert!(self.clock.advance(), "nothing wakes {waiting:?}");
            } else {
                self.release(0);
            }
        }
        panic!("it goes on for ever");
    }
}

fn declaration(at: usize, name: &str, n: usize) -> Declaration {
    let amount = match at {
        at if at < LIMITS => Amount::Limit(n),
        3 => Amount::Rate(Rate::new(n, Duration::from_millis(20)).burst(n)),
        _ => Amount::Rate(Rate::new(n, Duration::from_secs(100)).burst(n)),
    };
    Declaration { name: name.into(), is_pattern: false, amount }
}

#[test]
fn whatever_happens_no_request_is_forgotten_and_no_limit_is_exceeded() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new();
        for at in 0..NAMES.len() {
            world.set(at, random.usize(1..=MOST));
        }
        for _ in 0..300 {
            let before = world.used();
            match random.u32(0..10) {
                0..4 => {
                    let mut names = NAMES.map(str::to_owned).to_vec();
                    random.shuffle(&mut names);
                    names.truncate(random.usize(1..=3));
                    let wanted = names.into_iter().map(|name| (name, random.usize(1..=MOST)));
                    let wanted = wanted.collect();
                    world.ask(wanted, random.i32(0..3));
                }
                4..7 if !world.held.is_empty() => world.release(random.usize(..world.held.len())),
                7 => {
                    let id = random.usize(0..=world.count);
                    world.withdraw(id);
                }
                8 => world.set(random.usize(..NAMES.len()), random.usize(0..=MOST)),
                9 if random.bool() => drop(world.clock.advance()),
                _ => drop(world.poll_woken()),
            }
            for (before, (used, of)) in before.iter().zip(world.used()) {
                assert!(used <= of.max(before.0), "seed {seed}");
            }
        }
        (0..NAMES.len()).for_each(|at| world.set(at, MOST));
        world.drain();
        while !world.held.is_empty() {
            world.release(0);
        }
        assert!(world.used().iter().all(|(used, _)| *used == 0), "seed {seed}");
        let usage = world.limits.usage(&Clock::Virtual(&world.clock));
        assert!(usage.iter().all(|usage| usage.waiting == 0), "seed {seed}");
    }
}

/// Those that need one only would find it free each time, and never both at once.
#[test]
fn a_request_for_several_is_not_overtaken_for_ever() {
    let mut world = World::new();
    (0..LIMITS).for_each(|at| world.set(at, 1));
    let one = |name: &str| vec![(name.to_owned(), 1)];
    world.ask(one("a"), 0);
    world.ask(one("b"), 0);
    world.ask(vec![("a".into(), 1), ("b".into(), 1)], 0);
    let both = world.count;
    for _ in 0..4 {
        world.ask(one("a"), 0);
        world.ask(one("b"), 0);
    }
    for step in 0.. {
        assert!(step < 100, "it was overtaken {step} times");
        // The ends of the two take turns.
        let name = ["a", "b"][step % 2];
        let Some(at) = world.held.iter().position(|(_, wanted)| wanted[0].0 == name) else {
            continue;
        };
        world.release(at);
        world.ask(one(name), 0);
        while world.poll_woken() {}
        if !world.waiting.contains_key(&both) {
            break;
        }
    }
    world.drain();
}

#[test]
fn a_rate_has_one_timer_however_many_wait() {
    let mut world = World::new();
    world.set(4, 1);
    for _ in 0..100 {
        world.ask(vec![("slow".into(), 1)], 0);
    }
    assert_eq!((world.held.len(), world.waiting.len()), (1, 99));
    // Of each time that passes one start comes.
    for held in 2..=50 {
        assert!(world.clock.advance());
        while world.poll_woken() {}
        assert_eq!(world.held.len(), held);
    }
    // The timer goes with the last that waits.
    for id in 0..=world.count {
        world.withdraw(id);
    }
    assert!(world.waiting.is_empty() && !world.clock.advance());
}

#[test]
fn a_start_that_was_not_noticed_is_given_back() {
    let mut world = World::new();
    world.set(4, 1);
    (0..3).for_each(|_| world.ask(vec![("slow".into(), 1)], 0));
    assert!(world.clock.advance());
    assert!(world.poll_woken());
    assert_eq!((world.held.len(), world.waiting.len()), (2, 1));
    world.set(4, MOST);
    world.set(4, 1);
    let served = *world.waiting.keys().next().unwrap();
    world.withdraw(served);
    world.set(4, MOST);
    let usage = world.limits.usage(&Clock::Virtual(&world.clock));
    let UsageWhat::Rate { available, .. } = usage[4].what else { unreachable!() };
    assert_eq!(available, MOST - 1, "one was taken at the present time");
}
