//! The script of a run, decoded from the fuzzer's bytes and printed by a failing run.
//!
//! The order of the calls on `Unstructured` is the encoding: changing it invalidates the corpora.

use arbitrary::{Result, Unstructured};

/// Slots for handles, shared by the program and its tasks.
pub(crate) const SLOTS: usize = 8;
pub(crate) const STREAMS: usize = 2;
const OPS: usize = 60;

/// The emphasis of a target: the weights of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Schedule,
    Streams,
    Keys,
    Panics,
    /// Tasks that await several things at once, and calls from hooks whose results depend on the engine's progress.
    Several,
    /// As `Several`, on a client without a seed whose worker the program polls. Nothing takes time.
    Unseeded,
}

impl Profile {
    /// Whether scripts have the operations that came last.
    fn is_wide(self) -> bool {
        matches!(self, Self::Several | Self::Unseeded)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// `None`: real time, and one worker.
    pub(crate) seed: Option<u64>,
    /// The capacity of each limit.
    pub(crate) limits: [usize; 2],
    pub(crate) bodies: Vec<Body>,
    pub(crate) ops: Vec<Op>,
    /// The panic points, counted from the start of the run, at which user code panics.
    pub(crate) panics: Vec<u16>,
    /// The reentry points, counted likewise, at which user code calls the engine, and the operation.
    pub(crate) reentries: Vec<(u16, Op)>,
    /// Whether task events are recorded from the start.
    pub(crate) listens: bool,
    /// An await of a task that might close a cycle isn't begun.
    pub(crate) acyclic: bool,
    /// Flags for the order of the drops at the end.
    pub(crate) teardown: u8,
}

/// The actions of a task's function, and its result.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) actions: Vec<Action>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Value,
    Error,
    Panic,
    /// An error in each run before the one with this number.
    ErrorUntil(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Yield,
    /// In virtual seconds.
    Sleep(u8),
    /// Suspends forever.
    Hang,
    Await(Vec<usize>, AwaitKind),
    Stream(usize),
    /// Takes all ready members of a stream, or waits for one.
    Batch(usize),
    /// Begins to await, and abandons that in the same poll.
    Peek(Vec<usize>, AwaitKind),
    Close,
    Do(Op),
    Idle,
    /// Awaits several things at once: the parts, each of which is an await.
    Several(How, Vec<Action>),
    /// Submits a task and awaits it.
    Child(Box<Submit>),
    /// Polls an await once, and forgets it if it's pending.
    Forget(Box<Action>),
    /// `result`, which a worker refuses.
    Result(usize),
}

/// The combinator of several awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `join_all`, which polls all of them each time.
    Join,
    /// `select_all`, which drops the others when one is ready.
    Select,
    /// `FuturesUnordered`, which polls only those that were woken.
    Unordered,
}

/// The ways to await one or several handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AwaitKind {
    /// `h.await`
    Own,
    /// `(&h).await`
    Borrow,
    Ref,
    Gather,
    Settled,
    Any,
    All,
    /// `wait_any` with a timeout in seconds; only inside tasks, where time is virtual.
    AnyFor(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Submit,
    /// `submit` with options.
    Task,
    Try,
    Spawn,
    Map,
    Blocking,
    TryBlocking,
    /// `submit_pure`
    Pure,
}

