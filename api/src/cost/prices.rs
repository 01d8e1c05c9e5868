//! Prices of object stores: a table that comes with the program, or one of the user's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The table that comes with the program, as TOML.
pub(crate) const BUILT_IN: &str = include_str!("prices.toml");

/// Prices of one store, in US dollars.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    /// Name of the store, for people.
    pub(crate) title: String,
    /// A thousand requests that write or list.
    pub(crate) put: f64,
    /// A thousand requests that read.
    pub(crate) get: f64,
    /// A GiB of bodies written.
    #[serde(default)]
    pub(crate) sent: f64,
    /// A GiB of bodies read.
    #[serde(default)]
    pub(crate) received: f64,
    /// A GiB of bodies to or from a region that is not the node's own.
    #[serde(default)]
    pub(crate) transfer: f64,
    /// A GiB kept for a month.
    pub(crate) stored: f64,
}

/// Prices by the name of the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table(BTreeMap<String, Prices>);

/// Why a table of prices is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PricesError {
    /// It is no TOML, or has other fields.
    #[error("they were not understood: {0}")]
    Malformed(String),
    /// A price that is none.
    #[error("price {field} of {store} is no number of dollars from 0 to a billion")]
    NotAPrice {
        /// The store.
        store: String,
        /// The price.
        field: &'static str,
    },
    /// A store that has no prices.
    #[error("there is no store {wanted:?} among them; there are: {known}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
}

impl Table {
    /// Reads a table: one section a store.
    ///
    /// # Errors
    /// When it is malformed, or a price is negative or not a number.
    pub(crate) fn parse(text: &str) -> Result<Self, PricesError> {
        let table: BTreeMap<String, Prices> =
            toml::from_str(text).map_err(|error| PricesError::Malformed(error.to_string().trim_end().to_owned()))?;
        for (store, prices) in &table {
            let Prices { put, get, sent, received, transfer, stored, .. } = *prices;
            let named = [
                ("put", put),
                ("get", get),
                ("sent", sent),
                ("received", received),
                ("transfer", transfer),
                ("stored", stored),
            ];
            if let Some((field, _)) = named.into_iter().find(|(_, price)| !(0.0..1e9).contains(price)) {
                return Err(PricesError::NotAPrice { store: store.clone(), field });
            }
        }
        Ok(Self(table))
    }

    /// Prices of a store.
    ///
    /// # Errors
    /// When the table has none.
    pub(crate) fn of(&self, store: &str) -> Result<&Prices, PricesError> {
        let unknown = || PricesError::Unknown {
            wanted: store.to_owned(),
            known: self.0.keys().cloned().collect::<Vec<_>>().join(", "),
        };
        self.0.get(store).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_has_the_four_stores() {
        let table = Table::parse(BUILT_IN).unwrap();
        for store in ["s3-standard", "s3-express", "gcs", "r2"] {
            assert!(table.of(store).unwrap().put > table.of(store).unwrap().get, "{store}");
        }
        let unknown = table.of("s4").unwrap_err().to_string();
        assert!(unknown.contains("s4") && unknown.contains("gcs, r2, s3-express, s3-standard"), "{unknown}");
    }

    #[test]
    fn what_is_no_price_is_refused_by_name() {
        let refused = |text: &str| Table::parse(text).unwrap_err().to_string();
        let of = |put: &str| format!("[mine]\ntitle = \"m\"\nput = {put}\nget = 0\nstored = 0.1\n");
        assert!(Table::parse(&of("0.004")).is_ok());
        assert!(refused(&of("-1.0")).contains("price put of mine"));
        assert!(refused(&of("nan")).contains("price put of mine"));
        assert!(refused("[mine]\ntitle = \"m\"\nputs = 1\n").contains("puts"));
        assert!(refused("prices").contains("not understood"));
    }
}
