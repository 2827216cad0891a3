//! The client: verbs, and the link to the scheduler below them.

mod connect;
mod fetch;
mod link;
mod outbox;
pub(crate) mod python;
mod remote;

#[cfg(test)]
mod live;
