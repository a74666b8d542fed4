//! Images in the store.

use model::Code;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{json, optional_text, run, signed, text, to_json, to_word, word};
use crate::{Image, ImageStatus};

/// An image as stored.
#[derive(Clone, Debug)]
pub struct StoredImage {
    pub id: Uuid,
    pub image: Image,
    pub has_initrd: bool,
    pub virtual_size: Option<u64>,
    /// The image that it is a layer over.
    pub base: Option<Uuid>,
}

impl StoredImage {
    pub fn insert(&self, to: &Connection) -> rusqlite::Result<()> {
        let image = &self.image;
        run(
            to,
            "INSERT INTO images (id, name, status, digest, disk_format, has_kernel, has_initrd, cmdline, tags, created_at, base, container)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                self.id.to_string(),
                image.name,
                to_word(&image.status)?,
                image.digest,
                image.disk_format.map(|format| format.as_str()),
                image.has_kernel,
                self.has_initrd,
                image.cmdline,
                to_json(&image.tags)?,
                image.created_at.to_string(),
                self.base.map(|id| id.to_string()),
                image.container.as_ref().map(to_json).transpose()?,
            ],
        )?;
        Ok(())
    }

    /// Writes the fields that an import changes.
    pub fn update(&self, to: &Connection) -> rusqlite::Result<()> {
        let image = &self.image;
        run(
            to,
            "UPDATE images SET status = ?, digest = ?, size_bytes = ?, virtual_size = ?, error = ?, error_code = ?, container = ? WHERE id = ?",
            params![
                to_word(&image.status)?,
                image.digest,
                image.size_bytes.map(signed),
                self.virtual_size.map(signed),
                image.error,
                image.error_code.map(Code::as_str),
                image.container.as_ref().map(to_json).transpose()?,
                self.id.to_string(),
            ],
        )?;
        Ok(())
    }

    /// Gives an image another name.
    pub fn rename(to: &Connection, id: Uuid, name: &str) -> rusqlite::Result<()> {
        run(to, "UPDATE images SET name = ? WHERE id = ?", [name, id.to_string().as_str()])
            .map(drop)
    }

    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM images ORDER BY created_at, name")?
            .query_map([], Self::read)?
            .collect()
    }

    pub fn by_id(from: &Connection, id: Uuid) -> rusqlite::Result<Option<Self>> {
        from.query_row("SELECT * FROM images WHERE id = ?", [id.to_string()], Self::read).optional()
    }

    pub fn by_name(from: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        from.query_row("SELECT * FROM images WHERE name = ?", [name], Self::read).optional()
    }

    pub fn delete(from: &Connection, id: Uuid) -> rusqlite::Result<()> {
        run(from, "DELETE FROM images WHERE id = ?", [id.to_string()]).map(drop)
    }

    /// Marks unfinished imports of a dead daemon as failed.
    pub fn fail_unfinished(to: &Connection, error: &str) -> rusqlite::Result<()> {
        run(
            to,
            "UPDATE images SET status = ?, error = ?, error_code = ? WHERE status IN (?, ?, ?)",
            params![
                to_word(&ImageStatus::Failed)?,
                error,
                Code::InvalidState.as_str(),
                to_word(&ImageStatus::Pending)?,
                to_word(&ImageStatus::Pulling)?,
                to_word(&ImageStatus::Converting)?,
            ],
        )
        .map(drop)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let format: Option<String> = row.get("disk_format")?;
        // A code of a later version is none.
        let code: Option<String> = row.get("error_code")?;
        let code = Code::ALL.iter().find(|known| code.as_deref() == Some(known.as_str()));
        let container: Option<String> = row.get("container")?;
        let disk_format = if format.is_some() { Some(word(row, "disk_format")?) } else { None };
        Ok(Self {
            id: text(row, "id")?,
            has_initrd: row.get("has_initrd")?,
            virtual_size: unsigned(row.get("virtual_size")?),
            base: optional_text(row, "base")?,
            image: Image {
                name: row.get("name")?,
                digest: row.get("digest")?,
                status: word(row, "status")?,
                size_bytes: unsigned(row.get("size_bytes")?),
                disk_format,
                has_kernel: row.get("has_kernel")?,
                cmdline: row.get("cmdline")?,
                container: container.is_some().then(|| json(row, "container")).transpose()?,
                error: row.get("error")?,
                error_code: code.copied(),
                created_at: text(row, "created_at")?,
                tags: json(row, "tags")?,
            },
        })
    }
}
