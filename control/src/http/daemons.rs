//! The server itself and its daemons.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use makima_core::effect::Way;
use makima_core::protocol::Wire;
use serde::Serialize;
use uuid::Uuid;

use crate::app::App;
use crate::clock::rfc3339;

#[derive(Serialize)]
pub(super) struct Info {
    server: &'static str,
    version: String,
    tasks: usize,
    followers: usize,
    daemons: usize,
}

/// `GET /api/v1/info`
pub(super) async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    let (tasks, daemons) = app.engine.numbers();
    let followers = app.engine.activity().borrow().followers;
    Json(Info { server: "makima", version: app.version.clone(), tasks, followers, daemons })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DaemonJson {
    id: Uuid,
    machine_id: String,
    hostname: String,
    connected: bool,
    max_concurrent_tasks: i32,
    active_tasks: usize,
    /// Which version of the wire it speaks; none while it is away.
    wire: Option<u8>,
    /// How it comes; none while it is away.
    transport: Option<&'static str>,
    last_seen_at: String,
}

/// `GET /api/v1/daemons`
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Vec<DaemonJson>> {
    let daemons = app.engine.daemons().into_iter().map(|daemon| DaemonJson {
        id: daemon.id,
        machine_id: daemon.machine,
        hostname: daemon.hostname,
        connected: daemon.connected,
        max_concurrent_tasks: daemon.max_tasks,
        active_tasks: daemon.active,
        wire: daemon.link.map(|(wire, _)| match wire {
            Wire::One => 1,
            Wire::Two => 2,
        }),
        transport: daemon.link.map(|(_, way)| match way {
            Way::WebSocket => "websocket",
            Way::LongPoll => "longPoll",
        }),
        last_seen_at: rfc3339(daemon.seen),
    });
    Json(daemons.collect())
}
