//! The submit methods, each with its plan for the model.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, Ref, Retry, Status};

use super::body::{Infallible, Running};
use super::coverage::reached;
use super::instrumented::{Args, Code, Value};
use super::model::{Id, Outcome, Plan, Task};
use super::run_state::{MAX_TASKS, expect, model, panic_point_then, with};
use super::script::{RetryPlan, Submit, Verb, When};
use super::tracked::{self, Tracked};

/// The argument of a pure call. Its hash excludes the code, so that equal numbers make equal calls.
struct Pure(u8, Code);

impl Hash for Pure {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

macro_rules! finish {
    ($verb:expr, $options:expr, $code:ident, $inputs:ident) => {
        match $verb {
            Verb::Try => {
                $options.try_submit(move |args: A| Running::new($code, args).fallible(), $inputs)
            }
            Verb::Blocking => {
                let block = move |args: A| match Running::new($code, args).block() {
                    Ok(value) => value,
                    Err(_) => unreachable!("its errors are raised as panics"),
                };
                $options.submit_blocking(block, $inputs)
            }
            Verb::TryBlocking => $options
                .try_submit_blocking(move |args: A| Running::new($code, args).block(), $inputs),
            _ => $options.submit(move |args: A| Running::new($code, args).infallible(), $inputs),
        }
    };
}

fn pure<A: Args>(Pure(_, code): Pure, args: A) -> Infallible<A> {
    Running::new(code, args).infallible()
}

impl Submit {
    /// Whether it has a key that was chosen, which this submit method supports.
    fn has_key(&self) -> bool {
        let keyed = !matches!(self.verb, Verb::Submit | Verb::Map | Verb::Pure | Verb::Spawn);
        keyed && self.key.is_some()
    }

    /// Returns the number that distinguishes pure calls with equal inputs.
    fn pure(&self) -> u8 {
        self.key.unwrap_or(0)
    }

