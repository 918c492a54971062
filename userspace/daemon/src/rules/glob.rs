//! Patterns of names and paths.

/// Whether a path fits a pattern: `*` stands for anything but a slash, `**` for anything.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    fits(pattern.as_bytes(), path.as_bytes(), false)
}

/// Whether a name fits a pattern: `*` stands for anything.
pub(super) fn matches_any(pattern: &str, name: &str) -> bool {
    fits(pattern.as_bytes(), name.as_bytes(), true)
}

/// Remembers the last `*` of each kind alone, so that the time is at most the product of the
/// lengths: a later star can take over whatever an earlier one of its kind could.
fn fits(pattern: &[u8], text: &[u8], any: bool) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(at..).unwrap_or_default();
        let next = text.get(from);
        if rest.starts_with(b"**") || (any && rest.first() == Some(&b'*')) {
            at += if rest.starts_with(b"**") { 2 } else { 1 };
            (deep, star) = (Some((at, from)), None);
        } else if rest.first() == Some(&b'*') {
            at += 1;
            star = Some((at, from));
        } else if next.is_some() && rest.first() == next {
            (at, from) = (at + 1, from + 1);
        } else if rest.is_empty() && next.is_none() {
            return true;
        } else if let Some((after, taken)) = star
            && text.get(taken).is_some_and(|byte| *byte != b'/')
        {
            star = Some((after, taken + 1));
            (at, from) = (after, taken + 1);
        } else if let Some((after, taken)) = deep
            && taken < text.len()
        {
            (deep, star) = (Some((after, taken + 1)), None);
            (at, from) = (after, taken + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_what_they_say() {
        for (pattern, path, expected) in [
            ("/a/b", "/a/b", true),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/**/c.service", "/a/b/c.service", true),
            ("/**/x-*.scope", "/a/x-1/x-2.scope", true),
            ("/a-*-b", "/a-1-b-2-b", true),
            ("/a-*-b", "/a-1-b/2-b", false),
            ("*", "", true),
            ("", "a", false),
            ("/a", "/a/", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        assert!(matches_any("docker.io/*:1.*", "docker.io/library/x:1.2"));
        assert!(!matches_any("x*", "yx"));
    }
}
