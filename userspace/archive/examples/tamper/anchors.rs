//! What only others' word finds: an archive made anew with the node's key, or brought back to what it was.

use std::fs;

use crate::cases::{Case, Expect};
use crate::world::{ORIGIN, World};

pub(crate) fn add(_world: &World, cases: &mut Vec<Case>) {
    forged(cases);
    rolled_back(cases);
    cases.push(Case::sound("witnessed, by the policy", |world, _| {
        Expect::names(&["L3 witnesses: as recorded"]).with(&[
            &"--policy",
            &world.policy,
            &"--ask-witnesses",
            &"--level",
            &"3",
        ])
    }));
    cases.push(Case::attack("witnessed, but by none whom the policy names", |world, _| {
        Expect::names(&["no checkpoint has the cosignatures"])
            .with(&[&"--policy", &world.strange_policy])
    }));
    cases.push(Case::attack("cosignatures of another checkpoint", |world, copy| {
        let paths = archive::files::walk(&copy.log().join("cosigned")).unwrap();
        fs::copy(&paths[0], &paths[2]).unwrap();
        Expect::names(&["did not cosign"]).with(&[&"--policy", &world.policy])
    }));
    cases.push(Case::attack("all cosignatures deleted", |world, copy| {
        fs::remove_dir_all(copy.log().join("cosigned")).unwrap();
        Expect::names(&["no checkpoint has the cosignatures"]).with(&[&"--policy", &world.policy])
    }));
    cases.push(Case::attack("a cosignature flipped", |world, copy| {
        let path = archive::files::walk(&copy.log().join("cosigned")).unwrap().pop().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        // Within the signature's base64, behind name, id and time.
        let at = text.len() - 20;
        let mut bytes = text.into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        fs::write(path, bytes).unwrap();
        Expect::names(&["did not cosign"]).with(&[&"--policy", &world.policy])
    }));
    cases.push(Case::sound("what is new since it was verified", |world, copy| {
        let state = copy.dir().join("state");
        fs::copy(&world.state, &state).unwrap();
        Expect::names(&["verified before and not read again"]).with(&[&"--state", &state])
    }));
    cases.push(Case::sound("against a checkpoint that was kept", |world, _| {
        let log = world.earlier.join("archive/std7y/v1/log").join(ORIGIN);
        Expect::names(&[]).with(&[&"--checkpoint", &log.join("checkpoint")])
    }));
}

/// The archive of one who has the node's key and disk and made all of it anew.
fn forged(cases: &mut Vec<Case>) {
    cases.push(Case::attack("made anew with the node's key: the witness's policy", |world, _| {
        Expect::names(&["no checkpoint has the cosignatures"]).with(&[
            &"--archive",
            &world.forged.join("archive"),
            &"--policy",
            &world.policy,
        ])
    }));
    cases.push(Case::attack("made anew, cosignatures copied", |world, copy| {
        let forged = world.forged.join("archive/std7y/v1/log").join(ORIGIN);
        fs::remove_dir_all(copy.archive()).unwrap();
        for path in archive::files::walk(&world.forged.join("archive")).unwrap() {
            let to = copy.dir().join(path.strip_prefix(&world.forged).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
        let own = world.node.join("archive/std7y/v1/log").join(ORIGIN).join("cosigned");
        let names = archive::files::walk(&forged.join("checkpoints")).unwrap();
        fs::create_dir_all(copy.log().join("cosigned")).unwrap();
        for (from, name) in archive::files::walk(&own).unwrap().iter().zip(names) {
            fs::copy(from, copy.log().join("cosigned").join(name.file_name().unwrap())).unwrap();
        }
        Expect::names(&["did not cosign"]).with(&[&"--policy", &world.policy])
    }));
    cases.push(Case::attack("made anew: the witness is asked", |world, _| {
        Expect::names(&["witness w", "another history|rolled back"]).with(&[
            &"--archive",
            &world.forged.join("archive"),
            &"--policy",
            &world.policy,
            &"--ask-witnesses",
        ])
    }));
    cases.push(Case::attack("made anew: a checkpoint was kept", |world, _| {
        let log = world.middle.join("archive/std7y/v1/log").join(ORIGIN);
        Expect::names(&["another history"]).with(&[
            &"--archive",
            &world.forged.join("archive"),
            &"--checkpoint",
            &log.join("checkpoint"),
        ])
    }));
    cases.push(Case::attack("made anew: it was verified before", |world, copy| {
        let state = copy.dir().join("state");
        fs::copy(&world.state, &state).unwrap();
        Expect::names(&["another history"]).with(&[
            &"--archive",
            &world.forged.join("archive"),
            &"--state",
            &state,
        ])
    }));
    cases.push(Case::attack("made anew: the journal is at hand", |world, copy| {
        Expect::names(&["record in the journal is not the sealed one", "n1/0/"]).with(&[
            &"--archive",
            &world.forged.join("archive"),
            &"--journal",
            &copy.journal(),
        ])
    }));
}

/// The archive as it was, sound in itself.
fn rolled_back(cases: &mut Vec<Case>) {
    cases.push(Case::attack("rolled back: the witness is asked", |world, _| {
        Expect::names(&["rolled back: witness w", "are missing"]).with(&[
            &"--archive",
            &world.middle.join("archive"),
            &"--policy",
            &world.policy,
            &"--ask-witnesses",
        ])
    }));
    cases.push(Case::attack("rolled back: a checkpoint was kept", |world, copy| {
        Expect::names(&["rolled back", "are missing"]).with(&[
            &"--archive",
            &world.middle.join("archive"),
            &"--checkpoint",
            &copy.log().join("checkpoint"),
        ])
    }));
    cases.push(Case::attack("rolled back: it was verified before", |world, copy| {
        let state = copy.dir().join("state");
        fs::copy(&world.state, &state).unwrap();
        Expect::names(&["rolled back", "are missing"]).with(&[
            &"--archive",
            &world.earlier.join("archive"),
            &"--state",
            &state,
        ])
    }));
    cases.push(Case::attack("gone, and it was verified before", |world, copy| {
        let state = copy.dir().join("state");
        fs::copy(&world.state, &state).unwrap();
        fs::remove_dir_all(copy.log()).unwrap();
        Expect::names(&["was verified before and is gone"]).with(&[&"--state", &state])
    }));
    cases.push(Case::attack("the checkpoint alone rolled back", |_, copy| {
        let paths = archive::files::walk(&copy.log().join("checkpoints")).unwrap();
        fs::copy(&paths[1], copy.log().join("checkpoint")).unwrap();
        Expect::names(&["manifest is not the one that was sealed"])
    }));
    cases.push(Case::attack("checkpoints and manifests rolled back, files left", |_, copy| {
        for folder in ["checkpoints", "manifest"] {
            let last = archive::files::walk(&copy.log().join(folder)).unwrap().pop().unwrap();
            fs::remove_file(last).unwrap();
        }
        let paths = archive::files::walk(&copy.log().join("checkpoints")).unwrap();
        fs::copy(&paths[1], copy.log().join("checkpoint")).unwrap();
        Expect::names(&["file is in no manifest"])
    }));
}