    /// Returns the options that this submit method supports.
    fn plan(&self, inputs: Vec<Id>) -> Plan {
        let (verb, options) =
            (self.verb, !matches!(self.verb, Verb::Submit | Verb::Map | Verb::Pure));
        let fallible = matches!(verb, Verb::Try | Verb::TryBlocking);
        let mut retry = self.retry.filter(|_| options && verb != Verb::Spawn);
        let limits = if options { self.limits } else { [0, 0] };
        if let (Some(retry), true) = (&mut retry, limits != [0, 0]) {
            // The end of a limited task's delay can't be observed from outside.
            retry.delay = 0;
        }
        let key = match verb {
            // Calls are equal if their handles are of equal calls or of the same tasks, and are passed in the same way.
            Verb::Pure => {
                let names = model(|model| {
                    // A task refused for its limits isn't found by its key, but shares its name.
                    let refused = |id: Id| {
                        let refusal = Outcome::Error(ErrorKind::Limit, Some(id));
                        model.tasks[id].outcome() == Some(refusal)
                    };
                    let name = |id: &Id| match &model.names[*id] {
                        call if call.starts_with("pure-") => (call.clone(), refused(*id)),
                        // Another task may have its key later.
                        _ => (format!("t{id}"), false),
                    };
                    inputs.iter().map(name).collect::<Vec<_>>()
                });
                Some(format!("pure {} {} {names:?}", self.pure(), self.by_ref))
            }
            _ => self.key.filter(|_| self.has_key()).map(|key| format!("k{key}")),
        };
        Plan {
            inputs,
            by_ref: self.by_ref,
            key,
            priority: if options { self.priority } else { 0 },
            rerunnable: fallible || retry.is_some(),
            retry,
            timeout: self.timeout.filter(|_| options).map(u64::from),
            limits,
            fallible,
            blocking: matches!(verb, Verb::Blocking | Verb::TryBlocking),
        }
    }
}

/// Submits a task, and puts the handle into its slot.
pub(crate) fn submit(client: &Client, submit: &Submit) {
    let takes_inputs = !matches!(submit.verb, Verb::Spawn | Verb::Map);
    // The inputs of one that joins a task are dropped before the model knows that it has joined, so others keep them.
    let decides = with(|state| state.reentering) && submit.has_key();
    let moves = submit.moved && !decides;
    let mut inputs = Vec::new();
    if takes_inputs {
        let take = |slot: &usize| if moves { tracked::take(*slot) } else { tracked::copy(*slot) };
        inputs = submit.inputs.iter().filter_map(take).collect::<Vec<_>>();
    }
    let count = if submit.verb == Verb::Map { 2 } else { 1 };
    if model(|model| model.tasks.len()) + count > MAX_TASKS {
        return;
    }
    let ids: Vec<_> = inputs.iter().map(|input| input.id).collect();
    let plan = submit.plan(ids.clone());
    if !decides && plan.key.as_deref().is_some_and(|key| model(|model| model.is_uncertain(key))) {
        return;
    }
    if submit.verb == Verb::Map {
        return map(client, submit, plan);
    }
    let joinable = plan.key.as_deref().and_then(|key| model(|model| model.joinable(key)));
    let before = plan.key.as_deref().and_then(|key| model(|model| model.get(key)));
    let (id, joined) = model(|model| {
        if !decides {
            return model.submit(plan.clone());
        }
        let id = model.make(plan.clone());
        model.undecided = Some(id);
        (id, false)
    });
    let code = Code::new((!joined).then_some(id), submit.body);
    // The model now counts them as inputs of the task; a joined task's are dropped with the function.
    let inputs: Vec<_> =
        inputs.into_iter().map(Tracked::into_counted).map(|(_, handle)| handle).collect();
    model(|model| ids.into_iter().for_each(|id| model.release(id)));
    let handle = if submit.by_ref {
        with_args::<Vec<Ref<Value>>>(client, submit, &plan, id, code, inputs)
    } else {
        with_args::<Vec<Value>>(client, submit, &plan, id, code, inputs)
    };
    if !decides {
        return adopt(submit.into, id, handle);
    }
    model(|model| model.undecided = None);
    // The function of a joined submission is dropped at once, that of a new task when it's called or fails.
    let has_joined = with(|state| state.alive(id).functions == 0) && !is_lost(handle.status());
    if !has_joined {
        check_new(&plan, joinable);
        return adopt(submit.into, id, handle);
    }
    model(|model| model.unmake(id, before));
    match joinable.filter(|_| model(|model| !model.is_unmet(&plan))) {
        Some(joined) => {
            reached(|| "a submission in a hook joined".into());
            model(|model| model.join(joined, plan.priority));
            adopt(submit.into, joined, handle);
        }
        None => check_joined(&plan, before),
    }
}

fn is_lost(status: Status) -> bool {
    matches!(status, Status::Failed | Status::Cancelled)
}

/// Checks a task that was made in a hook although the model would have joined another one.
fn check_new(plan: &Plan, joinable: Option<Id>) {
    let Some(other) = joinable.filter(|_| model(|model| !model.is_closed())) else { return };
    reached(|| "a submission in a hook made a second task".into());
    // *Free*: whether the engine has ended the other one by now. Without a handle nobody can tell.
    let status = with(|state| {
        let mut slots = state.slots.iter().flatten().filter(|tracked| tracked.id == other);
        Some(slots.next()?.handle().status())
    });
    let right = status.is_none_or(is_lost) || model(|model| model.is_unmet(plan));
    expect(right, || format!("{:?} of t{other}, which is {status:?}, was given away", plan.key));
}

/// Checks a submission in a hook that joined a task which the model has ended, or knows to be unused. *Free*: whether the
/// engine has done the same by now.
fn check_joined(plan: &Plan, before: Option<Id>) {
    reached(|| "a submission in a hook joined what is about to end".into());
    let right = model(|model| {
        let same = |task: &Task| task.plan.key == plan.key;
        let last = before.or_else(|| model.tasks.iter().rposition(same));
        let ends = |id: Id| {
            let task = &model.tasks[id];
            task.abandoned || task.aborting.is_some() || task.ended_at == model.instant
        };
        last.is_some_and(ends) && !model.is_unmet(plan)
    });
    expect(right, || format!("the submission of {:?} joined a task that has ended", plan.key));
}

fn map(client: &Client, submit: &Submit, plan: Plan) {
    let ids = [(); 2].map(|()| model(|model| model.submit(plan.clone()).0));
    let codes = ids.map(|id| Code::new(Some(id), submit.body));
    let handles = client.map(|code: Code| Running::new(code, ()).infallible(), codes);
    for (at, (id, handle)) in ids.into_iter().zip(handles).enumerate() {
        adopt((submit.into + at) % super::script::SLOTS, id, handle);
    }
}

fn adopt(slot: usize, id: Id, handle: Handle<Value>) {
    let name = handle.key().to_string();
    model(|model| {
        if model.names.len() <= id {
            model.names.resize(id + 1, String::new());
        }
        let known = &mut model.names[id];
        let right = known.is_empty() || *known == name;
        known.clone_from(&name);
        model.expect(right, || format!("t{id} is called `{name}`"));
    });
    tracked::put(slot, Some(Tracked::new(id, handle)));
}

fn with_args<A>(
    client: &Client,
    submit: &Submit,
    plan: &Plan,
    id: Id,
    code: Code,
    inputs: Vec<Handle<Value>>,
) -> Handle<Value>
where
    A: Args,
    Vec<Handle<Value>>: ensue::Input<A>,
{
    let mut options = client.task().priority(plan.priority).name(format!("t{id}"));
    if let Some(key) = &plan.key {
        options = options.key(&**key);
    }
    if let Some(timeout) = plan.timeout {
        options = options.timeout(Duration::from_secs(timeout));
    }
    for (name, n) in ["a", "b"].into_iter().zip(plan.limits) {
        if plan.limits != [0, 0] {
            options = options.acquire_many(name, n);
        }
    }
    match submit.verb {
        Verb::Submit => client.submit(move |args: A| Running::new(code, args).infallible(), inputs),
        Verb::Spawn => options.spawn(Running::new(code, ()).infallible()),
        Verb::Map => unreachable!("`map` submits several tasks"),
        Verb::Pure => client.submit_pure(pure::<A>, (Pure(submit.pure(), code), inputs)),
        verb => match plan.retry {
            Some(retry) => finish!(verb, options.retries(retries(id, retry)), code, inputs),
            None => finish!(verb, options, code, inputs),
        },
    }
}

fn retries(id: Id, retry: RetryPlan) -> Retry {
    let delay = Duration::from_secs(retry.delay.into());
    let retries = Retry::new(retry.budget).backoff(delay, delay);
    if retry.when == When::Always {
        return retries;
    }
    retries.when(move |error| {
        panic_point_then("predicate", || model(|model| model.predicate_panicked(id)));
        let again = retry.when == When::Failed && error.kind() == ErrorKind::Failed;
        model(|model| model.decide(id, again));
        again
    })
}
