//! The plan of a run of the target `threads`, decoded from the fuzzer's bytes.

use arbitrary::{Result, Unstructured};

use super::script::How;

/// Slots for handles, shared by all threads.
pub(crate) const SLOTS: usize = 6;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The client's own threads, and threads that poll a worker each.
    pub(crate) own: usize,
    pub(crate) hosted: usize,
    pub(crate) observes: bool,
    /// The operation of `on_stall`, and the time after which it's called, in milliseconds.
    pub(crate) on_stall: Option<(u8, Op)>,
    pub(crate) bodies: Vec<Body>,
    /// The operations of each thread that uses the client.
    pub(crate) threads: Vec<Vec<Op>>,
    pub(crate) ending: Ending,
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Closed when it's idle.
    Idle,
    /// Closed while tasks run.
    Close,
    /// Dropped while tasks run.
    Drop,
}

#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) actions: Vec<Action>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value,
    Error,
    Panic,
    /// An error in each attempt but the last one.
    LastValue,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Yield,
    /// In milliseconds.
    Sleep(u8),
    Wait(Wait),
    Several(How, Vec<Wait>),
    /// Polls an await once, and forgets it.
    Forget(How, Vec<Wait>),
    /// `result`, which a worker refuses.
    Result(usize),
    Idle,
    Close,
    Do(Op),
}

