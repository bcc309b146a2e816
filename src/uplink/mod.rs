//! The way to a cloud broker: a durable session of the local broker, read and carried over.
//!
//! An [`Uplink`] is a pipe between a [`crate::broker::Link`] and a connection to the cloud: packet ids, windows,
//! acknowledgements and order are those of the local session, so an entry leaves the store only when the cloud has
//! acknowledged it. [`rules`] says which topics go, renamed how, both ways (pure); [`mqtt`] is the connection.
