//! Where an archive is shipped to: a URL, and how its store is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::secret::Secret;
use url::Url;

use crate::{ShipError, io_error};

/// A store and a prefix in it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub kind: Kind,
    /// The store's address, where it is not the cloud's own.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` where absent.
    pub region: Option<String>,
    /// An authority that the store's certificate is of, PEM, beside the system's.
    pub ca: Option<PathBuf>,
    /// Plain HTTP is allowed to hosts other than this one.
    pub allow_http: bool,
    /// What it is reached with.
    pub credentials: Credentials,
    /// How objects are locked; not at all where absent.
    pub lock: Option<Lock>,
    /// Bytes a second at most, there and back; no limit where absent.
    pub bandwidth_limit: Option<u64>,
    /// The pause before a failed request is made again, at first; it grows to 15 s, with jitter.
    pub retry_pause: Duration,
}

/// A store's kind with what its URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Amazon's S3 and what speaks like it.
    S3(Bucket),
    /// Google Cloud Storage.
    Gcs(Bucket),
    /// Azure's blobs.
    Azure(Bucket),
    /// A folder that is there: a mounted WORM file system, for one.
    File(PathBuf),
}

/// A bucket or container, and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The prefix, without a slash at either end.
    pub prefix: String,
}

/// How objects are locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The mode.
    pub mode: Mode,
    /// Days by class: `std7y`, `payload13m`.
    pub days: BTreeMap<String, u32>,
}

/// S3's two modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Some may end the lock.
    Governance,
    /// Nobody may.
    Compliance,
}

impl Mode {
    /// S3's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// What a store is reached with, by the names that its own tools use (`AWS_SECRET_ACCESS_KEY`, …).
#[derive(Clone, Default)]
pub struct Credentials(Vec<(String, std::sync::Arc<Secret<String>>)>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Variables whose values are secrets: a daemon has them in its environment no longer than it must.
pub const SECRET_VARIABLES: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
];

/// A few lines.
const CREDENTIALS_BYTES_MAX: u64 = 64 * 1024;

impl Credentials {
    /// Those of the environment whose names begin as a store's do.
    pub fn of_environment(variables: impl Iterator<Item = (String, String)>) -> Self {
        let is_one =
            |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|start| name.starts_with(start));
        let mut all = Self::default();
        variables.filter(|(name, _)| is_one(name)).for_each(|(name, value)| all.set(&name, value));
        all
    }

    /// Those of a file: lines of `NAME=value`, empty ones and those that begin with `#` left out. Nobody but its owner
    /// may read it.
    pub fn read(path: &Path) -> Result<Self, ShipError> {
        let metadata = fs::metadata(path).map_err(io_error(path))?;
        let place = |told: &str| ShipError::Place(format!("{}: {told}", path.display()));
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(place("others may read it: chmod 600"));
        }
        if metadata.len() > CREDENTIALS_BYTES_MAX {
            return Err(place("too long for lines of NAME=value"));
        }
        let text = Secret::new(fs::read_to_string(path).map_err(io_error(path))?);
        let mut all = Self::default();
        let lines = text.expose().lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) =
                line.split_once('=').ok_or_else(|| place("a line is not NAME=value"))?;
            all.set(name.trim(), value.trim().to_owned());
        }
        Ok(all)
    }

    /// Adds one, in the place of one of that name.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), std::sync::Arc::new(Secret::new(value))));
    }

    /// These, and of the others those that these lack.
    #[must_use]
    pub fn or(mut self, others: &Self) -> Self {
        let lacking = |name: &str| !self.0.iter().any(|(known, _)| known == name);
        let more: Vec<_> = others.0.iter().filter(|(name, _)| lacking(name)).cloned().collect();
        self.0.extend(more);
        self
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose().as_str()))
    }
}

impl Place {
    /// The place that a URL names, with everything else as it is without configuration.
    ///
    /// # Errors
    /// If it names none.
    pub fn new(url: &str) -> Result<Self, ShipError> {
        let bad = |told: &str| ShipError::Place(format!("`{url}`: {told}"));
        let parsed = Url::parse(url).map_err(|_| {
            bad("a URL such as s3://bucket/prefix, gs://…, az://… or file:///folder")
        })?;
        if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty()
        {
            return Err(bad("a store and a prefix, and nothing else"));
        }
        let bucket = || {
            let name = parsed.host_str().unwrap_or_default().to_owned();
            let prefix = parsed.path().trim_matches('/').to_owned();
            let is_plain =
                prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=".contains(&b));
            let is_path =
                prefix.is_empty() || !prefix.split('/').any(|p| ["", ".", ".."].contains(&p));
            match (name.is_empty(), is_plain && is_path) {
                (true, _) => Err(bad("it names no bucket")),
                (_, false) => Err(bad("a prefix of letters, digits and -_.=, in parts")),
                _ => Ok(Bucket { name, prefix }),
            }
        };
        let kind = match parsed.scheme() {
            "s3" => Kind::S3(bucket()?),
            "gs" => Kind::Gcs(bucket()?),
            "az" => Kind::Azure(bucket()?),
            "file" => {
                Kind::File(parsed.to_file_path().map_err(|()| bad("no folder of this host"))?)
            }
            _ => return Err(bad("s3://, gs://, az:// or file://")),
        };
        Ok(Self {
            kind,
            endpoint: None,
            region: None,
            ca: None,
            allow_http: false,
            credentials: Credentials::default(),
            lock: None,
            bandwidth_limit: None,
            retry_pause: Duration::from_millis(100),
        })
    }

