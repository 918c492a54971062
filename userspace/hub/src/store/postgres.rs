//! Several hubs: what they keep is in one PostgreSQL database, and nothing is in their memory.
//!
//! Each thing done is one statement, so a transaction of its own; that two hubs do it at once is what unique
//! indexes and conditions in the statements are for. Hubs tell each other by NOTIFY.

mod pool;
mod schema;
mod tls;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use approval::desk::{Over, Standing, Which};
use approval::vote::Answer;
use approval::{Ending, Vote};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use types::id::RequestId;
use types::secret::Secret;

use super::{Bell, Cast, Progress, REQUESTS_MAX, StoreError, Text, WAITING_MAX};
use crate::protocol::{DueVote, Hello, Settled, VoteId, progress};
use pool::Pool;

/// How a database is reached.
#[derive(Clone)]
pub struct PostgresRules {
    /// `postgresql://USER@HOST:PORT/DATABASE`, without a password.
    pub url: String,
    /// The password, read anew for each connection.
    pub password: Option<Password>,
    /// The authorities that may have signed the server's certificate, PEM; without any it must be on this host.
    pub ca: Option<PathBuf>,
}

/// Where a password comes from.
pub type Password = Arc<dyn Fn() -> io::Result<Secret<Vec<u8>>> + Send + Sync>;

