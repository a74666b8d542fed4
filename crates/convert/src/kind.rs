//! The kinds of documents.

/// A kind of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `VirtualMachine`.
    Machine,
    /// A `VirtualMachineInstance`.
    Instance,
    /// A `VirtualMachineInstancetype` or `VirtualMachineClusterInstancetype`.
    Instancetype,
    /// A `VirtualMachinePreference` or `VirtualMachineClusterPreference`.
    Preference,
}
