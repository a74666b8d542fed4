//! Schemas of objects, forms and streams.

use utoipa::openapi::schema::{
    AdditionalProperties, Object, ObjectBuilder, OneOfBuilder, Ref, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

fn of(one: Type) -> Object {
    Object::with_type(one)
}

/// An object without fields.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {}

impl PartialSchema for Nothing {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .max_properties(Some(0))
            .additional_properties(Some(Schema::Object(of(Type::String))))
            .into()
    }
}

impl ToSchema for Nothing {}

/// Variables of an environment.
#[derive(Clone, Copy, Debug)]
pub enum Environment {}

impl PartialSchema for Environment {
    fn schema() -> RefOr<Schema> {
        let text =
            |pattern: &str| ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .max_properties(Some(1024))
            .property_names(Some(Schema::Object(text("^[^=\\u0000]+$").build())))
            .additional_properties(Some(Schema::Object(text("^[^\\u0000]*$").build())))
            .into()
    }
}

impl ToSchema for Environment {}

/// A flag that may only be off.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl PartialSchema for Never {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false])).into()
    }
}

impl ToSchema for Never {}

/// Tags in a query.
#[derive(Clone, Copy, Debug)]
pub enum QueryTags {}

impl PartialSchema for QueryTags {
    fn schema() -> RefOr<Schema> {
        // In a query everything is a text, also `null` and `true`. One with several values would be given several times.
        let text = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let word = text().schema_type(SchemaType::from_iter([
            Type::String,
            Type::Number,
            Type::Boolean,
            Type::Null,
        ]));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Tags; each is given once, with a value."))
            .property_names(Some(Schema::Object(text().build())))
            .additional_properties(Some(Schema::Object(word.build())))
            .into()
    }
}

impl ToSchema for QueryTags {}

/// One event of a stream of server-sent events (HTML, 9.2): the schema of the stream is that of each event.
#[derive(Clone, Copy, Debug)]
pub enum ServerSentEvent {}

impl PartialSchema for ServerSentEvent {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("One event of the stream."))
            .property(
                "data",
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some("JSON."))
                    .content_media_type("application/json"),
            )
            .required("data")
            .into()
    }
}

impl ToSchema for ServerSentEvent {}

/// The bytes of an archive.
#[derive(Clone, Copy, Debug)]
pub enum GzipArchive {}

impl PartialSchema for GzipArchive {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A tar archive, compressed by gzip."))
            .content_media_type("application/gzip")
            .into()
    }
}

impl ToSchema for GzipArchive {}

/// An image that is uploaded: a disk, a kernel bundle, or both.
#[derive(Clone, Copy, Debug)]
pub enum UploadImage {}

/// A form with these fields; the first ones are required.
fn form(description: &str, required: &[&str], optional: &[&str]) -> ObjectBuilder {
    let field = |name: &str| -> RefOr<Schema> {
        match name {
            "name" => Ref::from_schema_name("ImageName").into(),
            "format" => Ref::from_schema_name("DiskFormat").into(),
            "cmdline" => {
                ObjectBuilder::new().schema_type(Type::String).max_length(Some(64 << 10)).into()
            }
            // A file: OpenAPI 3.1 has no format for it.
            _ => ObjectBuilder::new()
                .schema_type(Type::String)
                .content_media_type("application/octet-stream")
                .into(),
        }
    };
    let mut form = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for name in required.iter().chain(optional) {
        form = form.property(*name, field(name));
    }
    required.iter().fold(form, |form, name| form.required(*name))
}

impl PartialSchema for UploadImage {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("An image to upload: a disk, a kernel bundle, or both."))
            .item(form("A kernel.", &["name", "kernel"], &["initrd", "cmdline", "format"]))
            .item(form("A disk.", &["name", "format", "disk"], &["kernel", "cmdline"]))
            .item(form("Both.", &["name", "format", "disk", "kernel", "initrd"], &["cmdline"]))
            .into()
    }
}

impl ToSchema for UploadImage {}
