//! The protocol of a worker: [registration and heartbeats](register), the stream from the scheduler ([`order`]) and to
//! it ([`report`]), and the calls that a worker [serves](serve).

pub mod order;
pub mod register;
pub mod report;
pub mod serve;
