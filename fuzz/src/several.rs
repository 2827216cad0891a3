//! Several awaits of a task at once, in the combinators of the crate `futures`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::coverage::reached;
use super::current::Current;
use super::model::{Id, Suspension};
use super::run_state::{model, note};
use super::script::{Action, How};

pub(crate) struct Several {
    all: Pin<Box<dyn Future<Output = ()> + Send>>,
    pending: Pending,
    how: How,
    is_over: bool,
}

/// What each part is suspended at; `None` when it's over.
type Pending = Arc<Mutex<Vec<Option<Suspension>>>>;

/// A part: reports its suspensions, since a combinator may not poll it each time.
struct Part {
    id: Id,
    at: usize,
    current: Option<Current>,
    pending: Pending,
}

impl Several {
    /// Begins the awaits. Returns `None` if there are none.
    pub(crate) fn new(id: Id, how: How, parts: &[Action]) -> Option<Self> {
        let parts: Vec<_> = parts.iter().filter_map(|action| Current::begin(id, action)).collect();
        if parts.is_empty() {
            return None;
        }
        // A part that wasn't polled yet: the combinator has woken the task for that.
        let pending: Pending = Arc::new(Mutex::new(vec![Some(Suspension::Yielded); parts.len()]));
        let parts = parts.into_iter().enumerate().map(|(at, current)| Part {
            id,
            at,
            current: Some(current),
            pending: pending.clone(),
        });
        Some(Self { all: how.combine(parts), pending, how, is_over: false })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), Suspension> {
        let how = self.how;
        self.is_over = self.all.as_mut().poll(cx).is_ready();
        if self.is_over {
            reached(|| format!("{how:?}: ready"));
            return Ok(());
        }
        reached(|| format!("{how:?}: pending"));
        let pending = self.pending.lock().unwrap();
        Err(Suspension::Several(pending.iter().flatten().cloned().collect()))
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        let how = self.how;
        if !self.is_over {
            reached(|| format!("{how:?}: dropped"));
        }
    }
}

impl Future for Part {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { id, at, .. } = *self;
        let Some(current) = &mut self.current else { unreachable!("a part was polled again") };
        let polled = current.poll(id, cx);
        note(|| format!("    part {at} of t{id}: {polled:?}"));
        let is_over = polled.is_ok();
        let name = current.name();
        reached(|| format!("part {name}: {}", if is_over { "ready" } else { "pending" }));
        if let Err(suspension) = &polled {
            model(|model| model.lend_by_part(id, suspension));
        }
        self.pending.lock().unwrap()[at] = polled.err();
        if !is_over {
            return Poll::Pending;
        }
        model(|model| model.tasks[id].parts += 1);
        self.current.take().into_iter().for_each(Current::finish);
        Poll::Ready(())
    }
}