#[derive(Clone, Debug)]
pub(crate) struct Submit {
    pub(crate) into: usize,
    pub(crate) body: usize,
    pub(crate) verb: Verb,
    pub(crate) inputs: Vec<usize>,
    /// The inputs arrive as `Ref`s.
    pub(crate) by_ref: bool,
    /// The handles are moved into the call, not cloned.
    pub(crate) moved: bool,
    pub(crate) key: Option<u8>,
    pub(crate) priority: i32,
    pub(crate) retry: Option<RetryPlan>,
    /// In virtual seconds.
    pub(crate) timeout: Option<u8>,
    pub(crate) limits: [usize; 2],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPlan {
    pub(crate) budget: u32,
    /// In virtual seconds, each time.
    pub(crate) delay: u8,
    pub(crate) when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Failed,
    Never,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    pub(crate) at: usize,
    pub(crate) body: usize,
    pub(crate) count: usize,
    pub(crate) limit: usize,
    pub(crate) priority: i32,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Submit(Submit),
    Clone(usize, usize),
    Drop(usize),
    Cancel(usize),
    Retry(usize),
    Detach(usize),
    OnDone(usize),
    Peek(usize),
    /// `client.get` with this key, into a slot.
    Get(u8, usize),
    StreamAdd(usize, usize),
    StreamClear(usize),
    StreamBatch(usize),
    StreamDrop(usize),
    /// Converts the stream to one with results.
    StreamResults(usize),
    /// Puts a `map_stream` into a slot.
    StreamMap(Mapped),
    /// Subscribes to task events, or unsubscribes.
    Listen,
    Scale(u8),
    DropClient,
    /// Forgets a handle.
    Forget(usize),
    /// Reads the state of a task, where the model can't know it.
    Look(usize),
    /// Looks up a key, where the model can't know the result.
    Find(u8),
    /// Reads `explain`, `graph`, `stats` and `timeline`.
    Inspect(usize),
    // The operations below are executed from outside only.
    /// Polls the worker this number of times.
    Step(u8),
    /// Polls the worker until nothing is ready and no timer is left.
    Drive,
    DropWorker,
    StreamPoll(usize),
    /// `next_batch`, polled once.
    StreamNext(usize),
    /// Begins an await, which `Poll` polls.
    Await(Vec<usize>, AwaitKind),
    Poll(u8),
    Abandon(u8),
    /// Forgets a pending await.
    ForgetAwait(u8),
    Idle,
    Close,
}

impl Script {
    pub(crate) fn decode(data: &[u8], profile: Profile) -> Result<Self> {
        let u = &mut Unstructured::new(data);
        let seed = u.arbitrary::<u16>()?.into();
        let seed = Some(seed).filter(|_| profile != Profile::Unseeded);
        let limits = [u.int_in_range(1..=2)?, u.int_in_range(1..=3)?];
        let teardown = u.arbitrary()?;
        let mut panics = Vec::new();
        if profile == Profile::Panics || profile == Profile::Several && u.ratio(1, 4)? {
            for _ in 0..u.int_in_range(1..=3)? {
                panics.push(u.int_in_range(0..=60)?);
            }
        }
        let listens = u.ratio(1, 3)?;
        let mut reentries = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            reentries.push((u.int_in_range(0..=40)?, Op::in_reentry(u, profile)?));
        }
        let count = u.int_in_range(1..=6)?;
        let bodies = (0..count).map(|_| Body::decode(u, profile)).collect::<Result<_>>()?;
        let mut ops = Vec::new();
        while !u.is_empty() && ops.len() < OPS {
            ops.push(Op::outside(u, profile)?);
        }
        let acyclic = profile.is_wide();
        Ok(Self { seed, limits, bodies, ops, panics, reentries, listens, acyclic, teardown })
    }
}

impl Body {
    fn decode(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let mut actions = Vec::new();
        for _ in 0..u.int_in_range(0..=5)? {
            actions.push(match u.int_in_range(0..=if profile.is_wide() { 27 } else { 17 })? {
                0..=3 => Action::Yield,
                4..=5 => Action::sleep(u, profile)?,
                6 => Action::Hang,
                7..=10 => Action::Await(slots(u)?, await_kind(u, Some(profile))?),
                11 if u.ratio(1, 4)? => Action::Close,
                11 => Action::Stream(stream(u)?),
                16 => Action::Batch(stream(u)?),
                17 => Action::Peek(slots(u)?, await_kind(u, Some(profile))?),
                18..=22 => Action::several(u, profile)?,
                23..=24 => Action::Forget(Box::new(Action::forgettable(u, profile)?)),
                25 => Action::Result(slot(u)?),
                26 => Action::Idle,
                _ => Action::Do(Op::anywhere(u, profile)?),
            });
        }
        let end = match u.int_in_range(0..=7)? {
            0..=3 => End::Value,
            4 => End::Error,
            5 => End::Panic,
            _ => End::ErrorUntil(u.int_in_range(2..=4)?),
        };
        Ok(Self { actions, end })
    }
}

impl Action {
    fn sleep(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let seconds = u.int_in_range(0..=4)?;
        Ok(if profile == Profile::Unseeded { Self::Yield } else { Self::Sleep(seconds) })
    }

