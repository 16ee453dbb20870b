//! Which parts of the API scripts of other sites may use: asking where to go, and reporting round
//! trips. Both are open to everyone, look at no cookie and tell nothing that the asking address does
//! not get anyhow, so every origin may (Fetch standard, "CORS protocol").

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};

/// The routes, by template.
const ROUTES: [&str; 2] = ["/v1/resolve/{domain}", "/v1/rtt"];

/// Whether a route's answers are for scripts of other sites too.
pub(super) fn covers(route: &str) -> bool {
    ROUTES.contains(&route)
}

/// Whether a request asks for permission only.
pub(super) fn is_preflight(route: &str, method: &Method) -> bool {
    covers(route) && *method == Method::OPTIONS
}

/// Lets scripts read an answer, a refusal as well.
pub(super) fn allow(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
}

/// Gives the permission, for a day.
pub(super) async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
