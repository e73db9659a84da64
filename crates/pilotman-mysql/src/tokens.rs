//! Fencing tokens: a table with a row for each name.

use pilotman_core::{Error, ErrorKind, Result};

use crate::failure;
use crate::session::MySqlSession;
use crate::statements::{literal, number};

/// A token for a lock that this session holds; a durable write.
pub(crate) async fn next(session: &mut MySqlSession, name: &str) -> Result<u64> {
    let table = session.mysql().quoted_table();
    let sql = format!(
        "INSERT INTO {table} (name, token) VALUES ({}, LAST_INSERT_ID(1)) \
         ON DUPLICATE KEY UPDATE token=LAST_INSERT_ID(token+1)",
        bytes(name)
    );
    let token = match session.insert(&sql).await {
        Err(error) if failure::is_missing(&error) => {
            make_table(session, &table).await?;
            session.insert(&sql).await
        }
        token => token,
    };
    match token.map_err(failure::of_statement)? {
        Some(token) if token > 0 => Ok(token),
        _ => Err(Error::new(ErrorKind::Internal, "the server gave no number for a fencing token").no_effect(false)),
    }
}

/// Makes the table. Several may do so at the same time, which is fine.
async fn make_table(session: &mut MySqlSession, table: &str) -> Result<()> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {table} (name VARBINARY(256) NOT NULL PRIMARY KEY, token BIGINT UNSIGNED NOT NULL) \
         ENGINE=InnoDB"
    );
    session.rows(&sql).await.map(drop).map_err(|error| {
        failure::of_statement(error).with_advice(format!(
            "fencing tokens come from a table: have it made by somebody who may ({sql}), and grant SELECT, INSERT and UPDATE"
        ))
    })
}

/// The last token of a lock, if there is one.
pub(crate) async fn last(session: &mut MySqlSession, name: &str) -> Option<u64> {
    let table = session.mysql().quoted_table();
    let rows = session.rows(&format!("SELECT token FROM {table} WHERE name={}", bytes(name))).await.ok()?;
    number(rows.first()?, 0)
}

fn bytes(name: &str) -> String {
    literal(name).replace("_utf8mb4 ", "")
}
