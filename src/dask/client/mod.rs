//! The client: verbs, and the link to the scheduler below them.

mod connect;
mod drive;
mod fetch;
mod link;
mod outbox;
pub(crate) mod python;
mod record;
mod remote;
mod spec;
mod wishes;

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;
