//! A real browser: Debian's chromium, driven by Playwright, with people at it who share nothing but the machine.
//!
//! Selectors are Playwright's: `css`, `text=…`, `role=button[name="Approve"]`. What is waited for is waited for
//! [`WAIT_MS`] at most, and is an error then.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::paths;
use crate::process::Running;

/// The program that drives it.
const PROGRAM: &str = "tests/src/browser.mjs";

/// How long anything on a page is waited for: a busy machine's pages take a second.
pub const WAIT_MS: u64 = 20_000;

/// A browser that runs until it is dropped.
#[derive(Debug)]
pub struct Browser {
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    process: Running,
    /// Its profiles; dropped after it.
    _profiles: TempDir,
}

/// How a person looks at pages.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Prefers dark pages.
    pub is_dark: bool,
    /// Another browser by its own word: what it calls itself.
    pub user_agent: Option<&'static str>,
}

/// On a desk, by day.
pub const DESK: Window = Window { width: 1280, height: 800, is_dark: false, user_agent: None };

/// A small phone.
pub const PHONE: Window = Window { width: 320, height: 640, is_dark: false, user_agent: None };

/// A person at the browser: one window, and cookies of their own.
#[derive(Debug)]
pub struct Person<'b> {
    browser: &'b Browser,
    name: String,
}

/// An answer to a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Where it came from after redirections; of pages alone.
    #[serde(default)]
    pub url: String,
    /// The body; of requests that no page made.
    #[serde(default)]
    pub text: String,
}

/// What happened in a window so far.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    /// Dialogs that a script opened.
    pub dialogs: Vec<String>,
    /// What the browser complained of: uncaught errors of scripts, what a content security policy forbade.
    pub errors: Vec<String>,
    /// Methods and URLs.
    pub requests: Vec<String>,
}

/// What an accessibility checker found on a page.
#[derive(Clone, Debug, Deserialize)]
pub struct Access {
    /// How many rules applied and hold.
    pub checked: usize,
    /// What does not.
    pub found: Vec<Finding>,
}

/// A rule that does not hold.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// The rule.
    pub id: String,
    /// `minor`, `moderate`, `serious`, `critical`.
    pub impact: String,
    /// What it says.
    pub help: String,
    /// Selectors of the elements.
    #[serde(rename = "where")]
    pub places: Vec<String>,
}

impl Browser {
    /// Starts one.
    ///
    /// # Errors
    /// If it is not installed or ends.
    pub fn start() -> Result<Self> {
        let profiles = tempfile::Builder::new().prefix("vestibule-browser-").tempdir();
        let profiles = profiles.context("no folder for its profiles")?;
        let options = json!({
            "modules": paths::node_modules(), "chromium": paths::chromium(), "wait_ms": WAIT_MS,
        });
        let mut command = Command::new(paths::provider_node());
        command.arg(paths::root().join(PROGRAM)).arg(options.to_string());
        command.env_remove("NODE_OPTIONS").env_remove("NODE_PATH");
        // Nothing of who runs this: no profile, no proxy.
        command.env("TMPDIR", profiles.path()).env("HOME", profiles.path());
        command.env("XDG_CONFIG_HOME", profiles.path()).env("XDG_CACHE_HOME", profiles.path());
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process =
            Running::new("chromium", &mut command).context("no browser: cargo xtask setup")?;
        let stdin = process.take_stdin().context("its input is a pipe")?;
        let stdout = process.take_stdout().context("its output is a pipe")?;
        let mut stdout = BufReader::new(stdout);
        answer(&mut stdout).context("chromium does not start: cargo xtask setup")?;
        Ok(Self { pipes: Mutex::new(Some((stdin, stdout))), process, _profiles: profiles })
    }

    /// Has somebody sit down at it, with no cookies.
    ///
    /// # Errors
    /// If it can't.
    pub fn person(&self, name: &str, window: Window) -> Result<Person<'_>> {
        let Window { width, height, is_dark, user_agent } = window;
        let mut options = json!({
            "viewport": {"width": width, "height": height},
            "colorScheme": scheme(is_dark), "locale": "en-GB", "timezoneId": "UTC",
        });
        if let Some(user_agent) = user_agent {
            options["userAgent"] = user_agent.into();
        }
        self.tell(&json!({"do": "come", "name": name, "window": options}))?;
        Ok(Person { browser: self, name: name.to_owned() })
    }

    /// Serves a page of somebody else's; answers the port, of 127.0.0.1 and localhost.
    ///
    /// # Errors
    /// If it can't.
    pub fn stranger(&self, html: &str) -> Result<u16> {
        let told = self.tell(&json!({"do": "strange", "html": html}))?;
        told["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("it has a port")
    }

    fn tell(&self, command: &Value) -> Result<Value> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = pipes.as_mut().context("it has ended")?;
        writeln!(stdin, "{command}").context("chromium is gone")?;
        answer(stdout).with_context(|| command.to_string())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its input ends, and it with that; it is killed where it does not.
        self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.process.wait(10).ok();
    }
}

