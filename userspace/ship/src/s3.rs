//! What S3 has beyond other stores: locked objects, uploads in parts that go on later, versions.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{Method, Request, StatusCode};
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider, Checksum,
};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector,
};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutPayload};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::ShipError;
use crate::place::{Bucket, Lock, Place};
use crate::remote::store_error;
use crate::state::Upload;
use crate::store::retry;

/// Pages of a listing: 1,000 versions each, so 100 million of them.
const PAGES_MAX: usize = 100_000;

/// A bucket of S3.
pub(crate) struct S3 {
    builder: AmazonS3Builder,
    options: ClientOptions,
    lock: Option<Lock>,
    plain: Arc<AmazonS3>,
    /// One that completes uploads only where nothing lies.
    completing: Arc<AmazonS3>,
    /// One whose objects are held until a day.
    locked: Option<(i64, Arc<AmazonS3>)>,
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    base: String,
}

/// How an object is held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) mode: Option<String>,
    /// RFC 3339.
    pub(crate) until: Option<String>,
    /// Whether a legal hold is on it.
    pub(crate) legally: bool,
}

/// One version of an object, or that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) is_marker: bool,
    pub(crate) is_latest: bool,
}

/// What a bucket says of its locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketLock {
    pub(crate) is_enabled: bool,
    /// Mode and days of the default.
    pub(crate) default: Option<(String, u32)>,
}

impl S3 {
    pub(crate) fn open(
        place: &Place,
        bucket: &Bucket,
        options: ClientOptions,
    ) -> Result<Self, ShipError> {
        let region =
            place.region.clone().or_else(|| named(place, &["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = place
            .endpoint
            .clone()
            .or_else(|| named(place, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]));
        let mut builder = AmazonS3Builder::new();
        for (name, value) in place.credentials.pairs() {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        builder = builder
            .with_bucket_name(&bucket.name)
            .with_region(&region)
            .with_retry(retry(place))
            .with_virtual_hosted_style_request(false)
            .with_checksum_algorithm(Checksum::SHA256);
        let base = match &endpoint {
            Some(endpoint) => {
                builder = builder
                    .with_endpoint(endpoint)
                    .with_allow_http(endpoint.starts_with("http://"));
                format!("{}/{}", endpoint.trim_end_matches('/'), bucket.name)
            }
            None => format!("https://s3.{region}.amazonaws.com/{}", bucket.name),
        };
        let with = |more: HeaderMap| build(&builder, &options, more);
        let plain = with(HeaderMap::new())?;
        let any = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("*"))]);
        let completing = with(any)?;
        let client =
            ReqwestConnector::default().connect(&options).map_err(store_error("the bucket"))?;
        let credentials = Arc::clone(plain.credentials());
        let lock = place.lock.clone();
        let locked = None;
        Ok(Self {
            builder,
            options,
            lock,
            plain,
            completing,
            locked,
            client,
            credentials,
            region,
            base,
        })
    }

    pub(crate) fn plain(&self) -> Arc<dyn ObjectStore> {
        Arc::<AmazonS3>::clone(&self.plain)
    }

