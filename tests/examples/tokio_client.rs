//! An agent written with tokio-postgres; the test `drivers::tokio_postgres` runs it behind the door. It
//! is told the server by the usual PG variables, and prints what it saw.

#![expect(clippy::print_stdout, reason = "what it prints is what the test compares")]

use std::env;

use anyhow::{Context, Result};
use futures_util::{SinkExt, TryStreamExt, future, pin_mut};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut config = Config::new();
    config.host(env::var("PGHOST")?).port(env::var("PGPORT")?.parse()?).user(env::var("PGUSER")?);
    config.password(env::var("PGPASSWORD")?).dbname(env::var("PGDATABASE")?);
    let (mut client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    reads(&client).await?;
    refusals(&mut client).await?;
    copies(&client).await?;
    cancels(&client).await
}

async fn reads(client: &Client) -> Result<()> {
    let rows = client.simple_query("SELECT id FROM customers WHERE id = 41").await?;
    let id = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    println!("simple: {}", id.context("a row")?);
    let one = client.prepare("SELECT id, ssn FROM customers WHERE id = $1").await?;
    let row = client.query_one(&one, &[&41_i32]).await?;
    let ssn: &str = row.get(1);
    println!("prepared: {} {}", row.get::<_, i32>(0), ssn.starts_with("***"));
    let ids: Vec<i32> = (1..=500).collect();
    let asked = ids.iter().map(|id| async { client.query_one(&one, &[id]).await });
    let rows = future::try_join_all(asked).await?;
    let in_order = rows.iter().zip(&ids).all(|(row, id)| row.get::<_, i32>(0) == *id);
    println!("pipelined: {} {}", rows.len(), if in_order { "in order" } else { "out of order" });
    Ok(())
}

async fn refusals(client: &mut Client) -> Result<()> {
    println!("refused: {}", code(client.execute("DELETE FROM customers", &[]).await));
    println!("after it: {}", client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0));
    let transaction = client.transaction().await?;
    let refused = code(transaction.execute("DROP TABLE cards", &[]).await);
    println!(
        "in a transaction: {refused}, then {}",
        code(transaction.query("SELECT 1", &[]).await)
    );
    transaction.rollback().await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT id FROM cards ORDER BY id LIMIT 9", &[]).await?;
    let mut fetched = Vec::new();
    for _ in 0..3 {
        fetched.push(transaction.query_portal(&portal, 3).await?.len().to_string());
    }
    println!("portal: {}", fetched.join(" "));
    transaction.commit().await?;
    Ok(())
}

async fn copies(client: &Client) -> Result<()> {
    let sink = client.copy_in("COPY case_notes (marker, body) FROM STDIN").await?;
    pin_mut!(sink);
    for n in 0..1000 {
        sink.send(bytes::Bytes::from(format!("{n}\tnote\n"))).await?;
    }
    println!("copied in: {}", sink.finish().await?);
    let out = client.copy_out("COPY (SELECT marker FROM case_notes) TO STDOUT").await?;
    let text = out.try_fold(String::new(), |mut text, chunk| async move {
        text.push_str(&String::from_utf8_lossy(&chunk));
        Ok(text)
    });
    let lines = text.await?.lines().count();
    println!("copied out: {lines}");
    Ok(())
}

async fn cancels(client: &Client) -> Result<()> {
    let token = client.cancel_token();
    let sleep =
        client.prepare_typed("SELECT count(*) FROM generate_series(1, $1)", &[Type::INT8]).await?;
    let (slept, _) = future::join(client.query(&sleep, &[&100_000_000_000_i64]), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    })
    .await;
    println!("cancelled: {}", code(slept));
    Ok(())
}

/// The error's SQLSTATE.
fn code<T>(result: Result<T, tokio_postgres::Error>) -> String {
    match result {
        Ok(_) => "went through".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}
