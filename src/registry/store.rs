//! The registry on disk: an embedded database (redb), one table a kind of row; and before it a journal. Rows are JSON, but for
//! those of instances, of which there may be a million: they have a form that is read several times as fast (postcard).
//!
//! Only the writer thread writes. What somebody waits for goes to the journal, which is quick ([`Store::note`]); the
//! database takes it all a moment later ([`Store::commit`]), and stays readable without a long walk after a crash (quick
//! repair). What a crash left in the journal goes to the database when it is opened.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::agent::State;
use super::journal::{Journal, Row};
use crate::catalog::{Catalog, CheckKey, Index, InstanceKey, NodeKey, Restore, SourceId, Tables, Touched};
use crate::limits;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables. A journal names one by its place here, so that a new one goes to the end.
static TABLES: [Table; 8] = [
    Table::new("nodes"),
    Table::new("instances"),
    Table::new("checks"),
    Table::new("kv"),
    Table::new("coordinates"),
    Table::new("definitions"),
    Table::new("files_of_checks"),
    Table::new("meta"),
];
const NODES: u8 = 0;
const INSTANCES: u8 = 1;
const CHECKS: u8 = 2;
const KV: u8 = 3;
const COORDINATES: u8 = 4;
/// How our own agent runs a check, by check id.
const DEFINITIONS: u8 = 5;
/// Which file a check was read from, by check id.
const FILES_OF_CHECKS: u8 = 6;
const META: u8 = 7;

/// The form of the rows. A registry of another form is not touched.
const FORMAT: u32 = 2;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the data directory {}: {source}\n  hint      give one that this user may write: --data DIR", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot open the registry {}\n  expected  a registry that nobody else has open\n  got       {source}\n  hint      {}", path.display(), open_hint(source))]
    Open { path: PathBuf, source: Box<redb::DatabaseError> },
    #[error(
        "cannot open the registry {}\n  expected  a registry\n  got       an empty file\n  hint      its content was lost; put back a copy, or remove the file to start empty", path.display()
    )]
    Empty { path: PathBuf },
    #[error("cannot use the registry {}\n  {fault}", path.display())]
    Unusable { path: PathBuf, fault: Fault },
    #[error(
        "cannot write the registry's journal {}\n  expected  room to write\n  got       {source}\n  hint      see whether the disk is full or failing; what was acknowledged before is kept", path.display()
    )]
    Journal { path: PathBuf, source: io::Error },
}

/// What is wrong with a registry that was opened.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(
        "expected  a readable and writable file\n  got       {0}\n  hint      see whether the disk is full or failing; what was acknowledged before is kept"
    )]
    Database(#[from] Box<redb::Error>),
    #[error(
        "expected  a row as this program writes it in table {table}\n  got       {source}\n  hint      the file was written by something else, or is damaged; put back a copy, or move it away to start empty"
    )]
    Row { table: &'static str, source: RowError },
    #[error(
        "expected  format {FORMAT}\n  got       format {found}\n  hint      it was written by another version of rollcall; use that one, or move the file away to start empty"
    )]
    Format { found: u32 },
}

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
}

fn open_hint(error: &redb::DatabaseError) -> &'static str {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            "another rollcall uses this data directory; stop it, or give another one: --data DIR"
        }
        _ => "see whether the file may be written, or is damaged; put back a copy, or move it away to start empty",
    }
}

/// redb has an error type for each of its calls; all of them say that the file cannot be used.
macro_rules! database {
    ($result:expr) => {
        $result.map_err(|error| Fault::Database(Box::new(redb::Error::from(error))))
    };
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Meta {
    format: u32,
    index: Index,
    tables: Tables,
}

/// What a registry held when it was opened.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) catalog: Catalog,
    pub(super) agent: State,
}

