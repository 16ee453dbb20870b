//! The API's description: what the routes say, and what the gate does for all of them.

use super::auth::{Access, ListenerKind, access};
use http::Method;
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

/// The description as JSON, with credentials and the refusals of the gate.
pub(super) fn describe(routes: &OpenApi) -> String {
    // A description always has a JSON form.
    let mut all = serde_json::to_value(routes).unwrap_or_default();
    all["components"]["securitySchemes"] = schemes();
    let paths = all["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            let method: Option<Method> = method.to_uppercase().parse().ok();
            let Some(method) = method.filter(|_| operation.is_object()) else { continue };
            let needed = access(ListenerKind::Public, &method, Some(path));
            passes_the_gate(operation, needed == Access::Credentials);
        }
    }
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

/// The two ways to prove who asks.
fn schemes() -> Value {
    json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "The text of one of http.tokens (RFC 6750)",
        },
        "person": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Nearmost id=np1…, time=…, nonce=…, signature=…`: one of http.persons signs, with \
    Ed25519 in base64url without padding, the lines `nearmost http v2`, the id of the broker (of `/healthz`), method, \
    path with query, time in Unix milliseconds, nonce, and the SHA-256 of the body in hexadecimal, each ended by a line feed. \
    The time may be 60 s off; a nonce is good once.",
        },
    })
}

fn passes_the_gate(operation: &mut Value, guarded: bool) {
    let refusal = |description: &str| {
        json!({
            "description": description,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorBody" } } },
        })
    };
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    responses
        .entry("429")
        .or_insert_with(|| refusal("The source asks too often; `Retry-After` says how long to wait"));
    if !guarded {
        return;
    }
    responses.entry("401").or_insert_with(|| refusal("Credentials are missing or wrong"));
    responses.entry("403").or_insert_with(|| refusal("The person may not use this API"));
    operation["security"] = json!([{ "token": [] }, { "person": [] }]);
}
