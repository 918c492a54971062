//! How tokens are had, asked about and given back, with a real provider; and who is logged out.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use identity::oidc::client_credentials::Target;
use identity::oidc::device::{Login, Poll};
use identity::oidc::exchange::Exchanged;
use identity::oidc::introspection::{Hint, Introspected};
use identity::oidc::{AccessTokenTyp, Client, Issuer, Kind, Provider, TokenError, Tokens};
use integration::idp::{
    AGENT_CLIENT, ALICE, CARL, CLIENT, PUBLIC_CLIENT, RESOURCES, SECRET, SignedBy,
};
use integration::port::Port;
use types::secret::Secret;

use crate::oidc::{Place, client, now};

const SCOPE: &str = "openid profile groups bank";

fn bank() -> Target<'static> {
    Target { scope: SCOPE, resource: Some(RESOURCES[0]) }
}

fn agent() -> Client {
    Client { id: AGENT_CLIENT.to_owned(), secret: Some(Secret::new(SECRET.to_owned())) }
}

fn start(place: &Place, client: &Client, target: Target<'_>) -> Login {
    place.wait(place.provider.login(client, target, now(0))).unwrap()
}

fn poll(place: &Place, client: &Client, login: &mut Login) -> Poll {
    place.wait(place.provider.poll(client, login, now(0))).unwrap()
}

/// What a user has after having logged in by the device flow.
pub(crate) fn logged_in(place: &Place, client: &Client, user: &str) -> Tokens {
    let mut login = start(place, client, bank());
    place.idp.approve(user, &login.user_code).unwrap();
    let Poll::Done(tokens) = poll(place, client, &mut login) else { panic!("{user} approved") };
    tokens
}

fn introspect(place: &Place, token: &Secret<String>, hint: Hint) -> Introspected {
    place.wait(place.provider.introspect(&client(), token, hint, now(0))).unwrap()
}

#[test]
fn a_person_logs_in_elsewhere() {
    let place = Place::start();
    let client = client();
    let mut login = start(&place, &client, bank());
    let complete = login.verification_uri_complete.clone().unwrap();
    assert!(complete.ends_with(&login.user_code) && complete.starts_with(&place.idp.issuer()));
    assert!(login.expires_in.as_secs() > 10 && login.interval.as_secs() == 5);
    assert!(matches!(poll(&place, &client, &mut login), Poll::Pending));
    place.idp.approve(CARL, &login.user_code).unwrap();
    let Poll::Done(tokens) = poll(&place, &client, &mut login) else { panic!("carl approved") };
    assert!(!format!("{tokens:?}{login:?}").contains("eyJ"));
    let access = place.verify(tokens.access.expose(), Kind::AccessToken).unwrap();
    assert_eq!((&*access.subject, access.name.as_deref()), (CARL, Some("Carl")));
    assert_eq!(
        (access.groups, access.client_id),
        (vec!["contractors".into()], Some(CLIENT.into()))
    );
    let id = tokens.id.unwrap();
    let person = place.verify(id.expose(), Kind::IdToken).unwrap();
    assert_eq!((&*person.subject, &*person.audiences), (CARL, &[CLIENT.into()][..]));
    assert!(person.auth_time.is_some());
    // None is taken for the other.
    let wrong = Err(TokenError::WrongKind);
    assert_eq!(place.verify(id.expose(), Kind::AccessToken), wrong);
    assert_eq!(place.verify(tokens.access.expose(), Kind::IdToken), wrong);
    assert_eq!(place.verify(id.expose(), Kind::LogoutToken), wrong);
    // A code is good for one login.
    let again = place.wait(place.provider.poll(&client, &mut login, now(0)));
    assert_eq!(again.unwrap_err().reason(), "invalid_grant");
    // As it is over for the issuer, so it is here.
    let over = now(700);
    assert_eq!(place.verify_at(id.expose(), Kind::IdToken, over), Err(TokenError::Expired));
}