/// Which rows one transaction writes, as they then stand: those of the catalog, and the agent's own.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    pub(super) touched: BTreeSet<Touched>,
    pub(super) definitions: BTreeSet<Arc<str>>,
    pub(super) files_of_checks: BTreeSet<Arc<str>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.touched.len() + self.definitions.len() + self.files_of_checks.len()
    }

    /// Adds what these rows belong to: without its owner a row means nothing.
    pub(super) fn add_owners(&mut self, catalog: &Catalog) {
        let instance = |key: &CheckKey| {
            let check = catalog.checks().get(key).filter(|check| !check.service_id.is_empty())?;
            Some(InstanceKey { node: key.node.clone(), id: check.service_id.clone() })
        };
        let owners: Vec<Touched> = self
            .touched
            .iter()
            .flat_map(|touched| match touched {
                Touched::Check(key) => [Some(Touched::Node(key.node.clone())), instance(key).map(Touched::Instance)],
                Touched::Instance(key) => [Some(Touched::Node(key.node.clone())), None],
                Touched::Node(_) | Touched::Kv(_) | Touched::Coordinate(..) => [None, None],
            })
            .flatten()
            .collect();
        self.touched.extend(owners);
    }

    /// Takes some of them away, at most so many. Owners come before what they own, so that what is on disk meanwhile makes
    /// sense by itself.
    pub(super) fn split_off(&mut self, most: usize) -> Self {
        fn some<T: Ord>(from: &mut BTreeSet<T>, room: &mut usize) -> BTreeSet<T> {
            let taken: BTreeSet<T> = std::iter::from_fn(|| from.pop_first()).take(*room).collect();
            *room -= taken.len();
            taken
        }
        let mut room = most;
        Self {
            touched: some(&mut self.touched, &mut room),
            definitions: some(&mut self.definitions, &mut room),
            files_of_checks: some(&mut self.files_of_checks, &mut room),
        }
    }

    pub(super) fn append(&mut self, mut other: Changes) {
        self.touched.append(&mut other.touched);
        self.definitions.append(&mut other.definitions);
        self.files_of_checks.append(&mut other.files_of_checks);
    }
}

/// The registry's file.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// The open database; `None` once it failed, until it is opened anew.
    database: Option<Database>,
    journal: Journal,
}

/// Memory for the database's pages. All of them are read once, at the start; later a commit touches a few.
const CACHE_OCTETS: usize = 16 << 20;

const JOURNAL: &str = "registry.journal";

impl Store {
    /// Opens the registry in `directory`, which is made if need be, and reads all of it.
    pub(super) fn open(directory: &Path) -> Result<(Self, Loaded), StoreError> {
        let in_directory = |source| StoreError::Directory { path: directory.into(), source };
        std::fs::create_dir_all(directory).map_err(in_directory)?;
        let path = directory.join("registry.redb");
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => return Err(StoreError::Empty { path }),
            Ok(_) => {}
            // Made aside, so that whatever interrupts this, the file under its own name is never half a registry.
            Err(_) => {
                let new = directory.join("registry.redb.new");
                let _ = std::fs::remove_file(&new);
                let made = create(&new)?;
                make_tables(&made).map_err(|fault| StoreError::Unusable { path: new.clone(), fault })?;
                drop(made);
                std::fs::rename(&new, &path).map_err(in_directory)?;
                File::open(directory).and_then(|directory| directory.sync_all()).map_err(in_directory)?;
            }
        }
        let database = reopen(&path)?;
        let journal_path = directory.join(JOURNAL);
        let in_journal = |source| StoreError::Journal { path: journal_path.clone(), source };
        let is_new = !journal_path.exists();
        let (mut journal, rows) = Journal::open(&journal_path).map_err(in_journal)?;
        if is_new {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(in_directory)?;
        }
        let loaded = check_format(&database)
            .and_then(|()| make_tables(&database))
            .and_then(|()| replay(&database, rows))
            .and_then(|()| load(&database))
            .map_err(|fault| StoreError::Unusable { path: path.clone(), fault })?;
        journal.clear().map_err(in_journal)?;
        Ok((Self { path, database: Some(database), journal }, loaded))
    }

    /// Writes what changed, as it stands in `catalog` and `agent`, to the journal; it is on the disk when this returns.
    pub(super) fn note(&mut self, catalog: &Catalog, agent: &State, changes: &Changes) -> Result<(), StoreError> {
        let unusable = |fault| StoreError::Unusable { path: self.path.clone(), fault };
        let rows = rows(catalog, agent, changes).map_err(unusable)?;
        self.journal.append(&rows).map_err(|source| StoreError::Journal { path: self.path.with_file_name(JOURNAL), source })
    }

    /// Is there room in the journal?
    pub(super) fn has_room(&self) -> bool {
        self.journal.size() < limits::JOURNAL_OCTETS_MAX
    }

    /// Empties the journal, all of which has to be in the database by now.
    pub(super) fn settled(&mut self) -> Result<(), StoreError> {
        if self.journal.size() == 0 {
            return Ok(());
        }
        self.journal.clear().map_err(|source| StoreError::Journal { path: self.path.with_file_name(JOURNAL), source })
    }

    /// Writes what changed, as it stands in `catalog` and `agent`, in one transaction that is on the disk when this
    /// returns.
    pub(super) fn commit(&mut self, catalog: &Catalog, agent: &State, changes: &Changes) -> Result<(), StoreError> {
        // After an error of the disk a database refuses everything, also when there is room again.
        let database = match self.database.take() {
            Some(database) => database,
            None => reopen(&self.path)?,
        };
        match rows(catalog, agent, changes).and_then(|rows| write(&database, &rows)) {
            Ok(()) => {
                self.database = Some(database);
                Ok(())
            }
            Err(fault) => Err(StoreError::Unusable { path: self.path.clone(), fault }),
        }
    }
}

