//! How a machine is started: QEMU, under a uid and limits of its own, watched by pidfd and QMP.
