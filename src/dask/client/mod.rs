//! The client: verbs, and the link to the scheduler below them.

#[cfg_attr(not(test), expect(dead_code))] // until there's a verb for it
pub(crate) mod python;
