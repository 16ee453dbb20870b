//! The live page in a real browser: it loads, shows what happens as it happens, explains, can be used by
//! keyboard and screen reader, on a phone and in the dark, asks nobody but its broker and complains of nothing.

use nearmost_tests::browser::Browser;
use nearmost_tests::demo::Demo;
use nearmost_tests::process::{Broker, broker_config, directory};
use nearmost_tests::tools::certify;
use nearmost_tests::{dns, eventually};
use serde_json::{Value, json};
use std::time::Duration;

const DOMAIN: &str = "play.nearmost.test";
/// WebDriver's code points of keys.
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
const RIGHT: char = '\u{e014}';

/// Waits until the page has the fleet, and shows this many mirrors.
async fn loaded(page: &Browser, mirrors: usize) {
    page.until(&format!("document.querySelectorAll('#mirror-table tbody').length === {mirrors}")).await;
    page.until("document.querySelector('#link').dataset.state === 'live'").await;
}

/// Nothing was asked of anybody else, and nothing was complained of.
async fn only_asked_its_broker(page: &Browser, origin: &str) {
    let asked = page.requests().await;
    assert!(asked.len() > 10, "{asked:?}");
    let own = format!("{origin}/");
    let strange: Vec<_> = asked.iter().filter(|url| !url.starts_with(&own)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(page.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_page_shows_the_fleet_explains_it_and_shows_a_kill_as_it_happens() {
    let demo = Demo::start().await;
    users_ask(&demo).await;
    let page = Browser::start().await;
    page.resize(1400, 1000, false).await;
    page.open(&demo.url).await;
    loaded(&page, 5).await;
    shows_the_fleet(&page).await;
    filters_and_sorts(&page).await;
    explains(&page).await;
    shows_a_kill(&page, &demo).await;
    cannot_be_injected(&page).await;
    only_asked_its_broker(&page, &demo.url).await;
    page.end().await;
}

/// Mirrors of the demo, and whose users are sent there.
const COUNTRIES: [(&str, &str); 3] =
    [("saopaulo", "Brazil"), ("sydney", "Australia"), ("london", "United Kingdom")];

/// Two networks in Brazil, one in Britain, one in Australia.
async fn users_ask(demo: &Demo) {
    for prefix in ["212.58.224.0/24", "200.160.0.0/24", "200.160.1.0/24", "139.130.0.0/24"] {
        dns::ask(demo.dns, DOMAIN, prefix).await;
    }
}

async fn shows_the_fleet(page: &Browser) {
    page.until("document.querySelector('#headline').dataset.level === 'ok'").await;
    assert!(page.text("#title").await.starts_with("All is well: 5 of 5 mirrors take users"));
    // Where they are, by name; the outlines; users by country.
    page.until("document.querySelectorAll('.marker').length === 5").await;
    page.until("document.querySelector('.land').getAttribute('d').length > 50000").await;
    page.until("document.querySelectorAll('.flow').length >= 2").await;
    let labels = page.run("return [...document.querySelectorAll('.marker')].map((m) => m.getAttribute('aria-label')).join('\\n')").await;
    assert!(
        labels.as_str().is_some_and(|l| l.contains("play.nearmost.test/saopaulo, up, proven")),
        "{labels}"
    );
    told_of_users(page).await;
    assert!(page.text("#domain-rows").await.contains("5 of 5"));
    assert_eq!(page.text("#peers-note").await, "This broker has no peers.");
    // Events of before the page was opened are there, too.
    page.until("document.querySelectorAll('#event-list li').length >= 5").await;
    let events = page.text("#event-list").await;
    assert!(events.contains("play.nearmost.test/london v4 ") && events.contains(" → up: proven"), "{events}");
}

/// How many cells a column has, and neighbours that are not in the order that its heading tells.
const WRONG_ORDER: &str = r##"
    const { model } = await import('/page/main.js');
    const way = document.querySelector('th[data-column=COLUMN]').getAttribute('aria-sort') === 'ascending' ? 1 : -1;
    const since = new Map(model.rows.map((row) => [row.mirror, row.since]));
    const cells = [...document.querySelectorAll('#mirror-table tbody')].map((row) => {
      const [name, text] = ['.name', '.c-COLUMN'].map((s) => row.querySelector(s).textContent);
      const number = text.startsWith('–') ? null : parseFloat(text.replace(/\s/g, ''));
      const value = { since: since.get(name), reason: text, state: text }.COLUMN ?? number;
      return { name, value };
    });
    const right = (a, b) => {
      if (a.value === b.value) return true;
      if (a.value === null || b.value === null) return b.value === null;
      return way > 0 ? a.value < b.value : a.value > b.value;
    };
    return [cells.length, cells.slice(1).map((b, i) => [cells[i], b]).filter(([a, b]) => !right(a, b))];"##;

/// Names of the mirrors in the table, from the top.
async fn names(page: &Browser) -> String {
    let names = page.run("return [...document.querySelectorAll('#mirror-table tbody .name')].map((n) => n.textContent).join(' ')");
    names.await.as_str().unwrap_or_default().to_owned()
}

async fn filters_and_sorts(page: &Browser) {
    page.click("th[data-column=mirror] button").await;
    assert_eq!(names(page).await, "london newyork saopaulo singapore sydney");
    page.click("th[data-column=mirror] button").await;
    assert_eq!(names(page).await, "sydney singapore saopaulo newyork london");
    let sorted = "return document.querySelector('th[data-column=mirror]').getAttribute('aria-sort')";
    assert_eq!(page.run(sorted).await, "descending");
    for column in ["reason", "since", "load", "users", "p50", "p95", "state"] {
        for way in ["first", "other"] {
            page.click(&format!("th[data-column={column}] button")).await;
            let wrong = page.run_async(&WRONG_ORDER.replace("COLUMN", column)).await;
            assert_eq!(wrong, json!([5, []]), "{column}, the {way} way");
        }
    }
    page.click("th[data-column=mirror] button").await;
    page.click("th[data-column=state] button").await;
    page.fill("#filter", "brazil").await;
    assert_eq!(
        (names(page).await.as_str(), page.text("#row-count").await.as_str()),
        ("saopaulo", "1 of 5 mirrors")
    );
    page.fill("#filter", "nobody").await;
    assert_eq!((names(page).await.as_str(), page.text("#no-rows").await.as_str()), ("", "No mirror passes."));
    page.fill("#filter", "").await;
    page.run("const s = document.querySelector('#filter-state'); s.value = 'down'; s.dispatchEvent(new Event('change'))").await;
    assert_eq!(names(page).await, "");
    page.run("const s = document.querySelector('#filter-state'); s.value = ''; s.dispatchEvent(new Event('change'))").await;
    // A row tells more when asked.
    page.click("#mirror-table tbody .name").await;
    let details = page.text("#mirror-table .details").await;
    assert!(details.contains("its agent is connected here") && details.contains("v4 127.0.10."), "{details}");
    page.click("#mirror-table tbody .name").await;
}

async fn explains(page: &Browser) {
    page.fill("#explain-address", "200.160.0.1").await;
    page.click("#explain-form button[type=submit]").await;
    page.until("document.querySelectorAll('.ranking > li').length === 5").await;
    let said = page.text("#explain-said").await;
    assert!(said.contains("200.160.0.1 is at Brazil") && said.contains("goes to saopaulo"), "{said}");
    let first = page.text(".ranking > li.chosen").await;
    assert!(
        first.starts_with("saopaulo") && first.contains("answered") && first.contains("distance"),
        "{first}"
    );
    // Drawn: the client, and a way with its rank to each of the five.
    let drawn =
        "return ['.client', '.way', '.way.chosen', '.rank'].map((s) => document.querySelectorAll(s).length)";
    assert_eq!(page.run(drawn).await, json!([1, 5, 1, 5]));
    page.fill("#explain-address", "<b>nowhere</b>").await;
    page.press(ENTER).await;
    assert_eq!(page.text("#explain-said").await, "“<b>nowhere</b>” is no IPv4 or IPv6 address.");
    page.fill("#explain-address", "fd00::1").await;
    page.press(ENTER).await;
    page.until("document.querySelector('#explain-said').innerText.startsWith('fd00::1 is at unknown place')")
        .await;
    page.click("#explain-clear").await;
    assert_eq!(page.run(drawn).await, json!([0, 0, 0, 0]));
}

/// Countries that the page tells users of. At the mirror where the demo's own user plays the agent counts
/// connections, and answers count no more: one of the three may be missing.
async fn told_of_users(page: &Browser) -> String {
    let text = || page.text("#user-rows");
    let told = |text: &String| COUNTRIES.iter().filter(|(_, country)| text.contains(country)).count() >= 2;
    eventually("users are told of", text, told).await
}

async fn shows_a_kill(page: &Browser, demo: &Demo) {
    // Users count for half a minute after they asked.
    users_ask(demo).await;
    let users = told_of_users(page).await;
    let told = COUNTRIES.into_iter().find(|(_, country)| users.contains(country));
    let (victim, country) = told.expect("a country");
    // Notes when each part of the page first says so.
    page.run(&WATCH.replace("VICTIM", victim)).await;
    demo.kill(victim);
    page.until("Object.keys(seen).length === 5").await;
    let late = page.run_async(&LATE.replace("VICTIM", victim)).await;
    println!("milliseconds after the broker's event: {late}");
    for (part, ms) in late.as_object().expect("times") {
        // What is spoken waits a moment on purpose: for the sentence that a storm of events is told in.
        let most = if part == "spoken" { 4000 } else { 1000 };
        assert!(ms.as_i64().is_some_and(|ms| ms <= most), "{part}: {late}");
    }
    // Whom it concerns, and, once they asked again, where they are.
    let said = page.text("#incidents").await;
    assert!(said.contains(&format!("{DOMAIN}/{victim} down since")), "{said}");
    // Those of other countries may be more, and told first.
    assert!(said.contains(" from ") && said.contains(country) && said.contains("on it"), "{said}");
    users_ask(demo).await;
    // They may be told of nowhere, see `told_of_users`.
    page.until(
        "/now sent to \\w+|new users are sent to/.test(document.querySelector('#incidents').innerText)",
    )
    .await;
    let title = page.run("return document.title").await;
    assert!(title.as_str().is_some_and(|t| t.starts_with("✕ nearmost: 1 mirror out")), "{title}");
    // The worst first, and what stands in the headline leads to its row.
    assert!(names(page).await.starts_with(victim));
    page.click("#incidents .what").await;
    assert_eq!(names(page).await, victim);
    page.click("#filter-place").await;
    assert_eq!(names(page).await.split(' ').count(), 5);
}

/// Notes when each part of the page first says that a mirror is down.
const WATCH: &str = r##"
    window.seen = {};
    const text = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent).join('\n');
    const parts = {
      table: () => document.querySelector('#mirror-table .pill.s-down')?.closest('tbody').textContent.startsWith('VICTIM'),
      event: () => /VICTIM v4 \w+ → down/.test(text('#event-list li')),
      headline: () => document.querySelector('#headline').dataset.level === 'bad' && text('#incidents').includes('VICTIM down'),
      map: () => document.querySelector('.marker.s-down.out')?.getAttribute('aria-label').includes('VICTIM, down'),
      spoken: () => /VICTIM v4 from \w+ to down/.test(text('#spoken')),
    };
    const look = () => {
      for (const [name, is] of Object.entries(parts)) if (!(name in seen) && is()) seen[name] = Date.now();
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });"##;

/// How long after the event each said so, in milliseconds.
const LATE: &str = "const { model } = await import('/page/main.js');\
    const event = model.events.find((e) => e.mirror === 'VICTIM' && e.to === 'down');\
    return Object.fromEntries(Object.entries(seen).map(([name, at]) => [name, at - event.at_unix_ms]))";

/// Names that no registry permits, in every place that a text of others is shown.
async fn cannot_be_injected(page: &Browser) {
    assert_eq!(page.run_async(include_str!("../page/hostile.js")).await, json!([0, null, []]));
}

#[tokio::test]
async fn the_page_can_be_used_by_keyboard_and_reader_on_a_phone_and_in_the_dark() {
    let demo = Demo::start().await;
    let page = Browser::start().await;
    page.resize(1400, 1000, false).await;
    page.open(&demo.url).await;
    loaded(&page, 5).await;
    page.until("document.querySelectorAll('.marker').length === 5").await;
    keyboard_reaches_everything(&page).await;
    everything_has_a_name(&page).await;
    themes(&page).await;
    phone(&page).await;
    only_asked_its_broker(&page, &demo.url).await;
    page.end().await;
}

async fn keyboard_reaches_everything(page: &Browser) {
    let mut reached = Vec::new();
    let focus = "const at = document.activeElement; const style = getComputedStyle(at);\
        const ring = style.outlineStyle !== 'none' || at.matches('.marker') && getComputedStyle(at.querySelector('.target')).stroke !== 'none';\
        return [at.id || at.dataset?.column || at.closest('th')?.dataset.column || at.getAttribute('class') || at.tagName, ring]";
    for _ in 0..60 {
        page.press(TAB).await;
        let at = page.run(focus).await;
        let name = at[0].as_str().expect("a name").to_owned();
        // A browser in a window goes on to its own controls, and then from the start.
        if name == "BODY" || reached.first() == Some(&name) && reached.len() > 10 {
            break;
        }
        assert_eq!(at[1], true, "the focus is not seen at {at}");
        reached.push(name);
    }
    for wanted in [
        "skip",
        "theme",
        "event-list",
        "filter",
        "filter-state",
        "mirror",
        "state",
        "reason",
        "since",
        "load",
        "users",
        "p50",
        "p95",
        "name",
        "explain-address",
        "explain-domain",
    ] {
        assert!(reached.iter().any(|r| r == wanted), "{wanted} is not reached: {reached:?}");
    }
    assert_eq!(reached.iter().filter(|r| r.starts_with("marker")).count(), 1, "{reached:?}");
    // On the map arrows go on, and enter lists what is there.
    page.run("document.querySelector('.marker[tabindex=\"0\"]').focus()").await;
    let label = "return document.activeElement.getAttribute('aria-label')";
    let first = page.run(label).await;
    page.press(RIGHT).await;
    let second = page.run(label).await;
    assert!(
        first != second && second.as_str().is_some_and(|l| l.starts_with("play.nearmost.test/")),
        "{first} {second}"
    );
    assert!(!page.text(".tip").await.is_empty());
    page.press(ENTER).await;
    assert_eq!(names(page).await.split(' ').count(), 1);
    page.click("#filter-place").await;
    page.run("document.querySelector('th[data-column=load] button').focus()").await;
    page.press(ENTER).await;
    assert_eq!(
        page.run("return document.querySelector('th[data-column=load]').getAttribute('aria-sort')").await,
        "descending"
    );
}

async fn everything_has_a_name(page: &Browser) {
    let tree = page.devtools("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().expect("nodes");
    let role = |n: &Value| n["role"]["value"].as_str().unwrap_or_default().to_owned();
    let seen: Vec<&Value> = nodes.iter().filter(|n| n["ignored"] == false).collect();
    let controls = ["button", "textbox", "searchbox", "combobox", "link", "table", "image"];
    for node in seen.iter().filter(|n| controls.contains(&role(n).as_str())) {
        let name = node["name"]["value"].as_str().unwrap_or_default();
        assert!(!name.trim().is_empty(), "{node}");
    }
    let count = |wanted: &str| seen.iter().filter(|n| role(n) == wanted).count();
    assert!(
        count("columnheader") >= 8 && count("rowheader") >= 6,
        "{} {}",
        count("columnheader"),
        count("rowheader")
    );
    assert!(count("table") >= 2 && count("button") >= 20 && count("heading") >= 7);
    assert!(count("status") >= 2 && count("log") == 1 && count("main") == 1);
}

/// Contrast of colours by WCAG 2.2, "relative luminance"; of every text colour on every ground it stands on.
const CONTRAST: &str = "const style = getComputedStyle(document.documentElement);\
    const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;\
    const light = (name) => { const hex = style.getPropertyValue(name).trim().slice(1);\
      const [r, g, b] = [0, 2, 4].map((i) => channel(parseInt(hex.slice(i, i + 2), 16))); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };\
    const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((m, n) => n - m); return (x + 0.05) / (y + 0.05); };\
    const texts = ['ink', 'faint', 'up', 'down', 'suspect', 'unattended', 'draining', 'warming', 'unknown', 'accent'];\
    return texts.flatMap((t) => ['card', 'ground', 'bad-ground', 'warn-ground'].map((g) => [t, g, contrast(`--${t}`, `--${g}`)])).filter(([, , c]) => !(c >= 4.5))";

async fn themes(page: &Browser) {
    let ground = "const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number); return (r + g + b) / 3";
    for (scheme, dark) in [("dark", true), ("light", false)] {
        page.prefer(scheme).await;
        let bright = page.run(ground).await.as_f64().expect("a colour");
        assert_eq!(bright < 60.0, dark, "{scheme}: {bright}");
        assert_eq!(page.run(CONTRAST).await, json!([]), "{scheme}");
    }
    // What a person chooses outweighs the system, also after the page is opened again.
    for told in ["Theme: light", "Theme: dark"] {
        page.click("#theme").await;
        assert_eq!(page.text("#theme").await, told);
    }
    assert!(page.run(ground).await.as_f64().is_some_and(|b| b < 60.0));
    page.run("location.reload()").await;
    loaded(page, 5).await;
    assert!(page.run(ground).await.as_f64().is_some_and(|b| b < 60.0));
    page.click("#theme").await;
    assert!(page.run(ground).await.as_f64().is_some_and(|b| b > 200.0));
}

async fn phone(page: &Browser) {
    page.resize(360, 740, true).await;
    let wide = "const wide = [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 361 && !e.closest('svg') && !e.closest('.unseen') && !e.closest('.tip'));\
        return [document.documentElement.scrollWidth, wide.map((e) => e.id || e.className || e.tagName).slice(0, 5)]";
    eventually(
        "nothing is wider than a phone",
        || page.run(wide),
        |w| w[0].as_u64() == Some(360) && w[1] == json!([]),
    )
    .await;
    // Targets are large enough for a thumb (WCAG 2.2, 2.5.8: 24 pixels).
    let small = "return [...document.querySelectorAll('button, input, select')].filter((e) => e.offsetParent && !e.matches('.name, .what') && e.getBoundingClientRect().height < 24).map((e) => e.id || e.innerText)";
    assert_eq!(page.run(small).await, json!([]));
    // Without a heading above, each number says what it is.
    let label =
        page.run("return getComputedStyle(document.querySelector('td.c-users'), '::before').content").await;
    assert!(label.as_str().is_some_and(|l| l.starts_with("\"Users")), "{label}");
}

#[tokio::test]
async fn where_a_token_is_needed_the_page_asks_for_it() {
    let dir = directory();
    let (cert, key) = certify(dir.path(), "broker.test").await;
    // The digest is that of "secret".
    let token = "[[http.tokens]]\nname = \"ops\"\nsha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";
    let config = broker_config(dir.path(), token).replace(
        "[http]\nlisten = [\"127.0.0.1:0\"]",
        &format!("[http]\nlisten = [\"0.0.0.0:0\"]\ntls_cert = {cert:?}\ntls_key = {key:?}"),
    );
    std::fs::write(dir.path().join("broker.toml"), config).expect("write broker.toml");
    let broker = Broker::restart(dir.path()).await;
    broker.apply(&fleet_file(3, &[]), &[]).await;
    let page = Browser::start().await;
    let origin = format!("https://127.0.0.1:{}", broker.at.http[0].port());
    page.open(&origin).await;
    page.until("!document.querySelector('#token').hidden").await;
    assert_eq!(page.run("return document.activeElement.id").await, "token-text");
    assert!(!page.run("return document.body.innerText").await.to_string().contains(DOMAIN));
    page.fill("#token-text", "two words").await;
    page.press(ENTER).await;
    page.until("document.querySelector('#token-said').innerText.includes('no space')").await;
    page.fill("#token-text", "wrong").await;
    page.press(ENTER).await;
    page.until("document.querySelector('#token-said').innerText.includes('refused this token')").await;
    page.fill("#token-text", "secret").await;
    page.press(ENTER).await;
    loaded(&page, 3).await;
    assert_eq!(page.run("return [document.querySelector('#token').hidden, localStorage.length, document.cookie, location.search]").await, json!([true, 0, "", ""]));
    // Every refusal is in the browser's own log; there is nothing else in it.
    let complaints = page.complaints().await;
    let other: Vec<_> = complaints.iter().filter(|c| !(c.contains("/v1/") && c.contains("401"))).collect();
    assert!(other.is_empty() && !complaints.is_empty(), "{other:?}");
    // Forgotten, it is asked for again.
    page.click("#forget").await;
    page.until("document.querySelector('#token') && !document.querySelector('#token').hidden").await;
    page.end().await;
    broker.stop().await;
}

/// A registry of mirrors around the world whose health is set by hand; those of `down` are down.
fn fleet_file(mirrors: usize, down: &[usize]) -> String {
    let mut text = format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n");
    for i in 0..mirrors {
        let state = if down.contains(&i) { "down" } else { "up" };
        // A name that means something to scripts is a name like any other.
        let name = if i == 1 { "__proto__".to_owned() } else { format!("m{i:04}") };
        let (latitude, longitude) = ((i * 37 % 120) as f64 - 50.0, (i * 101 % 360) as f64 - 180.0);
        text += &format!(
            "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [\"10.0.{}.{}\"]\nhealth = \"manual\"\nstate = {state:?}\n\
             place = {{ latitude = {latitude:.1}, longitude = {longitude:.1} }}\n",
            i / 250,
            i % 250 + 1,
        );
    }
    text
}

/// What the page does while nothing happens, and while three hundred mirrors go down and come back. A page
/// that made its thousand rows or marks anew would change ten thousand nodes, lose the row that is marked
/// here, and stand still for longer than the bound.
#[tokio::test]
async fn a_thousand_mirrors_stay_smooth() {
    const MIRRORS: usize = 1000;
    /// Longest that the page may stand still, in milliseconds, on a machine that does other things too.
    const STANDSTILL_MS: f64 = 3000.0;
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&fleet_file(MIRRORS, &[]), &[]).await;
    let page = Browser::start().await;
    page.resize(1400, 1000, false).await;
    page.open(&broker.url()).await;
    loaded(&page, 150).await;
    page.click("#more-rows").await;
    loaded(&page, MIRRORS).await;
    page.until("[...document.querySelectorAll('.marker .glyph')].reduce((n, g) => n + Number(g.textContent.replace(/\\D/g, '') || 1), 0) === 1000").await;

    // At rest: five rounds of asking change next to nothing but ages, which are a minute older all at once.
    page.run(
        "window.changes = 0; window.longest = 0; window.rounds = 0;\
         const ages = (r) => (r.target.nodeType === 1 ? r.target : r.target.parentElement)?.closest('.c-since');\
         new MutationObserver((m) => { changes += m.filter((r) => !ages(r)).length; }).observe(document.querySelector('main'), { subtree: true, childList: true, characterData: true, attributes: true });\
         new PerformanceObserver((l) => { rounds += l.getEntries().filter((e) => e.name.endsWith('/v1/fleet')).length; }).observe({ type: 'resource' });\
         let last = performance.now(); const frame = (now) => { longest = Math.max(longest, now - last); last = now; requestAnimationFrame(frame); }; requestAnimationFrame(frame);\
         window.row = document.querySelectorAll('#mirror-table tbody')[500]; row.marked = true;\
         window.blurs = 0; row.querySelector('.name').focus({ preventScroll: true }); addEventListener('focusout', () => { blurs += 1; });",
    )
    .await;
    page.within(Duration::from_secs(90), "rounds >= 5").await;
    let rest = page.run("return [changes, longest]").await;
    println!("at rest: [changes, longest standstill in ms] {rest}");
    assert!(rest[0].as_u64().is_some_and(|n| n < 200), "{rest}");

    let down: Vec<usize> = (0..300).map(|i| i * 3).collect();
    page.run("changes = 0; longest = 0").await;
    broker.apply(&fleet_file(MIRRORS, &down), &[]).await;
    page.until("document.querySelector('#title').innerText.startsWith('300 mirrors down by hand') || document.querySelectorAll('#mirror-table .pill.s-down').length === 300").await;
    broker.apply(&fleet_file(MIRRORS, &[]), &[]).await;
    page.until("document.querySelectorAll('#mirror-table .pill.s-down').length === 0").await;
    let storm = page.run("return [changes, longest, [...document.querySelectorAll('#mirror-table tbody')].some((row) => row.marked)]").await;
    println!("in the storm: [changes, longest standstill in ms, same rows] {storm}");
    assert!(storm[0].as_u64().is_some_and(|n| n < 30_000), "{storm}");
    assert!(storm[1].as_f64().is_some_and(|ms| ms < STANDSTILL_MS), "{storm}");
    assert_eq!(storm[2], true);
    // Mirrors went to the top of the table and back around the row with the focus.
    let focus = page.run("return [blurs, document.activeElement === row.querySelector('.name')]").await;
    assert_eq!(focus, json!([0, true]));
    page.until("document.querySelectorAll('#event-list li').length === 200").await;
    only_asked_its_broker(&page, &broker.url()).await;
    page.end().await;
    broker.stop().await;
}
