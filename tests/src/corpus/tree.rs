//! What an analysed tree, as `debug_print_parse` writes it (`nodes/outfuncs.c`), demands permission for.

/// A relation of a tree, by its OID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) oid: u32,
    pub(super) permissions: u32,
    /// Attribute numbers; 0 is the whole row.
    pub(super) selected: Vec<i32>,
    pub(super) written: Vec<i32>,
}

/// Attribute numbers are written so far above themselves (`FirstLowInvalidHeapAttributeNumber` is -7).
const OFFSET: i32 = 7;

/// Answers the relations that `tree` demands anything of.
pub(super) fn wanted(tree: &str) -> Vec<Wanted> {
    // Blanks within names are escaped, so this is nothing but a relation (16 and later: its permissions).
    const LATER: &str = "{RTEPERMISSIONINFO ";
    let head = if tree.contains(LATER) { LATER } else { ":rtekind 0 " };
    tree.split(head).skip(1).filter_map(entry).filter(|one| one.permissions != 0).collect()
}

fn entry(text: &str) -> Option<Wanted> {
    let mut written = columns(text, ":insertedCols ")?;
    written.extend(columns(text, ":updatedCols ")?);
    Some(Wanted {
        oid: number(text, ":relid ")?,
        permissions: number(text, ":requiredPerms ")?,
        selected: columns(text, ":selectedCols ")?,
        written,
    })
}

fn number(text: &str, field: &str) -> Option<u32> {
    let (_, rest) = text.split_once(field)?;
    rest.split([' ', '}']).next()?.parse().ok()
}

/// A set: `(b 8 9)`.
fn columns(text: &str, field: &str) -> Option<Vec<i32>> {
    let (_, rest) = text.split_once(field)?;
    let (set, _) = rest.strip_prefix("(b")?.split_once(')')?;
    let members = set.split_ascii_whitespace().map(|member| member.parse().ok());
    members.map(|member: Option<i32>| member.map(|m| m - OFFSET)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trees_relations_are_read() {
        let tree = "{QUERY :rtable ({RTE :eref {ALIAS :aliasname t :colnames (\"a\" \"b\")} :rtekind 0 :relid 16404 \
                    :relkind r :requiredPerms 2 :checkAsUser 0 :selectedCols (b 8 9) :insertedCols (b) :updatedCols (b) \
                    :extraUpdatedCols (b) :securityQuals <>} {RTE :rtekind 1 :requiredPerms 0})}";
        let expected =
            Wanted { oid: 16_404, permissions: 2, selected: vec![1, 2], written: vec![] };
        assert_eq!(wanted(tree), [expected]);
    }
}
