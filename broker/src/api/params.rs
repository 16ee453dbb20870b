//! Queries and JSON bodies, read so that what is wrong is said in the API's own words.

use super::error::Problem;
use axum::body::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// The parameters of a query.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query that may hold `known` parameters, each once.
    ///
    /// # Errors
    /// 400 naming the parameter that is unknown or given twice.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Params, Problem> {
        let params = Params::read_repeated(uri, known)?;
        let repeated = (1..params.0.len()).find(|i| params.0[..*i].iter().any(|p| p.0 == params.0[*i].0));
        match repeated {
            Some(at) => Err(Problem::bad_request(format!("{} is given twice", params.0[at].0))),
            None => Ok(params),
        }
    }

    /// The same where parameters may be repeated.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn read_repeated(uri: &Uri, known: &[&str]) -> Result<Params, Problem> {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Ok(axum::extract::Query(pairs)) = query else {
            return Err(Problem::bad_request("the query is not of the form name=value&name=value in UTF-8"));
        };
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Params(pairs)),
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                let known = match known {
                    [] => "none is known here".to_owned(),
                    known => format!("known here: {}", known.join(", ")),
                };
                Err(Problem::bad_request(format!("unknown query parameter {name:?}; {known}")))
            }
        }
    }

    /// All, in order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The text of a parameter that must be there.
    ///
    /// # Errors
    /// 400.
    pub(super) fn required(&self, name: &str) -> Result<&str, Problem> {
        self.text(name).ok_or_else(|| Problem::bad_request(format!("the query parameter {name} is missing")))
    }

    /// A parameter that is `what`, e.g. "an IP address".
    ///
    /// # Errors
    /// 400 for one that is not.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| {
            let shown: String = text.chars().take(100).collect();
            text.parse().map_err(|_| Problem::bad_request(format!("{name}={shown:?} is not {what}")))
        };
        self.text(name).map(parse).transpose()
    }
}

/// A body of JSON.
///
/// # Errors
/// 415 for another type, 400 for what is no JSON, 422 for JSON of another form.
pub(crate) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
    json_of(&["application/json"], headers, body)
}

/// The same for a body that says that it is plain text, as browsers send it without asking first.
///
/// # Errors
/// As [`json`].
pub(super) fn json_or_text<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
    json_of(&["application/json", "text/plain"], headers, body)
}

fn json_of<T: DeserializeOwned>(kinds: &[&str], headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if !kinds.iter().any(|k| k.eq_ignore_ascii_case(kind)) {
        let message = format!("the request's body must be of Content-Type {}", kinds.join(" or "));
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_json", message));
    }
    serde_json::from_slice(body).map_err(|e| {
        let place = format!("at line {}, column {}", e.line(), e.column());
        match e.classify() {
            serde_json::error::Category::Data => {
                let message = format!("the request's body: {} ({place})", wrong_form(&e.to_string()));
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_json", message)
            }
            _ => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_json",
                format!("the request's body is not JSON: it breaks off or goes wrong {place}"),
            ),
        }
    })
}

/// What is wrong with the form; the names of keys are all that is taken over.
fn wrong_form(said: &str) -> String {
    let named = |prefix: &str| Some(said.strip_prefix(prefix)?.split('`').next()?.to_owned());
    match (named("unknown field `"), named("missing field `"), named("duplicate field `")) {
        (Some(key), ..) => format!("unknown key {key:?}"),
        (_, Some(key), _) => format!("{key:?} is missing"),
        (.., Some(key)) => format!("{key:?} is given twice"),
        _ => "a value is not of the type that /openapi.json gives it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Asked {
        domains: Vec<String>,
        name: Option<String>,
        ttl_s: u64,
    }

    fn read(body: &str) -> Result<Asked, (u16, String)> {
        let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap())];
        json(&headers.into_iter().collect(), &Bytes::copy_from_slice(body.as_bytes()))
            .map_err(|p| (p.status.as_u16(), p.message))
    }

    #[test]
    fn wrong_bodies_are_told_in_our_own_words() {
        for (body, status, says) in [
            (r#"{"domains":[]"#, 400, "line 1, column 13"),
            (r#"{"domains":[],"ttl_s":60,"tll":1}"#, 422, "unknown key \"tll\""),
            (r#"{"domains":[]}"#, 422, "\"ttl_s\" is missing"),
            (r#"{"domains":[],"domains":[]}"#, 422, "\"domains\" is given twice"),
            (r#"{"domains":3}"#, 422, "not of the type"),
        ] {
            let (got, message) = read(body).unwrap_err();
            assert!(got == status && message.contains(says) && !message.contains('`'), "{body}: {message}");
        }
        assert!(read(r#"{"domains":[],"name":null,"ttl_s":60}"#).is_ok());
        assert_eq!(json::<Asked>(&HeaderMap::new(), &Bytes::new()).unwrap_err().status, 415);
    }

    #[test]
    fn wrong_queries_are_told_in_our_own_words() {
        let says = |query: &str, part: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            let read = || {
                let params = Params::read(&uri, &["domain", "n"])?;
                params.required("domain")?;
                params.parsed::<u32>("n", "a number")
            };
            let message = read().unwrap_err().message;
            assert!(message.contains(part), "{message}");
        };
        says("", "domain is missing");
        says("domain=a&who=1", "unknown query parameter \"who\"; known here: domain, n");
        says("domain=a&domain=b", "domain is given twice");
        says("domain=a&n=-1", "n=\"-1\" is not a number");
    }

    proptest! {
        #[test]
        fn no_query_and_no_body_panics(query in "[!-~&&[^#]]{0,60}", body in "[ -~]{0,60}") {
            if let Ok(uri) = format!("/x?{query}").parse::<Uri>() {
                drop(Params::read(&uri, &["a"]));
            }
            drop(read(&body));
        }
    }
}
