//! Who is answered, and who is not.

use serde_json::Value;

use crate::common::{Daemon, TOKEN, World, soon};

const PATHS: &[&str] = &["/api/v1/info", "/api/v1/tasks", "/api/v1/daemons", "/api/v1/nothing", "/"];

/// Protects everything: loopback is shared by all who have an account on the machine.
#[tokio::test]
async fn nothing_is_answered_without_the_token() {
    let world = World::new().await;
    for path in PATHS {
        for shown in [None, Some("Bearer wrong".to_owned()), Some(TOKEN.to_owned()), Some(format!("Basic {TOKEN}"))] {
            let mut request = world.http.get(world.url(path));
            if let Some(shown) = &shown {
                request = request.header("authorization", shown);
            }
            let response = soon(path, request.send()).await.unwrap();
            assert_eq!(response.status(), 401, "{path} {shown:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"]["code"], "unauthorized");
        }
    }
    let shown = format!("bearer {TOKEN}");
    let request = world.http.get(world.url("/api/v1/info")).header("authorization", shown);
    assert_eq!(request.send().await.unwrap().status(), 200, "the scheme has no case");
}

/// Protects what changes something, too: whatever can be said to a task or asked of it.
#[tokio::test]
async fn nothing_is_done_without_the_token() {
    let world = World::new().await;
    let id = world.create("x").await;
    let source = include_str!("../../src/http/mod.rs");
    let paths = source.split(".route(\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(path, _)| path);
    let paths: Vec<String> = paths.map(|path| path.replace("{id}", &id.to_string())).collect();
    assert!(paths.len() > 18, "{paths:?}");
    for path in paths.iter().filter(|path| !path.contains("/mesh/")) {
        for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::DELETE] {
            let request = world.http.request(method.clone(), world.url(path)).body("{}");
            assert_eq!(soon(path, request.send()).await.unwrap().status(), 401, "{method} {path}");
        }
    }
    assert_eq!(world.task(id).await["status"], "pending");
}

/// Protects from web pages whose own name leads to this machine.
#[tokio::test]
async fn a_foreign_host_is_refused() {
    let world = World::new().await;
    let port = world.server().address().port();
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "a@localhost", ""] {
        let host = if host.is_empty() { String::new() } else { format!("{host}:{port}") };
        let response = soon("info", world.get("/api/v1/info").header("host", &host).send()).await.unwrap();
        assert_eq!(response.status(), 421, "{host}");
        assert_eq!(Daemon::knock(&world, &[("host", &host)]).await.err(), Some(421), "{host}");
    }
    for host in ["localhost", "127.0.0.1:1", "127.3.4.5", "[::1]:80", "makima.example", "MAKIMA.example:9999"] {
        let response = soon("info", world.get("/api/v1/info").header("host", host).send()).await.unwrap();
        assert_eq!(response.status(), 200, "{host}");
    }
}

/// Protects from web pages that call this machine straight.
#[tokio::test]
async fn a_foreign_origin_is_refused() {
    let world = World::new().await;
    let address = world.server().address();
    let other_port = format!("http://127.0.0.1:{}", address.port() ^ 1);
    for origin in
        ["null", "http://evil.example", "https://evil.example", "", &other_port, &format!("https://{address}")]
    {
        let response = soon("info", world.get("/api/v1/info").header("origin", origin).send()).await.unwrap();
        assert_eq!(response.status(), 403, "{origin}");
        assert!(response.headers().get("access-control-allow-origin").is_none());
        assert_eq!(Daemon::knock(&world, &[("origin", origin)]).await.err(), Some(403), "{origin}");
    }
    let ours = format!("http://{address}");
    let response = soon("info", world.get("/api/v1/info").header("origin", &ours).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(Daemon::knock(&world, &[("origin", &ours)]).await.is_ok());
}

/// Protects the connect path from calls that are no WebSocket.
#[tokio::test]
async fn a_plain_request_at_the_daemons_door_is_an_error() {
    let world = World::new().await;
    let response = soon("connect", world.get("/api/v1/mesh/daemons/connect").send()).await.unwrap();
    assert!(response.status().is_client_error());
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "websocket_expected");
}
