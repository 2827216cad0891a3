//! Progress bars in the terminal, drawn by a thread of their own.

// Anonymous lifetimes in `impl` arguments aren't stable.
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

use super::function_progress::{FunctionProgress, ProgressTracker};
use crate::Handle;

/// The interval between two drawings.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The interval when all tasks are done, so that nothing changes before tasks are added.
const DONE_INTERVAL: Duration = Duration::from_secs(3600);

/// Draws a progress bar for each function of the tasks. Feature `progress`.
///
/// A bar shows how many tasks are done and how many of those have failed, the rate in tasks per second, and the
/// estimated time left. Awaiting the returned [`Progress`] waits for all of the tasks, and returns the last counts.
///
/// The bars are drawn on standard error, every 100 milliseconds, by a thread of their own. It exits when the `Progress`
/// is awaited to its end or dropped, and the bars stay on the screen as they were drawn last. Neither keeps the tasks
/// alive, cancels them or delays them. Where standard error isn't a terminal, or the system refuses the thread (which is
/// logged), nothing is drawn and everything else works.
///
/// Lines that the program prints meanwhile would break the bars: print them with [`println`](Progress::println) or
/// inside of [`suspend`](Progress::suspend).
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
/// bars.println("incrementing");
/// assert_eq!(bars.await[0].done, 100);
/// # });
/// ```
pub fn progress<'a, T: 'static>(handles: impl IntoIterator<Item = &'a Handle<T>>) -> Progress {
    Progress::on(ProgressDrawTarget::stderr(), handles)
}

/// Progress bars, and a future of the last counts; made by [`progress`].
#[must_use = "the bars are no longer updated when this is dropped"]
pub struct Progress {
    tracker: ProgressTracker,
    bars: MultiProgress,
    drawing: Option<DrawThread>,
    /// The bars after the last drawing. Not dropped before the `Progress`: a line that is printed later would overwrite a
    /// dropped bar.
    drawn: Vec<ProgressBar>,
}

/// The thread that draws. It returns its bars.
struct DrawThread {
    thread: JoinHandle<Vec<ProgressBar>>,
    stop: Arc<StopSignal>,
}

#[derive(Default)]
struct StopSignal {
    stop: Mutex<bool>,
    changed: Condvar,
}

impl Progress {
    fn on<'a, T: 'static>(
        target: ProgressDrawTarget,
        handles: impl IntoIterator<Item = &'a Handle<T>>,
    ) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        let tracker = ProgressTracker::new();
        tracker.add(handles);
        let drawing = (!bars.is_hidden()).then(|| DrawThread::start(&tracker, &bars)).flatten();
        Self { tracker, bars, drawing, drawn: Vec::new() }
    }

    /// Adds further tasks, of this type or another. Functions that are new get a bar below the others.
    pub fn add<'a, T: 'static>(&self, handles: impl IntoIterator<Item = &'a Handle<T>>) {
        self.tracker.add(handles);
        self.drawing.iter().for_each(|drawing| drawing.stop.notify(false));
    }

    /// Adds further tasks like [`add`](Self::add), and returns `self`.
    pub fn and<'a, T: 'static>(self, handles: impl IntoIterator<Item = &'a Handle<T>>) -> Self {
        self.add(handles);
        self
    }

    /// Prints a line above the bars, or to standard output where no bars are drawn.
    ///
    /// Errors of the terminal are ignored.
    ///
    /// # Panics
    ///
    /// Where no bars are drawn and standard output can't be written to, like `println!`.
    pub fn println(&self, text: impl AsRef<str>) {
        if self.bars.is_hidden() {
            println!("{}", text.as_ref());
        } else {
            // The terminal is broken, so there is no place to report the error.
            let _ = self.bars.println(text);
        }
    }

    /// Runs `code` on this thread, with the bars removed from the terminal meanwhile, and returns what it returns.
    pub fn suspend<R>(&self, code: impl FnOnce() -> R) -> R {
        self.bars.suspend(code)
    }

    /// Returns the counts of now, without waiting.
    pub fn counts(&self) -> Vec<FunctionProgress> {
        self.tracker.counts()
    }

    /// Stops the thread and waits for its last drawing.
    fn finish(&mut self) {
        if let Some(DrawThread { thread, stop }) = self.drawing.take() {
            stop.notify(true);
            self.drawn = thread.join().unwrap_or_default();
        }
    }
}

impl StopSignal {
    /// Wakes the thread: to stop, or because there are new tasks.
    fn notify(&self, stop: bool) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop;
        self.changed.notify_all();
    }
}

impl DrawThread {
    /// Returns `None` if the system refuses a thread: progress bars are no reason to fail.
    fn start(tracker: &ProgressTracker, bars: &MultiProgress) -> Option<Self> {
        let stop = Arc::<StopSignal>::default();
        let (tracker, bars, signal) = (tracker.clone(), bars.clone(), stop.clone());
        let draw = move || draw(&tracker, &bars, &signal);
        let thread = thread::Builder::new().name("ensue-progress".into()).spawn(draw);
        let refused = |error: &std::io::Error| {
            log::error!("ensue: can't start the thread that draws progress bars: {error}")
        };
        Some(Self { thread: thread.inspect_err(refused).ok()?, stop })
    }
}

