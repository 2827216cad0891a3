//! The client: verbs, and the link to the scheduler below them.