fn create(path: &Path) -> Result<Database, StoreError> {
    let made = Database::builder().set_cache_size(CACHE_OCTETS).create(path);
    made.map_err(|source| StoreError::Open { path: path.into(), source: Box::new(source) })
}

/// Opens a database that is there: a file that vanished is not a registry that is empty.
fn reopen(path: &Path) -> Result<Database, StoreError> {
    let opened = Database::builder().set_cache_size(CACHE_OCTETS).open(path);
    opened.map_err(|source| StoreError::Open { path: path.into(), source: Box::new(source) })
}

/// Refuses a registry of another form before anything is written to it, what a crash left in its journal included.
fn check_format(database: &Database) -> Result<(), Fault> {
    let read = database!(database.begin_read())?;
    let tables = database!(read.list_tables())?;
    let has_meta = tables.into_iter().any(|table| table.name() == TABLES[usize::from(META)].name());
    match if has_meta { read_meta(&read)?.format } else { FORMAT } {
        FORMAT => Ok(()),
        found => Err(Fault::Format { found }),
    }
}

/// Makes the tables that are missing.
fn make_tables(database: &Database) -> Result<(), Fault> {
    let mut transaction = database!(database.begin_write())?;
    transaction.set_quick_repair(true);
    for table in &TABLES {
        database!(transaction.open_table(*table))?;
    }
    database!(transaction.commit())
}

/// Writes what a crash left in the journal. The database may have gone further already, so that its index must not fall.
fn replay(database: &Database, mut rows: Vec<Row>) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let index = read_meta(&database!(database.begin_read())?)?.index;
    let is_older = |value: &[u8]| serde_json::from_slice::<Meta>(value).is_ok_and(|meta| meta.index < index);
    rows.retain(|row| row.table != META || !row.value.as_deref().is_some_and(is_older));
    write(database, &rows)
}

fn read_meta(read: &redb::ReadTransaction) -> Result<Meta, Fault> {
    let mut meta = Meta { format: FORMAT, ..Meta::default() };
    each(read, META, |_, row| meta = row)?;
    Ok(meta)
}

