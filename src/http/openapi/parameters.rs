//! Describes parameters. Entry points: [`of`] for any parameter, [`common`] for the segments that many
//! paths have. [`template`] and [`names`] read the router's patterns.

use serde_json::Value;
use utoipa::PartialSchema;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};

use super::shapes;

/// A parameter with the schema of `T`. It is required if it is in the path.
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

/// A segment that many paths have.
///
/// # Panics
/// If the segment is described neither here nor in its operation. Every test that starts the server
/// finds that.
pub(super) fn common(name: &str) -> Parameter {
    let path = ParameterIn::Path;
    match name {
        "family" => of::<shapes::Family>(name, path, "a family; upper case counts as lower case", "shop"),
        "table" => of::<shapes::Table>(name, path, "a table; upper case counts as lower case", "prices"),
        "writer" => of::<shapes::WriterInPath>(name, path, "a writer's name, at most 50 bytes", "billing"),
        "role" => of::<shapes::Role>(name, path, "a role of the node, as /status names it", "executive"),
        _ => panic!("nothing is said of the segment {name}"),
    }
    .build()
}

/// The router's pattern as a path of the document, without the expressions that the router matches.
pub(super) fn template(pattern: &str) -> String {
    let mut path = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, segment)) = rest.split_once('{') {
        let (segment, after) = segment.split_once('}').unwrap_or((segment, ""));
        let name = segment.split(':').next().unwrap_or_default();
        path.extend([before, "{", name, "}"]);
        rest = after;
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
