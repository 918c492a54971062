//! The tables, and how they came to be.

use super::pool::Pool;
use crate::store::StoreError;

/// What brings each version to the next; what stood in a release is never changed.
const MIGRATIONS: &[&str] = &[V1];

/// Texts are unlogged: they are in no log of the server's and no backup of it, and gone when it crashes; hosts
/// say them again.
const V1: &str = "
create table requests (
  id uuid primary key,
  node text not null,
  waits boolean not null,
  presumed_us bigint,
  progress bigint not null,
  at_us bigint not null,
  expires_us bigint not null,
  standing text not null
);
create index requests_waiting on requests (node, at_us) where waits;
create unlogged table texts (id uuid primary key, text text not null);
create table votes (
  id bigint generated always as identity primary key,
  request uuid not null references requests on delete cascade,
  node text not null,
  idp text not null,
  sub text not null,
  name text,
  answer text not null,
  vote text not null,
  outcome text,
  counts boolean not null default true
);
create unique index votes_person on votes (request, idp, sub) where counts;
create unique index votes_name on votes (request, name) where counts;
create index votes_due on votes (node, id) where outcome is null;
create index votes_request on votes (request);
";

/// Makes the tables or brings them to this version; one hub at a time.
pub(super) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    // One round trip is one transaction (protocol, "Multiple Statements in a Simple Query"): all of it or nothing.
    let lock = "select pg_advisory_xact_lock(8607219350171146)";
    let prepare = format!(
        "{lock}; create schema if not exists vestibule_hub; \
         create table if not exists vestibule_hub.version (version bigint not null)"
    );
    pool.batch(&prepare).await?;
    let version = version(pool).await?;
    if version > known {
        return Err(StoreError::Newer(version, known));
    }
    for number in version..known {
        let Some(migration) = usize::try_from(number).ok().and_then(|at| MIGRATIONS.get(at)) else {
            break;
        };
        // Whoever had to wait for the lock finds it done: the division by zero undoes its own attempt.
        let step = format!(
            "{lock}; \
             select 1 / (case when coalesce((select max(version) from version), 0) = {number} then 1 else 0 end); \
             {migration}; insert into version values ({})",
            number + 1
        );
        if let Err(error) = pool.batch(&step).await
            && self::version(pool).await? <= number
        {
            return Err(error);
        }
    }
    Ok(())
}

async fn version(pool: &Pool) -> Result<i64, StoreError> {
    let rows = pool.query("select coalesce(max(version), 0) from version", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}
