//! Progress bars in the terminal.

// In arguments of `impl` types they can't be left out before they're in the language.
#![allow(single_use_lifetimes)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{
    HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use super::counted::{Counted, Tally};
use crate::Handle;

/// How long it takes until a change is shown, at most.
const REDRAWN: Duration = Duration::from_millis(100);

/// The same when all tasks are done and there's nothing to change until somebody says so.
const DONE: Duration = Duration::from_secs(3600);

/// Shows how far the tasks are: a bar for each function, with how many are done and have failed, the rate, and
/// the time left. Feature `progress`.
///
/// The bars are drawn on standard error, by a thread of their own, until all tasks are done, it's awaited to its end,
/// or dropped; the tasks are neither held up by it nor kept. Where standard error is no terminal nothing is drawn and
/// there's no thread. Awaiting it waits for all of the tasks and gives the counts.
///
/// Print through [`println`](Progress::println) or [`suspend`](Progress::suspend) meanwhile.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, progress};
///
/// async fn inc(x: u64) -> u64 { x + 1 }
///
/// let client = Client::new();
/// let handles = client.map(inc, 0..100);
/// let bars = progress(&handles);
/// bars.println("here we go");
/// assert_eq!(bars.await[0].done, 100);
/// # });
/// ```
pub fn progress<'a, T: 'static>(handles: impl IntoIterator<Item = &'a Handle<T>>) -> Progress {
    Progress::on(ProgressDrawTarget::stderr(), handles)
}

/// Bars that show how far tasks are; made by [`progress`].
#[must_use = "the bars go when this is dropped"]
pub struct Progress {
    tally: Tally,
    bars: MultiProgress,
    drawing: Option<Drawing>,
    /// Those that aren't drawn any more. While there are further lines to print they're not to be dropped: they
    /// would be printed over.
    drawn: Vec<ProgressBar>,
}

/// The thread that draws.
struct Drawing {
    thread: JoinHandle<Vec<ProgressBar>>,
    over: Arc<Over>,
}

#[derive(Default)]
struct Over {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl Progress {
    fn on<'a, T: 'static>(
        target: ProgressDrawTarget,
        handles: impl IntoIterator<Item = &'a Handle<T>>,
    ) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        let tally = Tally::new();
        tally.add(handles);
        let drawing = (!bars.is_hidden()).then(|| Drawing::start(&tally, &bars)).flatten();
        Self { tally, bars, drawing, drawn: Vec::new() }
    }

    /// Adds further tasks, of this type or another.
    pub fn add<'a, T: 'static>(&self, handles: impl IntoIterator<Item = &'a Handle<T>>) {
        self.tally.add(handles);
        self.drawing.iter().for_each(|drawing| drawing.over.tell(false));
    }

    /// Adds further tasks, and returns the whole.
    pub fn and<'a, T: 'static>(self, handles: impl IntoIterator<Item = &'a Handle<T>>) -> Self {
        self.add(handles);
        self
    }

    /// Prints a line above the bars; to standard output where none are drawn.
    pub fn println(&self, text: impl AsRef<str>) {
        if self.bars.is_hidden() {
            println!("{}", text.as_ref());
        } else {
            // What can't be written to a terminal can't be told there either.
            let _ = self.bars.println(text);
        }
    }

    /// Runs `code` while the bars are taken away, so that it can print.
    pub fn suspend<R>(&self, code: impl FnOnce() -> R) -> R {
        self.bars.suspend(code)
    }

    /// The counts now.
    pub fn counts(&self) -> Vec<Counted> {
        self.tally.counts()
    }

    fn finish(&mut self) {
        if let Some(Drawing { thread, over }) = self.drawing.take() {
            over.tell(true);
            // It draws once more.
            self.drawn = thread.join().unwrap_or_default();
        }
    }
}

impl Over {
    fn tell(&self, is_over: bool) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = is_over;
        self.changed.notify_all();
    }
}

impl Drawing {
    /// Where the system refuses a thread, nothing is drawn.
    fn start(tally: &Tally, bars: &MultiProgress) -> Option<Self> {
        let over = Arc::<Over>::default();
        let (tally, bars, seen) = (tally.clone(), bars.clone(), over.clone());
        let draw = move || draw(&tally, &bars, &seen);
        let thread = thread::Builder::new().name("ensue-progress".into()).spawn(draw);
        let refused = |error: &std::io::Error| log::error!("ensue: no thread for bars: {error}");
        Some(Self { thread: thread.inspect_err(refused).ok()?, over })
    }
}