#[test]
fn access_tokens_typed_as_others_are_taken_where_an_issuer_is_said_to() {
    let place = Place::start_with(|issuer| issuer.access_token_typ = AccessTokenTyp::Jwt);
    let strict = logged_in(&place, &client(), CARL).access;
    assert!(place.verify(strict.expose(), Kind::AccessToken).is_ok());
    place.idp.type_plainly().unwrap();
    let tokens = logged_in(&place, &client(), CARL);
    let access = place.verify(tokens.access.expose(), Kind::AccessToken).unwrap();
    assert_eq!((&*access.subject, access.client_id.as_deref()), (CARL, Some(CLIENT)));
    let wrong = Err(TokenError::WrongKind);
    assert_eq!(place.verify(tokens.access.expose(), Kind::IdToken), wrong);
    let id = tokens.id.unwrap();
    assert_eq!(place.verify(id.expose(), Kind::AccessToken), wrong);
    assert!(place.verify(id.expose(), Kind::IdToken).is_ok());
    // The same provider, not said to.
    let issuer =
        Issuer { access_token_typ: AccessTokenTyp::AtJwt, ..place.provider.issuer().clone() };
    let other = Provider::new(issuer).unwrap();
    for kind in [Kind::AccessToken, Kind::IdToken] {
        assert_eq!(place.wait(other.verify(&tokens.access, kind, now(0))), wrong);
    }
}

#[test]
fn a_public_client_logs_in_and_a_person_may_refuse() {
    let place = Place::start();
    let public = Client { id: PUBLIC_CLIENT.to_owned(), secret: None };
    let access = logged_in(&place, &public, ALICE).access;
    let access = place.verify(access.expose(), Kind::AccessToken).unwrap();
    assert_eq!((&*access.subject, access.groups), (ALICE, vec!["staff".into()]));
    let mut login = start(&place, &public, bank());
    place.idp.deny(ALICE, &login.user_code).unwrap();
    assert!(matches!(poll(&place, &public, &mut login), Poll::Denied));
    place.idp.set_code_seconds(1).unwrap();
    let mut login = start(&place, &public, bank());
    integration::process::wait_until("the code is over", 20, || {
        Ok(matches!(poll(&place, &public, &mut login), Poll::Expired))
    })
    .unwrap();
    // The provider has forgotten it by then.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(matches!(poll(&place, &public, &mut login), Poll::Expired));
    let stranger = Client { id: "nobody".to_owned(), secret: None };
    let refused = place.wait(place.provider.login(&stranger, bank(), now(0)));
    assert_eq!(refused.unwrap_err().reason(), "invalid_client");
}

#[test]
fn an_agents_own_tokens_are_signed_as_their_resource_wants() {
    let place = Place::start();
    for resource in RESOURCES {
        let target = Target { scope: "bank", resource: Some(resource) };
        let tokens = place.wait(place.provider.client_credentials(&agent(), target, now(0)));
        let tokens = tokens.unwrap();
        let verified = place.verify(tokens.access.expose(), Kind::AccessToken).unwrap();
        assert_eq!(
            (&*verified.subject, &*verified.audiences),
            (AGENT_CLIENT, &[resource.into()][..])
        );
        assert_eq!((verified.scope.as_deref(), tokens.expires_in_s), (Some("bank"), Some(600)));
    }
    let wrong = Client { id: CLIENT.to_owned(), secret: Some(Secret::new("guess".to_owned())) };
    let refused = place.wait(place.provider.client_credentials(&wrong, bank(), now(0)));
    assert_eq!(refused.unwrap_err().reason(), "invalid_client");
    let target = Target { scope: "bank", resource: Some("https://other.example") };
    let refused = place.wait(place.provider.client_credentials(&agent(), target, now(0)));
    assert!(refused.is_err());
}

#[test]
fn an_inner_agents_token_names_the_outer_one() {
    let place = Place::start();
    let person = logged_in(&place, &client(), CARL).access;
    let exchange = |client: &Client, subject: &Secret<String>, actor: Option<&Secret<String>>| {
        let target = Target { scope: "", resource: Some(RESOURCES[0]) };
        let exchanged = Exchanged { subject, actor, target, audience: None };
        let exchanged = place.provider.exchange(client, exchanged, now(0));
        place.wait(exchanged).map(|tokens| tokens.access)
    };
    let outer = exchange(&client(), &person, None).unwrap();
    let inner = exchange(&agent(), &outer, None).unwrap();
    let verified = place.verify(inner.expose(), Kind::AccessToken).unwrap();
    assert_eq!((&*verified.subject, verified.groups), (CARL, vec!["contractors".into()]));
    let links: Vec<_> = verified.actors.iter().map(|a| (&*a.sub, &*a.idp)).collect();
    let issuer = place.idp.issuer();
    assert_eq!(links, [(AGENT_CLIENT, issuer.as_str()), (CLIENT, issuer.as_str())]);
    // With the inner agent's own token for the actor.
    let target = Target { scope: "bank", resource: Some(RESOURCES[1]) };
    let own = place.wait(place.provider.client_credentials(&agent(), target, now(0))).unwrap();
    let inner = exchange(&client(), &outer, Some(&own.access)).unwrap();
    let verified = place.verify(inner.expose(), Kind::AccessToken).unwrap();
    let links: Vec<&str> = verified.actors.iter().map(|actor| &*actor.sub).collect();
    assert_eq!(links, [AGENT_CLIENT, CLIENT]);
    let garbage = Secret::new("a.b.c".to_owned());
    assert_eq!(exchange(&client(), &garbage, None).unwrap_err().reason(), "invalid_request");
}

