//! The REST interface: wire types and the client.