fn draw(tally: &Tally, all: &MultiProgress, over: &Over) -> Vec<ProgressBar> {
    let mut bars: Vec<ProgressBar> = Vec::new();
    loop {
        // First, so that the last counts are shown.
        let was_over = *over.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = tally.is_done();
        for (at, counted) in tally.counts().iter().enumerate() {
            if at == bars.len() {
                bars.push(all.add(bar(counted)));
            }
            bars[at].set_length(counted.total as u64);
            bars[at].set_position(counted.done as u64);
            if counted.failed > 0 {
                bars[at].set_message(format!(", {} failed", counted.failed));
            }
            bars[at].tick();
        }
        if was_over {
            // They stay as they are.
            bars.iter().for_each(ProgressBar::abandon);
            return bars;
        }
        let is_over = over.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_over {
            // When all is done, only further tasks are news.
            let wait = if is_done { DONE } else { REDRAWN };
            let _ = over.changed.wait_timeout(is_over, wait);
        }
    }
}

fn bar(counted: &Counted) -> ProgressBar {
    // The template is checked by a test.
    let style = ProgressStyle::with_template(TEMPLATE)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate);
    let bar = ProgressBar::new(counted.total as u64).with_style(style);
    // A name may have anything in it.
    let name: String = counted.name.chars().filter(|c| !c.is_control()).collect();
    bar.with_prefix(name)
}

/// How many a second, with no more digits than say something.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    let rate = state.per_sec();
    // There's nobody to tell of an error.
    let _ = match rate {
        ..10.0 => write!(out, "{rate:.1}/s"),
        _ => write!(out, "{}/s", HumanCount(rate as u64)),
    };
}

const TEMPLATE: &str =
    "{prefix:>20.20} {bar:30} {human_pos} of {human_len} done{msg}, {rate:.dim}, {eta} left";

impl Future for Progress {
    type Output = Vec<Counted>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Vec<Counted>> {
        loop {
            match self.tally.poll_counts(poller) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(self.tally.counts());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use indicatif::InMemoryTerm;

    use super::*;
    use crate::Client;

    #[test]
    fn there_is_a_bar_for_each_function_and_what_is_printed_stands_above() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let term = InMemoryTerm::new(20, 120);
        let client = Client::builder().workers(1).build();
        let fine = client.task().name("fine\u{1b}[2J").map(async |_: u64| (), 0..3);
        let bad = client.task().name("bad").try_map(async |_: u64| Err::<u64, _>("bad"), 0..2);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let progress = Progress::on(target, &fine).and(&bad);
        progress.println("a line");
        let counts = block_on(progress);
        assert_eq!(counts.iter().map(|counted| counted.done).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(counts[1].failed, 2);
        let shown = term.contents();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!((lines.len(), lines[0]), (3, "a line"), "{shown}");
        assert!(lines[1].contains("fine[2J") && lines[1].contains("3 of 3 done"), "{shown}");
        let rate = lines[1].split(", ").nth(1).unwrap();
        assert!(rate.ends_with("/s") && rate.len() < 12, "{rate}");
        assert!(lines[2].contains("bad") && lines[2].contains("2 of 2 done, 2 failed"), "{shown}");
    }

    #[test]
    fn where_there_is_no_terminal_nothing_is_drawn() {
        let client = Client::builder().workers(1).build();
        let handles = client.map(async |_: u64| (), 0..3);
        let progress = Progress::on(ProgressDrawTarget::hidden(), &handles);
        assert!(progress.drawing.is_none());
        assert_eq!(progress.suspend(|| 7), 7);
        assert_eq!(block_on(progress)[0].done, 3);
    }

    #[test]
    fn dropping_it_ends_the_thread_though_tasks_are_left() {
        let term = InMemoryTerm::new(20, 120);
        let client = Client::builder().workers(0).build();
        let handles = client.map(async |_: u64| (), 0..3);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let progress = Progress::on(target, &handles);
        let over = progress.drawing.as_ref().map(|drawing| Arc::downgrade(&drawing.over));
        drop(progress);
        assert!(over.is_some_and(|over| over.upgrade().is_none()));
        assert!(term.contents().contains("0 of 3 done"));
    }
}
