//! The live page: `/` on the broker's HTTP.
//!
//! ```text
//!  GET /              index.html ─┐
//!  GET /page/{file}   assets      ├─ from memory, with a policy that lets nothing else in
//!  GET /page/words.json  made of the table of reasons (wire) ─┘
//!
//!  browser ── /v1/fleet, /v1/traffic, /v1/peers, /v1/events, /v1/explain ──▶ api, under api's own rules
//! ```
//! What is served here is the same for everyone and tells nothing of the fleet, so it is open wherever the
//! API is; all data comes from the API, which asks for credentials where it always does. The page loads
//! nothing from elsewhere and works without a network beyond the broker. There is no build step: the files
//! in `assets/` are what the browser gets, ES modules one subject each (`assets/main.js` puts them
//! together), and what is pure in them is tested with node (`tests/tests/page_logic.rs`).

use crate::api::Problem;
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use nearmost_wire::api::reason::{REASONS, WANTED};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Scripts, styles and data from the broker itself and nothing else; no frame, no form, no inline code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Kept, but asked about each time: after an update of the broker no two versions are mixed.
    (header::CACHE_CONTROL, "no-cache"),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const SVG: &str = "image/svg+xml";

/// The file that `/` gives.
const INDEX: &str = "index.html";

macro_rules! assets {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        /// Files as they are beside this one.
        const ASSETS: &[(&str, &str, &[u8])] = &[$(($name, $kind, include_bytes!(concat!("assets/", $name)))),+];
    };
}

assets! {
    "index.html": HTML,
    "style.css": CSS,
    "icon.svg": SVG,
    "theme.js": SCRIPT,
    "main.js": SCRIPT,
    "poll.js": SCRIPT,
    "api.js": SCRIPT,
    "sse.js": SCRIPT,
    "model.js": SCRIPT,
    "rows.js": SCRIPT,
    "banner.js": SCRIPT,
    "headline.js": SCRIPT,
    "words.js": SCRIPT,
    "format.js": SCRIPT,
    "dom.js": SCRIPT,
    "geo.js": SCRIPT,
    "map.js": SCRIPT,
    "markers.js": SCRIPT,
    "flows.js": SCRIPT,
    "table.js": SCRIPT,
    "events.js": SCRIPT,
    "explain.js": SCRIPT,
    "panels.js": SCRIPT,
}

/// The outlines of the map; `data/natural-earth/README.md` says where they are from.
const WORLD: &[u8] = include_bytes!("../../../data/natural-earth/countries-110m.json");

/// One file, ready to be sent.
struct File {
    kind: &'static str,
    /// Of its content.
    etag: HeaderValue,
    body: Cow<'static, [u8]>,
}

impl File {
    fn new(kind: &'static str, body: Cow<'static, [u8]>) -> Option<File> {
        let hash = HEXLOWER.encode(&Sha256::digest(&body)[..12]);
        Some(File { kind, etag: HeaderValue::try_from(format!("\"{hash}\"")).ok()?, body })
    }

    /// The file, or word that what the browser has is still the same (RFC 9110, section 13.1.2).
    fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let own = self.etag.to_str().unwrap_or_default();
        let matches = |tag: &str| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == own;
        let mut response = match known.flat_map(|tags| tags.split(',')).any(matches) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => ([(header::CONTENT_TYPE, self.kind)], self.body.clone()).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

/// What `words.json` holds: the reasons of verdicts in words, as the command line has them.
#[derive(serde::Serialize)]
struct Words {
    reasons: BTreeMap<&'static str, &'static str>,
    wanted: [&'static str; WANTED.len()],
}

fn files() -> HashMap<&'static str, File> {
    let words = Words { reasons: REASONS.into_iter().collect(), wanted: WANTED };
    let words = serde_json::to_vec(&words).unwrap_or_default();
    let assets = ASSETS.iter().map(|(name, kind, body)| (*name, *kind, Cow::Borrowed(*body)));
    let data = [("world.json", JSON, Cow::Borrowed(WORLD)), ("words.json", JSON, Cow::Owned(words))];
    assets.chain(data).filter_map(|(name, kind, body)| Some((name, File::new(kind, body)?))).collect()
}

/// The routes of the page.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let files = Arc::new(files());
    let index = files.clone();
    Router::new()
        .route("/", get(move |headers: HeaderMap| async move { answer(&index, INDEX, &headers) }))
        .route(
            "/page/{file}",
            get(move |Path(name): Path<String>, headers: HeaderMap| async move {
                answer(&files, &name, &headers)
            }),
        )
}

fn answer(files: &HashMap<&'static str, File>, name: &str, asked: &HeaderMap) -> Result<Response, Problem> {
    let file = files.get(name).ok_or_else(|| {
        let name: String = name.chars().take(100).collect();
        Problem::new(StatusCode::NOT_FOUND, "no_such_path", format!("the page has no file {name:?}"))
    })?;
    Ok(file.answer(asked))
}

#[cfg(test)]
mod tests;
