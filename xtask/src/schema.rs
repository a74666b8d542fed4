//! `docs/inventory.schema.json`: the JSON schema of the inventory, from the types in `model`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use model::Inventory;

/// Writes the schema, or with `check` compares it with the one in the repository.
pub fn write(check: bool) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/inventory.schema.json");
    let text = text()?;
    if check {
        let now = std::fs::read_to_string(&path).context("reading docs/inventory.schema.json")?;
        ensure!(now == text, "docs/inventory.schema.json is out of date; run: cargo xtask docs");
        return Ok(());
    }
    std::fs::write(&path, text).context("writing docs/inventory.schema.json")
}

fn text() -> Result<String> {
    let schema = schemars::schema_for!(Inventory);
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}
