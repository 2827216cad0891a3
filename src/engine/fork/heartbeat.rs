//! The heartbeats of a thread, which bound how often it shares a branch.
//!
//! Nothing interrupts a thread. It looks at the clock itself, at some of its forks: at each one where they are rare, and else
//! at one of so many that the look is lost among them.

use std::cell::Cell;
use std::time::Duration;

use crate::engine::base::sync::{Instant, thread_local};

/// The time in which a thread may share one branch. To wake a thread that takes it costs up to a tenth of this.
pub(crate) const BEAT: Duration = Duration::from_micros(100);

/// The most beats that are saved for later. A computation that begins after a rest is spread at once: of branches that
/// halve it each time, this many make 256 parts, and those who take them share, too.
const MOST_SAVED: u32 = 8;

/// The time between two looks at the clock to aim at. A look takes about a hundredth of it.
const BETWEEN_LOOKS: Duration = Duration::from_micros(4);

/// The most forks between two looks. With the smallest branches, the looks take about a twentieth of the time. It's as many
/// of which none is shared where the branches become large all of a sudden.
const MOST_FORKS: u32 = 128;

thread_local! {
    static HEARTBEAT: Cell<Heartbeat> = const { Cell::new(Heartbeat::NEW) };
}

/// What a thread has to know of its heartbeats.
#[derive(Clone, Copy)]
struct Heartbeat {
    /// The last look at the clock, and the last beat; `None` before the first look.
    last: Option<(Instant, Instant)>,
    /// The beats that were not used.
    saved: u32,
    /// The forks between two looks.
    forks: u32,
}

/// What a look at the clock has shown.
pub(crate) struct Look {
    /// A beat was since the last look.
    pub(crate) is_beat: bool,
    /// There is a beat to use.
    pub(crate) has_saved: bool,
    /// The number of forks until the next look.
    pub(crate) forks: u32,
}

/// Looks at the clock.
pub(crate) fn look() -> Look {
    let mut heartbeat = HEARTBEAT.get();
    let is_beat = heartbeat.look(Instant::now());
    HEARTBEAT.set(heartbeat);
    Look { is_beat, has_saved: heartbeat.saved > 0, forks: heartbeat.forks }
}

/// Uses a beat that was saved.
pub(crate) fn spend() {
    let heartbeat = HEARTBEAT.get();
    HEARTBEAT.set(Heartbeat { saved: heartbeat.saved.saturating_sub(1), ..heartbeat });
}

impl Heartbeat {
    const NEW: Self = Self { last: None, saved: MOST_SAVED, forks: 1 };

    /// Looks at the clock. Returns whether a beat was since the last look.
    fn look(&mut self, now: Instant) -> bool {
        let Some((looked, beat)) = self.last else {
            self.last = Some((now, now));
            return true;
        };
        let between = now.duration_since(looked);
        self.forks = if between < BETWEEN_LOOKS {
            (self.forks * 2).min(MOST_FORKS)
        } else {
            let times_too_long = between.as_nanos() / BETWEEN_LOOKS.as_nanos();
            (u128::from(self.forks) / times_too_long).max(1) as u32
        };
        let beats = (now.duration_since(beat).as_nanos() / BEAT.as_nanos()) as u32;
        self.saved = self.saved.saturating_add(beats).min(MOST_SAVED);
        self.last = Some((now, if beats > 0 { now } else { beat }));
        beats > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks `times` times, `apart`. Returns how many of these were beats.
    fn looks(heartbeat: &mut Heartbeat, now: &mut Instant, apart: Duration, times: u32) -> u32 {
        let look = |_| {
            *now += apart;
            u32::from(heartbeat.look(*now))
        };
        (0..times).map(look).sum()
    }

    #[test]
    fn a_beat_takes_its_time_and_some_are_saved() {
        let (mut heartbeat, mut now) = (Heartbeat::NEW, Instant::now());
        assert!(heartbeat.look(now));
        heartbeat.saved = 0;
        assert_eq!(looks(&mut heartbeat, &mut now, BEAT / 10, 40), 4);
        assert_eq!(heartbeat.saved, 4);
        assert_eq!(looks(&mut heartbeat, &mut now, BEAT * 1000, 1), 1);
        assert_eq!(heartbeat.saved, MOST_SAVED);
    }

    #[test]
    fn the_clock_is_read_rarely_where_forks_are_many_and_at_each_where_they_are_few() {
        let (mut heartbeat, mut now) = (Heartbeat::NEW, Instant::now());
        heartbeat.look(now);
        looks(&mut heartbeat, &mut now, Duration::from_nanos(100), 20);
        assert_eq!(heartbeat.forks, MOST_FORKS);
        looks(&mut heartbeat, &mut now, Duration::from_secs(1), 1);
        assert_eq!(heartbeat.forks, 1);
        looks(&mut heartbeat, &mut now, Duration::ZERO, 3);
        assert_eq!(heartbeat.forks, 8);
    }
}