impl Person<'_> {
    /// Opens a page.
    ///
    /// # Errors
    /// If nothing answers.
    pub fn go(&self, url: &str) -> Result<Answer> {
        let told = self.browser.tell(&json!({"do": "go", "name": self.name, "url": url}))?;
        serde_json::from_value(told).context("an answer")
    }

    /// Clicks on what is found, once it can be clicked on.
    ///
    /// # Errors
    /// If it can't be.
    pub fn click(&self, selector: &str) -> Result<()> {
        self.at(selector, "click", &json!([])).map(drop)
    }

    /// Writes into a field.
    ///
    /// # Errors
    /// If there is none.
    pub fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.at(selector, "fill", &json!([text])).map(drop)
    }

    /// Chooses an option of a list by its value.
    ///
    /// # Errors
    /// If there is none.
    pub fn choose(&self, selector: &str, value: &str) -> Result<()> {
        self.at(selector, "selectOption", &json!([value])).map(drop)
    }

    /// Presses a key, by its name: `Tab`, `Enter`, `Control+A`.
    ///
    /// # Errors
    /// If there is no such key.
    pub fn press(&self, key: &str) -> Result<()> {
        self.browser.tell(&json!({"do": "press", "name": self.name, "key": key})).map(drop)
    }

    /// Types a text, key by key, into what has the focus.
    ///
    /// # Errors
    /// If it can't.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.browser.tell(&json!({"do": "type", "name": self.name, "text": text})).map(drop)
    }

    /// Answers the text of what is found, as it is rendered.
    ///
    /// # Errors
    /// If nothing is found, or more than one.
    pub fn text(&self, selector: &str) -> Result<String> {
        string(&self.at(selector, "innerText", &json!([]))?)
    }

    /// Answers the text of what is found as it stands in the page, every space and line end of it.
    ///
    /// # Errors
    /// If nothing is found, or more than one.
    pub fn exact_text(&self, selector: &str) -> Result<String> {
        string(&self.at(selector, "textContent", &json!([]))?)
    }

    /// Answers how often it is found now.
    ///
    /// # Errors
    /// If the selector is none.
    pub fn count(&self, selector: &str) -> Result<u64> {
        self.at(selector, "count", &json!([]))?.as_u64().context("a count")
    }

    /// Answers an attribute of what is found.
    ///
    /// # Errors
    /// If nothing is found, or it has none.
    pub fn attribute(&self, selector: &str, attribute: &str) -> Result<String> {
        string(&self.at(selector, "getAttribute", &json!([attribute]))?)
    }

    /// Waits until what is sought can be seen.
    ///
    /// # Errors
    /// If it can't be.
    pub fn wait_for(&self, selector: &str) -> Result<()> {
        let first = format!("{selector} >> nth=0");
        let waited = self.at(&first, "waitFor", &json!([{"state": "visible"}]));
        waited.map(drop).with_context(|| self.page())
    }

    /// Waits until what is sought can't be seen any more.
    ///
    /// # Errors
    /// If it still can.
    pub fn wait_gone(&self, selector: &str) -> Result<()> {
        self.at(selector, "waitFor", &json!([{"state": "hidden"}])).map(drop)
    }

    /// Answers where the window is.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn url(&self) -> Result<String> {
        string(&self.on_page("url", &json!([]))?)
    }

    /// Runs an expression in the page and answers its value.
    ///
    /// # Errors
    /// If it throws.
    pub fn evaluate(&self, expression: &str) -> Result<Value> {
        self.on_page("evaluate", &json!([expression]))
    }

    /// Answers by how many CSS pixels the page is wider than the window: what a phone has to scroll sideways for.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn overhang(&self) -> Result<i64> {
        let width = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.evaluate(width)?.as_i64().context("a width")
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// If nothing answers.
    pub fn reload(&self) -> Result<()> {
        self.evaluate("location.reload()")?;
        self.on_page("waitForLoadState", &json!(["load"])).map(drop)
    }

    /// Has the window prefer dark pages, or light ones.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn prefer(&self, is_dark: bool) -> Result<()> {
        self.on_page("emulateMedia", &json!([{"colorScheme": scheme(is_dark)}])).map(drop)
    }

    /// Makes the window another size.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.on_page("setViewportSize", &json!([{"width": width, "height": height}])).map(drop)
    }

    /// Leaves a picture of the page in a file, as high as the page is or as the window.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn picture(&self, file: &Path, is_whole: bool) -> Result<()> {
        let options = json!([{"path": file, "fullPage": is_whole, "caret": "hide",
            "animations": "disabled", "scale": "css"}]);
        self.on_page("screenshot", &options).map(drop)
    }

    /// Answers what an accessibility checker (axe) finds on the page as it is now.
    ///
    /// # Errors
    /// If it can't run.
    pub fn access(&self) -> Result<Access> {
        let told = self.browser.tell(&json!({"do": "axe", "name": self.name}))?;
        serde_json::from_value(told).context("what was found")
    }

    /// Asks with this person's cookies, but by no page's doing; redirections are answers.
    ///
    /// # Errors
    /// If nothing answers.
    pub fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Answer> {
        let headers: BTreeMap<&str, &str> = headers.iter().copied().collect();
        let told = self.browser.tell(&json!({
            "do": "ask", "name": self.name, "method": method, "url": url, "headers": headers, "body": body,
        }))?;
        serde_json::from_value(told).context("an answer")
    }

    /// Sends a form with this person's cookies, as a page of the same origin would, but by no page's doing.
    ///
    /// # Errors
    /// If nothing answers.
    pub fn post_form(&self, url: &str, form: &str) -> Result<Answer> {
        let (scheme, rest) = url.split_once("://").context("a URL")?;
        let origin = format!("{scheme}://{}", rest.split('/').next().unwrap_or_default());
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("origin", &*origin)];
        self.ask("POST", url, &headers, Some(form))
    }

    /// Answers the cookies of this person, as Playwright says them.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn cookies(&self) -> Result<Vec<Value>> {
        let told = self.on_context("cookies", &json!([]))?;
        Ok(told.as_array().context("a list")?.clone())
    }

    /// Gives this person somebody's cookies.
    ///
    /// # Errors
    /// If the browser does not take them.
    pub fn take_cookies(&self, cookies: &[Value]) -> Result<()> {
        self.on_context("addCookies", &json!([cookies])).map(drop)
    }

    /// Answers the URL and the text of the window's frames, its page first.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn frames(&self) -> Result<Vec<(String, String)>> {
        #[derive(Deserialize)]
        struct Frame {
            url: String,
            text: String,
        }
        let told = self.browser.tell(&json!({"do": "frames", "name": self.name}))?;
        let frames: Vec<Frame> = serde_json::from_value(told).context("frames")?;
        Ok(frames.into_iter().map(|Frame { url, text }| (url, text)).collect())
    }

    /// Answers what happened in the window so far.
    ///
    /// # Errors
    /// If the browser is gone.
    pub fn seen(&self) -> Result<Seen> {
        let told = self.browser.tell(&json!({"do": "seen", "name": self.name}))?;
        serde_json::from_value(told).context("what was seen")
    }

    /// Where the window is and what stands there, to be told with what failed.
    fn page(&self) -> String {
        let url = self.url().unwrap_or_default();
        let text = self.evaluate("document.body.innerText").unwrap_or_default();
        format!("at {url}: {text}")
    }

    fn at(&self, selector: &str, method: &str, args: &Value) -> Result<Value> {
        self.browser.tell(&json!({
            "do": "at", "name": self.name, "selector": selector, "method": method, "args": args,
        }))
    }

    fn on_page(&self, method: &str, args: &Value) -> Result<Value> {
        self.browser.tell(&json!({"do": "page", "name": self.name, "method": method, "args": args}))
    }

    fn on_context(&self, method: &str, args: &Value) -> Result<Value> {
        self.browser
            .tell(&json!({"do": "context", "name": self.name, "method": method, "args": args}))
    }
}

/// Where pictures of pages are left: what `VESTIBULE_SCREENSHOTS` names, or a folder below `target`.
///
/// # Errors
/// If it can't be made.
pub fn pictures() -> Result<PathBuf> {
    let named = std::env::var_os("VESTIBULE_SCREENSHOTS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| paths::root().join("target/screenshots"));
    std::fs::create_dir_all(&folder).context("the folder of pictures")?;
    Ok(folder)
}

fn answer(pipe: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    if pipe.read_line(&mut line).context("chromium can't be heard")? == 0 {
        bail!("chromium has ended");
    }
    let mut told: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    if let Some(error) = told.get("error") {
        bail!("{}", error.as_str().unwrap_or_default());
    }
    Ok(told["told"].take())
}

fn scheme(is_dark: bool) -> &'static str {
    if is_dark { "dark" } else { "light" }
}

fn string(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("a text")
}
