//! A headless Chromium, driven through its own protocol: JSON messages over two pipes, each ended by a NUL.

use std::cell::{Cell, RefCell};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The time limit of a call, longer than any page needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser, which is closed when this is dropped.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    input: RefCell<ChildStdin>,
    messages: Receiver<Value>,
    events: RefCell<Vec<Value>>,
    number: Cell<u64>,
    profile: PathBuf,
}

impl Chromium {
    /// Starts the program that the environment variable `ENSUE_CHROMIUM` names, with its profile in a subfolder of
    /// `folder`.
    pub fn start(folder: &Path) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);

        let program = env::var_os("ENSUE_CHROMIUM").expect(
            "the variable ENSUE_CHROMIUM isn't set to the path of Chromium; `./tests/run` sets it",
        );
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let profile = format!("chromium-{}-{number}", std::process::id());
        let profile = folder.join(profile);
        // It reads messages from descriptor 3 and writes them to 4. The shell makes these of its own two.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1"])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Chromium starts");
        let input = RefCell::new(child.stdin.take().expect("a pipe"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("a message");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let (events, number) = (RefCell::default(), Cell::new(0));
        Self { child, input, messages, events, number, profile }
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let number = self.number.get() + 1;
        self.number.set(number);
        let mut message = json!({ "id": number, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut input = self.input.borrow_mut();
        input.write_all(format!("{message}\0").as_bytes()).expect("Chromium listens");
        input.flush().expect("Chromium listens");
        let started = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(started.elapsed());
            let answer = self.messages.recv_timeout(left);
            let mut answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.borrow_mut().push(answer);
        }
    }

    /// Opens a page in a new tab, in a light window of 1280 by 900.
    pub fn open(&self, address: &str) -> Tab<'_> {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let tab = Tab { chromium: self, session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        tab.look(1280, 900, "light");
        tab.go(address);
        tab
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // A browser that is asked to close leaves no files behind, and closes its child processes.
        let _ = self.input.get_mut().write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < Duration::from_secs(10)
        {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// A tab of the browser.
#[derive(Debug)]
pub struct Tab<'a> {
    chromium: &'a Chromium,
    session: String,
}

impl Tab<'_> {
    /// Calls a method of the protocol in this tab, and returns its result.
    pub fn call(&self, method: &str, parameters: Value) -> Value {
        self.chromium.call(Some(&self.session), method, parameters)
    }

    /// Loads a page.
    pub fn go(&self, address: &str) {
        self.call("Page.navigate", json!({ "url": address }));
        self.until("document.readyState === 'complete'");
    }

    /// Sets the size of the window, and its color scheme: `light` or `dark`.
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// Returns the value of a JavaScript expression, or the value that its promise resolves to.
    pub fn eval(&self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Evaluates a JavaScript expression until it's true.
    pub fn until(&self, expression: &str) {
        let started = Instant::now();
        while self.eval(&format!("Boolean({expression})")) != true {
            if started.elapsed() > LIMIT {
                let text = self.eval("document.body.innerText");
                panic!("`{expression}` isn't true within {LIMIT:?}: {text}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses and releases a key.
    pub fn press(&self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Enter" => 13,
                "Escape" => 27,
                _ => 0,
            };
            let parameters = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", parameters);
        }
    }

    /// Writes a picture of the page, in PNG.
    pub fn shoot(&self, path: &Path) {
        // The last changes are drawn in the next frame.
        self.eval("new Promise((done) => setTimeout(done, 300))");
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        fs::write(path, base64(picture["data"].as_str().expect("a picture"))).expect("a file");
    }

    /// Returns the errors in the console of this tab since it was opened.
    pub fn errors(&self) -> Vec<Value> {
        // All earlier events arrive before the answer.
        self.eval("1");
        let is_error = |event: &Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        let events = self.chromium.events.borrow();
        let own = events.iter().filter(|event| event["sessionId"] == *self.session);
        own.filter(|event| is_error(event)).cloned().collect()
    }
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0_u32;
    let mut count = 0;
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