#[test]
fn what_is_given_back_stands_no_longer() {
    let place = Place::start();
    let client = client();
    // With no resource it is opaque, and the provider keeps account of it.
    let own = place.wait(place.provider.client_credentials(&client, Target::default(), now(0)));
    let own = own.unwrap().access;
    assert!(place.verify(own.expose(), Kind::AccessToken) == Err(TokenError::Malformed));
    let Introspected::Active { client_id, expires_at, .. } = introspect(&place, &own, Hint::Access)
    else {
        panic!("it was just issued")
    };
    assert_eq!(client_id.as_deref(), Some(CLIENT));
    assert!(expires_at.is_some());
    place.wait(place.provider.revoke(&client, &own, Hint::Access, now(0))).unwrap();
    assert_eq!(introspect(&place, &own, Hint::Access), Introspected::Inactive);
    // A second time, and what was never issued: it is revoked either way.
    place.wait(place.provider.revoke(&client, &own, Hint::Access, now(0))).unwrap();
    let tokens = logged_in(&place, &client, CARL);
    let jwt = place.provider.introspect(&client, &tokens.access, Hint::Access, now(0));
    assert_eq!(place.wait(jwt).unwrap_err().reason(), "unsupported_token_type");
    place.idp.stop();
    let gone = place.provider.introspect(&client, &own, Hint::Access, now(0));
    assert_eq!(place.wait(gone).unwrap_err().reason(), "issuer_unreachable");
}

#[test]
fn where_an_issuer_keeps_account_of_jwts_they_can_be_asked_about() {
    let place = Place::start();
    place.idp.keep_account().unwrap();
    let tokens = place.idp.login(ALICE).unwrap();
    assert!(place.verify(&tokens.id, Kind::IdToken).is_ok());
    let access = Secret::new(tokens.access);
    let first = place.verify(access.expose(), Kind::AccessToken).unwrap();
    let stands = |token: &Secret<String>| match introspect(&place, token, Hint::Access) {
        Introspected::Active { subject, .. } => subject,
        Introspected::Inactive => None,
    };
    assert_eq!(stands(&access).as_deref(), Some(ALICE));
    place.wait(place.provider.revoke(&client(), &access, Hint::Access, now(0))).unwrap();
    assert_eq!(stands(&access), None);
    // The signature goes on being good: only the issuer knows.
    assert_eq!(place.verify(access.expose(), Kind::AccessToken), Ok(first));
    let other = Secret::new(place.idp.login(ALICE).unwrap().access);
    assert!(stands(&other).is_some());
    place.idp.revoke(ALICE).unwrap();
    assert_eq!(stands(&other), None);
    // What it always kept account of, it still does.
    let refresh = Secret::new(tokens.refresh);
    assert!(matches!(introspect(&place, &refresh, Hint::Refresh), Introspected::Active { .. }));
    let stranger = Client { id: CLIENT.to_owned(), secret: Some(Secret::new("guess".to_owned())) };
    let refused = place.provider.introspect(&stranger, &other, Hint::Access, now(0));
    assert_eq!(place.wait(refused).unwrap_err().reason(), "invalid_client");
}

#[test]
fn a_login_is_kept_alive_and_its_groups_are_those_of_now() {
    let place = Place::start();
    let client = client();
    let tokens = logged_in(&place, &client, CARL);
    let refresh = tokens.refresh.unwrap();
    place.idp.set_groups(CARL, &["contractors", "night"]).unwrap();
    let renewed = place.provider.refresh(&client, &refresh, Some(RESOURCES[0]), now(0));
    let renewed = place.wait(renewed).unwrap();
    let verified = place.verify(renewed.access.expose(), Kind::AccessToken).unwrap();
    assert_eq!(verified.groups, ["contractors".into(), "night".into()]);
    let refresh = renewed.refresh.unwrap_or(refresh);
    assert!(matches!(
        introspect(&place, &refresh, Hint::Refresh),
        Introspected::Active { subject: Some(_), .. }
    ));
    assert_eq!(place.idp.logout(CARL).unwrap(), 0, "nobody has asked to be told");
    assert_eq!(introspect(&place, &refresh, Hint::Refresh), Introspected::Inactive);
    let refused = place.wait(place.provider.refresh(&client, &refresh, None, now(0)));
    assert_eq!(refused.unwrap_err().reason(), "invalid_grant");
}

