//! What a worker says and hears: it [registers](register) and reports how it is, gets [orders](order) on a
//! stream and [reports](report) there, and [serves](serve) whoever connects to it.

pub mod order;
pub mod register;
pub mod report;
pub mod serve;
