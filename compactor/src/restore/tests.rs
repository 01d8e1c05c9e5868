//! Restoring clusters in memory.
