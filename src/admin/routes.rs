//! What stands at which path. All of it is read with GET; nothing writes.

use std::sync::Arc;

use askama::Template as _;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::sse::Sse;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use ring::digest;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::access::{self, Access};
use super::live::Live;
use super::metrics;
use super::page::Page;
use super::snapshot::Snapshot;
use super::verdict::{Verdict, judge};
use crate::status::Board;

/// On every answer. The policy lets nothing in but the page's own files, so that no text from a device, a topic or a
/// cloud can become script, whatever else goes wrong.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

#[derive(Clone, Debug)]
struct Shown {
    board: Board,
    live: Arc<Live>,
    stop: CancellationToken,
}

/// The whole site for `board`, behind `access`; streams end with `stop`.
pub(crate) fn router(board: Board, access: Access, stop: CancellationToken) -> Router {
    let live = Arc::new(Live::new(board.clone()));
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/page.css", asset("text/css; charset=utf-8", include_str!("assets/page.css")))
        .route("/page.js", asset("text/javascript; charset=utf-8", include_str!("assets/page.js")))
        .route("/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")))
        .route("/api/status", get(status))
        .route("/api/points", get(points))
        .route("/api/points/{device}/{point}", get(point))
        .route("/api/uplinks", get(uplinks))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || (StatusCode::NOT_FOUND, "There is nothing at this path.\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "This can only be read: use GET.\n"))
        .layer(from_fn_with_state(access, access::check))
        .layer(map_response(with_headers))
        .with_state(Shown { board, live, stop })
}

async fn page(State(shown): State<Shown>) -> Response {
    // Not the one that tabs are compared with: ages count from this moment.
    match Page::of(&Snapshot::take(&shown.board)).render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("The page cannot be laid out: {error}\n")).into_response()
        }
    }
}

async fn events(State(shown): State<Shown>) -> Response {
    match shown.live.tab(shown.stop) {
        Some(tab) => Sse::new(tab).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "Too many pages are open: close one.\n").into_response(),
    }
}

/// `/api/status`.
#[derive(Serialize)]
struct Status {
    /// Whether the gateway does its work: everything is reached that must be.
    ready: bool,
    verdict: Verdict,
    status: Snapshot,
}

async fn status(State(shown): State<Shown>) -> Response {
    let status = Snapshot::take(&shown.board);
    let verdict = judge(&status);
    Json(Status { ready: verdict.ready(), verdict, status }).into_response()
}

async fn points(State(shown): State<Shown>) -> Response {
    Json(&*shown.board.points.borrow()).into_response()
}

async fn point(State(shown): State<Shown>, Path((device, name)): Path<(String, String)>) -> Response {
    let points = shown.board.points.borrow();
    match points.iter().find(|point| *point.device == *device && *point.point == *name) {
        Some(point) => Json(point).into_response(),
        None => {
            let text = format!("There is no point {device}/{name}; /api/points lists all.\n");
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

async fn uplinks(State(shown): State<Shown>) -> Response {
    Json(Snapshot::take(&shown.board).uplinks).into_response()
}

async fn metrics_text(State(shown): State<Shown>) -> Response {
    let text = metrics::write(&Snapshot::take(&shown.board));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// A file of the page, in the binary. Asked for again it is only confirmed, until the program changes.
fn asset(kind: &'static str, content: &'static str) -> MethodRouter<Shown> {
    let hash = digest::digest(&digest::SHA256, content.as_bytes());
    let tag: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    get(async move |headers: HeaderMap| {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        let fields = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".into())];
        if known.is_some_and(|known| known.contains(&tag)) {
            return (StatusCode::NOT_MODIFIED, fields).into_response();
        }
        (fields, [(header::CONTENT_TYPE, kind)], content).into_response()
    })
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
