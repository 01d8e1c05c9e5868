#![doc = include_str!("../README.md")]

pub mod broken;
pub mod check;
pub mod ghost;
pub mod model;
pub mod mutation;
pub mod node;
pub mod object;
pub mod region;
pub mod run;
pub mod scenario;
pub mod scenarios;
pub mod state;
pub mod step;
pub mod wedge;