fn draw(tracker: &ProgressTracker, all: &MultiProgress, signal: &StopSignal) -> Vec<ProgressBar> {
    let mut bars: Vec<ProgressBar> = Vec::new();
    loop {
        // Read before the counts, so that the last drawing shows the last ones.
        let stop = *signal.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = tracker.is_done();
        for (at, counted) in tracker.counts().iter().enumerate() {
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
        if stop {
            // Leaves them on the screen.
            bars.iter().for_each(ProgressBar::abandon);
            return bars;
        }
        let stop = signal.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if !*stop {
            let wait = if is_done { DONE_INTERVAL } else { REDRAW_INTERVAL };
            let _ = signal.changed.wait_timeout(stop, wait);
        }
    }
}

fn bar(counted: &FunctionProgress) -> ProgressBar {
    // A test checks that the template is valid.
    let style = ProgressStyle::with_template(TEMPLATE)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate);
    let bar = ProgressBar::new(counted.total as u64).with_style(style);
    // A name may contain escape sequences, which would control the terminal.
    let name: String = counted.name.chars().filter(|c| !c.is_control()).collect();
    bar.with_prefix(name)
}

/// Writes the rate in tasks per second, with one decimal only where that is significant.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    let rate = state.per_sec();
    // `indicatif` calls this without a way to return an error.
    let _ = match rate {
        ..10.0 => write!(out, "{rate:.1}/s"),
        _ => write!(out, "{}/s", HumanCount(rate as u64)),
    };
}

const TEMPLATE: &str =
    "{prefix:>20.20} {bar:30} {human_pos} of {human_len} done{msg}, {rate:.dim}, {eta} left";

impl Future for Progress {
    type Output = Vec<FunctionProgress>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<FunctionProgress>> {
        loop {
            match self.tracker.poll_counts(cx) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(self.tracker.counts());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tracker.forget_waker();
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
    use std::io;
    use std::sync::Mutex;

    use futures_lite::future::block_on;
    use indicatif::TermLike;

    use super::*;
    use crate::Client;

    /// A terminal in memory, as much of one as bars need: they write lines as wide as the terminal, which wraps them.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<Cells>>);

    #[derive(Debug, Default)]
    struct Cells {
        lines: Vec<String>,
        row: usize,
        column: usize,
    }

    const WIDTH: usize = 120;

    impl Screen {
        fn contents(&self) -> String {
            let lines = &self.0.lock().unwrap().lines;
            let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
            lines.join("\n").trim_end().to_owned()
        }

        fn change(&self, change: impl FnOnce(&mut Cells)) -> io::Result<()> {
            change(&mut self.0.lock().unwrap());
            Ok(())
        }
    }

    impl Cells {
        fn break_line(&mut self) {
            self.row += 1;
            self.column = 0;
        }

        fn write(&mut self, text: &str) {
            for char in text.chars() {
                if self.column == WIDTH {
                    self.break_line();
                }
                self.lines.resize(self.lines.len().max(self.row + 1), String::new());
                self.lines[self.row].push(char);
                self.column += 1;
            }
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            WIDTH as u16
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.change(|cells| cells.row = cells.row.saturating_sub(n))
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.change(|cells| cells.row += n)
        }
        fn move_cursor_right(&self, n: usize) -> io::Result<()> {
            self.change(|cells| cells.column += n)
        }
        fn move_cursor_left(&self, n: usize) -> io::Result<()> {
            self.change(|cells| cells.column = cells.column.saturating_sub(n))
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.change(|cells| {
                cells.write(text);
                cells.break_line();
            })
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.change(|cells| cells.write(text))
        }
        fn clear_line(&self) -> io::Result<()> {
            self.change(|cells| {
                cells.column = 0;
                let row = cells.row;
                cells.lines.get_mut(row).into_iter().for_each(String::clear);
            })
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_function_has_a_bar_and_printed_lines_are_above_the_bars() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let term = Screen::default();
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
    fn without_a_terminal_nothing_is_drawn() {
        let client = Client::builder().workers(1).build();
        let handles = client.map(async |_: u64| (), 0..3);
        let progress = Progress::on(ProgressDrawTarget::hidden(), &handles);
        assert!(progress.drawing.is_none());
        assert_eq!(progress.suspend(|| 7), 7);
        assert_eq!(block_on(progress)[0].done, 3);
    }

    #[test]
    fn dropping_it_stops_the_thread_though_tasks_are_left() {
        let term = Screen::default();
        let client = Client::builder().workers(0).build();
        let handles = client.map(async |_: u64| (), 0..3);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let progress = Progress::on(target, &handles);
        let stop = progress.drawing.as_ref().map(|drawing| Arc::downgrade(&drawing.stop));
        drop(progress);
        assert!(stop.is_some_and(|stop| stop.upgrade().is_none()));
        assert!(term.contents().contains("0 of 3 done"));
    }
}