    /// The mode of locks, as S3 says it.
    pub(crate) fn mode(&self) -> Option<&'static str> {
        self.lock.as_ref().map(|lock| lock.mode.as_str())
    }

    /// The lock that is demanded.
    pub(crate) fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// A client whose objects are held until the end of a day, counted from 1970-01-01.
    pub(crate) fn locked(&mut self, day: i64) -> Result<Arc<dyn ObjectStore>, ShipError> {
        Ok(self.locked_s3(day)?)
    }

    fn locked_s3(&mut self, day: i64) -> Result<Arc<AmazonS3>, ShipError> {
        let Some(lock) = &self.lock else { return Ok(Arc::clone(&self.plain)) };
        if let Some((known, store)) = &self.locked
            && *known == day
        {
            return Ok(Arc::clone(store));
        }
        // A day more: whatever the hour, it is held to the end of the day that is due.
        let until = format!("{}T00:00:00Z", archive::layout::date(day + 1));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-object-lock-mode", lock.mode.as_str()),
            ("x-amz-object-lock-retain-until-date", until.as_str()),
            // S3 takes a lock only with a checksum, and this says of which kind that is.
            ("x-amz-sdk-checksum-algorithm", "SHA256"),
        ] {
            let value =
                HeaderValue::from_str(value).map_err(|error| ShipError::Lock(error.to_string()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let store = build(&self.builder, &self.options, headers)?;
        self.locked = Some((day, Arc::clone(&store)));
        Ok(store)
    }

    /// Begins an upload in parts; its id is what it goes on by.
    pub(crate) fn begin<'a>(
        &mut self,
        object: &'a Path,
        until: Option<i64>,
    ) -> Result<impl Future<Output = Result<String, ShipError>> + use<'a>, ShipError> {
        let store = match until {
            Some(day) => self.locked_s3(day)?,
            None => Arc::clone(&self.plain),
        };
        Ok(
            async move { store.create_multipart(object).await.map_err(store_error(object.as_ref())) },
        )
    }

    /// Sends a part; answers what names it at the end.
    pub(crate) async fn part(
        &self,
        object: &Path,
        id: &str,
        number: usize,
        bytes: Vec<u8>,
    ) -> Result<String, Error> {
        let id = id.to_owned();
        let part = self.plain.put_part(object, &id, number, PutPayload::from(bytes)).await?;
        Ok(part.content_id)
    }

    /// Makes an object of the parts, where none lies.
    pub(crate) async fn complete(&self, object: &Path, upload: &Upload) -> Result<(), Error> {
        let parts = upload.parts.iter().map(|id| PartId { content_id: id.clone() }).collect();
        self.completing.complete_multipart(object, &upload.id, parts).await.map(drop)
    }

    /// Gives an upload up.
    pub(crate) async fn abort(&self, object: &Path, id: &str) -> Result<(), Error> {
        self.plain.abort_multipart(object, &id.to_owned()).await
    }

    /// How an object is held.
    pub(crate) async fn held(&self, object: &str) -> Result<Held, ShipError> {
        let (status, headers, _) =
            self.ask(Method::HEAD, &format!("/{}", encoded(object, true))).await?;
        if !status.is_success() {
            return Err(ShipError::Answer { name: object.to_owned(), told: status.to_string() });
        }
        let text =
            |name: &str| headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
        Ok(Held {
            mode: text("x-amz-object-lock-mode"),
            until: text("x-amz-object-lock-retain-until-date"),
            legally: text("x-amz-object-lock-legal-hold").is_some_and(|said| said == "ON"),
        })
    }

    /// Has an object's newest version held without an end, or that no more; it is asked for afterwards.
    pub(crate) async fn set_legal_hold(
        &self,
        object: &str,
        is_held: bool,
    ) -> Result<(), ShipError> {
        let status = if is_held { "ON" } else { "OFF" };
        let body = format!(
            "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></LegalHold>"
        );
        let name = format!("/{}?legal-hold=", encoded(object, true));
        let (answer, _, _) = self.ask_with(Method::PUT, &name, &body).await?;
        let told = |told: String| ShipError::Answer { name: object.to_owned(), told };
        if !answer.is_success() {
            return Err(told(format!("its legal hold can't be set to {status}: {answer}")));
        }
        let Held { legally: found, .. } = self.held(object).await?;
        if found == is_held {
            return Ok(());
        }
        Err(told(format!("its legal hold was set to {status}, and it says otherwise")))
    }

    /// What the bucket says of its locks.
    pub(crate) async fn bucket_lock(&self) -> Result<BucketLock, ShipError> {
        let (status, _, body) = self.ask(Method::GET, "?object-lock=").await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(BucketLock::default());
        }
        let said: LockConfiguration = self.parsed("the bucket's object lock", status, &body)?;
        let default = said.rule.and_then(|rule| rule.default_retention).map(|rule| {
            let years = rule.years.unwrap_or(0).saturating_mul(365);
            (rule.mode.unwrap_or_default(), rule.days.unwrap_or(years))
        });
        Ok(BucketLock { is_enabled: said.enabled.as_deref() == Some("Enabled"), default })
    }

    /// Calls `take` with each version of each object below `prefix`.
    pub(crate) async fn versions(
        &self,
        prefix: &str,
        take: &mut dyn FnMut(Version) -> Result<(), ShipError>,
    ) -> Result<(), ShipError> {
        let mut after = (String::new(), String::new());
        for _ in 0..PAGES_MAX {
            let (key, id) = &after;
            // Names in order, as they are signed.
            let query = format!("?{key}prefix={}{id}&versions=", encoded(prefix, false));
            let (status, _, body) = self.ask(Method::GET, &query).await?;
            let page: Versions = self.parsed("the list of versions", status, &body)?;
            let one = |entry: Entry, is_marker| Version {
                key: entry.key,
                id: entry.version_id.unwrap_or_default(),
                is_marker,
                is_latest: entry.is_latest.unwrap_or(false),
            };
            for entry in page.entries {
                match entry {
                    Listed::Version(entry) => take(one(entry, false))?,
                    Listed::DeleteMarker(entry) => take(one(entry, true))?,
                    Listed::Other => {}
                }
            }
            if page.is_truncated != Some(true) {
                return Ok(());
            }
            let Some(key) = page.next_key_marker else { break };
            let id = page.next_version_id_marker.unwrap_or_default();
            after = (format!("key-marker={}&", encoded(&key, false)), String::new());
            if !id.is_empty() {
                after.1 = format!("&version-id-marker={}", encoded(&id, false));
            }
        }
        Err(ShipError::Answer {
            name: prefix.to_owned(),
            told: "the list of versions does not end".into(),
        })
    }

    fn parsed<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        status: StatusCode,
        body: &[u8],
    ) -> Result<T, ShipError> {
        let answer =
            |told: String| ShipError::Answer { name: format!("{name} of {}", self.base), told };
        if !status.is_success() {
            return Err(answer(status.to_string()));
        }
        quick_xml::de::from_reader(body).map_err(|error| answer(error.to_string()))
    }

    /// A request of our own, signed as the client's are. Asked again where the store or the way to it fails.
    async fn ask(
        &self,
        method: Method,
        rest: &str,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ShipError> {
        self.ask_with(method, rest, "").await
    }

    /// The same with a body.
    async fn ask_with(
        &self,
        method: Method,
        rest: &str,
        content: &str,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ShipError> {
        let mut pause = std::time::Duration::from_millis(100);
        for _ in 0..ASKED_MAX {
            match self.ask_once(method.clone(), rest, content).await {
                Ok((status, headers, body)) if !status.is_server_error() => {
                    return Ok((status, headers, body));
                }
                Ok(_) | Err(_) => tokio::time::sleep(pause).await,
            }
            pause = pause.saturating_mul(2);
        }
        self.ask_once(method, rest, content).await
    }

    async fn ask_once(
        &self,
        method: Method,
        rest: &str,
        content: &str,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ShipError> {
        let told = |error: &dyn std::fmt::Display| ShipError::Answer {
            name: self.base.clone(),
            told: error.to_string(),
        };
        let credential =
            self.credentials.get_credential().await.map_err(store_error("credentials"))?;
        let mut request = Request::builder().method(method).uri(format!("{}{rest}", self.base));
        if !content.is_empty() {
            // S3 takes a change of locks only with a checksum.
            let sum = BASE64.encode(Sha256::digest(content));
            request = request
                .header("content-type", "application/xml")
                .header("x-amz-checksum-sha256", sum);
        }
        let mut request = request
            .body(HttpRequestBody::from(content.to_owned()))
            .map_err(|error| told(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(store_error("a signature"))?;
        let response = self.client.execute(request).await.map_err(|error| told(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.bytes().await.map_err(|error| told(&error))?;
        Ok((parts.status, parts.headers, body.to_vec()))
    }
}

/// With pauses that double from 0.1 s, three seconds.
const ASKED_MAX: u32 = 5;

fn named(place: &Place, names: &[&str]) -> Option<String> {
    names.iter().find_map(|due| {
        place.credentials.pairs().find(|(name, _)| name == due).map(|(_, value)| value.to_owned())
    })
}

fn build(
    builder: &AmazonS3Builder,
    options: &ClientOptions,
    more: HeaderMap,
) -> Result<Arc<AmazonS3>, ShipError> {
    let options = options.clone().with_default_headers(more);
    let store = builder.clone().with_client_options(options).build();
    Ok(Arc::new(store.map_err(store_error("the bucket"))?))
}

/// RFC 3986's unreserved characters as they are, and slashes in a path; SigV4 signs it so.
fn encoded(text: &str, is_path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (is_path && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&types::hex::hex(&[byte]).to_uppercase());
        }
    }
    out
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockConfiguration {
    #[serde(rename = "ObjectLockEnabled")]
    enabled: Option<String>,
    rule: Option<LockRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockRule {
    default_retention: Option<DefaultRetention>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DefaultRetention {
    mode: Option<String>,
    days: Option<u32>,
    years: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    is_truncated: Option<bool>,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default, rename = "$value")]
    entries: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
enum Listed {
    Version(Entry),
    DeleteMarker(Entry),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    version_id: Option<String>,
    is_latest: Option<bool>,
}
