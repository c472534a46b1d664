//! Tables of the database, and the way from an older version to this one.
//!
//! | table | one row |
//! |---|---|
//! | `nodes` | a machine, and the boot it is in |
//! | `macs` | an address that leads to a machine |
//! | `events` | an event of the current boot of a machine; appended, so a commit touches few pages |
//! | `boots` | a boot that is over, as a summary |
//! | `assignments` | what a machine was told to boot |
//! | `channels`, `history` | where channels point, and how that changed while the tracker looked |
//! | `rollouts`, `rollout_nodes` | nodes that are reimaged in batches, each with what it does |
//! | `meta` | key of boot tokens, last good inventory |

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{StateError, database};

/// `BeeT`: tells our databases from others (`PRAGMA application_id`).
const APPLICATION: i64 = 0x4265_6554;

/// How long another program may hold the database before that is an error.
const BUSY: Duration = Duration::from_secs(2);

/// What leads from version N to N+1. Never change one that was released.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE nodes (
        id TEXT PRIMARY KEY,
        uuid TEXT,
        address TEXT NOT NULL,
        heard_ms INTEGER NOT NULL,
        boot INTEGER NOT NULL,
        boots INTEGER NOT NULL,
        boot_id TEXT,
        former TEXT NOT NULL,
        asked INTEGER NOT NULL,
        revision TEXT,
        waits TEXT,
        trust TEXT NOT NULL,
        bound INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE macs (mac TEXT PRIMARY KEY, node TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX macs_of_node ON macs (node);
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        node TEXT NOT NULL,
        boot INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE TABLE boots (
        id INTEGER PRIMARY KEY,
        node TEXT NOT NULL,
        ended_ms INTEGER NOT NULL,
        summary TEXT NOT NULL
    );
    CREATE INDEX boots_of_node ON boots (node, id);
    CREATE TABLE assignments (
        node TEXT PRIMARY KEY,
        since_ms INTEGER NOT NULL,
        revision TEXT,
        kernel_args TEXT NOT NULL,
        in_store TEXT
    ) WITHOUT ROWID;
    CREATE TABLE channels (
        channel TEXT NOT NULL, image TEXT NOT NULL, revision TEXT NOT NULL,
        PRIMARY KEY (channel, image)
    ) WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        channel TEXT NOT NULL,
        image TEXT NOT NULL,
        revision TEXT,
        former TEXT
    );
",
    "
    CREATE TABLE rollouts (
        id INTEGER PRIMARY KEY,
        started_ms INTEGER NOT NULL,
        revision TEXT NOT NULL,
        kernel_args TEXT NOT NULL,
        batch INTEGER NOT NULL,
        max_failed INTEGER NOT NULL,
        min_copies INTEGER NOT NULL,
        patience_s INTEGER NOT NULL,
        phase TEXT NOT NULL,
        reason TEXT NOT NULL
    );
    CREATE TABLE rollout_nodes (
        rollout INTEGER NOT NULL,
        place INTEGER NOT NULL,
        boot_before TEXT,
        body TEXT NOT NULL,
        PRIMARY KEY (rollout, place)
    ) WITHOUT ROWID;
",
];

/// Version that this program writes.
pub(crate) const VERSION: i64 = 2;

const _: () = assert!(MIGRATIONS.len() == 2, "as many as VERSION says");

/// Opens the database for writing, makes it or brings it to this version.
pub(crate) fn open(path: &Path) -> Result<Connection, StateError> {
    let failed = database(path);
    let mut connection = Connection::open(path).map_err(&failed)?;
    connection.busy_timeout(BUSY).map_err(&failed)?;
    let found = version(&connection, path)?;
    let pragma =
        |name: &str, value: &str| connection.pragma_update(None, name, value).map_err(&failed);
    pragma("journal_mode", "WAL")?;
    // the writer sets it for each commit; at this level none goes without the medium
    pragma("synchronous", "FULL")?;
    // not within a commit: a thread does it
    pragma("wal_autocheckpoint", "0")?;
    pragma("journal_size_limit", "67108864")?;
    pragma("cache_size", "-16384")?;
    migrate(&mut connection, found).map_err(&failed)?;
    Ok(connection)
}

/// Opens it for checkpoints beside the writer.
pub(crate) fn open_beside(path: &Path) -> Result<Connection, StateError> {
    let failed = database(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY).map_err(&failed)?;
    connection.pragma_update(None, "journal_size_limit", "67108864").map_err(&failed)?;
    Ok(connection)
}

/// Opens it for reading beside the writer.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, StateError> {
    let failed = database(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY).map_err(&failed)?;
    Ok(connection)
}

/// The version of what is there; 0 when it is empty.
fn version(connection: &Connection, path: &Path) -> Result<i64, StateError> {
    let failed = database(path);
    let number = |pragma: &str| -> Result<i64, StateError> {
        connection.pragma_query_value(None, pragma, |row| row.get(0)).map_err(&failed)
    };
    let found = number("user_version")?;
    let tables = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(&failed)?;
    if tables > 0 && number("application_id")? != APPLICATION {
        return Err(StateError::Foreign { path: path.to_owned() });
    }
    if found > VERSION {
        return Err(StateError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    Ok(found)
}

/// All steps in one transaction: a kill in between leaves the former version.
fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let missing = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    if found == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
