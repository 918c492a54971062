//! OpenTelemetry logs: OTLP/HTTP with JSON (opentelemetry-proto 1.x, "OTLP/HTTP Request").

use std::path::PathBuf;
use std::time::Duration;

use journal::row::{Row, Value};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use serde_json::json;

use crate::rows::{Batch, Item};
use crate::{ForwardError, io_error, with_sources};

/// How long a receiver is given.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A receiver.
pub(crate) struct Otlp {
    client: Client,
    url: String,
}

/// What it took.
pub(crate) struct Taken {
    /// Records that it refused for good, and why.
    pub(crate) rejected: Option<(u64, String)>,
}

impl Otlp {
    pub(crate) fn new(url: &str, ca: Option<&PathBuf>) -> Result<Self, ForwardError> {
        let mut client = Client::builder()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent("vestibule");
        if let Some(path) = ca {
            let pem = std::fs::read(path).map_err(io_error("reading", path))?;
            let fail = |error: reqwest::Error| {
                ForwardError::Client(format!("{}: {error}", path.display()))
            };
            client =
                client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(fail)?);
        }
        let client = client.build().map_err(|error| ForwardError::Client(error.to_string()))?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// Sends the rows; all are taken when this returns, but those that it says.
    pub(crate) async fn send(&self, batch: &Batch) -> Result<Taken, ForwardError> {
        let body = request(&batch.items).to_string();
        let asked = self.client.post(&self.url).header(CONTENT_TYPE, "application/json").body(body);
        let failed = |error: reqwest::Error| ForwardError::Client(with_sources(&error));
        let mut answer = asked.send().await.map_err(failed)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ForwardError::Refused(status.to_string()));
        }
        let mut bytes = Vec::new();
        while bytes.len() < ANSWER_BYTES_MAX
            && let Some(part) = answer.chunk().await.map_err(failed)?
        {
            bytes.extend_from_slice(&part);
        }
        bytes.truncate(ANSWER_BYTES_MAX);
        Ok(Taken { rejected: rejected(&bytes) })
    }
}

/// "Partial Success": what was refused must not be sent again.
fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let count = partial.get("rejectedLogRecords")?;
    // ProtoJSON has 64-bit numbers as texts.
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let why = partial.get("errorMessage").and_then(|why| why.as_str()).unwrap_or_default();
    (count > 0).then(|| (count, why.chars().take(500).collect()))
}

/// `ExportLogsServiceRequest` in ProtoJSON.
fn request(items: &[Item]) -> serde_json::Value {
    let node = items.first().map(|item| item.row.node()).unwrap_or_default();
    let records: Vec<_> = items.iter().map(record).collect();
    json!({ "resourceLogs": [{
        "resource": { "attributes": [
            text("service.name", "vestibule"), text("host.name", node),
        ] },
        "scopeLogs": [{
            "scope": { "name": "vestibule", "version": env!("CARGO_PKG_VERSION") },
            "logRecords": records,
        }],
    }] })
}

fn record(item: &Item) -> serde_json::Value {
    let row = &item.row;
    let (number, severity) = severity(row);
    let mut attributes = vec![text("vestibule.table", row.table().as_str())];
    let mut columns = row.table().columns().iter();
    row.visit(&mut |value| {
        let Some(column) = columns.next() else { return };
        if let Some(value) = any(&value) {
            attributes.push(json!({ "key": format!("vestibule.{}", column.name), "value": value }));
        }
    });
    json!({
        "timeUnixNano": (i128::from(row.ts().0) * 1000).to_string(),
        "severityNumber": number,
        "severityText": severity,
        "body": { "stringValue": item.text },
        "attributes": attributes,
    })
}

/// The data model's numbers: 9 is INFO, 13 WARN.
fn severity(row: &Row) -> (u8, &'static str) {
    match row {
        Row::Event(row) if row.decision == "deny" => (13, "WARN"),
        _ => (9, "INFO"),
    }
}

fn text(key: &str, value: &str) -> serde_json::Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// `AnyValue`; none for what is absent.
fn any(value: &Value<'_>) -> Option<serde_json::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(it) => json!({ "boolValue": it }),
        Value::I32(it) => json!({ "intValue": it.to_string() }),
        Value::I64(it) => json!({ "intValue": it.to_string() }),
        Value::Ts(it) => json!({ "stringValue": archive::json::time(it.0) }),
        Value::Str(it) => json!({ "stringValue": it }),
        Value::Bytes(it) => json!({ "stringValue": types::hex::hex(it) }),
        Value::StrList(items) => {
            let items: Vec<_> = items.iter().map(|it| json!({ "stringValue": it })).collect();
            json!({ "arrayValue": { "values": items } })
        }
        Value::MaskList(items) => {
            let shown = items.iter().map(|it| format!("{}:{}", it.entity, it.count));
            let items: Vec<_> = shown.map(|it| json!({ "stringValue": it })).collect();
            json!({ "arrayValue": { "values": items } })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_good_is_read_from_the_answer() {
        let of = |text: &str| rejected(text.as_bytes());
        assert_eq!(of("{}"), None);
        assert_eq!(of(r#"{"partialSuccess":{}}"#), None);
        assert_eq!(of(r#"{"partialSuccess":{"rejectedLogRecords":"0"}}"#), None);
        let answer = r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}"#;
        assert_eq!(of(answer), Some((3, "too old".into())));
        assert_eq!(of("not json"), None);
    }
}
