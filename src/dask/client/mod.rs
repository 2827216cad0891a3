//! The client: verbs, and the link to the scheduler below them.

mod connect;
mod fetch;
mod link;
mod outbox;
mod remote;

#[cfg(test)]
mod live;
