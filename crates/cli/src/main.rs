//! The `handover` executable.
fn main() {}
