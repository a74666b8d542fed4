//! Reads documents with virtual machines, instance types and preferences.

use model::{Mistakes, TextSpan};
use serde_json::Value;
use serde_saphyr::Error as YamlError;

pub use crate::kind::Kind;
use crate::rules::{self, Problem};
use crate::typed::{self, Reader, Typed};
use crate::values::Below as _;
use crate::yaml::{self, Node};

/// The maximum size of an input in bytes.
pub const MOST_BYTES: usize = 32 << 20;

/// The kinds, their API groups, and the types of their fields.
const KINDS: [(&str, &str, &str, Kind); 6] = [
    ("VirtualMachine", "kubevirt.io", "VirtualMachine", Kind::Machine),
    ("VirtualMachineInstance", "kubevirt.io", "VirtualMachineInstance", Kind::Instance),
    (
        "VirtualMachineInstancetype",
        "instancetype.kubevirt.io",
        "beta.VirtualMachineInstancetype",
        Kind::Instancetype,
    ),
    (
        "VirtualMachineClusterInstancetype",
        "instancetype.kubevirt.io",
        "beta.VirtualMachineClusterInstancetype",
        Kind::Instancetype,
    ),
    (
        "VirtualMachinePreference",
        "instancetype.kubevirt.io",
        "beta.VirtualMachinePreference",
        Kind::Preference,
    ),
    (
        "VirtualMachineClusterPreference",
        "instancetype.kubevirt.io",
        "beta.VirtualMachineClusterPreference",
        Kind::Preference,
    ),
];

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its content.
    pub kind: Kind,
    /// Its object.
    pub object: Value,
    /// Its first line.
    pub line: u32,
}

impl Document {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.text("metadata.name")
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let namespace = self.object.text("metadata.namespace");
        if namespace.is_empty() { "default" } else { namespace }
    }
}

/// All documents of an input.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The documents, in order.
    pub documents: Vec<Document>,
    /// Ignored parts with their places, for the user.
    pub notes: Vec<String>,
}

/// Reads an input; `name` is its file name, for messages. An unknown field becomes a note, or a mistake with `strict`.
///
/// # Errors
/// All mistakes that can be detected at once.
pub fn read(name: &str, text: &str, strict: bool) -> Result<Input, Mistakes> {
    let mut mistakes = Mistakes::new(name, text);
    if text.len() > MOST_BYTES {
        let problem = format!("the file has more than {} MiB", MOST_BYTES >> 20);
        mistakes.add(TextSpan::default(), problem, "split the file");
        return Err(mistakes);
    }
    let nodes = match yaml::documents(text) {
        Ok(nodes) => nodes,
        Err(error) => {
            form(&mut mistakes, &error);
            return Err(mistakes);
        }
    };
    let mut input = Input::default();
    let mut ignored = Vec::new();
    let mut reading = Reading {
        name,
        text,
        strict,
        input: &mut input,
        mistakes: &mut mistakes,
        ignored: &mut ignored,
    };
    nodes.iter().for_each(|node| reading.document(node));
    if nodes.is_empty() {
        mistakes.add(TextSpan::default(), "the input has no document", "add a VirtualMachine");
    }
    // A misspelt field is often why another one is missing.
    if mistakes.mistakes.is_empty() {
        let note = |one: &Ignored| {
            format!(
                "{name}:{}:{}: {}, ignored; {}",
                one.at.line, one.at.column, one.problem, one.remedy
            )
        };
        // In the order of the file, before the notes about fields that are known.
        input.notes.splice(0..0, ignored.iter().map(note));
    } else {
        for Ignored { at, problem, remedy } in ignored {
            mistakes.add(at, problem, remedy);
        }
    }
    mistakes.none_or_err().map(|()| input)
}

/// An unknown field that is ignored.
struct Ignored {
    at: TextSpan,
    problem: String,
    remedy: String,
}

struct Reading<'a> {
    name: &'a str,
    text: &'a str,
    strict: bool,
    input: &'a mut Input,
    mistakes: &'a mut Mistakes,
    ignored: &'a mut Vec<Ignored>,
}

