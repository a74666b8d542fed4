//! The configuration disk and the result record.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use guest_protocol::disk::{
    DISK_BYTES, HEADER_BYTES, MAX_CONFIG_BYTES, RESULT_BYTES, config_length, decode_config,
    decode_result, encode, encode_result,
};
use guest_protocol::{
    Addressing, Agent, Card, CommandResult, GuestConfig, MountPoint, ProtocolError,
};
use proptest::prelude::*;

fn config() -> GuestConfig {
    GuestConfig {
        hostname: "ml".to_owned(),
        argv: vec!["python".to_owned(), "train.py".to_owned()],
        user: "app:video".to_owned(),
        env: vec!["A=é\n".to_owned()],
        mounts: vec![MountPoint {
            serial: "v1".to_owned(),
            path: "/data".to_owned(),
            read_only: true,
            filesystem: String::new(),
        }],
        cards: vec![
            Card { mac: "52:54:00:00:00:01".to_owned(), addressing: Addressing::Dhcp },
            Card {
                mac: "52:54:00:00:00:02".to_owned(),
                addressing: Addressing::Static {
                    addresses: vec!["10.0.0.5/24".to_owned()],
                    gateways: vec!["fd00::1".parse().unwrap()],
                },
            },
        ],
        agent: Some(Agent { port: 2222, token: "t".to_owned() }),
        ..GuestConfig::default()
    }
}

fn read(disk: &[u8]) -> Result<GuestConfig, ProtocolError> {
    let length = config_length(disk[..HEADER_BYTES].try_into().unwrap())?;
    decode_config(&disk[HEADER_BYTES..HEADER_BYTES + length])
}

fn record(disk: &[u8]) -> [u8; RESULT_BYTES] {
    disk[disk.len() - RESULT_BYTES..].try_into().unwrap()
}

#[test]
fn a_new_disk_has_the_configuration_and_no_result() {
    let disk = encode(&config()).unwrap();
    assert_eq!(disk.len(), DISK_BYTES);
    assert_eq!(disk.len() % 4096, 0);
    assert_eq!(read(&disk).unwrap(), config());
    assert_eq!(decode_result(&record(&disk)).unwrap(), None);
}

#[test]
fn a_token_is_in_no_log() {
    let mut config = config();
    config.agent = Some(Agent { port: 1, token: "secret".to_owned() });
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn too_much_is_refused() {
    let mut long = config();
    long.env.push("A=".to_owned() + &"x".repeat(MAX_CONFIG_BYTES));
    assert!(matches!(encode(&long), Err(ProtocolError::TooLong { .. })));
    let mut disk = encode(&config()).unwrap();
    disk[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&disk), Err(ProtocolError::TooLong { .. })));
}

#[test]
fn other_disks_and_versions_are_named() {
    let mut disk = encode(&config()).unwrap();
    disk[8] = 9;
    assert!(matches!(read(&disk), Err(ProtocolError::Version { theirs: 9, ours: 1 })));
    disk[0] = 0;
    assert!(matches!(read(&disk), Err(ProtocolError::NotOurs)));
}

#[test]
fn a_result_that_was_half_written_is_none() {
    let whole = encode_result(&CommandResult::failed("no root")).unwrap();
    for cut in [1, 8, 12, 16, 20, 30] {
        let mut half: [u8; RESULT_BYTES] = [0; RESULT_BYTES];
        half[..cut].copy_from_slice(&whole[..cut]);
        let outcome = decode_result(&half);
        assert!(outcome.is_err(), "{cut}: {outcome:?}");
    }
}

#[test]
fn a_long_reason_is_cut() {
    let result = CommandResult::failed("é\"".repeat(10_000));
    let bytes = encode_result(&result).unwrap();
    let read = decode_result(&record(&bytes)).unwrap().unwrap();
    let (read, whole) = (read.error.unwrap(), result.error.unwrap());
    assert!(read.len() > 500 && whole.starts_with(&read));
}

#[test]
fn a_status_is_that_of_a_shell() {
    assert_eq!(CommandResult::exited(3).status(), Some(3));
    assert_eq!(CommandResult::signaled(9).status(), Some(137));
    assert_eq!(CommandResult::failed("x").status(), None);
}

proptest! {
    #[test]
    fn results_come_back(code: Option<u8>, signal: Option<u8>, error: Option<String>) {
        let result = CommandResult { exit_code: code, signal, error: error.map(|e| e.chars().take(100).collect()) };
        let bytes = encode_result(&result).unwrap();
        prop_assert_eq!(decode_result(&record(&bytes)).unwrap(), Some(result));
    }

    #[test]
    fn nothing_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), RESULT_BYTES), real: bool) {
        let mut record: [u8; RESULT_BYTES] = bytes.try_into().unwrap();
        if real {
            record[..8].copy_from_slice(b"hndresul");
            record[10..12].fill(0);
        }
        let _ = decode_result(&record);
        let _ = config_length(record[..HEADER_BYTES].try_into().unwrap());
        let _ = decode_config(&record);
    }
}
