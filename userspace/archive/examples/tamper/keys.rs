//! What can be done with keys: the node's own, one of nobody's, one that was stolen and replaced.

use std::fs;
use std::path::Path;

use archive::key::Signer;
use archive::merkle::Tree;
use archive::note::Checkpoint;
use journal::row::{Row, Table};
use sha2::{Digest, Sha256};

use crate::cases::{Case, Copy, Expect};
use crate::tools;
use crate::world::{ORIGIN, World};

pub(crate) fn add(_world: &World, cases: &mut Vec<Case>) {
    cases.push(Case::attack(
        "rows, manifests and tiles changed, signed with nobody's key",
        |_, copy| {
            let keys = copy.dir().join("strange");
            remake(copy, &Signer::load_or_create(&keys, "n1").unwrap());
            Expect::names(&["checkpoint is not signed with the node's key"])
        },
    ));
    cases.push(Case::attack("the same, and the key in the archive exchanged, too", |_, copy| {
        let keys = copy.dir().join("strange");
        let signer = Signer::load_or_create(&keys, "n1").unwrap();
        fs::write(copy.log().join("key.vkey"), signer.lines()).unwrap();
        remake(copy, &signer);
        Expect::names(&["the given key"]).with(&[&"--key", &copy.dir().join("keys/n1.vkey")])
    }));
    cases.push(Case::attack(
        "rows changed, tree and manifests made anew and signed with the node's key",
        |_, copy| {
            let signer = Signer::load_or_create(&copy.dir().join("keys"), "n1").unwrap();
            remake(copy, &signer);
            // The checkpoints of before are of other rows.
            Expect::names(&["checkpoints/"]).with(&[&"--key", &copy.dir().join("keys/n1.vkey")])
        },
    ));
    cases.push(Case::attack(
        "a checkpoint of more rows than there are, signed with the node's key",
        |_, copy| {
            let signer = Signer::load_or_create(&copy.dir().join("keys"), "n1").unwrap();
            let newest = fs::read_to_string(copy.log().join("checkpoint")).unwrap();
            let (text, _) = newest.split_once("\n\n").unwrap();
            let mut checkpoint = Checkpoint::parse(&format!("{text}\n")).unwrap();
            checkpoint.size += 5;
            fs::write(copy.log().join("checkpoint"), signer.sign(&checkpoint).unwrap()).unwrap();
            Expect::names(&["not all rows can be read"])
        },
    ));
    rotation(cases);
    usurped(cases);
}

/// A key was replaced; who has the old one has it still.
fn rotation(cases: &mut Vec<Case>) {
    let at = |folder: &Path| folder.join("archive");
    cases.push(Case::attack(
        "the newest checkpoint signed with the replaced key",
        move |world, _| {
            let copy = Copy::of(&world.rotated);
            let signer = Signer::load_or_create(&world.stolen.join("keys"), "n1").unwrap();
            resign(&copy.log().join("checkpoint"), &signer);
            kept(copy, &["checkpoint is not signed with the node's key"], &[])
        },
    ));
    cases.push(Case::attack(
        "a kept checkpoint of after, signed with the replaced key",
        move |world, _| {
            let copy = Copy::of(&world.rotated);
            let signer = Signer::load_or_create(&world.stolen.join("keys"), "n1").unwrap();
            let path = archive::files::walk(&copy.log().join("checkpoints")).unwrap().remove(1);
            resign(&path, &signer);
            let name = tools::below(&path, &copy.archive());
            kept(copy, &["a key that was not in force at its size", &name], &[])
        },
    ));
    cases.push(Case::attack("the record of the key's rotation changed", move |world, _| {
        let copy = Copy::of(&world.rotated);
        let files = tools::parquet(&copy.archive());
        let is_rotation = |row: &Row| matches!(row, Row::Control(row) if row.kind == "key.rotated");
        let file = files
            .iter()
            .filter(|path| tools::table(path) == Some(Table::Control))
            .find(|path| tools::read(path).iter().any(is_rotation))
            .unwrap();
        let mut seq = 0;
        tools::edit(file, |rows| {
            for row in rows.iter_mut().filter(|row| is_rotation(row)) {
                seq = row.seq().0;
                if let Row::Control(row) = row {
                    row.detail = row.detail.replace("stands to 300", "stands to 999");
                }
            }
        });
        let name = tools::below(file, &copy.archive());
        kept(
            copy,
            &[&name, "key rotation is not signed with both keys", &format!("n1/0/{seq}")],
            &[],
        )
    }));
    cases.push(Case::sound("a log whose key was replaced", move |world, _| {
        Expect::names(&["the key was replaced by record n1/0/"]).with(&[
            &"--archive",
            &at(&world.rotated),
            &"--key",
            &world.rotated.join("keys/n1.vkey"),
        ])
    }));
    cases.push(Case::sound(
        "a log whose key was replaced, against the first key alone",
        move |world, _| {
            Expect::names(&[]).with(&[
                &"--archive",
                &at(&world.rotated),
                &"--key",
                &world.stolen.join("keys/n1.vkey"),
            ])
        },
    ));
}

