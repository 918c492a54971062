//! Whether those who approved are enough.

use crate::request::Wants;
use crate::vote::Approver;

/// Whether `people`, each of them another, meet all terms when each counts for one of the terms alone: however
/// many groups they are in, and however many policies ask for them.
///
/// A matching of people to the places that terms have, by augmenting paths (Kuhn). Terms and people are few:
/// 64 votes at most, a policy each of a handful.
pub(super) fn are_met(terms: &[Wants], people: &[&Approver]) -> bool {
    let places: Vec<&Wants> = terms
        .iter()
        .flat_map(|wants| std::iter::repeat_n(wants, usize::from(wants.people.max(1))))
        .collect();
    if places.is_empty() || people.len() < places.len() {
        return false;
    }
    let mut taken: Vec<Option<usize>> = vec![None; people.len()];
    (0..places.len())
        .all(|place| seat(place, &places, people, &mut taken, &mut vec![false; people.len()]))
}

fn seat(
    place: usize,
    places: &[&Wants],
    people: &[&Approver],
    taken: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    let Some(wants) = places.get(place) else { return false };
    for (at, person) in people.iter().enumerate() {
        let fits = wants.groups.iter().any(|group| person.groups.contains(group));
        if !fits || std::mem::replace(&mut tried[at], true) {
            continue;
        }
        let is_free = match taken[at] {
            None => true,
            Some(other) => seat(other, places, people, taken, tried),
        };
        if is_free {
            taken[at] = Some(place);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_counts_once() {
        let wants = |people: u8, groups: &[&str]| Wants {
            policy: "p".into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            people,
            break_glass: Vec::new(),
        };
        let person = |user: &str, groups: &[&str]| Approver {
            idp: "https://idp.example".into(),
            sub: user.into(),
            user: user.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        };
        let (ann, bob, cid) =
            (person("ann", &["dba", "risk"]), person("bob", &["dba"]), person("cid", &[]));
        for (terms, people, met) in [
            (vec![wants(1, &["dba"])], vec![&ann], true),
            (vec![wants(1, &["dba"])], vec![&cid], false),
            (vec![wants(1, &["dba"])], vec![], false),
            (vec![wants(2, &["dba", "risk"])], vec![&ann], false),
            (vec![wants(2, &["dba", "risk"])], vec![&ann, &bob], true),
            (vec![wants(1, &["dba"]), wants(1, &["risk"])], vec![&ann], false),
            // Whoever comes first must make room.
            (vec![wants(1, &["dba"]), wants(1, &["risk"])], vec![&ann, &bob], true),
            (vec![wants(1, &["risk"]), wants(1, &["dba"])], vec![&bob, &ann], true),
            (vec![wants(2, &["dba"]), wants(1, &["risk"])], vec![&ann, &bob, &cid], false),
            (vec![], vec![&ann], false),
        ] {
            assert_eq!(are_met(&terms, &people), met, "{terms:?} {people:?}");
        }
    }
}
