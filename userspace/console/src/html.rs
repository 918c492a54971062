//! Texts as HTML: escaped, and with no character in them that looks like another or turns lines around.

use std::fmt;

use approval::shown::{Piece, number, pieces};
use askama::filters::HtmlSafe;

use crate::lexer;
use crate::times::When;

/// HTML made here, of texts that were escaped here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl HtmlSafe for Html {}

impl Html {
    /// An instant.
    pub(crate) fn of_when(when: When) -> Self {
        Self(when.to_string())
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text from outside as HTML; a strange character stands as its number, marked. What a browser shows of it is
/// [`approval::shown::plain`] of the text.
pub(crate) fn text(text: &str) -> Html {
    let mut out = String::with_capacity(text.len());
    mark(text, &mut out);
    Html(out)
}

/// A statement as HTML, with the colours of its language where that is SQL; else as [`text`].
pub(crate) fn statement(statement: &str, protocol: &str) -> Html {
    if protocol != "postgresql" {
        return text(statement);
    }
    let mut out = String::with_capacity(statement.len() * 2);
    for (class, piece) in lexer::pieces(statement) {
        match class.style() {
            Some(style) => {
                out.push_str("<span class=\"");
                out.push_str(style);
                out.push_str("\">");
                mark(piece, &mut out);
                out.push_str("</span>");
            }
            None => mark(piece, &mut out),
        }
    }
    Html(out)
}

fn mark(text: &str, out: &mut String) {
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => escape(plain, out),
            Piece::Strange(c) => {
                out.push_str("<span class=\"strange\">");
                escape(&number(c), out);
                out.push_str("</span>");
            }
        }
    }
}

/// What HTML has a meaning for stands as what it is, in texts and in attributes.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use approval::shown::plain;
    use proptest::prelude::*;

    use super::*;

    /// What a browser shows of it.
    fn seen(html: &Html) -> String {
        let mut out = String::new();
        let mut rest = html.0.as_str();
        while let Some(at) = rest.find('<') {
            out.push_str(&rest[..at]);
            rest = rest[at..].split_once('>').unwrap().1;
        }
        out.push_str(rest);
        let entities =
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
        entities.iter().fold(out, |out, (entity, c)| out.replace(entity, c))
    }

    #[test]
    fn html_in_names_is_text() {
        let html = text("<script>alert('x')</script>&amp;");
        assert_eq!(html.0, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;");
    }

    #[test]
    fn what_looks_like_something_else_is_shown_by_its_number() {
        let html = statement("DELETE FROM p\u{430}y -- \u{202e}x", "postgresql");
        assert_eq!(
            html.0,
            "<span class=\"k\">DELETE</span> <span class=\"k\">FROM</span> \
             p<span class=\"strange\">&lt;U+0430&gt;</span>y <span class=\"c\">-- \
             <span class=\"strange\">&lt;U+202E&gt;</span>x</span>"
        );
    }

    proptest! {
        #[test]
        fn what_is_seen_is_what_a_vote_commits_to(sql in "[-'\"<>&$a-c \n\u{202e}é;U/*]{0,60}") {
            prop_assert_eq!(seen(&statement(&sql, "postgresql")), plain(&sql));
            prop_assert_eq!(seen(&text(&sql)), plain(&sql));
        }
    }
}
