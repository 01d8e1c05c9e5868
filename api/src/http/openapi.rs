//! The OpenAPI document: every route of [`Route`] with its parameters, bodies and errors.

mod operations;
mod shapes;

use http::Method;
use utoipa::{
    ToSchema,
    openapi::{
        Components, ComponentsBuilder, Content, HttpMethod, Info, License, ObjectBuilder, OpenApi, OpenApiBuilder,
        PathItem, PathsBuilder, Ref, Response, ResponseBuilder, Type,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
    },
};

use self::{
    operations::{About, Body, Field, Shape, describe},
    shapes::{
        DeadLetters, ErrorBody, Message, Placements, Publication, Published, Purged, Read, Received, Redriven, Results,
        TransactionBody,
    },
};
use super::{
    cluster::ClusterView,
    compactor::{CompactorView, RunBody, RunView},
    members::{AssignmentView, MemberBody, MemberList},
    poll::{CommitBody, PollBody, Positions},
    queue::{ExtendBody, NackBody, PickBody, ReceiptsBody, RedriveBody},
    regions::{ChangeView, RegionList, RegionsBody},
    route::Route,
    shards::ShardList,
    subscriptions::{SubscriptionBody, SubscriptionList, SubscriptionView},
    topics::{FilePage, TopicBody, TopicPage, TopicView},
    transactions::{Transacted, TransactionList, TransactionView},
};
use crate::serve::{DeposedBody, LeaseAnswer};

const JSON: &str = "application/json";

/// The document.
pub fn document() -> OpenApi {
    let mut info = Info::new("Brigade", env!("CARGO_PKG_VERSION"));
    info.description = Some("A message queue whose only durable state is object storage.".to_owned());
    info.license = Some(License::new("Apache-2.0"));
    let paths = Route::ALL.iter().fold(PathsBuilder::new(), |paths, route| {
        let operation = operation(&format!("{route:?}"), route.path(), describe(*route));
        paths.path(route.path(), PathItem::new(method(*route), operation))
    });
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components())).build()
}

fn method(route: Route) -> HttpMethod {
    match route.method() {
        Method::PUT => HttpMethod::Put,
        Method::POST => HttpMethod::Post,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(name: &str, path: &str, about: About) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(name))
        .summary(Some(about.summary))
        .request_body(about.body.map(request_body));
    for (name, what) in [
        ("topic", "Name of the topic."),
        ("subscription", "Name of the subscription."),
        ("member", "Name that the consumer chose for itself; no other may use it."),
        ("shard", "Number of the shard."),
        ("transaction", "Id of the transaction."),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            operation = operation.parameter(parameter(ParameterIn::Path, &(name, what)));
        }
    }
    for field in about.query {
        operation = operation.parameter(parameter(ParameterIn::Query, field));
    }
    for field in about.headers {
        operation = operation.parameter(parameter(ParameterIn::Header, field));
    }
    for (status, what, shapes) in about.answers {
        operation = operation.response(*status, answer(what, shapes));
    }
    operation.response("default", answer("An error.", &[(JSON, Some("ErrorBody"))])).build()
}

fn parameter(place: ParameterIn, field: &Field) -> Parameter {
    let required =
        if place == ParameterIn::Path { utoipa::openapi::Required::True } else { utoipa::openapi::Required::False };
    ParameterBuilder::new()
        .name(field.0)
        .description(Some(field.1))
        .parameter_in(place)
        .required(required)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// Content of a named shape, or of no particular one.
fn content(shape: Option<&str>) -> Content {
    match shape {
        Some(name) => Content::new(Some(Ref::from_schema_name(name))),
        None => Content::default(),
    }
}

fn request_body(body: Body) -> RequestBody {
    let (what, shapes) = body;
    let empty = RequestBodyBuilder::new().description(Some(what));
    shapes.iter().fold(empty, |body, (media_type, shape)| body.content(*media_type, content(*shape))).build()
}

fn answer(what: &str, shapes: &[Shape]) -> Response {
    let empty = ResponseBuilder::new().description(what);
    shapes.iter().fold(empty, |answer, (media_type, shape)| answer.content(*media_type, content(*shape))).build()
}

fn components() -> Components {
    let all = ComponentsBuilder::new();
    let all = with::<ErrorBody>(with::<Publication>(with::<Message>(with::<Placements>(with::<Published>(all)))));
    let all =
        with::<Read>(with::<Received>(with::<TopicBody>(with::<TopicView>(with::<TopicPage>(with::<FilePage>(all))))));
    let all = with::<SubscriptionBody>(with::<SubscriptionView>(with::<SubscriptionList>(all)));
    let all = with::<ReceiptsBody>(with::<NackBody>(with::<ExtendBody>(with::<Results>(with::<DeadLetters>(all)))));
    let all = with::<RedriveBody>(with::<Redriven>(with::<PickBody>(with::<Purged>(all))));
    let all = with::<TransactionBody>(with::<Transacted>(with::<TransactionView>(with::<TransactionList>(all))));
    let all = with::<MemberBody>(with::<AssignmentView>(with::<MemberList>(all)));
    let all = with::<CompactorView>(with::<RunBody>(with::<RunView>(all)));
    let all = with::<LeaseAnswer>(with::<DeposedBody>(all));
    let all = with::<RegionList>(with::<ShardList>(with::<RegionsBody>(with::<ChangeView>(all))));
    with::<PollBody>(with::<CommitBody>(with::<Positions>(with::<ClusterView>(all)))).build()
}

/// Adds a shape and those that it consists of.
fn with<T: ToSchema>(components: ComponentsBuilder) -> ComponentsBuilder {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    components.schemas_from_iter(parts).schema_from::<T>()
}
