//! Fork and join, as far as it knows no engine: branches, the forks of a thread, and its heartbeats.
//!
//! A join *forks* its second function: it puts it into a list of its thread, and runs the first one. At the end of that it
//! takes the second one out again and runs it. That is all, nearly always: a few plain stores. At a
//! [heartbeat], the thread *shares* its oldest fork: it makes a [job] of it, which a worker that has nothing
//! else to do may take. The oldest fork is the one nearest to the root of a recursion, so it's likely to be the largest.
//!
//! Whatever a program does, it shares at most one branch in [`BEAT`](heartbeat::BEAT) for each thread, and some more after a
//! rest. So the costs of sharing, some microseconds, are a small part of all, and a join costs as little where everything is
//! shared already as it does on one thread. This is the idea of heartbeat scheduling (Acar, Charguéraud, Guatto, Rainey,
//! Sieczkowski: "Heartbeat scheduling: provable efficiency for nested parallelism", 2018).

pub(crate) mod heartbeat;
pub(crate) mod job;
pub(crate) mod scope;
