//! A host and a launcher in memory, with the kernel's rules and seeded faults.
