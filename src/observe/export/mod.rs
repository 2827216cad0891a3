//! Output formats made from the views and the record: drawings of a graph, metrics, and the dashboard's updates.

mod dot;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
mod svg;
#[cfg(any(test, feature = "dashboard"))]
pub(crate) mod update;
