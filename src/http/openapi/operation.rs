//! One operation: the handler that serves it, and its description in the document. Entry points:
//! [`get`], [`post`], [`put`] and [`delete`]. The methods of [`Operation`] describe it.

use std::collections::BTreeMap;

use actix_web::{FromRequest, Handler, Responder, Route, web};
use serde_json::Value;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterIn, PathItem};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::{
    Content, ContentBuilder, HeaderBuilder, HttpMethod, Object, Ref, RefOr, Required, Response, ResponseBuilder,
    Schema, Type, path,
};
use utoipa::{PartialSchema, ToSchema};

use super::{parameters, shapes};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
pub const EVENTS: &str = "text/event-stream";
const BYTES: &str = "application/octet-stream";

/// Statuses that any request may get.
const ALWAYS: [(u16, &str); 5] = [
    (400, "the header Host is missing, is given twice, or is no host"),
    (403, "the request carries the origin of another site, or its browser says so"),
    (414, "the path has more than 8 KiB"),
    (421, "the request is for a host that is none of this server's names; http.allowed_hosts has more"),
    (500, "a failure within the server; the text says which part failed"),
];
/// Further statuses that any request with a body may get.
const WITH_BODY: [(u16, &str); 5] = [
    (400, "the body is cut short or not well-formed"),
    (408, "the body took too long"),
    (413, "the body is larger than 1 MiB, or unpacks to more"),
    (415, "the body's Content-Encoding is another one than gzip"),
    (503, "too many large bodies at one time"),
];

/// A route and its description.
pub struct Operation {
    pub(super) pattern: &'static str,
    pub(super) route: Route,
    method: HttpMethod,
    said: OperationBuilder,
    /// Segments of the path that are not among the common ones.
    in_path: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: BTreeMap<u16, DescribedAnswer>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

#[derive(Default)]
struct DescribedAnswer {
    /// The reasons for this status.
    reasons: Vec<&'static str>,
    content: Option<(&'static str, Content)>,
    headers: Vec<(&'static str, &'static str, RefOr<Schema>)>,
}

macro_rules! methods {
    ($($name:ident $method:ident),+) => {
        $(
            /// `pattern` is the router's. `summary` says in a few words what the route gives.
            pub fn $name<F, A>(pattern: &'static str, summary: &str, handler: F) -> Operation
            where
                F: Handler<A>,
                A: FromRequest + 'static,
                F::Output: Responder + 'static,
            {
                Operation::new(pattern, HttpMethod::$method, summary, web::$name().to(handler))
            }
        )+
    };
}

methods!(get Get, post Post, put Put, delete Delete);

impl Operation {
    fn new(pattern: &'static str, method: HttpMethod, summary: &str, route: Route) -> Self {
        let this = Self {
            pattern,
            route,
            method,
            said: OperationBuilder::new().summary(Some(summary)),
            in_path: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            schemas: Vec::new(),
        };
        ALWAYS.iter().fold(this, |this, (status, reason)| this.refuses(*status, reason))
    }

    /// The group under which viewers show it.
    pub fn tag(mut self, tag: &str) -> Self {
        self.said = self.said.tag(tag);
        self
    }

    /// A longer description, beside the summary.
    pub fn describe(mut self, description: &str) -> Self {
        self.said = self.said.description(Some(description));
        self
    }

    /// Adds a description that several operations share.
    pub fn with(self, described: fn(Self) -> Self) -> Self {
        described(self)
    }

    /// A segment of the path that `parameters` does not know.
    pub fn in_path<T: PartialSchema>(mut self, name: &str, description: &str, example: impl Into<Value>) -> Self {
        self.in_path.push(parameters::of::<T>(name, ParameterIn::Path, description, example).build());
        self
    }

    /// A parameter in the query, which may be absent.
    pub fn query<T: PartialSchema>(mut self, name: &str, description: &str, example: impl Into<Value>) -> Self {
        self.said = self.said.parameter(parameters::of::<T>(name, ParameterIn::Query, description, example));
        self
    }

    /// A header of the request, which may be absent.
    pub fn header<T: PartialSchema>(mut self, name: &str, description: &str, example: impl Into<Value>) -> Self {
        self.said = self.said.parameter(parameters::of::<T>(name, ParameterIn::Header, description, example));
        self
    }

    /// A header that the request must have.
    pub fn required_header<T: PartialSchema>(mut self, name: &str, description: &str, example: &str) -> Self {
        let parameter = parameters::of::<T>(name, ParameterIn::Header, description, example);
        self.said = self.said.parameter(parameter.required(Required::True));
        self
    }

    /// A JSON body.
    pub fn takes_json<T: ToSchema>(mut self, description: &str, example: Value) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).example(Some(example));
        self.takes(JSON, content.build(), description)
    }

    /// A body of text.
    pub fn takes_text<T: PartialSchema>(self, description: &str, example: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(T::schema())).example(Some(example.into()));
        self.takes("text/plain", content.build(), description)
    }

    /// A body of arbitrary bytes.
    pub fn takes_bytes(self, description: &str) -> Self {
        self.takes(BYTES, Content::new(Some(Object::new())), description)
    }

