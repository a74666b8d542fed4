//! Instances in the store.

use std::collections::BTreeSet;

use model::MachineHandle;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{json, optional_json, optional_text, run, signed, text, to_json, to_word, word};
use crate::Instance;

const SELECT: &str = "SELECT instances.*, images.name AS image_name FROM instances
     JOIN images ON images.id = instances.image";

/// An instance as stored.
#[derive(Clone, Debug)]
pub struct StoredInstance {
    pub instance: Instance,
    pub image_id: Uuid,
    /// The handle of its VMM, while it runs.
    pub machine: Option<MachineHandle>,
}

impl StoredInstance {
    /// Whether it needs an image: for its root disk, its own kernel or a CD-ROM.
    pub fn uses_image(&self, id: Uuid) -> bool {
        let disks = &self.instance.options.disks;
        self.image_id == id || disks.iter().any(|disk| disk.image() == Some(id))
    }

    /// Whether it needs the image of this name for its kernel, beside its root.
    pub fn uses_kernel_of(&self, image: &str) -> bool {
        let run = self.instance.options.container.as_ref();
        run.is_some_and(|run| run.kernel.as_deref() == Some(image))
    }

    pub fn insert(&self, to: &Connection) -> rusqlite::Result<()> {
        let instance = &self.instance;
        run(
            to,
            "INSERT INTO instances (id, name, image, state, vcpus, memory, overlay_size, hypervisor, uid, cmdline,
             devices, gpu, options, created_at, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                instance.id.to_string(),
                instance.name,
                self.image_id.to_string(),
                to_word(&instance.state)?,
                instance.vcpus,
                signed(instance.memory),
                instance.overlay_size.map(signed),
                instance.hypervisor,
                instance.uid,
                instance.cmdline,
                to_json(&instance.devices)?,
                instance.gpu.as_ref().map(to_json).transpose()?,
                to_json(&instance.options)?,
                instance.created_at.to_string(),
                to_json(&instance.tags)?,
            ],
        )?;
        Ok(())
    }

    /// Writes the fields that change during the life of an instance.
    pub fn update(&self, to: &Connection) -> rusqlite::Result<()> {
        let instance = &self.instance;
        run(
            to,
            "UPDATE instances SET state = ?, state_error = ?, machine = ?, exit_code = ?, started_at = ?,
             stopped_at = ? WHERE id = ?",
            params![
                to_word(&instance.state)?,
                instance.state_error,
                self.machine.as_ref().map(to_json).transpose()?,
                instance.exit_code,
                instance.started_at.map(|at| at.to_string()),
                instance.stopped_at.map(|at| at.to_string()),
                instance.id.to_string(),
            ],
        )?;
        Ok(())
    }

    /// Writes what can be changed after the creation.
    pub fn update_settings(&self, to: &Connection) -> rusqlite::Result<()> {
        let instance = &self.instance;
        run(
            to,
            "UPDATE instances SET vcpus = ?, memory = ?, devices = ?, gpu = ?, options = ? WHERE id = ?",
            params![
                instance.vcpus,
                signed(instance.memory),
                to_json(&instance.devices)?,
                instance.gpu.as_ref().map(to_json).transpose()?,
                to_json(&instance.options)?,
                instance.id.to_string(),
            ],
        )?;
        Ok(())
    }

    /// The boot of the host in which the last operation on an instance began, if it is still in the journal.
    pub fn last_boot(from: &Connection, id: Uuid) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT boot_id FROM operations WHERE subject = ? ORDER BY id DESC LIMIT 1";
        from.query_row(sql, [id.to_string()], |row| row.get(0)).optional()
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached(&format!("{SELECT} ORDER BY instances.created_at, instances.name"))?
            .query_map([], Self::read)?
            .collect()
    }

    pub fn by_id(from: &Connection, id: Uuid) -> rusqlite::Result<Option<Self>> {
        from.query_row(&format!("{SELECT} WHERE instances.id = ?"), [id.to_string()], Self::read)
            .optional()
    }

    /// By id or name. No name can match another instance's id, because ids are random.
    pub fn by_key(from: &Connection, key: &str) -> rusqlite::Result<Option<Self>> {
        let by_id = key.parse().map_or(Ok(None), |id| Self::by_id(from, id))?;
        if by_id.is_some() {
            return Ok(by_id);
        }
        from.query_row(&format!("{SELECT} WHERE instances.name = ?"), [key], Self::read).optional()
    }

    pub fn delete(from: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(from, "DELETE FROM instances WHERE id = ?", [id.to_string()]).map(drop)
    }

    /// The user ids in use by machines.
    pub fn uids(from: &Connection) -> rusqlite::Result<BTreeSet<u32>> {
        from.prepare_cached("SELECT uid FROM instances")?.query_map([], |row| row.get(0))?.collect()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let unsigned = |value: i64| u64::try_from(value).unwrap_or_default();
        let machine: Option<MachineHandle> = optional_json(row, "machine")?;
        Ok(Self {
            image_id: text(row, "image")?,
            instance: Instance {
                id: text(row, "id")?,
                name: row.get("name")?,
                image: row.get("image_name")?,
                state: word(row, "state")?,
                state_error: row.get("state_error")?,
                vcpus: row.get("vcpus")?,
                memory: unsigned(row.get("memory")?),
                overlay_size: row.get::<_, Option<i64>>("overlay_size")?.map(unsigned),
                hypervisor: row.get("hypervisor")?,
                uid: row.get("uid")?,
                cmdline: row.get("cmdline")?,
                devices: json(row, "devices")?,
                gpu: optional_json(row, "gpu")?,
                options: optional_json(row, "options")?.unwrap_or_default(),
                pid: machine.as_ref().and_then(MachineHandle::pid),
                exit_code: row.get("exit_code")?,
                created_at: text(row, "created_at")?,
                started_at: optional_text(row, "started_at")?,
                stopped_at: optional_text(row, "stopped_at")?,
                tags: json(row, "tags")?,
            },
            machine,
        })
    }
}
