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

/// Appends a line to a file, unless the file has it. It begins a line of its own: the file need not end with a line's end.
pub fn append_line(file: &str, line: &str) -> String {
    let line = quoted(line);
    let append = format!(
        "grep -qsxF -e {line} {file} || {{ [ -z \"$(tail -c 1 {file} 2>/dev/null)\" ] || echo >> {file}; printf '%s\\n' \
         {line} >> {file}; }}"
    );
    match file.rsplit_once('/') {
        Some((directory, _)) if !STANDARD.contains(&directory) => {
            format!("mkdir -p {directory}\n{append}")
        }
        _ => append,
    }
}

/// Runs sed on the files that exist: one file, or several by names and glob patterns. It does nothing where nothing fits:
/// for remedies that have another part.
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

/// The options that remedies took away, so that running them again is no failure.
const TAKEN: &str = "/etc/handover/removed-options";

/// Lines of configuration files that hold kernel options. Commands that edit them fail if there is no such line.
#[derive(Debug)]
pub struct Lines {
    /// Names and glob patterns, quoted.
    files: String,
    /// What such a line begins with, as an extended regular expression.
    begin: String,
    end: End,
    /// Whether only the first line of a file counts.
    first: bool,
}

/// Where a line's options end.
#[derive(Debug)]
enum End {
    /// With the line.
    Line,
    /// With the last quotation mark.
    Quote,
}

impl Lines {
    /// The first line of a file is the command line, unless it is a comment.
    pub fn first(file: &str) -> Self {
        let begin = "[[:space:]]*[^#[:space:]]".into();
        Self { files: file.into(), begin, end: End::Line, first: true }
    }

    /// Every line of the files is a part of the command line.
    pub fn any(files: &str) -> Self {
        Self { files: files.into(), begin: "[^#]".into(), end: End::Line, first: false }
    }

    /// Lines of a key, as an extended regular expression, and the options: `options root=/dev/sda1`.
    pub fn after_key(files: &str, key: &str) -> Self {
        let begin = format!("[[:space:]]*{key}[[:space:]]");
        Self { files: files.into(), begin, end: End::Line, first: false }
    }

    /// Lines whose last quoted text is the options, after this beginning.
    pub fn last_quoted(files: &str, begin: &str) -> Self {
        let begin = format!("[[:space:]]*{begin}");
        Self { files: files.into(), begin, end: End::Quote, first: false }
    }

    /// Lines that begin with a variable, whose value holds options.
    pub fn after(files: &str, variable: &str) -> Self {
        let begin = format!("[[:space:]]*{variable}");
        Self { files: files.into(), begin, end: End::Line, first: false }
    }

    /// Adds an option to every line that does not have it.
    pub fn add(&self, option: &str) -> String {
        let Self { files, begin, end, first } = self;
        let word = pattern(option);
        let new = replacement(option);
        let (line, there, put) = match end {
            End::Line => (
                format!("^{begin}"),
                format!("(^|[[:space:]]){word}([[:space:]]|$)"),
                format!("s/[[:space:]]*$/ {new}/"),
            ),
            End::Quote => (
                format!("^{begin}\".*\"[[:space:]]*$"),
                format!("[[:space:]\"]{word}[[:space:]\"]"),
                format!("s/\"[[:space:]]*$/ {new}\"/"),
            ),
        };
        let at = if *first { "1".to_owned() } else { format!("/{line}/") };
        let script = quoted(&format!("{at}{{/{there}/!{put}}}"));
        let line = quoted(&line);
        let looked = if *first {
            format!("sed -n 1p \"$file\" | grep -qE -e {line}")
        } else {
            format!("grep -qE -e {line} \"$file\"")
        };
        let failed = self.failed(&format!("cannot add {option}"));
        format!(
            "found=\nfor file in {files}; do\n    if [ -f \"$file\" ] && {looked}; then\n        \
             sed -E -i -e {script} \"$file\"\n        found=1\n    fi\ndone\n[ \"$found\" ] || {failed}"
        )
    }

    /// Replaces an option, or takes it away; with any value, if none is given.
    pub fn replace(&self, option: &str, new: Option<&str>) -> String {
        let Self { files, begin, .. } = self;
        // The option ends where the text, the quoted value or the word ends.
        let (value, end) =
            if option.contains('=') { ("", 2) } else { (r#"(=[^[:space:]"']*)?"#, 3) };
        let word = format!(r#"(^|[^[:alnum:]_.,-]){}{value}([[:space:]"']|$)"#, pattern(option));
        let at = if self.first { String::new() } else { format!("/^{begin}/") };
        let new = new.map(replacement).unwrap_or_default();
        let script = quoted(&format!(r"{at}s/{word}/\1{new}\{end}/g"));
        let (line, word) = (quoted(&format!("^{begin}")), quoted(&word));
        let failed = self.failed(&format!("cannot take {option} away"));
        let done = quoted(option);
        // Noted first: the script can stop at any line, and is run again then.
        let noted = format!("grep -qsxF -e {done} {TAKEN}");
        let note = format!("{noted} || printf '%s\\n' {done} >> {TAKEN}");
        format!(
            "found=\nfor file in {files}; do\n    if [ -f \"$file\" ] && grep -E -e {line} \"$file\" | grep -qE -e \
             {word}; then\n        mkdir -p /etc/handover\n        {note}\n        sed -E -i -e {script} \
             \"$file\"\n        found=1\n    fi\ndone\n[ \"$found\" ] || {noted} || {failed}"
        )
    }

    fn failed(&self, what: &str) -> String {
        let files = self.files.replace('\'', "");
        let text =
            format!("{what}: no such line in {files}; find what sets the kernel's command line");
        format!("{{ echo {} >&2; false; }}", quoted(&text))
    }
}

/// Escapes text for the replacement of sed's `s` between slashes.
fn replacement(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\/&".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
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
