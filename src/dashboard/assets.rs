//! The files of the pages, embedded in the program, and their combination into one file for a report.

/// An embedded file.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) name: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($name:literal: $content_type:expr),* $(,)?) => {
        &[$(Asset { name: $name, content_type: $content_type, text: include_str!(concat!("assets/", $name)) }),*]
    };
}

/// All files. A script comes after the scripts that it imports from.
pub(super) const ASSETS: &[Asset] = assets! {
    "index.html": HTML,
    "icon.svg": SVG,
    "base.css": CSS,
    "parts.css": CSS,
    "pages.css": CSS,
    "format.js": SCRIPT,
    "dom.js": SCRIPT,
    "states.js": SCRIPT,
    "colour.js": SCRIPT,
    "frames.js": SCRIPT,
    "bars.js": SCRIPT,
    "store.js": SCRIPT,
    "queries.js": SCRIPT,
    "sparkline.js": SCRIPT,
    "stream.js": SCRIPT,
    "api.js": SCRIPT,
    "detail.js": SCRIPT,
    "page.js": SCRIPT,
    "camera.js": SCRIPT,
    "layout.js": SCRIPT,
    "taskgraph.js": SCRIPT,
    "functiongraph.js": SCRIPT,
    "graph.js": SCRIPT,
    "taskstream.js": SCRIPT,
    "progress.js": SCRIPT,
    "status.js": SCRIPT,
    "tasks.js": SCRIPT,
    "workers.js": SCRIPT,
    "events.js": SCRIPT,
    "main.js": SCRIPT,
};

/// The paths of the pages besides `/`. All pages share one HTML file.
const PAGES: [&str; 4] = ["graph", "tasks", "workers", "events"];

/// Returns the file for a path.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    let name = if path.is_empty() || PAGES.contains(&path) { "index.html" } else { path };
    ASSETS.iter().find(|asset| asset.name == name)
}

/// Combines all pages and the recorded data into one HTML file.
///
/// Its policy allows only the scripts and styles with the nonce, so that data couldn't run as a script even if
/// it escaped from its element.
pub(super) fn one_file(title: &str, record: &str, nonce: &str) -> String {
    let page = find("").map_or("", |asset| asset.text);
    let body = page.split_once("<body>").map_or(page, |(_, body)| body);
    let policy = policy_of_file(nonce);
    let mut file = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n",
        escape(title)
    );
    for asset in ASSETS.iter().filter(|asset| asset.content_type == CSS) {
        file += &format!("<style nonce=\"{nonce}\">\n{}</style>\n", asset.text);
    }
    let body = body.replace("</html>", "").replace("</body>", "");
    file += "</head>\n<body>\n";
    file += body.trim();
    file +=
        &format!("\n<script type=\"application/json\" id=\"record\">{}</script>\n", inert(record));
    file += &format!("<script type=\"module\" nonce=\"{nonce}\">\n{}</script>\n", one_script());
    file += "</body>\n</html>\n";
    file
}

pub(super) fn policy_of_file(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'"
    )
}

/// Combines all scripts into one by removing `import` and `export`. No import renames anything, and top-level
/// names are unique over all scripts, so the names still match.
fn one_script() -> String {
    let mut script = String::new();
    for asset in ASSETS.iter().filter(|asset| asset.content_type == SCRIPT) {
        for line in asset.text.lines().filter(|line| !line.starts_with("import ")) {
            script += line.strip_prefix("export ").unwrap_or(line);
            script.push('\n');
        }
    }
    script
}

/// Escapes JSON for a script element: without `<`, it can't end the element.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Escapes text for HTML and XML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // XML doesn't allow control characters, not even escaped.
            char if char.is_control() && !matches!(char, '\t' | '\n' | '\r') => {
                escaped.push('\u{fffd}')
            }
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn scripts() -> impl Iterator<Item = &'static Asset> {
        ASSETS.iter().filter(|asset| asset.content_type == SCRIPT)
    }

    #[test]
    fn every_file_in_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard/assets");
        for entry in std::fs::read_dir(folder).expect("the assets") {
            let name = entry.expect("an asset").file_name();
            assert!(ASSETS.iter().any(|asset| name == asset.name), "{name:?}");
        }
    }

    #[test]
    fn scripts_import_backwards_and_combine_into_one() {
        let mut names = BTreeMap::new();
        let mut seen = Vec::new();
        for asset in scripts() {
            for line in asset.text.lines() {
                if let Some(import) = line.strip_prefix("import ") {
                    assert!(
                        import.starts_with("{ ") && import.ends_with(".js\";"),
                        "{}: {line}",
                        asset.name
                    );
                    assert!(!import.contains(" as "), "{}: {line}", asset.name);
                    let from =
                        import.split("\"./").nth(1).and_then(|from| from.strip_suffix("\";"));
                    assert!(seen.contains(&from.expect("a file")), "{}: {line}", asset.name);
                }
                assert!(!line.starts_with("export default"), "{}: {line}", asset.name);
                let line = line.strip_prefix("export ").unwrap_or(line);
                let line = line.strip_prefix("async ").unwrap_or(line);
                for word in ["function ", "const ", "let ", "class "] {
                    let Some(rest) = line.strip_prefix(word) else { continue };
                    let name =
                        rest.split(|char: char| !char.is_alphanumeric() && char != '_').next();
                    let before = names.insert(name.unwrap_or_default(), asset.name);
                    assert_eq!(before, None, "{name:?} in {}", asset.name);
                }
            }
            seen.push(asset.name);
        }
    }

    #[test]
    fn assets_load_nothing_external_and_parse_no_markup() {
        for asset in ASSETS {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            for word in [
                "http://",
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!text.contains(word), "`{word}` in {}", asset.name);
            }
        }
        let page = find("graph").expect("the page");
        assert!(!page.text.contains(" style=") && !page.text.contains("<style"));
        assert!(!page.text.replace("<script type=\"module\" src=", "").contains("<script"));
    }

    #[test]
    fn a_report_keeps_data_in_its_element() {
        let file = one_file("a<b>", "{\"key\":\"</script><script>alert(1)</script>\"}", "n0nce");
        assert!(!file.contains("</script><script>alert"));
        assert!(file.contains("\\u003c/script>\\u003cscript>alert(1)"));
        assert!(file.contains("<title>a&lt;b&gt;</title>"));
        assert_eq!(file.matches("<script").count(), 2);
        assert!(!file.contains("\nimport ") && !file.contains("\nexport "));
        assert!(!file.contains(" src=\"") && !file.contains("rel=\"stylesheet\""));
    }
}
