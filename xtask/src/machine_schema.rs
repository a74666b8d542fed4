//! `docs/machine.schema.json`: the JSON schema of the files that `handover instance create --file` reads. It is the part of
//! the OpenAPI document about that request; a test of `daemon` keeps the document in step with the code.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// The name of the request in the OpenAPI document.
const REQUEST: &str = "CreateInstance";

/// How the document refers to its schemas, and how the file does.
const REFERENCES: [&str; 2] = ["#/components/schemas/", "#/$defs/"];

/// Writes the schema, or with `check` compares it with the one in the repository.
pub fn write(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = std::fs::read_to_string(root.join("crates/daemon/tests/openapi.json"))
        .context("reading the OpenAPI document")?;
    let text = schema(&serde_json::from_str(&document)?)?;
    let path = root.join("docs/machine.schema.json");
    if check {
        let now = std::fs::read_to_string(&path).context("reading docs/machine.schema.json")?;
        ensure!(now == text, "docs/machine.schema.json is out of date; run: cargo xtask docs");
        return Ok(());
    }
    std::fs::write(&path, text).context("writing docs/machine.schema.json")
}

fn schema(document: &Value) -> Result<String> {
    let all = document["components"]["schemas"].as_object().context("no schemas")?;
    let mut used = Map::new();
    let mut open = vec![REQUEST.to_owned()];
    while let Some(name) = open.pop() {
        if used.contains_key(&name) {
            continue;
        }
        let mut one = all.get(&name).with_context(|| format!("no schema {name}"))?.clone();
        refer(&mut one, &mut open);
        used.insert(name, one);
    }
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A machine of Handover",
        "$ref": format!("{}{REQUEST}", REFERENCES[1]),
        "$defs": used,
    });
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

/// Rewrites the references, and notes what they name.
fn refer(part: &mut Value, open: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(REFERENCES[0])
            {
                open.push(name.to_owned());
                *reference = format!("{}{name}", REFERENCES[1]);
            }
            fields.values_mut().for_each(|value| refer(value, open));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| refer(value, open)),
        _ => {}
    }
}