#[test]
fn who_logs_out_is_told_of_once() {
    let place = Place::start();
    let port = Port::take().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    place.idp.set_backchannel(&format!("http://127.0.0.1:{}/logout", port.number())).unwrap();
    let tokens = logged_in(&place, &client(), CARL);
    let session = place.verify(tokens.id.unwrap().expose(), Kind::IdToken).unwrap().session_id;
    assert!(session.is_some());
    let receiver = thread::spawn(move || logout_token(&listener));
    assert_eq!(place.idp.logout(CARL).unwrap(), 1);
    let token = Secret::new(receiver.join().unwrap());
    assert_eq!(place.verify(token.expose(), Kind::IdToken), Err(TokenError::WrongKind));
    assert_eq!(place.verify(token.expose(), Kind::AccessToken), Err(TokenError::WrongKind));
    let later = place.wait(place.provider.logout(&token, now(200)));
    assert_eq!(later, Err(TokenError::Expired));
    let logout = place.wait(place.provider.logout(&token, now(0))).unwrap();
    assert_eq!((logout.session_id, &*logout.issuer), (session, place.idp.issuer().as_str()));
    assert_eq!(logout.subject.as_deref(), Some(CARL));
    assert_eq!(place.wait(place.provider.logout(&token, now(0))), Err(TokenError::Replayed));
}

#[test]
fn logout_tokens_that_say_no_logout_are_refused() {
    let place = Place::start();
    let seconds = now(0).unix_us / 1_000_000;
    let envelope = format!(
        r#""iss":"{}","aud":"{CLIENT}","iat":{seconds},"exp":{}"#,
        place.idp.issuer(),
        seconds + 120
    );
    let event = r#""events":{"http://schemas.openid.net/event/backchannel-logout":{}}"#;
    let check = |typ: &str, claims: &str, expected: Result<(), TokenError>| {
        let header = format!(r#"{{"alg":"RS256","kid":"RS256-1","typ":"{typ}"}}"#);
        let payload = format!("{{{envelope},{claims}}}");
        let token = Secret::new(place.idp.sign(&header, &payload, SignedBy::Rs256).unwrap());
        let judged = place.wait(place.provider.logout(&token, now(0)));
        assert_eq!(judged.map(drop), expected, "{claims}");
    };
    let sound = |id: &str, who: &str| format!(r#""jti":"{id}",{who},{event}"#);
    check("logout+jwt", &sound("1", r#""sub":"carl""#), Ok(()));
    check("logout+jwt", &sound("2", r#""sid":"s""#), Ok(()));
    check("logout+jwt", &sound("2", r#""sid":"t""#), Err(TokenError::Replayed));
    check("logout+jwt", &sound("3", r#""x":1"#), Err(TokenError::Subject));
    check("logout+jwt", &sound("3", r#""sub":"""#), Err(TokenError::Subject));
    check("logout+jwt", &sound("3", r#""sub":"carl","nonce":"n""#), Err(TokenError::Event));
    check("logout+jwt", &format!(r#""sub":"carl",{event}"#), Err(TokenError::MissingClaim));
    for events in [
        "{}",
        r#""backchannel-logout""#,
        r#"{"http://schemas.openid.net/event/backchannel-logout":1}"#,
    ] {
        let claims = format!(r#""jti":"3","sub":"carl","events":{events}"#);
        check("logout+jwt", &claims, Err(TokenError::Event));
    }
    check("JWT", &sound("3", r#""sub":"carl""#), Err(TokenError::WrongKind));
    check("at+jwt", &sound("3", r#""sub":"carl""#), Err(TokenError::WrongKind));
    check("logout+jwt", &sound("3", r#""sub":"carl""#), Ok(()));
}

/// Takes one back-channel logout, says yes, and answers its token.
fn logout_token(listener: &TcpListener) -> String {
    let (mut connection, _) = listener.accept().unwrap();
    let request = request(&mut connection);
    connection
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    let (_, form) = request.split_once("\r\n\r\n").unwrap();
    identity::oidc::logout::posted(form.as_bytes()).unwrap().expose().clone()
}

/// Reads a request whose form has come when its length has.
fn request(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = connection.read(&mut chunk).unwrap();
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let (Some(length), Some((_, form))) = (length, text.split_once("\r\n\r\n")) else {
            continue;
        };
        if count == 0 || form.len() >= length.trim().parse().unwrap() {
            return String::from_utf8(bytes).unwrap();
        }
    }
}
