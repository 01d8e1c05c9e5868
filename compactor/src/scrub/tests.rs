//! Scrubbing against stores in memory.
