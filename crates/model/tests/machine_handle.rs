//! The stored form of a run of a machine: in the journal, and in its run directory.

#![allow(clippy::unwrap_used, missing_docs)]

use model::{MachineHandle, MachineRun, VmmProcess};
use uuid::Uuid;

/// As version 0.1.0 stores it.
const OF_A_PROCESS: &str = r#"{"id":"00000000-0000-0000-0000-000000000007","pid":4711,"start_time":18446744073709551615,"boot_id":"b"}"#;

const OF_A_SERVICE: &str =
    r#"{"id":"00000000-0000-0000-0000-000000000007","run":"12","boot_id":"b"}"#;

#[test]
fn a_handle_of_a_process_is_stored_as_it_was_before_services() {
    let process = VmmProcess { pid: 4711, start_time: u64::MAX };
    let handle = MachineHandle {
        id: Uuid::from_u128(7),
        run: MachineRun::Process(process),
        boot_id: "b".into(),
    };
    assert_eq!(serde_json::from_str::<MachineHandle>(OF_A_PROCESS).unwrap(), handle);
    assert_eq!(serde_json::to_string(&handle).unwrap(), OF_A_PROCESS);
    assert_eq!((handle.process(), handle.pid()), (Some(process), Some(4711)));
}

#[test]
fn a_handle_of_a_service_has_no_process() {
    let handle = MachineHandle {
        id: Uuid::from_u128(7),
        run: MachineRun::Service { run: "12".into() },
        boot_id: "b".into(),
    };
    assert_eq!(serde_json::from_str::<MachineHandle>(OF_A_SERVICE).unwrap(), handle);
    assert_eq!(serde_json::to_string(&handle).unwrap(), OF_A_SERVICE);
    assert_eq!((handle.process(), handle.pid()), (None, None));
}

#[test]
fn a_handle_without_a_run_is_not_read() {
    let neither = r#"{"id":"00000000-0000-0000-0000-000000000007","boot_id":"b"}"#;
    assert!(serde_json::from_str::<MachineHandle>(neither).is_err());
}