/// Another history, by who stole the key that was replaced.
fn usurped(cases: &mut Vec<Case>) {
    let at = |folder: &Path| folder.join("archive");
    cases.push(Case::attack(
        "another history by who stole the replaced key, against the kept keys",
        move |world, _| {
            Expect::names(&["the given key", "is not one of this log's"]).with(&[
                &"--archive",
                &at(&world.usurped),
                &"--key",
                &world.rotated.join("keys/n1.vkey"),
            ])
        },
    ));
    cases.push(Case::attack(
        "the same, against the word that the key is revoked",
        move |world, copy| {
            let key = fs::read_to_string(world.stolen.join("keys/n1.vkey")).unwrap();
            let revoked = copy.dir().join("revoked");
            fs::write(&revoked, format!("{} 343\n", key.trim())).unwrap();
            Expect::names(&["revoked beyond size 343"]).with(&[
                &"--archive",
                &at(&world.usurped),
                &"--revoked",
                &revoked,
            ])
        },
    ));
    cases.push(Case::attack("the same, against a checkpoint that was kept", move |world, _| {
        let log = world.rotated.join("archive/std7y/v1/log").join(ORIGIN);
        Expect::names(&["signed with none of this log's keys"]).with(&[
            &"--archive",
            &at(&world.usurped),
            &"--checkpoint",
            &log.join("checkpoint"),
        ])
    }));
}

/// Verifies another copy than the case's; it stays until the system's temporary files go.
fn kept(copy: Copy, names: &[&str], args: &[&dyn AsRef<std::ffi::OsStr>]) -> Expect {
    let archive = copy.archive();
    let expect = Expect::names(names).with(&[&"--archive", &archive]).with(args);
    expect.holding(copy)
}

fn resign(path: &Path, signer: &Signer) {
    let note = fs::read_to_string(path).unwrap();
    let (text, _) = note.split_once("\n\n").unwrap();
    let checkpoint = Checkpoint::parse(&format!("{text}\n")).unwrap();
    fs::write(path, signer.sign(&checkpoint).unwrap()).unwrap();
}

/// Changes a record and makes tree, tiles, manifests and newest checkpoint anew over it.
fn remake(copy: &Copy, signer: &Signer) {
    let archive = copy.archive();
    let file = tools::file_of(&archive, Table::Events, 100);
    tools::edit(&file, |rows| rows[20] = tools::altered(&rows[20], 40));
    tools::refit_manifests(&archive, &copy.log());
    let mut leaves = Vec::new();
    for path in tools::parquet(&archive) {
        leaves.extend(tools::read(&path).iter().map(|row| (row.seq().0, row.leaf_hash())));
    }
    leaves.sort_unstable();
    let (mut tree, mut tiles) = (Tree::default(), Vec::new());
    for (_, leaf) in &leaves {
        tree.push(*leaf, &mut tiles);
    }
    tiles.retain(|tile| tile.level > 0);
    for tile in tiles.into_iter().chain(tree.partial()) {
        archive::files::write(&copy.log().join(tile.path()), &tile.bytes(), 0o644).unwrap();
    }
    let manifests = archive::files::walk(&copy.log().join("manifest")).unwrap();
    let manifest = Sha256::digest(fs::read(manifests.last().unwrap()).unwrap()).into();
    let origin = ORIGIN.to_owned();
    let checkpoint = Checkpoint { origin, size: tree.size(), root: tree.root(), manifest };
    let note = signer.sign(&checkpoint).unwrap();
    fs::write(copy.log().join("checkpoint"), &note).unwrap();
    fs::write(copy.log().join(format!("checkpoints/{:020}", tree.size())), note).unwrap();
}