impl Reading<'_> {
    fn document(&mut self, node: &Node) {
        let kind = node.get("kind").and_then(Node::text);
        // The output of `kubectl get -o yaml` for several objects.
        if kind == Some("List") {
            let items = node.get("items").map(|items| &items.content);
            if let Some(yaml::Content::List(items)) = items {
                return items.iter().for_each(|item| self.document(item));
            }
        }
        let version = node.get("apiVersion").and_then(Node::text).unwrap_or_default();
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        let known = KINDS.iter().find(|(name, of, ..)| Some(*name) == kind && *of == group);
        let Some((_, _, fields, kind)) = known else { return self.foreign(node, kind, version) };
        let place = typed::place(node.at);
        let Typed { object, unknown, wrong } =
            Reader::new(self.text, self.mistakes).object(fields, node);
        for field in unknown {
            let problem = format!("KubeVirt has no field {}", field.path);
            let like = field.like.map(|like| format!("did you mean `{like}`?"));
            let remedy = like.unwrap_or_else(|| "remove it".to_owned());
            if self.strict {
                self.mistakes.add(field.at, problem, remedy);
            } else {
                self.ignored.push(Ignored { at: field.at, problem, remedy });
            }
        }
        self.required(*kind, node, &object);
        self.rules(*kind, fields, node, &object, &wrong);
        self.input.documents.push(Document { kind: *kind, object, line: place.line });
    }

    /// A document of another kind.
    fn foreign(&mut self, node: &Node, kind: Option<&str>, version: &str) {
        let place = typed::place(node.at);
        let Some(kind) = kind else {
            let place = TextSpan { width: 1, ..place };
            let remedy = "start with `apiVersion: kubevirt.io/v1` and `kind: VirtualMachine`";
            return self.mistakes.add(place, "the document has no `kind`", remedy);
        };
        let like = KINDS.iter().any(|(name, ..)| name.eq_ignore_ascii_case(kind));
        let at = node.get("kind").map_or(place, |kind| typed::place(kind.at));
        if like || self.strict {
            let problem = format!("`{kind}` of `{version}` is not supported");
            let remedy = "use VirtualMachine or VirtualMachineInstance of kubevirt.io/v1, or instance types and preferences of instancetype.kubevirt.io/v1beta1";
            return self.mistakes.add(at, problem, remedy);
        }
        let kind: String = kind.chars().take(60).filter(|letter| !letter.is_control()).collect();
        let TextSpan { line, column, .. } = at;
        let note = format!("{}:{line}:{column}: {kind} is not supported, ignored", self.name);
        self.input.notes.push(note);
    }

    /// Checks KubeVirt's rules. An object that contains a value of a wrong type is not reported as incomplete too.
    fn rules(
        &mut self,
        kind: Kind,
        fields: &'static str,
        node: &Node,
        object: &Value,
        wrong: &[String],
    ) {
        let found = rules::written(kind, fields, object);
        let at = |problem: &Problem| {
            let span = typed::place(node.nearest(&problem.path).at);
            TextSpan { width: span.width.max(1), ..span }
        };
        let below = |wrong: &String, path: &str| {
            wrong.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        for problem in &found.problems {
            if !wrong.iter().any(|wrong| below(wrong, &problem.path)) {
                self.mistakes.add(at(problem), problem.to_string(), problem.remedy.as_str());
            }
        }
        for note in &found.notes {
            let TextSpan { line, column, .. } = at(note);
            let text = format!("{}:{line}:{column}: {note}; {}", self.name, note.remedy);
            self.input.notes.push(text);
        }
    }

    /// Checks the required fields of an object.
    fn required(&mut self, kind: Kind, node: &Node, object: &Value) {
        let place = TextSpan { width: 1, ..typed::place(node.at) };
        let name = node.get("metadata").and_then(|metadata| metadata.get("name"));
        if object.text("metadata.name").is_empty() {
            self.mistakes.add(place, "missing `metadata.name`", "add a name");
        } else if let (Some(name), false) = (name, is_name(object.text("metadata.name"))) {
            let problem = "invalid object name";
            let remedy = "use lower-case letters, digits, `-` and `.`, at most 253 characters";
            self.mistakes.add(typed::place(name.at), problem, remedy);
        }
        let namespace = object.text("metadata.namespace");
        if !namespace.is_empty() && !is_name(namespace) {
            let remedy = "use lower-case letters, digits and `-`";
            self.mistakes.add(place, "invalid `metadata.namespace`", remedy);
        }
        let spec = match kind {
            Kind::Machine => "spec.template.spec",
            _ => "spec",
        };
        if !object.has(spec) {
            let remedy = "add it, as KubeVirt requires it";
            self.mistakes.add(place, format!("missing `{spec}`"), remedy);
        }
    }
}

/// Whether a text is a valid name of a Kubernetes object (RFC 1123 subdomain).
fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|b| letter(b) || b == b'-')
            && label.bytes().next().is_some_and(letter)
            && label.bytes().next_back().is_some_and(letter)
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The mistake of an input with a syntax error.
fn form(mistakes: &mut Mistakes, error: &YamlError) {
    let error = error.without_snippet();
    let at = error.location().map(typed::place).unwrap_or_default();
    let (problem, remedy) = match error {
        YamlError::DuplicateMappingKey { key, .. } => (
            format!("duplicate key `{}`", key.as_deref().unwrap_or_default()),
            "remove one of them",
        ),
        YamlError::Budget { .. } => (
            "the input exceeds the limits of the YAML reader".to_owned(),
            "split the file, or avoid anchors",
        ),
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.rsplit_once(" at line ").map_or(text, |(words, _)| words);
            (text.trim_end_matches([' ', ',', ':']).to_owned(), "fix the YAML syntax here")
        }
    };
    mistakes.add(at, problem, remedy);
}
