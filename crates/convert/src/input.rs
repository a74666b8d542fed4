//! What a person gives: documents with virtual machines, instance types and preferences.

use model::{Mistakes, TextSpan};
use serde_json::Value;
use serde_saphyr::Error as YamlError;

use crate::typed::{self, Reader};
use crate::values::Below as _;
use crate::yaml::{self, Node};

/// The most bytes of one input.
pub const MOST_BYTES: usize = 32 << 20;

/// What documents there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `VirtualMachine`.
    Machine,
    /// A `VirtualMachineInstance`.
    Instance,
    /// A `VirtualMachineInstancetype`, or one of the cluster.
    Instancetype,
    /// A `VirtualMachinePreference`, or one of the cluster.
    Preference,
}

/// The kinds, their API groups, the types of their fields.
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
    /// What it is.
    pub kind: Kind,
    /// Its object.
    pub object: Value,
    /// The line that it begins on.
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

/// All documents of one text.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The documents, in their order.
    pub documents: Vec<Document>,
    /// What was left out, each with its place, for a person.
    pub notes: Vec<String>,
}

/// Reads a text; `name` is its file's, for messages. What is no field of KubeVirt's becomes a note, or a mistake where it
/// is read strictly.
///
/// # Errors
/// All that is wrong with it, as far as it can be told at once.
pub fn read(name: &str, text: &str, strict: bool) -> Result<Input, Mistakes> {
    let mut mistakes = Mistakes::new(name, text);
    if text.len() > MOST_BYTES {
        let problem = format!("the file has more than {} MiB", MOST_BYTES >> 20);
        mistakes.add(TextSpan::default(), problem, "give fewer machines in one file");
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
    let mut reading = Reading { name, text, strict, input: &mut input, mistakes: &mut mistakes };
    nodes.iter().for_each(|node| reading.document(node));
    if nodes.is_empty() {
        mistakes.add(TextSpan::default(), "there is no document", "give a VirtualMachine");
    }
    mistakes.none_or_err().map(|()| input)
}

struct Reading<'a> {
    name: &'a str,
    text: &'a str,
    strict: bool,
    input: &'a mut Input,
    mistakes: &'a mut Mistakes,
}

impl Reading<'_> {
    fn document(&mut self, node: &Node) {
        let kind = node.get("kind").and_then(Node::text);
        // What `kubectl get -o yaml` prints of several.
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
        let (object, unknown) = Reader::new(self.text, self.mistakes).object(fields, node);
        for field in unknown {
            let problem = format!("KubeVirt has no field {}", field.path);
            let like = field.like.map(|like| format!("did you mean `{like}`?"));
            let remedy = like.as_deref().unwrap_or("remove it");
            if self.strict {
                self.mistakes.add(field.at, problem, remedy);
            } else {
                let TextSpan { line, column, .. } = field.at;
                let note = format!(
                    "{}:{line}:{column}: {problem}, so it is left out; {remedy}",
                    self.name
                );
                self.input.notes.push(note);
            }
        }
        self.required(*kind, node, &object);
        self.input.documents.push(Document { kind: *kind, object, line: place.line });
    }

    /// A document that is nothing of ours.
    fn foreign(&mut self, node: &Node, kind: Option<&str>, version: &str) {
        let place = typed::place(node.at);
        let Some(kind) = kind else {
            let place = TextSpan { width: 1, ..place };
            let remedy = "begin with `apiVersion: kubevirt.io/v1` and `kind: VirtualMachine`";
            return self.mistakes.add(place, "the document has no `kind`", remedy);
        };
        let like = KINDS.iter().any(|(name, ..)| name.eq_ignore_ascii_case(kind));
        let at = node.get("kind").map_or(place, |kind| typed::place(kind.at));
        if like || self.strict {
            let problem = format!("`{kind}` of `{version}` is not read here");
            let remedy = "give VirtualMachine or VirtualMachineInstance of kubevirt.io/v1, or instance types and preferences of instancetype.kubevirt.io/v1beta1";
            return self.mistakes.add(at, problem, remedy);
        }
        let kind: String = kind.chars().take(60).filter(|letter| !letter.is_control()).collect();
        let TextSpan { line, column, .. } = at;
        let note =
            format!("{}:{line}:{column}: a {kind} is not read here, so it is left out", self.name);
        self.input.notes.push(note);
    }

    /// What no object can be without.
    fn required(&mut self, kind: Kind, node: &Node, object: &Value) {
        let place = TextSpan { width: 1, ..typed::place(node.at) };
        let name = node.get("metadata").and_then(|metadata| metadata.get("name"));
        if object.text("metadata.name").is_empty() {
            self.mistakes.add(place, "it has no `metadata.name`", "give it a name");
        } else if let (Some(name), false) = (name, is_name(object.text("metadata.name"))) {
            let problem = "this cannot be the name of an object";
            let remedy = "use letters in lower case, digits, `-` and `.`, at most 253";
            self.mistakes.add(typed::place(name.at), problem, remedy);
        }
        let namespace = object.text("metadata.namespace");
        if !namespace.is_empty() && !is_name(namespace) {
            let remedy = "use letters in lower case, digits and `-`";
            self.mistakes.add(place, "`metadata.namespace` cannot be a namespace", remedy);
        }
        let spec = match kind {
            Kind::Machine => "spec.template.spec",
            _ => "spec",
        };
        if !object.has(spec) {
            let remedy = "add it, as KubeVirt has it";
            self.mistakes.add(place, format!("it has no `{spec}`"), remedy);
        }
    }
}

/// Whether a text can be the name of a Kubernetes object (RFC 1123 subdomain).
fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|b| letter(b) || b == b'-')
            && label.bytes().next().is_some_and(letter)
            && label.bytes().next_back().is_some_and(letter)
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The one mistake of a text whose form is broken.
fn form(mistakes: &mut Mistakes, error: &YamlError) {
    let error = error.without_snippet();
    let at = error.location().map(typed::place).unwrap_or_default();
    let (problem, remedy) = match error {
        YamlError::DuplicateMappingKey { key, .. } => (
            format!("`{}` is here a second time", key.as_deref().unwrap_or_default()),
            "remove one of the two",
        ),
        YamlError::Budget { .. } => (
            "there is more here than virtual machines are made of".to_owned(),
            "give fewer documents, or write them without anchors",
        ),
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.rsplit_once(" at line ").map_or(text, |(words, _)| words);
            (text.trim_end_matches([' ', ',', ':']).to_owned(), "mend the YAML here")
        }
    };
    mistakes.add(at, problem, remedy);
}
