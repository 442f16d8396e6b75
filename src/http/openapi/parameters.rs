//! Parameters of paths, queries and headers: the names of the protocol with their
//! rules, and schemas for the few shapes that Rust's types do not say.

use serde_json::Value;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder, Required, Schema, Type};

/// Letters, digits and single underscores, beginning with a letter and not ending in an underscore.
const NAME: &str = "^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$";

/// A parameter of the shape of `T`, required in a path and nowhere else.
pub fn of<T: PartialSchema>(
    name: &str,
    place: ParameterIn,
    description: &str,
    example: impl Into<Value>,
) -> ParameterBuilder {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    parameter.description(Some(description)).schema(Some(T::schema())).example(Some(example.into()))
}

/// The segments that stand in many paths.
///
/// # Panics
/// On one that has no description here nor in its operation: every test that starts a
/// server meets it.
pub(super) fn common(name: &str) -> Parameter {
    let (schema, description, example) = match name {
        "family" => (named(3, 30), "a family; upper case counts as lower case", "shop"),
        "table" => (named(3, 50), "a table; upper case counts as lower case", "prices"),
        "writer" => (limited_text(3, 50).build(), "a writer's name, at most 50 bytes", "billing"),
        _ => panic!("nothing is said of the segment {name}"),
    };
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some(description)).schema(Some(schema)).example(Some(example.into())).build()
}

fn named(min: usize, max: usize) -> Object {
    limited_text(min, max).pattern(Some(NAME)).build()
}

/// Text of so many characters.
pub fn limited_text(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(min)).max_length(Some(max))
}

/// Bytes as standard padded base64, or null.
pub fn base64() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .pattern(Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"))
        .description(Some("standard padded base64"))
        .build()
}

/// What a column may hold, in JSON: no array and no object.
pub fn scalar() -> Object {
    let types = [Type::String, Type::Number, Type::Boolean, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}

/// Columns to values.
pub fn columns() -> Object {
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(Schema::Object(scalar()))).build()
}

/// The router's pattern as a path of the document: without what the router matches by.
pub(super) fn template(pattern: &str) -> String {
    let mut path = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, segment)) = rest.split_once('{') {
        let (segment, behind) = segment.split_once('}').unwrap_or((segment, ""));
        let name = segment.split(':').next().unwrap_or_default();
        path.extend([before, "{", name, "}"]);
        rest = behind;
    }
    path + rest
}

/// The names of a path's segments.
pub(super) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|segment| segment.split('}').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_path_without_its_expressions() {
        let path = template("/v1/rows/{family}/{table}/{key:.+}");
        assert_eq!(path, "/v1/rows/{family}/{table}/{key}");
        assert_eq!(names(&path).collect::<Vec<_>>(), ["family", "table", "key"]);
        assert_eq!(template("/cookie"), "/cookie");
    }
}