/// The database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
    /// Connects, and brings the tables to this version.
    ///
    /// # Errors
    /// If the address makes no sense, the database can't be reached, or its tables are of a newer version.
    pub async fn open(rules: &PostgresRules) -> Result<Self, StoreError> {
        let pool = Pool::new(rules)?;
        schema::migrate(&pool).await?;
        pool.listen();
        Ok(Self { pool })
    }

    /// Checks what the rules say, without connecting.
    ///
    /// # Errors
    /// If they make no sense.
    pub fn check(rules: &PostgresRules) -> Result<(), StoreError> {
        Pool::new(rules).map(drop)
    }

    pub(super) async fn tell(
        &self,
        node: &str,
        mut standings: Vec<Standing>,
    ) -> Result<(), StoreError> {
        // In one order, so that two hubs that are told the same don't wait for each other.
        standings.sort_by_key(|standing| standing.request.id);
        standings.dedup_by_key(|standing| standing.request.id);
        if standings.iter().any(|standing| standing.ended.is_none()) {
            let most = i64::try_from(WAITING_MAX).unwrap_or(i64::MAX);
            let counted = self.pool.query(COUNT, &[(&node, Type::TEXT)]).await?;
            if counted.iter().any(|row| row.get::<_, i64>(0) >= most) {
                return Err(StoreError::Full(node.to_owned()));
            }
        }
        let (mut ids, mut waits, mut far) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut expires) = (Vec::new(), Vec::new());
        let (mut texts, mut told) = (Vec::new(), Vec::new());
        for standing in &mut standings {
            let request = &mut standing.request;
            let (id, at_us, expires_us) =
                (request.id.to_string(), request.at_us, request.expires_us);
            texts.push(serde_json::to_string(&Text::take(request))?);
            waits.push(standing.ended.is_none());
            far.push(i64::try_from(progress(standing)).unwrap_or(i64::MAX));
            told.push(serde_json::to_string(standing)?);
            ids.push(id);
            at.push(at_us);
            expires.push(expires_us);
        }
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 8] = [
            (&node, Type::TEXT),
            (&ids, Type::TEXT_ARRAY),
            (&waits, Type::BOOL_ARRAY),
            (&far, Type::INT8_ARRAY),
            (&at, Type::INT8_ARRAY),
            (&expires, Type::INT8_ARRAY),
            (&told, Type::TEXT_ARRAY),
            (&texts, Type::TEXT_ARRAY),
        ];
        self.pool.query(TELL, &parameters).await.map(drop)
    }

    pub(super) async fn hello(
        &self,
        node: &str,
        hello: Hello,
    ) -> Result<Vec<RequestId>, StoreError> {
        let Hello { at_us, waiting } = hello;
        let ids: Vec<String> = waiting.iter().map(|known| known.id.to_string()).collect();
        let far = waiting.iter().map(|known| i64::try_from(known.progress).unwrap_or(i64::MAX));
        let far: Vec<i64> = far.collect();
        let end =
            [(&node as _, Type::TEXT), (&ids as _, Type::TEXT_ARRAY), (&at_us as _, Type::INT8)];
        self.pool.query(END_OTHERS, &end).await?;
        let wanted = [(&ids as _, Type::TEXT_ARRAY), (&far as _, Type::INT8_ARRAY)];
        self.pool.query(WANTED, &wanted).await?.iter().map(|row| id_of(row.get(0))).collect()
    }

    pub(super) async fn due(&self, node: &str, most: usize) -> Result<Vec<DueVote>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.pool.query(DUE, &[(&node, Type::TEXT), (&most, Type::INT8)]).await?;
        let due = |row: &Row| {
            let id = VoteId(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0));
            let (request, vote) = (id_of(row.get(1))?, serde_json::from_str(row.get(2))?);
            Ok(DueVote { id, request, vote })
        };
        rows.iter().map(due).collect()
    }

    pub(super) async fn settle(&self, node: &str, settled: Vec<Settled>) -> Result<(), StoreError> {
        let (mut ids, mut outcomes, mut count) = (Vec::new(), Vec::new(), Vec::new());
        for Settled { id: VoteId(id), outcome } in settled {
            ids.push(i64::try_from(id).unwrap_or(i64::MAX));
            count.push(outcome.is_ok());
            outcomes.push(serde_json::to_string(&outcome)?);
        }
        let parameters = [
            (&node as _, Type::TEXT),
            (&ids as _, Type::INT8_ARRAY),
            (&outcomes as _, Type::TEXT_ARRAY),
            (&count as _, Type::BOOL_ARRAY),
        ];
        self.pool.query(SETTLE, &parameters).await.map(drop)
    }

    pub(super) async fn cast(&self, id: RequestId, vote: Vote) -> Result<Cast, StoreError> {
        let id = id.to_string();
        let approver = &vote.approver;
        let name = Some(approver.user.to_lowercase()).filter(|name| !name.is_empty());
        let answer = word(vote.answer);
        let text = serde_json::to_string(&vote)?;
        let most = i64::try_from(approval::book::VOTES_MAX).unwrap_or(i64::MAX);
        let person: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
            (&id, Type::TEXT),
            (&approver.idp, Type::TEXT),
            (&approver.sub, Type::TEXT),
            (&name, Type::TEXT),
        ];
        let mut parameters = person.to_vec();
        parameters.push((&answer, Type::TEXT));
        parameters.push((&text, Type::TEXT));
        parameters.push((&most, Type::INT8));
        if let Some(row) = self.pool.query(CAST, &parameters).await?.first() {
            return Ok(Cast::Kept(VoteId(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))));
        }
        let before = self.pool.query(BEFORE, &person).await?;
        if let Some(row) = before.first() {
            let number = VoteId(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0));
            let is_same = row.get::<_, &str>(1) == answer;
            return Ok(if is_same { Cast::Already(number) } else { Cast::Otherwise });
        }
        let waits = self.pool.query(WAITS, &[(&id, Type::TEXT)]).await?;
        if waits.is_empty() { Ok(Cast::Gone) } else { Err(StoreError::Votes) }
    }

    pub(super) async fn progress(&self, id: VoteId) -> Result<Progress, StoreError> {
        let id = i64::try_from(id.0).unwrap_or(i64::MAX);
        let rows = self.pool.query(OUTCOME, &[(&id, Type::INT8)]).await?;
        let outcome = rows.first().and_then(|row| row.get::<_, Option<&str>>(0));
        Ok(match outcome {
            Some(outcome) => Progress::Settled(serde_json::from_str(outcome)?),
            None => Progress::Waiting,
        })
    }

    pub(super) async fn list(
        &self,
        which: Which,
        most: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        let waits = match which {
            Which::Waiting => Some(true),
            Which::Over => Some(false),
            Which::All => None,
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.pool.query(LIST, &[(&waits, Type::BOOL), (&most, Type::INT8)]).await?;
        rows.iter().map(standing).collect()
    }

    pub(super) async fn show(&self, id: RequestId) -> Result<Option<Standing>, StoreError> {
        let rows = self.pool.query(SHOW, &[(&id.to_string(), Type::TEXT)]).await?;
        rows.first().map(standing).transpose()
    }

    pub(super) async fn sweep(&self, late_us: i64, old_us: i64) -> Result<(u64, u64), StoreError> {
        let most = i64::try_from(REQUESTS_MAX).unwrap_or(i64::MAX);
        let ended = self.pool.query(END_LATE, &[(&late_us, Type::INT8)]).await?;
        let old = [(&old_us as _, Type::INT8), (&most as _, Type::INT8)];
        let forgotten = self.pool.query(FORGET, &old).await?;
        let count = |rows: &[Row]| u64::try_from(rows.len()).unwrap_or(u64::MAX);
        Ok((count(&ended), count(&forgotten)))
    }

    pub(super) fn bell(&self) -> &Bell {
        self.pool.bell()
    }
}

