//! Schemas of the protocol's names and values, if Rust's types do not tell them. Functions are for
//! `schema_with` of a derive; types are for parameters.

use utoipa::PartialSchema;
use utoipa::openapi::schema::{ArrayItems, SchemaType};
use utoipa::openapi::{Array, ArrayBuilder, Object, ObjectBuilder, RefOr, Schema, Type};

use ctlstore_core::schema::FieldType;

/// A schema as a type, for parameters.
macro_rules! shape {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $schema.into()
                }
            }
        )+
    };
}

shape! {
    Family = family();
    Table = table();
    Role = text("^[a-z-]{1,20}$");
    /// A ledger seq.
    Seq = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(i64::MAX));
    /// The simple forms of the durations that are accepted.
    Duration = text(r"^(0|[0-9]{1,6}(ms|s|m|h))$");
    /// A duration of at most 30 s.
    Wait = text("^(0|[0-9]{1,4}ms|[0-9]s|[12][0-9]s|30s)$");
    WriterInPath = limited_text(3, 50).pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    /// A writer's name in a header.
    Writer = limited_text(3, 50).pattern(Some("^[!-~]+$"));
    /// A secret in a header.
    Secret = limited_text(3, 100).pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    /// A secret in a body.
    AnySecret = limited_text(3, 100).pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    /// An event's id, or a ledger seq.
    Since = text("^([0-9a-f]{32}-[0-9]{1,19}|[0-9]{1,18})$");
    /// A page's length.
    Limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
}

pub fn family() -> Object {
    name(3, 30)
}

pub fn table() -> Object {
    name(3, 50)
}

/// Letters, digits and single underscores, beginning with a letter and not ending in an underscore.
fn name(min: usize, max: usize) -> Object {
    limited_text(min, max).pattern(Some("^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$")).build()
}

fn field() -> Object {
    limited_text(1, 64).pattern(Some("^[A-Za-z][A-Za-z0-9_]*$")).build()
}

/// Fields in their order, each a name and a type.
pub fn fields() -> Array {
    let field_type =
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(FieldType::ALL.map(FieldType::api_name)));
    let pair = ArrayBuilder::new().prefix_items([Schema::Object(field()), Schema::Object(field_type.build())]);
    let pair = pair.items(ArrayItems::False).min_items(Some(2)).max_items(Some(2));
    ArrayBuilder::new().items(RefOr::T(Schema::Array(pair.build()))).min_items(Some(1)).build()
}

/// The fields of a key, in its order.
pub fn key_fields() -> Array {
    ArrayBuilder::new().items(RefOr::T(Schema::Object(field()))).min_items(Some(1)).build()
}

/// Text that matches a pattern.
pub fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// Text of `min` to `max` characters.
pub fn limited_text(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(min)).max_length(Some(max))
}

/// Bytes as standard padded base64, or null.
pub fn base64() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .pattern(Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"))
        .description(Some("standard padded base64"))
        .build()
}

/// A server-sent event.
pub fn event(kinds: &[&str]) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("id", ObjectBuilder::new().schema_type(Type::String))
        .property("event", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(kinds.iter().copied())))
        .property("data", ObjectBuilder::new().schema_type(Type::String).description(Some("a JSON object")))
        .property("retry", ObjectBuilder::new().schema_type(Type::Integer).description(Some("milliseconds")))
        .build()
}

/// A column's value in JSON: no array and no object.
pub fn scalar() -> Object {
    let types = [Type::String, Type::Number, Type::Boolean, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}

/// Columns to values.
pub fn columns() -> Object {
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(Schema::Object(scalar()))).build()
}
