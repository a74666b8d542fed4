//! The tables and their migrations. The file can be read with `sqlite3` while the daemon runs.

/// The migrations, in order. `PRAGMA user_version` is the number of those applied.
pub const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER,
    virtual_size INTEGER,
    disk_format TEXT,
    has_kernel INTEGER NOT NULL,
    has_initrd INTEGER NOT NULL,
    cmdline TEXT,
    error TEXT,
    tags TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL REFERENCES images (id),
    state TEXT NOT NULL,
    state_error TEXT,
    vcpus INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    overlay_size INTEGER,
    hypervisor TEXT NOT NULL,
    uid INTEGER NOT NULL UNIQUE,
    cmdline TEXT,
    devices TEXT NOT NULL,
    machine TEXT,
    exit_code INTEGER,
    created_at TEXT NOT NULL,
    started_at TEXT,
    stopped_at TEXT,
    tags TEXT NOT NULL
) STRICT;
CREATE TABLE claims (
    id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    device TEXT NOT NULL,
    head TEXT NOT NULL,
    state TEXT NOT NULL,
    boot_id TEXT,
    members TEXT NOT NULL
) STRICT;
CREATE INDEX claims_by_owner ON claims (owner_kind, owner_id);
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    instance TEXT NOT NULL,
    state TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    error TEXT
) STRICT;
CREATE INDEX operations_open ON operations (state) WHERE state = 'open';
CREATE TABLE steps (
    operation INTEGER NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    claim TEXT,
    restoring INTEGER NOT NULL,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    at TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (operation, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX steps_by_claim ON steps (claim);
CREATE TABLE health (
    address TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    since TEXT NOT NULL
) STRICT;
",
    "
CREATE TABLE new_claims (
    id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    device TEXT,
    reason TEXT,
    expires INTEGER,
    wants TEXT NOT NULL,
    state TEXT NOT NULL,
    boot_id TEXT,
    parts TEXT NOT NULL,
    alone INTEGER NOT NULL,
    uid INTEGER,
    created_at TEXT NOT NULL
) STRICT;
INSERT INTO new_claims
    SELECT id, owner_kind, owner_id, position, device, NULL, NULL,
           json_array(json_object('count', 1, 'device', head)), state, boot_id,
           json_array(json_object('head', head, 'partition', NULL, 'members', json(members))),
           0, NULL,
           strftime('%Y-%m-%dT%H:%M:%SZ', 'now')
    FROM claims;
DROP TABLE claims;
ALTER TABLE new_claims RENAME TO claims;
CREATE INDEX claims_by_owner ON claims (owner_kind, owner_id);
ALTER TABLE operations RENAME COLUMN instance TO subject;
ALTER TABLE instances ADD COLUMN gpu TEXT;
CREATE TABLE vf_counts (
    address TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    count INTEGER NOT NULL,
    autoprobe INTEGER NOT NULL
) STRICT;
",
    // The store's identity, for the marks of its claims on functions. A copy of the file has the same identity.
    "
CREATE TABLE identity (
    id TEXT NOT NULL
) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(16))));
",
    // Firmware, network cards and seed; machines of earlier versions have none of them.
    "
ALTER TABLE instances ADD COLUMN options TEXT;
",
    // Volumes: disks of their own, which instances can have.
    "
CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    format TEXT NOT NULL,
    allocated INTEGER NOT NULL,
    made_with TEXT,
    tags TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX volumes_by_instance ON volumes (made_with);
",
    // Images that are layers over others.
    "
ALTER TABLE images ADD COLUMN base TEXT;
",
    // The code of the error of a failed image.
    "
ALTER TABLE images ADD COLUMN error_code TEXT;
",
    // What a container image says of itself, and the chain of layers that names its root.
    "
ALTER TABLE images ADD COLUMN container TEXT;
",
];

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::MIGRATIONS;

    /// A migration that was released must never change: files that it was applied to would differ from others of the same
    /// version. Append a new one, and its name here.
    const FROZEN: [&str; 8] = [
        "b34ff4db-1bb9-5d1d-a96b-7a0664f301dd",
        "e35e2481-d78c-52ae-933b-13ca2250bdb1",
        "b76e13e9-78fa-5d1b-897f-68918c9f1cd9",
        "474500e4-f53d-521a-9760-d23ab163875a",
        "230dd7c7-205b-5f25-bda0-b91b69441d00",
        "afcb0849-5f5a-5da7-9799-2d28bad6a0ca",
        "bf3c6109-e61c-52e5-803f-47d3b1da22e4",
        "3986e73f-b0f0-5079-9713-3e19cc8b6f43",
    ];

    #[test]
    fn migrations_are_frozen() {
        let names: Vec<String> = MIGRATIONS
            .iter()
            .map(|migration| Uuid::new_v5(&Uuid::NAMESPACE_OID, migration.as_bytes()).to_string())
            .collect();
        assert_eq!(names, FROZEN);
    }
}
