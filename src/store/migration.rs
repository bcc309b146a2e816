//! What of a migration SQL alone cannot do: the entries of earlier schemas become runs.

use rusqlite::{Connection, Result, Row};

use super::list::Item;
use super::removal::SIZE;
use super::rows::{entry_id, from_json, qos, queue_id, seq};
use super::runs;

/// Makes runs of the rows of `entry`, and does away with what they replace.
pub(super) fn entries_to_runs(c: &Connection) -> Result<()> {
    let queues =
        c.prepare("SELECT queue FROM session")?.query_map([], |row| row.get(0))?.collect::<Result<Vec<_>>>()?;
    for queue in queues {
        let queue = queue_id(queue)?;
        let sql = format!(
            "SELECT id, entry.qos, entry.retain, subscription_ids, seq, {SIZE} \
             FROM entry CROSS JOIN message USING (id) WHERE queue = ?1 ORDER BY id"
        );
        let mut select = c.prepare(&sql)?;
        let mut items = Vec::new();
        for row in select.query_map([queue.0], item)? {
            items.push(row?);
            if items.len() == runs::MOST {
                runs::append(c, queue, u8::MAX, std::mem::take(&mut items))?;
            }
        }
        runs::append(c, queue, u8::MAX, items)?;
    }
    c.execute_batch(
        "DELETE FROM message WHERE NOT EXISTS \
         (SELECT 1 FROM session CROSS JOIN entry ON entry.queue = session.queue AND entry.id = message.id); \
         DROP TABLE entry; ALTER TABLE session DROP COLUMN entries; DELETE FROM meta WHERE key = 'bytes';",
    )
}

/// An entry of the columns id, qos, retain, subscription_ids, seq and the message's size.
pub(super) fn item(row: &Row<'_>) -> Result<Item> {
    Ok(Item {
        id: entry_id(row.get(0)?)?,
        seq: seq(row.get(4)?)?,
        qos: qos(row.get(1)?),
        retain: row.get(2)?,
        subscription_ids: from_json(row.get(3)?).unwrap_or_default(),
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        // Earlier schemas did not say.
        alone: false,
    })
}
