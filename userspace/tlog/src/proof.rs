//! Consistency proofs (RFC 6962 §2.1.2): that a tree is the continuation of a smaller one.

use crate::merkle::{Hash, node};

/// Hashes of a proof at most: two for each level of a tree that a u64 counts (C2SP tlog-witness).
pub const HASHES_MAX: usize = 63;

/// A perfect subtree: leaves `index << level` to before `(index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subtree {
    /// The logarithm of how many leaves.
    pub level: u32,
    /// Its place among those of the level.
    pub index: u64,
}

/// The proof that the tree of `new` leaves continues that of `old`; empty where there is nothing to show.
/// `hash` gives the root of a perfect subtree; `None` where it can't, or `old` is greater.
pub fn consistency(
    old: u64,
    new: u64,
    hash: &mut dyn FnMut(Subtree) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    if old > new {
        return None;
    }
    let mut proof = Vec::new();
    if old > 0 && old < new {
        subproof(old, 0, new, true, hash, &mut proof)?;
    }
    Some(proof)
}

/// RFC 6962's SUBPROOF(m, D\[n\], b), of the `n` leaves from `start` on.
fn subproof(
    m: u64,
    start: u64,
    n: u64,
    known: bool,
    hash: &mut dyn FnMut(Subtree) -> Option<Hash>,
    proof: &mut Vec<Hash>,
) -> Option<()> {
    if m == n {
        if !known {
            proof.push(range(start, n, hash)?);
        }
        return Some(());
    }
    let k = split(n);
    if m <= k {
        subproof(m, start, k, known, hash, proof)?;
        proof.push(range(start + k, n - k, hash)?);
    } else {
        subproof(m - k, start + k, n - k, false, hash, proof)?;
        proof.push(range(start, k, hash)?);
    }
    Some(())
}

/// The root over `n` leaves from `start` on.
fn range(start: u64, n: u64, hash: &mut dyn FnMut(Subtree) -> Option<Hash>) -> Option<Hash> {
    if n.is_power_of_two() {
        let level = n.trailing_zeros();
        return hash(Subtree { level, index: start >> level });
    }
    let k = split(n);
    let left = range(start, k, hash)?;
    Some(node(&left, &range(start + k, n - k, hash)?))
}

/// The greatest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (n.saturating_sub(1)).ilog2()
}

/// Whether `proof` shows that the tree of `new` leaves with root `new_root` continues that of `old` with
/// `old_root` (RFC 9162 §2.1.4.2).
pub fn is_consistent(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old, old_root), (new, new_root)) = (old, new);
    if old == 0 {
        return proof.is_empty();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old > new || proof.is_empty() || proof.len() > HASHES_MAX {
        return false;
    }
    let mut path = Vec::with_capacity(proof.len() + 1);
    if old.is_power_of_two() {
        path.push(*old_root);
    }
    path.extend_from_slice(proof);
    let [first, path @ ..] = path.as_slice() else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut small, mut large) = (*first, *first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            small = node(hash, &small);
            large = node(hash, &large);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            large = node(&large, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && small == *old_root && large == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::Tree;

    #[test]
    fn every_pair_of_sizes_is_proven_and_no_other_root() {
        let leaves: Vec<Hash> = (0..70_u8).map(|n| [n; 32]).collect();
        let at = |n: u64| usize::try_from(n).unwrap();
        let root = |n: u64| {
            let mut tree = Tree::default();
            leaves[..at(n)].iter().for_each(|leaf| tree.push(*leaf, &mut Vec::new()));
            tree.root()
        };
        for new in 0..=70_u64 {
            for old in 0..=new {
                let mut hash = |Subtree { level, index }: Subtree| {
                    let (from, to) = (at(index << level), at((index + 1) << level));
                    Some(crate::merkle::root(&leaves[from..to]))
                };
                let proof = consistency(old, new, &mut hash).unwrap();
                let (small, large) = (root(old), root(new));
                assert!(is_consistent((old, &small), (new, &large), &proof), "{old} {new}");
                if old > 0 {
                    assert!(!is_consistent((old, &[9; 32]), (new, &large), &proof), "{old} {new}");
                    assert!(old == new || !is_consistent((old, &small), (new, &[9; 32]), &proof));
                    for at in 0..proof.len() {
                        let mut other = proof.clone();
                        other[at][3] ^= 1;
                        assert!(!is_consistent((old, &small), (new, &large), &other));
                        other.remove(at);
                        assert!(!is_consistent((old, &small), (new, &large), &other));
                    }
                }
                let longer: Vec<Hash> = proof.iter().copied().chain([[0; 32]]).collect();
                assert!(!is_consistent((old, &small), (new, &large), &longer), "{old} {new}");
            }
        }
    }
}
