//! Makes the pictures of `docs/images`, of the demo with users of thirty countries. Run by hand:
//! `docs/page.md` says how.

use nearmost_tests::browser::Browser;
use nearmost_tests::demo::Demo;
use nearmost_tests::dns;
use std::path::{Path, PathBuf};

const DOMAIN: &str = "play.nearmost.test";

/// Networks of access providers and universities, and how many /24 of each ask.
const USERS: [(&str, u8); 32] = [
    ("212.58", 9),
    ("86.128", 14),
    ("80.128", 12),
    ("90.0", 10),
    ("79.16", 8),
    ("80.24", 6),
    ("83.0", 5),
    ("78.64", 4),
    ("95.24", 7),
    ("78.160", 6),
    ("41.32", 5),
    ("105.112", 8),
    ("105.160", 4),
    ("196.25", 6),
    ("17.0", 10),
    ("73.0", 16),
    ("142.150", 7),
    ("187.128", 9),
    ("200.160", 11),
    ("190.16", 6),
    ("190.160", 4),
    ("117.192", 14),
    ("133.11", 9),
    ("126.0", 10),
    ("175.192", 8),
    ("36.64", 9),
    ("14.160", 6),
    ("112.198", 5),
    ("202.156", 4),
    ("139.130", 9),
    ("1.128", 7),
    ("130.195", 3),
];

fn image(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    std::fs::create_dir_all(&dir).expect("docs/images");
    dir.join(name)
}

async fn users(demo: &Demo) {
    for (prefix, networks) in USERS {
        for network in 0..networks {
            dns::ask(demo.dns, DOMAIN, &format!("{prefix}.{network}.0/24")).await;
        }
    }
}

#[tokio::test]
#[ignore = "writes into docs/images"]
async fn pictures() {
    let demo = Demo::start().await;
    users(&demo).await;
    let page = Browser::start().await;
    page.resize(1440, 1000, false).await;
    page.prefer("light").await;
    page.open(&demo.url).await;
    page.until("document.querySelectorAll('.flow').length > 15").await;
    // Its users are sent elsewhere, and ask again. Where the demo's own user plays, nobody else is told of.
    let told = page.text("#user-rows").await;
    demo.kill(if told.contains("United Kingdom") { "london" } else { "newyork" });
    page.until("document.querySelector('#headline').dataset.level === 'bad'").await;
    users(&demo).await;
    page.until("document.querySelector('#incidents').innerText.includes('now sent to')").await;
    page.until("document.querySelector('#event-list').innerText.includes('probe')").await;
    // What is a second old reads like what is made up.
    page.until("/\\([3-9] s\\)/.test(document.querySelector('#incidents').innerText)").await;
    page.picture(&image("page-light.png")).await;

    page.prefer("dark").await;
    page.fill("#explain-address", "133.11.0.1").await;
    page.click("#explain-form button[type=submit]").await;
    page.until("document.querySelectorAll('.way').length === 5").await;
    page.run("document.activeElement.blur()").await;
    page.picture(&image("page-dark.png")).await;

    page.prefer("light").await;
    page.click("#explain-clear").await;
    page.resize(390, 844, true).await;
    page.run("scrollTo(0, 0); document.activeElement.blur()").await;
    page.until("[...document.querySelectorAll('.marker .name')].filter((n) => n.textContent).length <= 1 && document.querySelector('#map').clientWidth < 390").await;
    page.picture(&image("page-phone.png")).await;
    page.end().await;
}
