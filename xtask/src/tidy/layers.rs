//! Dependencies point strictly downwards, and each heavy one has its owner.

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use integration::paths;

/// Which of our crates may use which of ours: ARCHITECTURE.md's rows. Edges not listed are wrong.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("approval", &["types"]),
    ("proto", &["types"]),
    ("mask", &["types"]),
    ("policy", &["mask", "types"]),
    ("identity", &["types"]),
    ("journal", &["types"]),
    ("recording", &["types"]),
    ("token", &[]),
    ("ca", &["token"]),
    ("redirect-common", &[]),
    ("redirect-ebpf", &["redirect-common"]),
    ("guard-ebpf", &["redirect-common"]),
    ("tap-ebpf", &["redirect-common"]),
    ("redirect", &["redirect-common", "types"]),
    ("tlog", &["types"]),
    ("archive", &["journal", "tlog", "types"]),
    ("witness", &["tlog", "types"]),
    ("verifier", &["archive", "tlog", "witness"]),
    ("ship", &["archive", "types"]),
    ("forward", &["archive", "journal", "types"]),
    (
        "proxy",
        &["approval", "ca", "identity", "journal", "mask", "policy", "proto", "recording", "types"],
    ),
    ("capture", &["proto", "types"]),
    ("console", &["approval", "identity", "types"]),
    ("hub", &["approval", "types"]),
    ("resolver", &["identity", "journal", "policy", "types"]),
    ("webhook", &["approval", "journal", "types"]),
    (
        "daemon",
        &[
            "approval",
            "archive",
            "ca",
            "console",
            "forward",
            "hub",
            "identity",
            "journal",
            "mask",
            "policy",
            "proto",
            "proxy",
            "recording",
            "redirect",
            "redirect-common",
            "resolver",
            "ship",
            "tlog",
            "token",
            "types",
            "webhook",
            "witness",
        ],
    ),
    (
        "cli",
        &[
            "approval",
            "archive",
            "ca",
            "capture",
            "journal",
            "mask",
            "policy",
            "proto",
            "recording",
            "ship",
            "types",
            "verifier",
        ],
    ),
    ("integration", &[]),
    (
        "bench",
        &[
            "approval",
            "hub",
            "identity",
            "integration",
            "journal",
            "mask",
            "proto",
            "proxy",
            "redirect",
            "types",
        ],
    ),
    ("xtask", &["integration"]),
];

/// Who may use what takes long to build or does I/O: the start of its name, and its owners.
const OWNERS: &[(&str, &[&str])] = &[
    ("aya", &["redirect", "redirect-common", "redirect-ebpf", "guard-ebpf", "tap-ebpf"]),
    // What an archive is shipped to.
    ("object_store", &["ship"]),
    ("object", &["redirect"]),
    ("cedar-policy", &["policy"]),
    ("regex-automata", &["mask"]),
    ("wide", &["mask"]),
    ("pcap-parser", &["capture"]),
    ("pg_query", &["proto"]),
    ("arrow", &["archive"]),
    ("parquet", &["archive"]),
    ("ed25519", &["tlog", "archive", "witness"]),
    ("p256", &["tlog"]),
    // A witness and whoever asks one speak HTTP/1.1 without a runtime.
    ("httparse", &["witness"]),
    // HPKE comes with it.
    ("rustls", &["proxy", "ca", "hub", "recording", "forward", "bench"]),
    ("aws-lc-rs", &["recording"]),
    ("zstd", &["recording"]),
    // The vault's client, where issuers say who logged out, the console, hosts and their hub; `http-body-util` goes
    // with it.
    ("hyper", &["proxy", "console", "daemon", "hub"]),
    ("axum", &["console"]),
    ("askama", &["console", "archive"]),
    ("tower", &["console"]),
    ("rcgen", &["ca"]),
    ("cryptoki", &["token"]),
    ("x509-parser", &["ca", "hub"]),
    // What several hubs keep, and an agent that tests run.
    ("tokio-postgres", &["hub", "integration"]),
    // What a hub of its own keeps.
    ("redb", &["hub"]),
    ("mio", &["bench"]),
    (
        "tokio",
        &[
            "identity",
            "proxy",
            "resolver",
            "console",
            "hub",
            "webhook",
            "ship",
            "forward",
            "daemon",
            "integration",
            "bench",
        ],
    ),
    ("jsonwebtoken", &["identity"]),
    // Issuers and time-stamp authorities are asked, and receivers told: clients with nothing in common but how they are bounded.
    ("reqwest", &["daemon", "forward", "identity", "webhook"]),
    ("hickory", &["resolver"]),
    ("clap", &["daemon", "cli", "verifier", "witness", "xtask", "bench"]),
    ("cargo_metadata", &["xtask", "verifier"]),
];