#[derive(Clone, Debug)]
pub(crate) enum Wait {
    One(usize),
    Ref(usize),
    Gather(Vec<usize>),
    Any(Vec<usize>),
    /// All of `as_completed`.
    Stream(Vec<usize>),
    Yield,
    /// In milliseconds.
    Sleep(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Submit(Submit),
    Drop(usize),
    Clone(usize, usize),
    Cancel(usize),
    Retry(usize),
    Detach(usize),
    /// Runs the operation in a callback.
    OnDone(usize, Box<Op>),
    Explain(usize),
    /// Waits for idleness, from outside only.
    Idle,
    /// Waits for the result, from outside only.
    Result(usize),
    Scale(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Submit {
    pub(crate) into: usize,
    pub(crate) body: usize,
    pub(crate) inputs: Vec<usize>,
    pub(crate) by_ref: bool,
    pub(crate) blocking: bool,
    /// Another handle is kept until the end of the run, and its result is checked.
    pub(crate) kept: bool,
    pub(crate) priority: i32,
    pub(crate) retries: u32,
    pub(crate) limited: bool,
    pub(crate) key: Option<u8>,
}

impl Plan {
    pub(crate) fn decode(data: &[u8]) -> Result<Self> {
        let u = &mut Unstructured::new(data);
        let own = u.int_in_range(0..=3)?;
        let hosted = u.int_in_range(0..=2)?;
        let ending = *u.choose(&[Ending::Idle, Ending::Idle, Ending::Close, Ending::Drop])?;
        let observes = u.ratio(1, 4)?;
        let on_stall = match u.ratio(1, 4)? {
            true => Some((u.int_in_range(0..=2)?, Op::decode(u, false, 1)?)),
            false => None,
        };
        let count = u.int_in_range(1..=4)?;
        let bodies = (0..count).map(|_| Body::decode(u)).collect::<Result<_>>()?;
        let mut threads = vec![Vec::new(); u.int_in_range(1..=2)?];
        let count = threads.len();
        let mut at = 0;
        while !u.is_empty() && at < 40 {
            threads[at % count].push(Op::decode(u, true, 0)?);
            at += 1;
        }
        Ok(Self {
            own: own.max(usize::from(hosted == 0)),
            hosted,
            observes,
            on_stall,
            bodies,
            threads,
            ending,
        })
    }
}

impl Plan {
    /// Whether tasks await `idle` or `close`.
    pub(crate) fn awaits_idle(&self) -> bool {
        let mut actions = self.bodies.iter().flat_map(|body| &body.actions);
        actions.any(|action| matches!(action, Action::Idle | Action::Close))
    }

    /// Whether there is blocking work: that of a cancelled task goes on, and may submit tasks when the client was idle.
    pub(crate) fn blocks(&self) -> bool {
        let is_blocking = |op: &Op| matches!(op, Op::Submit(submit) if submit.blocking);
        let of_task = |action: &Action| matches!(action, Action::Do(op) if is_blocking(op));
        let of_stall = self.on_stall.iter().any(|(_, op)| is_blocking(op));
        of_stall
            || self.threads.iter().flatten().any(is_blocking)
            || self.bodies.iter().flat_map(|body| &body.actions).any(of_task)
    }
}

impl Body {
    fn decode(u: &mut Unstructured<'_>) -> Result<Self> {
        let actions = (0..u.int_in_range(0..=4)?).map(|_| Action::decode(u));
        let actions = actions.collect::<Result<_>>()?;
        let end = *u.choose(&[End::Value, End::Value, End::Error, End::Panic, End::LastValue])?;
        Ok(Self { actions, end })
    }
}

impl Action {
    fn decode(u: &mut Unstructured<'_>) -> Result<Self> {
        let waits = |u: &mut Unstructured<'_>| {
            (0..u.int_in_range(1..=5)?).map(|_| Wait::decode(u)).collect::<Result<_>>()
        };
        let how =
            |u: &mut Unstructured<'_>| Ok(*u.choose(&[How::Unordered, How::Join, How::Select])?);
        Ok(match u.int_in_range(0..=23)? {
            0..=1 => Self::Yield,
            2 => Self::Sleep(u.int_in_range(0..=2)?),
            3..=5 => Self::Wait(Wait::decode(u)?),
            6..=10 => Self::Several(how(u)?, waits(u)?),
            11..=12 => Self::Forget(how(u)?, waits(u)?),
            13 => Self::Result(slot(u)?),
            14 if u.ratio(1, 2)? => Self::Idle,
            14 if u.ratio(1, 4)? => Self::Close,
            _ => Self::Do(Op::decode(u, false, 0)?),
        })
    }
}

impl Wait {
    fn decode(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u.int_in_range(0..=11)? {
            0..=3 => Self::One(slot(u)?),
            4..=5 => Self::Ref(slot(u)?),
            6 => Self::Gather(slots(u)?),
            7 => Self::Any(slots(u)?),
            8..=9 => Self::Stream(slots(u)?),
            10 => Self::Yield,
            _ => Self::Sleep(u.int_in_range(0..=2)?),
        })
    }
}

impl Op {
    fn decode(u: &mut Unstructured<'_>, outside: bool, depth: u8) -> Result<Self> {
        Ok(match u.int_in_range(0..=if outside { 23 } else { 18 })? {
            8..=9 => Self::Drop(slot(u)?),
            10 => Self::Clone(slot(u)?, slot(u)?),
            11..=12 => Self::Cancel(slot(u)?),
            13 => Self::Retry(slot(u)?),
            14 => Self::Detach(slot(u)?),
            15..=16 if depth == 0 => {
                Self::OnDone(slot(u)?, Box::new(Self::decode(u, false, depth + 1)?))
            }
            17 => Self::Explain(slot(u)?),
            18 => Self::Scale(u.int_in_range(1..=4)?),
            19..=20 => Self::Idle,
            21..=22 => Self::Result(slot(u)?),
            _ => Self::Submit(Submit::decode(u)?),
        })
    }
}

impl Submit {
    fn decode(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self {
            into: slot(u)?,
            body: u.int_in_range(0..=3)?,
            inputs: slots(u)?,
            by_ref: u.arbitrary()?,
            blocking: u.ratio(1, 8)?,
            kept: u.ratio(3, 4)?,
            priority: *u.choose(&[0, 0, 0, 1, -1])?,
            retries: *u.choose(&[0, 0, 1, 2])?,
            limited: u.ratio(1, 4)?,
            key: Some(u.int_in_range(0..=7)?).filter(|key| *key < 2),
        })
    }
}

fn slot(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=SLOTS - 1)
}

fn slots(u: &mut Unstructured<'_>) -> Result<Vec<usize>> {
    (0..u.int_in_range(0..=3)?).map(|_| slot(u)).collect()
}
