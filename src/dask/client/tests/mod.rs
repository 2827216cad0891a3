//! The client and its link against fake schedulers and workers, whose messages each test decides.

mod client;
mod fake;
mod keys;
mod link;
mod many;
mod pinning;