/// One request of [`LIST`] or [`SHOW`], its votes that wait for the host at the end.
fn standing(row: &Row) -> Result<Standing, StoreError> {
    let mut standing: Standing = serde_json::from_str(row.get(0))?;
    if let Some(at_us) = row.get::<_, Option<i64>>(1) {
        let is_late = standing.request.expires_us <= at_us;
        let how = if is_late { Ending::Expired } else { Ending::Restarted };
        standing.ended = Some(Over { how, reason: None, at_us });
    }
    if let Some(text) = row.get::<_, Option<&str>>(2).filter(|_| standing.ended.is_none()) {
        serde_json::from_str::<Text>(text)?.give(&mut standing.request);
    }
    for vote in row.get::<_, Vec<&str>>(3) {
        let vote: Vote = serde_json::from_str(vote)?;
        let mut known = standing.votes.iter();
        let same = approval::four_eyes::same_person;
        if !known.any(|known| same(&known.approver, &vote.approver)) {
            standing.votes.push(vote);
        }
    }
    Ok(standing)
}

fn id_of(text: &str) -> Result<RequestId, StoreError> {
    text.parse().map_err(|_| StoreError::Postgres(format!("`{text}` is no request's id")))
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Approve => "approve",
        Answer::Deny => "deny",
        Answer::BreakGlass => "break_glass",
    }
}

const COUNT: &str = "select count(*) from requests where node = $1 and waits";

const TELL: &str = "
with told as (
  select * from unnest($2::text[], $3::boolean[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[])
    as t (id, waits, progress, at_us, expires_us, standing, text)
), taken as (
  insert into requests as r (id, node, waits, progress, at_us, expires_us, standing)
  select id::uuid, $1, waits, progress, at_us, expires_us, standing from told
  on conflict (id) do update
  set waits = excluded.waits, presumed_us = null, progress = excluded.progress, standing = excluded.standing
  where r.node = excluded.node
    and (excluded.progress > r.progress
         or (excluded.progress = r.progress and (r.waits or r.presumed_us is not null)))
  returning r.id, r.waits
), said as (
  insert into texts (id, text)
  select taken.id, told.text from taken join told on told.id::uuid = taken.id where taken.waits
  on conflict (id) do update set text = excluded.text
), dropped as (
  delete from texts using taken where texts.id = taken.id and not taken.waits
)
select pg_notify('vestibule_hub', 'r'), count(*) from taken";

const END_OTHERS: &str = "
with gone as (
  update requests set waits = false, presumed_us = $3
  where node = $1 and waits and at_us < $3 and not id = any($2::text[]::uuid[])
  returning id
), dropped as (
  delete from texts using gone where texts.id = gone.id
)
select pg_notify('vestibule_hub', 'r'), count(*) from gone having count(*) > 0";

const WANTED: &str = "
select k.id from unnest($1::text[], $2::bigint[]) as k (id, progress)
left join requests r on r.id = k.id::uuid
left join texts t on t.id = k.id::uuid
where r.id is null or not r.waits or r.progress < k.progress or t.id is null";

const DUE: &str = "
select id, request::text, vote from votes where node = $1 and outcome is null order by id limit $2";

const SETTLE: &str = "
with done as (
  update votes v set outcome = s.outcome, counts = s.counts
  from unnest($2::bigint[], $3::text[], $4::boolean[]) as s (id, outcome, counts)
  where v.id = s.id and v.node = $1 and v.outcome is null
  returning v.id
)
select pg_notify('vestibule_hub', 's' || string_agg(id::text, ',')) from done having count(*) > 0";

const CAST: &str = "
with kept as (
  insert into votes (request, node, idp, sub, name, answer, vote)
  select r.id, r.node, $2, $3, $4, $5, $6 from requests r
  where r.id = $1::uuid and r.waits and (select count(*) from votes v where v.request = r.id) < $7
  on conflict do nothing
  returning id, node
)
select id, pg_notify('vestibule_hub', 'v' || node) from kept";

const BEFORE: &str = "
select id, answer from votes
where request = $1::uuid and counts and ((idp = $2 and sub = $3) or name = $4)
order by id limit 1";

const WAITS: &str = "select 1 from requests where id = $1::uuid and waits";

const OUTCOME: &str = "select outcome from votes where id = $1";

const LIST: &str = "
select r.standing, r.presumed_us, t.text,
  array(select v.vote from votes v where v.request = r.id and v.outcome is null order by v.id)
from requests r left join texts t on t.id = r.id
where $1::boolean is null or r.waits = $1 order by r.id desc limit $2";

const SHOW: &str = "
select r.standing, r.presumed_us, t.text,
  array(select v.vote from votes v where v.request = r.id and v.outcome is null order by v.id)
from requests r left join texts t on t.id = r.id where r.id = $1::uuid";

const END_LATE: &str = "
with late as (
  update requests set waits = false, presumed_us = expires_us where waits and expires_us < $1 returning id
), dropped as (
  delete from texts using late where texts.id = late.id
)
select id::text, pg_notify('vestibule_hub', 'r') from late";

/// A few thousand at a time.
const FORGET: &str = "
delete from requests where id in (
  (select id from requests where not waits and at_us < $1 order by id limit 4096)
  union
  (select id from requests where not waits order by id
   limit least(4096, greatest(0, (select count(*) from requests) - $2)))
) returning 1";