    fn several(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let how = *u.choose(&[How::Join, How::Select, How::Unordered, How::Unordered])?;
        let part = |u: &mut Unstructured<'_>| {
            Ok(match u.int_in_range(0..=15)? {
                0 => Self::Yield,
                11..=15 => Self::child(u, profile)?,
                1 => Self::sleep(u, profile)?,
                2 => Self::Stream(stream(u)?),
                3 if u.ratio(1, 4)? => Self::Idle,
                3 if u.ratio(1, 4)? => Self::Close,
                3 if u.ratio(1, 4)? => Self::Hang,
                _ => Self::Await(slots(u)?, await_kind(u, Some(profile))?),
            })
        };
        let parts = (0..u.int_in_range(1..=5)?).map(|_| part(u)).collect::<Result<_>>()?;
        Ok(Self::Several(how, parts))
    }

    fn child(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let mut submit = Submit::decode(u, profile)?;
        // Keys make it another task's child, inputs mostly wait for what has failed.
        submit.key = None;
        submit.inputs.truncate(1);
        Ok(Self::Child(Box::new(submit)))
    }

    /// Decodes an await without a timer: a forgotten timer would move the clock unseen.
    fn forgettable(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let one = |u: &mut Unstructured<'_>| match u.arbitrary()? {
            true => Self::child(u, profile),
            false => Ok(Self::Await(slots(u)?, await_kind(u, None)?)),
        };
        Ok(match u.int_in_range(0..=7)? {
            0 => Self::Stream(stream(u)?),
            1 if u.ratio(1, 2)? => Self::Idle,
            1 if u.ratio(1, 4)? => Self::Close,
            2..=3 => {
                let how = *u.choose(&[How::Join, How::Select, How::Unordered])?;
                let parts = (0..u.int_in_range(1..=3)?).map(|_| one(u)).collect::<Result<_>>()?;
                Self::Several(how, parts)
            }
            _ => one(u)?,
        })
    }
}

fn slot(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=SLOTS - 1)
}

fn stream(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=STREAMS - 1)
}

fn slots(u: &mut Unstructured<'_>) -> Result<Vec<usize>> {
    (0..u.int_in_range(0..=3)?).map(|_| slot(u)).collect()
}

/// Decodes a kind of await, inside tasks if there is a profile.
fn await_kind(u: &mut Unstructured<'_>, inside: Option<Profile>) -> Result<AwaitKind> {
    Ok(match u.int_in_range(0..=if inside.is_some() { 9 } else { 8 })? {
        0 | 1 => AwaitKind::Own,
        2 | 3 => AwaitKind::Borrow,
        4 => AwaitKind::Ref,
        5 => AwaitKind::Gather,
        6 => AwaitKind::Settled,
        7 => AwaitKind::Any,
        8 => AwaitKind::All,
        _ => match u.int_in_range(0..=3)? {
            _ if inside == Some(Profile::Unseeded) => AwaitKind::Any,
            seconds => AwaitKind::AnyFor(seconds),
        },
    })
}

impl Submit {
    fn decode(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let keys = if profile == Profile::Keys { 3 } else { 12 };
        let bodies = u.int_in_range(0..=5)?;
        let flags: u8 = u.arbitrary()?;
        let retry = match flags & 7 {
            0 | 1 => Some(RetryPlan {
                budget: u.int_in_range(0..=2)?,
                delay: u.int_in_range(0..=2)?,
                when: *u.choose(&[When::Always, When::Always, When::Failed, When::Never])?,
            }),
            _ => None,
        };
        let mut submit = Self {
            into: slot(u)?,
            body: bodies,
            verb: *u.choose(&[
                Verb::Submit,
                Verb::Task,
                Verb::Task,
                Verb::Try,
                Verb::Try,
                Verb::Spawn,
                Verb::Map,
                Verb::Blocking,
                Verb::TryBlocking,
                Verb::Pure,
            ])?,
            inputs: slots(u)?,
            by_ref: flags & 8 != 0,
            moved: flags & 16 != 0,
            key: Some(u.int_in_range(0..=keys)?).filter(|key| *key < 3),
            priority: *u.choose(&[0, 0, 0, 0, 1, 2, -1, -2, i32::MAX, i32::MIN])?,
            retry,
            timeout: if flags & 96 == 96 { Some(u.int_in_range(0..=4)?) } else { None },
            limits: if flags & 128 != 0 {
                [u.int_in_range(0..=2)?, u.int_in_range(0..=2)?]
            } else {
                [0, 0]
            },
        };
        if profile == Profile::Unseeded {
            // Without virtual time the model knows neither when a timer fires nor when another thread is done.
            submit.timeout = None;
            submit.retry.iter_mut().for_each(|retry| retry.delay = 0);
            match submit.verb {
                Verb::Blocking => submit.verb = Verb::Task,
                Verb::TryBlocking => submit.verb = Verb::Try,
                _ => {}
            }
        }
        Ok(submit)
    }
}

