//! What is served, with which headers, and that the files are all of a piece.

use super::*;
use axum::body::{Body, to_bytes};
use http::{Method, Request};
use std::collections::BTreeSet;
use tower::ServiceExt;

async fn ask(request: http::request::Builder) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = router::<()>().with_state(()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
}

fn text(name: &str) -> &'static str {
    let (.., body) = ASSETS.iter().find(|(known, ..)| *known == name).unwrap();
    std::str::from_utf8(body).unwrap()
}

#[tokio::test]
async fn the_page_comes_with_a_policy_that_lets_nothing_else_in() {
    let (status, headers, body) = ask(Request::get("/")).await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &HeaderValue::from_static(HTML)));
    assert_eq!(body, text(INDEX).as_bytes());
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let (_, headers, _) = ask(Request::get("/page/main.js")).await;
    let etag = headers["etag"].clone();
    for known in [etag.to_str().unwrap().to_owned(), format!("\"other\", W/{}", etag.to_str().unwrap())] {
        let (status, headers, body) =
            ask(Request::get("/page/main.js").header("if-none-match", &known)).await;
        assert_eq!((status, body.len(), &headers["etag"]), (StatusCode::NOT_MODIFIED, 0, &etag), "{known}");
        assert!(headers.contains_key("content-security-policy"));
    }
    let (status, ..) = ask(Request::get("/page/main.js").header("if-none-match", "\"other\"")).await;
    assert_eq!(status, StatusCode::OK);
    let (status, headers, body) = ask(Request::builder().method(Method::HEAD).uri("/page/main.js")).await;
    assert_eq!((status, &headers["etag"], body.len()), (StatusCode::OK, &etag, 0));
}

#[tokio::test]
async fn unknown_files_are_refused_in_words() {
    let (status, _, body) = ask(Request::get("/page/..%2Fmod.rs")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(String::from_utf8(body).unwrap().contains("no file"));
}

#[tokio::test]
async fn every_file_has_its_type_and_content() {
    for name in files().keys() {
        let (status, headers, body) = ask(Request::get(format!("/page/{name}"))).await;
        assert_eq!((status, body.is_empty()), (StatusCode::OK, false), "{name}");
        let kind = headers["content-type"].to_str().unwrap();
        let expected = [(".js", SCRIPT), (".css", CSS), (".json", JSON), (".svg", SVG), (".html", HTML)];
        let (_, expected) = expected.iter().find(|(end, _)| name.ends_with(end)).unwrap();
        assert_eq!(kind, *expected, "{name}");
    }
    let (.., words) = ask(Request::get("/page/words.json")).await;
    let words: serde_json::Value = serde_json::from_slice(&words).unwrap();
    assert_eq!(words["reasons"]["silent_and_unreachable"], "its agent is silent, and probes fail");
    let (.., world) = ask(Request::get("/page/world.json")).await;
    let world: serde_json::Value = serde_json::from_slice(&world).unwrap();
    assert!(world["objects"]["countries"]["geometries"].as_array().unwrap().len() > 170);
}

/// Every file in `assets/` is served, every module that is imported is there, and nothing leads elsewhere.
#[test]
fn the_files_refer_to_one_another_only() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/assets");
    let on_disk: BTreeSet<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let served: BTreeSet<String> = ASSETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(on_disk, served);
    for (name, kind, _) in ASSETS.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
        assert_eq!(*kind, SCRIPT);
        for line in
            text(name).lines().filter(|line| line.starts_with("import ") || line.starts_with("} from"))
        {
            let from = line.split('\'').nth(1).unwrap_or_else(|| panic!("{name}: {line}"));
            let file = from.strip_prefix("./").unwrap_or_else(|| panic!("{name} imports {from}"));
            assert!(served.contains(file), "{name} imports {file}");
        }
    }
}

/// Markup is never made of text, and nothing is inline: the policy would stop it, and so would this.
#[test]
fn no_file_parses_markup_or_is_inline() {
    const BANNED: [&str; 9] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
        "javascript:",
        "srcdoc",
    ];
    for (name, ..) in ASSETS {
        let text = text(name);
        for banned in BANNED {
            assert!(!text.contains(banned), "{name} has {banned}");
        }
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{name} leads elsewhere");
    }
    let index = text(INDEX);
    assert!(!index.contains(" style=") && !index.contains("<style") && !index.contains(" onclick="));
    assert!(index.split("<script").skip(1).all(|tag| tag.contains("src=\"/page/")));
}
