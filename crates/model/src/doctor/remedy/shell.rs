//! Idempotent commands for a POSIX shell.

/// Quotes text as one shell word.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Directories that exist on every system whose tools read them.
const STANDARD: [&str; 4] =
    ["/etc/default", "/etc/modprobe.d", "/etc/modules-load.d", "/etc/security/limits.d"];

/// Appends a line to a file, unless the file has it.
pub fn append_line(file: &str, line: &str) -> String {
    let line = quoted(line);
    let append = format!("grep -qsxF -e {line} {file} || printf '%s\\n' {line} >> {file}");
    match file.rsplit_once('/') {
        Some((directory, _)) if !STANDARD.contains(&directory) => {
            format!("mkdir -p {directory}\n{append}")
        }
        _ => append,
    }
}

/// Writes a whole file.
pub fn write_file(file: &str, mode: &str, text: &str) -> String {
    let directory = file.rsplit_once('/').map_or("/", |(directory, _)| directory);
    let text = text.trim_end();
    format!(
        "mkdir -p {directory}\ncat > {file} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\nchmod {mode} {file}"
    )
}

/// Runs sed on the files that exist: one file, or several by names and glob patterns.
pub fn edit(files: &str, expressions: &[String]) -> String {
    let expressions: Vec<String> =
        expressions.iter().map(|expression| format!("-e {}", quoted(expression))).collect();
    let expressions = expressions.join(" ");
    if files.contains([' ', '*']) {
        return format!(
            "for file in {files}; do\n    [ ! -f \"$file\" ] || sed -E -i {expressions} \"$file\"\ndone"
        );
    }
    format!("[ ! -f {files} ] || sed -E -i {expressions} {files}")
}

/// Escapes text for an extended regular expression between slashes.
pub fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.[]*^$+?(){}|/".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A module's name as a pattern: modprobe treats `-` and `_` alike.
pub fn module_pattern(module: &str) -> String {
    pattern(module).replace(['-', '_'], "[-_]")
}
