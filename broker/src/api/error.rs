//! Every refusal of the API: a status, a code for machines and a sentence for people, as
//! [`ErrorBody`].

use crate::admin::AdminError;
use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use nearmost_wire::api::ErrorBody;

/// A refusal.
#[derive(Clone, Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// A bounded, snake-case code.
    pub code: &'static str,
    /// A sentence that names what was wrong.
    pub message: String,
    /// A header that belongs to the status: `WWW-Authenticate`, `Retry-After`.
    pub header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A refusal without a header of its own.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), header: None }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404, with the nearest right name when one looks alike.
    pub fn not_found(code: &'static str, what: &str, name: &str, nearest: Option<&str>) -> Problem {
        let hint = nearest.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        // A name comes from the request: quoted, and not longer than a name can be.
        let name: String = name.chars().take(253).collect();
        Problem::new(StatusCode::NOT_FOUND, code, format!("no {what} {name:?}{hint}"))
    }

    /// 503: try again in some seconds.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after_s: u32) -> Problem {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Problem { header: Some((header::RETRY_AFTER, HeaderValue::from(retry_after_s))), ..problem }
    }

    /// 413: the body is larger than what is read; `remedy` ends the sentence.
    pub fn too_large(limit: usize, remedy: &str) -> Problem {
        let message = format!("the request's body is larger than {limit} bytes{remedy}");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(ErrorBody { code: self.code.into(), message: self.message });
        let mut response = (self.status, [(header::CACHE_CONTROL, "no-store")], body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Problem {
        Problem::bad_request("the path, with its percent signs decoded, is not UTF-8")
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Problem {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            _ => "bad_request",
        };
        Problem::new(rejection.status(), code, "the request's body cannot be read")
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Problem {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Problem::unavailable(error.code(), error.to_string(), 1);
        }
        if status.is_server_error() {
            tracing::error!(code = error.code(), %error, "a request of an administrator failed");
        }
        Problem::new(status, error.code(), error.to_string())
    }
}

/// The known name that looks most like an unknown one, when one does.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    if name.len() > 253 {
        return None;
    }
    let limit = (name.len() / 4).clamp(1, 4);
    known
        .filter(|k| k.len().abs_diff(name.len()) <= limit)
        .map(|k| (strsim::damerau_levenshtein(&name, k), k))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_looks_alike() {
        let known = ["play.example", "chat.example", "a"];
        assert_eq!(nearest("paly.example", known.into_iter()), Some("play.example"));
        assert_eq!(nearest("PLAY.EXAMPLE", known.into_iter()), Some("play.example"));
        assert_eq!(nearest("something.else", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(4000), known.into_iter()), None);
    }
}