    /// Whether a text is such a URL, and not a folder's name.
    pub fn is_url(text: &str) -> bool {
        ["s3://", "gs://", "az://", "file://"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Checks what can be checked without the store.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub fn check(&self) -> Result<(), ShipError> {
        let bad = |told: &str| Err(ShipError::Place(told.to_owned()));
        if self.lock.is_some() && !matches!(self.kind, Kind::S3(_)) {
            return bad(
                "lock: s3:// alone has object lock; elsewhere the store's own policy holds objects",
            );
        }
        if self.endpoint.is_some() && matches!(self.kind, Kind::File(_)) {
            return bad("endpoint: a folder has none");
        }
        if let Some(endpoint) = &self.endpoint {
            let Ok(url) = Url::parse(endpoint) else {
                return bad("endpoint: a URL such as https://host");
            };
            let is_local =
                ["127.0.0.1", "[::1]", "localhost"].contains(&url.host_str().unwrap_or_default());
            match url.scheme() {
                "https" => {}
                "http" if is_local || self.allow_http => {}
                "http" => {
                    return bad(
                        "endpoint: what is shipped would be read on the way; allow_http = true allows it",
                    );
                }
                _ => return bad("endpoint: https://host"),
            }
        }
        if self.bandwidth_limit.is_some_and(|limit| limit < BANDWIDTH_MIN) {
            return bad("bandwidth_limit: bytes a second, 65536 and up");
        }
        if let Some(lock) = &self.lock
            && lock.days.values().any(|days| *days == 0 || *days > DAYS_MAX)
        {
            return bad("lock: 1 to 36500 days");
        }
        Ok(())
    }

    /// The URL.
    pub fn url(&self) -> String {
        let of = |scheme: &str, Bucket { name, prefix }: &Bucket| {
            format!("{scheme}://{name}/{prefix}").trim_end_matches('/').to_owned()
        };
        match &self.kind {
            Kind::S3(bucket) => of("s3", bucket),
            Kind::Gcs(bucket) => of("gs", bucket),
            Kind::Azure(bucket) => of("az", bucket),
            Kind::File(path) => format!("file://{}", path.display()),
        }
    }
}

/// A part of 8 MiB takes two minutes then; slower, requests run out of time.
const BANDWIDTH_MIN: u64 = 64 * 1024;

/// A century: a lock that nobody ends must not be a slip of the hand.
const DAYS_MAX: u32 = 36_500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_their_urls_say() {
        for (url, told) in [
            ("s3://b/a/c/", "s3://b/a/c"),
            ("s3://b", "s3://b"),
            ("gs://b/x=1", "gs://b/x=1"),
            ("az://c/p", "az://c/p"),
            ("file:///mnt/worm", "file:///mnt/worm"),
        ] {
            assert_eq!(Place::new(url).unwrap().url(), told);
        }
        for (url, told) in [
            ("/mnt/worm", "a URL such as"),
            ("http://b/p", "s3://, gs://"),
            ("s3:///p", "names no bucket"),
            ("s3://b/../p%20q", "a prefix of"),
            ("s3://key:secret@b/p", "nothing else"),
            ("s3://b/p?x=1", "nothing else"),
        ] {
            let error = Place::new(url).unwrap_err().to_string();
            assert!(error.contains(told), "{url}: {error}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let with = |url: &str, change: &dyn Fn(&mut Place)| {
            let mut place = Place::new(url).unwrap();
            change(&mut place);
            place.check().map_err(|error| error.to_string())
        };
        let lock = Lock { mode: Mode::Compliance, days: BTreeMap::from([("std7y".into(), 0)]) };
        assert_eq!(with("s3://b", &|_| ()), Ok(()));
        for (url, change, told) in [
            (
                "gs://b",
                &(|p: &mut Place| p.lock = Some(lock.clone())) as &dyn Fn(&mut Place),
                "s3:// alone",
            ),
            ("s3://b", &|p: &mut Place| p.lock = Some(lock.clone()), "1 to 36500"),
            ("s3://b", &|p: &mut Place| p.endpoint = Some("http://s3.bank".into()), "allow_http"),
            ("s3://b", &|p: &mut Place| p.endpoint = Some("s3.bank".into()), "endpoint"),
            ("s3://b", &|p: &mut Place| p.bandwidth_limit = Some(9), "bandwidth_limit"),
            (
                "file:///a",
                &|p: &mut Place| p.endpoint = Some("https://s".into()),
                "a folder has none",
            ),
        ] {
            let error = with(url, change).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn credentials_of_a_file_are_its_owners_and_shown_by_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        fs::write(&path, "# a key\nAWS_ACCESS_KEY_ID = one\n\nAWS_SECRET_ACCESS_KEY=two=2\n")
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Credentials::read(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let all = Credentials::read(&path).unwrap();
        assert_eq!(all.pairs().nth(1), Some(("AWS_SECRET_ACCESS_KEY", "two=2")));
        let shown = format!("{all:?}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("two"), "{shown}");
    }
}
