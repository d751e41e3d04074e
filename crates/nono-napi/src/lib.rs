//! Node-API binding of the `nono` crate: converts arguments and results, decides nothing.

pub mod approval;
pub mod convert;
mod error;
pub mod event;
pub mod process;
mod promise;
pub mod sandbox;
mod terminal;
