//! What a task's key opens: one table, and one place that goes by it.

use std::sync::Arc;

use axum::extract::{FromRequestParts as _, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use uuid::Uuid;

use super::ApiError;
use super::asked::{Named, read_id};
use crate::app::App;
use crate::hub::Kin;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever has the server's token.
    Person,
    /// The agent of this task, by the task's key.
    Task(Uuid),
}

/// For which tasks a key opens something. What is not in the table is open for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It names no task; what it shows or does is bounded by who asks.
    All,
    /// The key's task.
    Own,
    /// The key's task and those below it.
    OwnAndBelow,
    /// Those below it only.
    Below,
}

const TABLE: &[(Method, &str, Reach)] = &[
    (Method::GET, "/api/v1/info", Reach::All),
    (Method::GET, "/api/v1/tasks", Reach::All),
    (Method::POST, "/api/v1/tasks", Reach::All),
    (Method::GET, "/api/v1/tasks/{id}", Reach::OwnAndBelow),
    (Method::GET, "/api/v1/tasks/{id}/output", Reach::OwnAndBelow),
    (Method::GET, "/api/v1/tasks/{id}/events", Reach::OwnAndBelow),
    (Method::POST, "/api/v1/tasks/{id}/pause", Reach::Below),
    (Method::POST, "/api/v1/tasks/{id}/resume", Reach::Below),
    (Method::POST, "/api/v1/tasks/{id}/interrupt", Reach::Below),
    (Method::POST, "/api/v1/tasks/{id}/messages", Reach::Below),
    (Method::GET, "/api/v1/tasks/{id}/wait", Reach::Own),
    (Method::GET, "/api/v1/tasks/{id}/branches", Reach::Own),
    (Method::GET, "/api/v1/tasks/{id}/merge", Reach::Own),
    (Method::POST, "/api/v1/tasks/{id}/merge", Reach::Own),
    (Method::POST, "/api/v1/tasks/{id}/merge/resolve", Reach::Own),
    (Method::POST, "/api/v1/tasks/{id}/merge/commit", Reach::Own),
    (Method::POST, "/api/v1/tasks/{id}/merge/abort", Reach::Own),
    (Method::POST, "/api/v1/tasks/{id}/merge/skip", Reach::Own),
    (Method::GET, "/api/v1/tasks/{id}/merge/check", Reach::Own),
];

/// Goes on with a request if this caller may ask for it.
pub(super) async fn within(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let allowed = match parts.extensions.get::<Caller>().copied() {
        Some(Caller::Person) => Ok(()),
        Some(Caller::Task(task)) => allow(&app, task, &mut parts).await,
        None => Err(forbidden()),
    };
    match allowed {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    }
}

/// Whether a task's key opens this.
async fn allow(app: &App, task: Uuid, parts: &mut Parts) -> Result<(), ApiError> {
    let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let reach = reach(&parts.method, path.unwrap_or_default()).ok_or_else(forbidden)?;
    if reach == Reach::All {
        return Ok(());
    }
    let Named(id) = Named::from_request_parts(parts, &()).await?;
    match (app.engine.kin(read_id(&id)?, task), reach) {
        (Kin::Neither, _) => Err(ApiError::no_such_task()),
        (_, Reach::All) | (Kin::Itself, Reach::Own | Reach::OwnAndBelow) => Ok(()),
        (Kin::Below, Reach::Below | Reach::OwnAndBelow) => Ok(()),
        (Kin::Itself, Reach::Below) | (Kin::Below, Reach::Own) => Err(forbidden()),
    }
}

fn reach(method: &Method, path: &str) -> Option<Reach> {
    // Whoever may see something may see how long it is.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    TABLE.iter().find(|(open, route, _)| open == method && *route == path).map(|(_, _, reach)| *reach)
}

fn forbidden() -> ApiError {
    let message = "a task's key does not open this: it is for the server's token";
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
}

#[cfg(test)]
mod tests {
    use super::{Reach, TABLE, reach};
    use http::Method;

    /// Protects the table from lines that open nothing, because no route is called like that.
    #[test]
    fn every_line_is_of_a_route_that_is_there() {
        let routes = include_str!("mod.rs");
        for (method, path, reach) in TABLE {
            assert!(routes.contains(&format!("\"{path}\"")), "{method} {path}");
            assert_eq!(path.contains("{id}"), *reach != Reach::All, "{path}");
        }
    }

    /// Protects everything that the table does not name.
    #[test]
    fn what_is_not_in_the_table_is_open_for_nobody() {
        for (method, path) in [
            (Method::GET, "/api/v1/daemons"),
            (Method::POST, "/api/v1/info"),
            (Method::DELETE, "/api/v1/tasks/{id}"),
            (Method::POST, "/api/v1/tasks/{id}/answers"),
            (Method::GET, ""),
        ] {
            assert_eq!(reach(&method, path), None, "{method} {path}");
        }
        assert_eq!(reach(&Method::HEAD, "/api/v1/info"), Some(Reach::All));
    }
}
