//! `docs/errors.md`: the table of public error codes, from `model::Code`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use model::Code;

const HEAD: &str = "\
# Errors

Every refusal has a stable code, the same in every interface, a sentence that says what failed and why, and one that says
what to do. Over REST the body is `{\"code\", \"message\", \"details\": {\"reason\", \"remedy\"}}`; on the command line the code sets the exit
status. Where a hand-over is refused, its changes were rolled back; after `undo_failed`, `device_wedged` and `state_unusable` the
message says what is left to do.

A request with an unknown parameter, or with an unknown field of a call of our own, is refused with `invalid_request`, and the message
names it. On hypeman's calls an unknown field is ignored, and the answer has a `warnings` entry ([rest.md](rest.md)).

This table is generated from the code by `cargo xtask docs`.

| code | HTTP | gRPC | exit | meaning |
|---|---|---|---|---|
";

/// Writes the table, or with `check` compares it with the one in the repository.
pub fn write(check: bool) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let text = table();
    if check {
        let now = std::fs::read_to_string(&path).context("reading docs/errors.md")?;
        ensure!(now == text, "docs/errors.md is out of date; run: cargo xtask docs");
        return Ok(());
    }
    std::fs::write(&path, text).context("writing docs/errors.md")
}

fn table() -> String {
    let mut text = HEAD.to_owned();
    for code in Code::ALL {
        let (http, exit, grpc) = (code.http_status(), code.exit_status(), code.grpc_status());
        let (name, number) = (grpc.as_str(), grpc.number());
        let _ = writeln!(
            text,
            "| `{code}` | {http} | `{name}` ({number}) | {exit} | {} |",
            code.meaning()
        );
    }
    text
}