    fn takes(mut self, content_type: &str, content: Content, description: &str) -> Self {
        let body = RequestBodyBuilder::new().description(Some(description)).content(content_type, content);
        self.body = Some(body.required(Some(Required::True)).build());
        WITH_BODY.iter().fold(self, |this, (status, reason)| this.refuses(*status, reason))
    }

    /// Success with an empty body.
    pub fn gives_nothing(mut self, description: &'static str) -> Self {
        self.answers.entry(200).or_default().reasons.push(description);
        self
    }

    /// Success with a JSON body.
    pub fn gives_json<T: ToSchema>(mut self, description: &'static str, example: Value) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).example(Some(example));
        self.gives(description, JSON, content.build())
    }

    /// Success with text of a content type; `None` is plain text.
    pub fn gives_text(self, description: &'static str, content_type: Option<&'static str>) -> Self {
        self.gives(description, content_type.unwrap_or(TEXT), Content::new(Some(Object::with_type(Type::String))))
    }

    /// Success with server-sent events of these kinds.
    pub fn gives_events(self, description: &'static str, kinds: &[&str]) -> Self {
        self.gives(description, EVENTS, Content::new(Some(shapes::event(kinds))))
    }

    /// Success with arbitrary bytes.
    pub fn gives_bytes(self, description: &'static str) -> Self {
        self.gives(description, BYTES, Content::new(Some(Object::new())))
    }

    fn gives(mut self, description: &'static str, content_type: &'static str, content: Content) -> Self {
        let answer = self.answers.entry(200).or_default();
        answer.reasons.push(description);
        answer.content = Some((content_type, content));
        self
    }

    /// A header of an answer.
    pub fn says<T: PartialSchema>(mut self, status: u16, name: &'static str, description: &'static str) -> Self {
        self.answers.entry(status).or_default().headers.push((name, description, T::schema()));
        self
    }

    /// A refusal, as plain text. One status may have several reasons.
    pub fn refuses(mut self, status: u16, reason: &'static str) -> Self {
        let answer = self.answers.entry(status).or_default();
        answer.reasons.push(reason);
        answer.content.get_or_insert_with(|| (TEXT, Content::new(Some(Object::with_type(Type::String)))));
        self
    }

    /// An answer other than 200 whose body is empty.
    pub fn answers_nothing(mut self, status: u16, reason: &'static str) -> Self {
        self.answers.entry(status).or_default().reasons.push(reason);
        self
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let schema = T::schema();
        // A schema without fields is written in place, not as a component.
        if !matches!(&schema, RefOr::T(Schema::Object(object)) if !object.properties.is_empty()) {
            T::schemas(&mut self.schemas);
            return schema;
        }
        self.schemas.push((T::name().into_owned(), schema));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name()).into()
    }

    /// The methods by which the route is asked.
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self.method {
            HttpMethod::Get => &["GET", "HEAD"],
            HttpMethod::Put => &["PUT"],
            HttpMethod::Delete => &["DELETE"],
            // The functions above make no other method.
            _ => &["POST"],
        }
    }

    /// The path, the item, and the schemas that the item refers to.
    pub(super) fn described(self) -> (String, PathItem, Vec<(String, RefOr<Schema>)>) {
        let path = parameters::template(self.pattern);
        let mut said = self.said.operation_id(Some(operation_id(&self.method, &path)));
        for name in parameters::names(&path) {
            let own = self.in_path.iter().find(|parameter| parameter.name == name).cloned();
            said = said.parameter(own.unwrap_or_else(|| parameters::common(name)));
        }
        for (status, answer) in self.answers {
            said = said.response(status.to_string(), answer.described());
        }
        let operation = said.request_body(self.body).build();
        let head = matches!(self.method, HttpMethod::Get).then(|| head_of(&operation, &path));
        let mut item = PathItem::new(self.method, operation);
        item.head = head;
        (path, item, self.schemas)
    }
}

/// HEAD is described as GET, with answers that have no body.
fn head_of(get: &path::Operation, path: &str) -> path::Operation {
    let mut head = get.clone();
    head.operation_id = Some(operation_id(&HttpMethod::Head, path));
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}

impl DescribedAnswer {
    fn described(self) -> Response {
        let mut response = ResponseBuilder::new().description(self.reasons.join("; or "));
        if let Some((content_type, content)) = self.content {
            response = response.content(content_type, content);
        }
        for (name, description, schema) in self.headers {
            let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
            response = response.header(name, header.build());
        }
        response.build()
    }
}

/// Such as `postFamiliesFamilyMutations`. It stays the same as long as the route exists.
fn operation_id(method: &HttpMethod, path: &str) -> String {
    let method = match method {
        HttpMethod::Get => "get",
        HttpMethod::Post => "post",
        HttpMethod::Put => "put",
        HttpMethod::Delete => "delete",
        HttpMethod::Head => "head",
        // The functions above make no other method.
        _ => "other",
    };
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    method.to_owned() + &words.map(capital).collect::<String>()
}