fn load(database: &Database) -> Result<Loaded, Fault> {
    let read = database!(database.begin_read())?;
    let meta = read_meta(&read)?;
    let mut restore = Restore::new(meta.index, meta.tables);
    each(&read, CHECKS, |_, check| restore.check(check))?;
    each(&read, NODES, |_, node| restore.node(node))?;
    each(&read, INSTANCES, |_, instance| restore.instance(instance))?;
    each(&read, KV, |_, entry| restore.kv(entry))?;
    each(&read, COORDINATES, |_, coordinate| restore.coordinate(coordinate))?;
    let mut loaded = Loaded { catalog: restore.finish(), ..Loaded::default() };
    let text = |key: &[u8]| Arc::from(String::from_utf8_lossy(key));
    each(&read, DEFINITIONS, |key, row| loaded.agent.set_definition(text(key), row))?;
    each(&read, FILES_OF_CHECKS, |key, row| {
        loaded.agent.set_file_of_check(&text(key), Some(&row));
    })?;
    Ok(loaded)
}

/// The rows of what changed, as they stand now.
fn rows(catalog: &Catalog, agent: &State, changes: &Changes) -> Result<Vec<Row>, Fault> {
    let mut rows = Rows(Vec::with_capacity(changes.len() + 1));
    for touched in &changes.touched {
        match touched {
            Touched::Node(key) => rows.put(NODES, node_key(key), catalog.nodes().get(key).map(|entry| &*entry.node))?,
            Touched::Instance(key) => {
                let row = catalog.instances().get(key).map(|entry| &*entry.instance);
                rows.put(INSTANCES, below(&key.node, &key.id), row)?;
            }
            Touched::Check(key) => {
                rows.put(CHECKS, below(&key.node, &key.id), catalog.checks().get(key).map(|check| &**check))?;
            }
            Touched::Kv(key) => rows.put(KV, key.as_bytes().into(), catalog.kv().get(key).map(|entry| &**entry))?,
            Touched::Coordinate(node, segment) => {
                let row = catalog.coordinates().get(&(node.clone(), segment.clone()));
                rows.put(COORDINATES, below(node, segment), row.map(|coordinate| &**coordinate))?;
            }
        }
    }
    for id in &changes.definitions {
        rows.put(DEFINITIONS, id.as_bytes().into(), agent.definition(id).map(|definition| &**definition))?;
    }
    for id in &changes.files_of_checks {
        rows.put(FILES_OF_CHECKS, id.as_bytes().into(), agent.file_of_check(id))?;
    }
    rows.put(META, Vec::new(), Some(&Meta { format: FORMAT, index: catalog.index(), tables: catalog.tables() }))?;
    Ok(rows.0)
}

struct Rows(Vec<Row>);

impl Rows {
    fn put<T: Serialize>(&mut self, table: u8, key: Vec<u8>, row: Option<&T>) -> Result<(), Fault> {
        let write = |row: &T| match table {
            INSTANCES => Ok(postcard::to_stdvec(row)?),
            _ => Ok(serde_json::to_vec(row)?),
        };
        let value = row.map(write).transpose();
        let value = value.map_err(|source| Fault::Row { table: "to be written", source })?;
        self.0.push(Row { table, key, value });
        Ok(())
    }
}

/// Writes rows in one transaction.
fn write(database: &Database, rows: &[Row]) -> Result<(), Fault> {
    let mut transaction = database!(database.begin_write())?;
    database!(transaction.set_durability(Durability::Immediate))?;
    transaction.set_quick_repair(true);
    for (place, table) in TABLES.iter().enumerate() {
        let mut rows = rows.iter().filter(|row| usize::from(row.table) == place).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let mut table = database!(transaction.open_table(*table))?;
        for row in rows {
            match &row.value {
                Some(value) => drop(database!(table.insert(row.key.as_slice(), value.as_slice()))?),
                None => drop(database!(table.remove(row.key.as_slice()))?),
            }
        }
    }
    database!(transaction.commit())
}

/// Reads a table in the order of its keys.
fn each<T: DeserializeOwned>(read: &redb::ReadTransaction, table: u8, mut take: impl FnMut(&[u8], T)) -> Result<(), Fault> {
    let definition = &TABLES[usize::from(table)];
    let read_row = |octets: &[u8]| match table {
        INSTANCES => postcard::from_bytes(octets).map_err(RowError::from),
        _ => serde_json::from_slice(octets).map_err(RowError::from),
    };
    for entry in database!(database!(read.open_table(*definition))?.iter())? {
        let (key, value) = database!(entry)?;
        let row = read_row(value.value()).map_err(|source| Fault::Row { table: definition.name(), source })?;
        take(key.value(), row);
    }
    Ok(())
}

