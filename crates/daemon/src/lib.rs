//! The faces of the daemon: REST.
