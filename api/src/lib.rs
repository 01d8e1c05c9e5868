//! Brigade: a message queue whose only durable state is object storage. This library is what the binary is made of.

pub mod wire;