/// A crate of ours and something it uses.
struct Edge {
    from: String,
    to: String,
    is_ours: bool,
    is_dev: bool,
}

/// Answers what is wrong.
///
/// # Errors
/// If cargo can't say what depends on what.
pub(super) fn check() -> Result<Vec<String>> {
    let mut command = MetadataCommand::new();
    let metadata = command.manifest_path(paths::root().join("Cargo.toml")).no_deps().exec();
    let metadata = metadata.context("cargo metadata")?;
    let packages = metadata.workspace_packages();
    let names: Vec<String> = packages.iter().map(|p| p.name.to_string()).collect();
    let edges: Vec<Edge> = packages.iter().flat_map(|package| edges_of(package, &names)).collect();
    let unknown = names.iter().filter(|name| !MAY_USE.iter().any(|(known, _)| known == name));
    let unknown = unknown.map(|name| format!("{name}: stands in no row of ARCHITECTURE.md"));
    Ok(unknown.chain(edges.iter().filter_map(wrong)).collect())
}

fn edges_of(package: &Package, names: &[String]) -> Vec<Edge> {
    let edge = |dependency: &cargo_metadata::Dependency| Edge {
        from: package.name.to_string(),
        to: dependency.name.clone(),
        is_ours: dependency.path.is_some() && names.contains(&dependency.name),
        is_dev: dependency.kind == DependencyKind::Development,
    };
    package.dependencies.iter().map(edge).collect()
}

fn wrong(edge: &Edge) -> Option<String> {
    let Edge { from, to, is_ours, is_dev } = edge;
    if *is_ours {
        let (_, may_use) = MAY_USE.iter().find(|(name, _)| name == from)?;
        // A test may look at a neighbour; what is built may not.
        let is_right = *is_dev || may_use.contains(&to.as_str());
        return (!is_right).then(|| format!("{from} uses {to}: not downwards (ARCHITECTURE.md)"));
    }
    let (_, owners) = OWNERS.iter().find(|(start, _)| to.starts_with(start))?;
    (!owners.contains(&from.as_str()))
        .then(|| format!("{from} uses {to}: owned by {}", owners.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{Edge, wrong};

    #[track_caller]
    fn check(from: &str, to: &str, is_ours: bool, is_dev: bool, expected: bool) {
        let edge = Edge { from: from.into(), to: to.into(), is_ours, is_dev };
        assert_eq!(wrong(&edge).is_none(), expected, "{from} → {to}");
    }

    #[test]
    fn edges_point_downwards() {
        check("proto", "types", true, false, true);
        check("proxy", "policy", true, false, true);
        check("types", "proto", true, false, false);
        check("proto", "policy", true, false, false);
        check("proxy", "redirect", true, false, false);
        check("cli", "proxy", true, false, false);
        check("policy", "proto", true, true, true);
    }

    #[test]
    fn heavy_dependencies_have_an_owner() {
        check("redirect", "aya", false, false, true);
        check("proxy", "aya", false, false, false);
        check("cli", "tokio", false, false, false);
        check("journal", "parquet", false, false, false);
        check("archive", "arrow-array", false, true, true);
        check("archive", "arrow-array", false, false, true);
        check("proxy", "thiserror", false, false, true);
    }
}
