//! What a cluster costs: requests and bytes that its nodes count, times prices.
//!
//! | file | holds |
//! |---|---|
//! | `cost/prices.rs`, `prices.toml` | prices of stores |
//! | `cost/meter.rs` | what a server has counted |
//! | `cost/bill.rs` | the one times the other |

mod bill;
mod meter;
mod prices;

pub(crate) use bill::{Bill, Line};
pub(crate) use meter::Meter;
use meter::Traffic;
pub(crate) use prices::{BUILT_IN, Prices, PricesError, Table};