impl Op {
    /// Decodes an operation that tasks may execute, too.
    fn anywhere(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        let most = match profile {
            Profile::Streams => 42,
            Profile::Several | Profile::Unseeded => 36,
            _ => 33,
        };
        Ok(match u.int_in_range(0..=most)? {
            0..=12 => Self::Submit(Submit::decode(u, profile)?),
            13..=14 => Self::Clone(slot(u)?, slot(u)?),
            15..=17 => Self::Drop(slot(u)?),
            18..=19 => Self::Cancel(slot(u)?),
            20..=21 => Self::Retry(slot(u)?),
            22 => Self::Detach(slot(u)?),
            23 => Self::OnDone(slot(u)?),
            24 => Self::Peek(slot(u)?),
            25 => Self::Get(u.int_in_range(0..=2)?, slot(u)?),
            26 if u.ratio(1, 8)? => Self::DropClient,
            26 => Self::Scale(u.int_in_range(0..=2)?),
            27 => Self::StreamClear(stream(u)?),
            28 => Self::StreamDrop(stream(u)?),
            29 if u.ratio(1, 4)? => Self::StreamResults(stream(u)?),
            29 => Self::StreamBatch(stream(u)?),
            30 if u.ratio(1, 8)? => Self::Listen,
            32 | 40..=41 => Self::StreamMap(Mapped {
                at: stream(u)?,
                body: u.int_in_range(0..=5)?,
                count: u.int_in_range(0..=5)?,
                limit: u.int_in_range(0..=3)?,
                priority: *u.choose(&[0, 0, 1, -1])?,
            }),
            34 if profile.is_wide() => Self::Forget(slot(u)?),
            35 if profile.is_wide() => Self::Inspect(slot(u)?),
            _ => Self::StreamAdd(slot(u)?, stream(u)?),
        })
    }

    /// Decodes an operation that is called from within the engine. Operations whose result depends on the
    /// engine's progress are excluded, since the model can't predict it.
    fn in_reentry(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        Ok(match u.int_in_range(0..=if profile.is_wide() { 23 } else { 15 })? {
            0..=4 => {
                let mut submit = Submit::decode(u, profile)?;
                if submit.verb == Verb::Pure {
                    submit.verb = Verb::Submit;
                }
                Self::Submit(submit)
            }
            5 => Self::Clone(slot(u)?, slot(u)?),
            6..=8 => Self::Drop(slot(u)?),
            9..=11 => Self::Cancel(slot(u)?),
            12 => Self::Detach(slot(u)?),
            13 => Self::OnDone(slot(u)?),
            14 if u.ratio(1, 4)? => Self::DropClient,
            14 => Self::StreamClear(stream(u)?),
            16..=18 => Self::Retry(slot(u)?),
            19 => Self::Forget(slot(u)?),
            20..=21 => Self::Look(slot(u)?),
            22 => Self::Find(u.int_in_range(0..=2)?),
            23 => Self::Inspect(slot(u)?),
            _ => Self::StreamDrop(stream(u)?),
        })
    }

    fn outside(u: &mut Unstructured<'_>, profile: Profile) -> Result<Self> {
        Ok(match u.int_in_range(0..=31)? {
            0..=14 => Self::anywhere(u, profile)?,
            15..=19 => Self::Step(u.int_in_range(1..=4)?),
            20 => Self::Drive,
            21 if u.ratio(1, 2)? => Self::DropWorker,
            21 => Self::StreamNext(stream(u)?),
            22..=23 => Self::StreamPoll(stream(u)?),
            24..=26 => Self::Await(slots(u)?, await_kind(u, None)?),
            27..=28 => Self::Poll(u.arbitrary()?),
            29 if profile.is_wide() && u.arbitrary()? => Self::ForgetAwait(u.arbitrary()?),
            29 => Self::Abandon(u.arbitrary()?),
            30 => Self::Idle,
            _ if u.ratio(1, 4)? => Self::Close,
            _ => Self::Step(8),
        })
    }
}
