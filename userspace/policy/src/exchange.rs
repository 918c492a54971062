//! Deciding HTTP requests: `fetch` for methods that read, `submit` for all others, each on a path.
//!
//! A path is below every path that it begins with, part by part, and below its target: `Path::"core/v1/accounts/7"` is
//! in `Path::"core/v1/accounts"`, `Path::"core/v1"` and `Host::"core"`.

use std::sync::Arc;

use types::command::Action;
use types::decision::{Decision, Keep};

/// One request, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// [`Action::Fetch`] or [`Action::Submit`].
    pub action: Action,
    /// The method.
    pub method: Arc<str>,
    /// The path, decoded; it begins with a slash.
    pub path: Arc<str>,
    /// The path with placeholders for values: what reasons show.
    pub template: Arc<str>,
    /// The host that it names, without a port, in lower case.
    pub host: Arc<str>,
    /// Whether it has a query.
    pub has_query: bool,
    /// The names of the query's parameters.
    pub names: Vec<Arc<str>>,
    /// The media type of its body, in lower case and without parameters; empty where it says none.
    pub content_type: Arc<str>,
    /// Whether it comes over TLS.
    pub is_tls: bool,
}

/// What is decided of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// Whether it goes up.
    pub decision: Decision,
    /// Where a class of data is masked for the agent: why a body that no mask can be applied to does not come down;
    /// none where policy permits that.
    pub unmasked: Option<Decision>,
    /// How much of it and of its answer is recorded, whatever is decided; none where policy says nothing of that.
    pub record: Option<Keep>,
}

/// The ids of the paths that one is below, the nearest first, and its own before them.
pub(crate) fn ids(target: &str, path: &str) -> Vec<String> {
    let own = format!("{target}{path}");
    let mut ids = vec![own.clone()];
    let mut rest = own.as_str();
    while let Some((above, _)) = rest.rsplit_once('/')
        && above.len() > target.len()
    {
        ids.push(above.to_owned());
        rest = above;
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_what_it_begins_with() {
        let all = |path| ids("core", path);
        assert_eq!(all("/"), ["core/"]);
        assert_eq!(all("/a"), ["core/a"]);
        assert_eq!(all("/a/"), ["core/a/", "core/a"]);
        assert_eq!(all("/a/b/7"), ["core/a/b/7", "core/a/b", "core/a"]);
    }
}
