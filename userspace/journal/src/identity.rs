//! The byte form of an identity.

use std::sync::Arc;

use types::identity::{ACTORS_MAX, Actor, GROUPS_MAX, Identity, Subject, Token, Way};

use crate::codec::{Cursor, Malformed, put_list, put_opt, put_str, put_u8};
use crate::record::NAME_BYTES_MAX;

/// What stands in the place of a subject's presence: 0 or 1 and three names in journals of before there
/// was more to say; 2 and all of it now.
const WHOLE: u8 = 2;

/// Names of ways to log in (`amr`) that are kept.
const METHODS_MAX: usize = 16;

/// Appends an identity.
pub(crate) fn put(out: &mut Vec<u8>, identity: &Identity) {
    let Identity { subject, actors, owner } = identity;
    put_u8(out, WHOLE);
    put_opt(out, subject.as_ref(), put_subject);
    put_list(out, actors, ACTORS_MAX, |out, Actor { idp, sub, client }| {
        put_name(out, idp);
        put_name(out, sub);
        put_opt(out, client.as_ref(), put_name);
    });
    put_opt(out, owner.as_ref(), put_name);
}

/// Reads an identity.
pub(crate) fn get(cursor: &mut Cursor<'_>) -> Result<Identity, Malformed> {
    let subject = match cursor.u8()? {
        0 => None,
        1 => Some(Subject {
            user: name(cursor)?,
            idp: name(cursor)?,
            sub: name(cursor)?,
            groups: Arc::default(),
            token: Arc::default(),
        }),
        WHOLE => {
            return Ok(Identity {
                subject: cursor.opt(subject)?,
                actors: cursor.list(actor)?.into(),
                owner: cursor.opt(name)?,
            });
        }
        _ => return Err(Malformed("unknown form of an identity")),
    };
    Ok(Identity { subject, ..Identity::default() })
}

fn put_subject(out: &mut Vec<u8>, subject: &Subject) {
    let Subject { user, idp, sub, groups, token } = subject;
    put_name(out, user);
    put_name(out, idp);
    put_name(out, sub);
    put_list(out, groups, GROUPS_MAX, put_name);
    let Token { way, client, id, session, issued_s, expires_s, authenticated_s, methods, class } =
        &**token;
    put_u8(out, way_code(*way));
    put_opt(out, client.as_ref(), put_name);
    put_opt(out, id.as_ref(), put_name);
    put_opt(out, session.as_ref(), put_name);
    put_i64(out, *issued_s);
    put_i64(out, *expires_s);
    put_opt(out, *authenticated_s, put_i64);
    put_list(out, methods, METHODS_MAX, put_name);
    put_opt(out, class.as_ref(), put_name);
}

fn subject(cursor: &mut Cursor<'_>) -> Result<Subject, Malformed> {
    Ok(Subject {
        user: name(cursor)?,
        idp: name(cursor)?,
        sub: name(cursor)?,
        groups: cursor.list(name)?.into(),
        token: Arc::new(Token {
            way: way(cursor.u8()?)?,
            client: cursor.opt(name)?,
            id: cursor.opt(name)?,
            session: cursor.opt(name)?,
            issued_s: cursor.i64()?,
            expires_s: cursor.i64()?,
            authenticated_s: cursor.opt(Cursor::i64)?,
            methods: cursor.list(name)?.into(),
            class: cursor.opt(name)?,
        }),
    })
}

fn way_code(way: Way) -> u8 {
    match way {
        Way::File => 1,
        Way::Login => 2,
        Way::Client => 3,
        Way::Bearer => 4,
        Way::Password => 5,
        Way::Exchange => 6,
    }
}

fn way(code: u8) -> Result<Way, Malformed> {
    let all = [Way::File, Way::Login, Way::Client, Way::Bearer, Way::Password, Way::Exchange];
    all.into_iter().find(|way| way_code(*way) == code).ok_or(Malformed("unknown way of a token"))
}

fn actor(cursor: &mut Cursor<'_>) -> Result<Actor, Malformed> {
    Ok(Actor { idp: name(cursor)?, sub: name(cursor)?, client: cursor.opt(name)? })
}

fn put_name(out: &mut Vec<u8>, name: &Arc<str>) {
    put_str(out, name, NAME_BYTES_MAX);
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn name(cursor: &mut Cursor<'_>) -> Result<Arc<str>, Malformed> {
    Ok(cursor.str()?.into())
}
