//! The archive's part of the configuration: where it is, who vouches for it, how long files are kept, and where they are
//! shipped.

use std::path::PathBuf;

use archive::retention::Periods;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compactor::CompactRule;
use crate::shipping::ShipRule;
use crate::signing::TokenRule;

/// The archive.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Archive {
    /// Where it lies; `archive` below the state directory where absent.
    pub(crate) dir: Option<PathBuf>,
    /// How long rows wait before they are sealed, in seconds.
    pub(crate) seal_interval_s: u64,
    /// The witnesses that are asked for cosignatures: a file of C2SP tlog-policy, those of its witnesses that have a
    /// URL.
    pub(crate) witnesses: Option<PathBuf>,
    /// Whether sealed files are made unchangeable where they lie (`chattr +i`), so that root must take that back before
    /// it changes or removes one. The daemon does not start where the file system has no such attribute.
    pub(crate) immutable: bool,
    /// How long files are kept before `vestibule archive dispose` may remove them.
    pub(crate) retention: RetentionRule,
    /// The store that it is shipped to; none where absent.
    pub(crate) ship: Option<ShipRule>,
    /// Whether the files of past days are put together; not where absent.
    pub(crate) compact: Option<CompactRule>,
    /// Whether each table has a Delta log, for readers that go by one: it is made, and kept up after each seal, compaction
    /// and disposal. One that is there is kept up in any case.
    pub(crate) delta: bool,
    /// Who stamps the time on signed checkpoints (RFC 3161).
    pub(crate) timestamps: Option<Timestamps>,
    /// The token that keeps the key which signs checkpoints; a file below the state directory where absent.
    pub(crate) key: Option<TokenRule>,
}

/// An authority that stamps the time on checkpoints.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timestamps {
    /// Where it takes requests (RFC 3161, section 3.4), `http://` or `https://`.
    pub(crate) url: String,
    /// How often the newest checkpoint is stamped, in seconds; once an hour where absent.
    #[serde(default = "an_hour")]
    pub(crate) interval_s: u64,
    /// Certificates (PEM) that vouch for an https:// URL beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

fn an_hour() -> u64 {
    3_600
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            dir: None,
            seal_interval_s: 3_600,
            witnesses: None,
            immutable: false,
            retention: RetentionRule::default(),
            ship: None,
            compact: None,
            delta: false,
            timestamps: None,
            key: None,
        }
    }
}

/// How long files are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionRule {
    /// Days that events and sessions are kept; control records have no end.
    pub(crate) std7y_days: u32,
    /// Days that recordings are kept.
    pub(crate) payload13m_days: u32,
    /// The provider's groups of those who may dispose of files and release holds; anybody who logs in where absent.
    pub(crate) groups: Vec<String>,
}

impl Default for RetentionRule {
    fn default() -> Self {
        let Periods { std7y_days, payload13m_days } = Periods::default();
        Self { std7y_days, payload13m_days, groups: Vec::new() }
    }
}

impl RetentionRule {
    /// The periods.
    pub(crate) fn periods(&self) -> Periods {
        let Self { std7y_days, payload13m_days, groups: _ } = self;
        Periods { std7y_days: *std7y_days, payload13m_days: *payload13m_days }
    }
}
