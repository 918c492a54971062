//! What the stand-alone programs are made of: nothing that an auditor would have to trust besides.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand, PackageId};

/// The names of all that a package links, by the lock file.
fn linked(package: &str) -> BTreeSet<String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let mut command = MetadataCommand::new();
    // Of this platform: what only others need was never fetched.
    let options = ["--offline", "--locked", "--filter-platform", "host-tuple"].map(str::to_owned);
    let metadata = command.manifest_path(manifest).other_options(options).exec().unwrap();
    let resolve = metadata.resolve.as_ref().unwrap();
    let name = |id: &PackageId| metadata[id].name.to_string();
    let first = &metadata.workspace_packages().into_iter().find(|p| p.name == package).unwrap().id;
    let (mut open, mut seen) = (vec![first.clone()], BTreeSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == id).unwrap();
        let normal = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        });
        open.extend(normal.map(|dependency| dependency.pkg.clone()));
    }
    seen.iter().map(name).collect()
}

#[test]
fn the_verifier_and_the_witness_link_no_runtime_no_tls_and_no_bpf() {
    for package in ["verifier", "witness"] {
        let names = linked(package);
        assert!(names.len() > 10 && names.contains("ed25519-dalek"), "{names:?}");
        for strange in ["tokio", "rustls", "aya", "hyper", "openssl", "cedar-policy", "reqwest"] {
            let found: Vec<_> = names.iter().filter(|name| name.starts_with(strange)).collect();
            assert!(found.is_empty(), "{package} links {found:?}");
        }
    }
    let witness = linked("witness");
    for heavy in ["parquet", "arrow-array", "archive", "journal"] {
        assert!(!witness.contains(heavy), "the witness links {heavy}");
    }
    assert!(linked("daemon").contains("tokio"), "what is looked for would be found");
}
