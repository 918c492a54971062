//! A browser without scripts: cookies, redirections and forms over plain HTTP on this host.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Redirections that are followed in a row.
const HOPS_MAX: usize = 12;

/// A browser: what it calls itself, and its cookies by `HOST:PORT`.
#[derive(Clone, Debug)]
pub struct Web {
    /// What it calls itself.
    pub agent: String,
    /// Its cookies: by place, then name.
    pub jar: BTreeMap<String, BTreeMap<String, String>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Page {
    /// From where.
    pub url: String,
    /// HTTP's status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Page {
    /// Answers a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Answers the value of the first field or link of this name or id: `name="NAME" value="…"`, `id="NAME" href="…"`.
    ///
    /// # Errors
    /// If there is none.
    pub fn field(&self, name: &str) -> Result<String> {
        for (at, to) in [("name", "value"), ("id", "href")] {
            let start = format!("{at}=\"{name}\" {to}=\"");
            if let Some((_, rest)) = self.body.split_once(&start) {
                let (value, _) = rest.split_once('"').context("a value ends")?;
                return Ok(value.replace("&amp;", "&").replace("&#38;", "&"));
            }
        }
        bail!("no {name} in {}", self.body)
    }
}

impl Default for Web {
    fn default() -> Self {
        Self { agent: "Web/1".to_owned(), jar: BTreeMap::new() }
    }
}

impl Web {
    /// Gets a page, and where it redirects to.
    ///
    /// # Errors
    /// If nobody answers, or with HTTP.
    pub fn get(&mut self, url: &str) -> Result<Page> {
        let page = self.send("GET", url, &[], None)?;
        self.follow(page)
    }

    /// Posts a form as a page of the same place does, and follows.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Result<Page> {
        let own = [("Sec-Fetch-Site", "same-origin"), ("Origin", "null")];
        let page = self.send("POST", url, &own, Some(&encoded(form)))?;
        self.follow(page)
    }

    /// Sends one request with more headers, and follows nothing.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn send(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Page> {
        let rest = url.strip_prefix("http://").with_context(|| format!("{url}: plain HTTP"))?;
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut request = format!("{method} /{path} HTTP/1.0\r\nHost: {place}\r\n");
        let jar = self.jar.entry(place.to_owned()).or_default();
        let cookies: Vec<String> =
            jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut line = |name: &str, value: &str| request.extend([name, ": ", value, "\r\n"]);
        line("User-Agent", &self.agent);
        if !cookies.is_empty() {
            line("Cookie", &cookies.join("; "));
        }
        for (name, value) in headers {
            line(name, value);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                line("Content-Type", "application/x-www-form-urlencoded");
            }
            line("Content-Length", &body.len().to_string());
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        let page = exchange(place, &request, url)?;
        for (_, cookie) in page.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').context("a cookie is a pair")?;
            if value.is_empty() || attributes.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(page)
    }

    fn follow(&mut self, mut page: Page) -> Result<Page> {
        for _ in 0..HOPS_MAX {
            let Some(to) = page.header("location").filter(|_| (300..400).contains(&page.status))
            else {
                return Ok(page);
            };
            let to = if to.starts_with('/') {
                let place: Vec<&str> = page.url.splitn(4, '/').take(3).collect();
                format!("{}{to}", place.join("/"))
            } else {
                to.to_owned()
            };
            page = self.send("GET", &to, &[], None)?;
        }
        bail!("{} redirects without end", page.url)
    }
}

/// Answers a form's body.
pub fn encoded(form: &[(&str, &str)]) -> String {
    let one = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                    out.push(char::from(byte));
                }
                byte => out.extend(["%".to_owned(), format!("{byte:02X}")]),
            }
            out
        })
    };
    form.iter()
        .map(|(name, value)| format!("{}={}", one(name), one(value)))
        .collect::<Vec<_>>()
        .join("&")
}

fn exchange(place: &str, request: &str, url: &str) -> Result<Page> {
    let mut stream =
        TcpStream::connect(place).with_context(|| format!("{place}: nobody listens"))?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("{url}: no answer"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{url}: no head"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status line")?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Ok(Page {
        url: url.to_owned(),
        status: status.parse().context("a status is a number")?,
        headers: headers.collect(),
        body: body.to_owned(),
    })
}