/// Keys sort on disk as they do in the catalog's trees: by name, then by source, then by id.
fn node_key(key: &NodeKey) -> Vec<u8> {
    let SourceId(source) = key.source;
    [key.name.as_bytes(), &[0], &source.to_be_bytes()].concat()
}

fn below(node: &NodeKey, id: &str) -> Vec<u8> {
    [&node_key(node), id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_whose_disk_failed_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        let mut agent = State::default();
        agent.set_file_of_check(&"web".into(), Some(&"a.json".into()));
        let changes = Changes { files_of_checks: ["web".into()].into(), ..Changes::default() };
        // As an error of the disk leaves it.
        store.database = None;
        store.commit(&loaded.catalog, &agent, &changes).unwrap();
        drop(store);
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.agent.file_of_check("web").map(|file| &**file), Some("a.json"));

        store.database = None;
        std::fs::remove_file(dir.path().join("registry.redb")).unwrap();
        let refused = store.commit(&loaded.catalog, &agent, &changes);
        assert!(matches!(refused, Err(StoreError::Open { .. })), "a file that vanished is not made anew: {refused:?}");
    }

    #[test]
    fn what_a_crash_left_in_the_journal_does_not_take_the_index_back() {
        use crate::catalog::{Change, KvEntry};
        let put = |catalog: &Catalog, value: &str| {
            let row = serde_json::json!({"key": "k", "value": value, "flags": 0, "lock_index": 0, "create_index": 0, "modify_index": 0});
            let mut edit = catalog.edit();
            edit.apply(Change::PutKv(serde_json::from_value::<KvEntry>(row).unwrap())).unwrap();
            let (catalog, touched) = edit.finish();
            (catalog, Changes { touched: touched.into_iter().collect(), ..Changes::default() })
        };
        let (dir, agent) = (tempfile::tempdir().unwrap(), State::default());
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        let (first, changes) = put(&loaded.catalog, "b25l");
        store.note(&first, &agent, &changes).unwrap();
        drop(store);
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!((loaded.catalog.index(), loaded.catalog.kv().len()), (first.index(), 1), "it was in the journal alone");
        store.note(&first, &agent, &changes).unwrap();
        // What nobody waited for goes to the database alone, and the crash comes before the journal is emptied.
        let (second, changes) = put(&first, "dHdv");
        store.commit(&second, &agent, &changes).unwrap();
        drop(store);
        let (_, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.catalog.index(), second.index());
    }

    #[test]
    fn a_registry_of_another_form_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        let meta = Row { table: META, key: Vec::new(), value: Some(br#"{"format":1,"index":7,"tables":{}}"#.to_vec()) };
        write(store.database.as_ref().unwrap(), &[meta]).unwrap();
        let mut agent = State::default();
        agent.set_file_of_check(&"web".into(), Some(&"a.json".into()));
        let changes = Changes { files_of_checks: ["web".into()].into(), ..Changes::default() };
        store.note(&loaded.catalog, &agent, &changes).unwrap();
        drop(store);
        let path = dir.path().join("registry.redb");
        let journal = std::fs::read(dir.path().join(JOURNAL)).unwrap();
        let error = Store::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("got       format 1"), "{error}");
        assert_eq!(std::fs::read(dir.path().join(JOURNAL)).unwrap(), journal);
        let database = reopen(&path).unwrap();
        let mut rows = 0;
        each(&database.begin_read().unwrap(), FILES_OF_CHECKS, |_, _: String| rows += 1).unwrap();
        assert_eq!(rows, 0, "what is in its journal is left there too");
    }

    #[test]
    fn what_is_no_registry_is_told_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.redb");
        std::fs::write(&path, "something else altogether").unwrap();
        let error = Store::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"something else altogether");
    }
}
