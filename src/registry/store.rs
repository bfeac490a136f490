//! The registry on disk: an embedded database (redb), one table a kind of row, rows as JSON.
//!
//! Only the writer thread writes, one transaction for all that waited. A transaction that is `durable` is on the disk when
//! it returns; the file stays readable without a long walk after a crash (quick repair).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::agent::State;
use crate::catalog::{Catalog, Index, NodeKey, Restore, SourceId, Tables, Touched};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

const NODES: Table = Table::new("nodes");
const INSTANCES: Table = Table::new("instances");
const CHECKS: Table = Table::new("checks");
const KV: Table = Table::new("kv");
const COORDINATES: Table = Table::new("coordinates");
/// How our own agent runs a check, by check id.
const DEFINITIONS: Table = Table::new("definitions");
/// Which file a service was read from, by service id.
const FILES: Table = Table::new("files");
/// Which file a check was read from, by check id.
const FILES_OF_CHECKS: Table = Table::new("files_of_checks");
const META: Table = Table::new("meta");

/// The form of the rows. One that is newer than this program knows is not touched.
const FORMAT: u32 = 1;

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
}

/// What is wrong with a registry that was opened.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(
        "expected  a readable and writable file\n  got       {0}\n  hint      see whether the disk is full or failing; what was acknowledged before is kept"
    )]
    Database(#[from] Box<redb::Error>),
    #[error(
        "expected  JSON as this program writes it in table {table}\n  got       {source}\n  hint      the file was written by something else, or is damaged; put back a copy, or move it away to start empty"
    )]
    Row { table: &'static str, source: serde_json::Error },
    #[error(
        "expected  format {FORMAT} or older\n  got       format {found}\n  hint      it was written by a newer rollcall; use that one"
    )]
    Format { found: u32 },
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
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) touched: BTreeSet<Touched>,
    pub(super) definitions: BTreeSet<Arc<str>>,
    pub(super) files: BTreeSet<Arc<str>>,
    pub(super) files_of_checks: BTreeSet<Arc<str>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.definitions.is_empty() && self.files.is_empty() && self.files_of_checks.is_empty()
    }

    pub(super) fn append(&mut self, mut other: Changes) {
        self.touched.append(&mut other.touched);
        self.definitions.append(&mut other.definitions);
        self.files.append(&mut other.files);
        self.files_of_checks.append(&mut other.files_of_checks);
    }
}

/// The registry's file.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// The open database; `None` once it failed, until it is opened anew.
    database: Option<Database>,
}

/// Memory for the database's pages. All of them are read once, at the start; later a commit touches a few.
const CACHE_OCTETS: usize = 16 << 20;

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
        let loaded = make_tables(&database).and_then(|()| load(&database));
        match loaded {
            Ok(loaded) => Ok((Self { path, database: Some(database) }, loaded)),
            Err(fault) => Err(StoreError::Unusable { path, fault }),
        }
    }

    /// Writes what changed, as it stands in `catalog` and `agent`, in one transaction that is on the disk when this
    /// returns.
    pub(super) fn commit(&mut self, catalog: &Catalog, agent: &State, changes: &Changes) -> Result<(), StoreError> {
        // After an error of the disk a database refuses everything, also when there is room again.
        let database = match self.database.take() {
            Some(database) => database,
            None => reopen(&self.path)?,
        };
        match write(&database, catalog, agent, changes) {
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

/// Makes the tables that are missing.
fn make_tables(database: &Database) -> Result<(), Fault> {
    let mut transaction = database!(database.begin_write())?;
    transaction.set_quick_repair(true);
    for table in [NODES, INSTANCES, CHECKS, KV, COORDINATES, DEFINITIONS, FILES, FILES_OF_CHECKS, META] {
        database!(transaction.open_table(table))?;
    }
    database!(transaction.commit())
}

fn load(database: &Database) -> Result<Loaded, Fault> {
    let read = database!(database.begin_read())?;
    let mut meta = Meta::default();
    each(&read, META, "meta", |_, row| meta = row)?;
    if meta.format > FORMAT {
        return Err(Fault::Format { found: meta.format });
    }
    let mut restore = Restore::new(meta.index, meta.tables);
    each(&read, CHECKS, "checks", |_, check| restore.check(check))?;
    each(&read, NODES, "nodes", |_, node| restore.node(node))?;
    each(&read, INSTANCES, "instances", |_, instance| restore.instance(instance))?;
    each(&read, KV, "kv", |_, entry| restore.kv(entry))?;
    each(&read, COORDINATES, "coordinates", |_, coordinate| restore.coordinate(coordinate))?;
    let mut loaded = Loaded { catalog: restore.finish(), ..Loaded::default() };
    let text = |key: &[u8]| Arc::from(String::from_utf8_lossy(key));
    each(&read, DEFINITIONS, "definitions", |key, row| loaded.agent.set_definition(text(key), row))?;
    each(&read, FILES, "files", |key, row| {
        loaded.agent.set_file(&text(key), Some(&row));
    })?;
    each(&read, FILES_OF_CHECKS, "files_of_checks", |key, row| {
        loaded.agent.set_file_of_check(&text(key), Some(&row));
    })?;
    Ok(loaded)
}

fn write(database: &Database, catalog: &Catalog, agent: &State, changes: &Changes) -> Result<(), Fault> {
    let mut transaction = database!(database.begin_write())?;
    database!(transaction.set_durability(Durability::Immediate))?;
    transaction.set_quick_repair(true);
    {
        let mut nodes = database!(transaction.open_table(NODES))?;
        let mut instances = database!(transaction.open_table(INSTANCES))?;
        let mut checks = database!(transaction.open_table(CHECKS))?;
        let mut kv = database!(transaction.open_table(KV))?;
        let mut coordinates = database!(transaction.open_table(COORDINATES))?;
        for touched in &changes.touched {
            match touched {
                Touched::Node(key) => {
                    put(&mut nodes, &node_key(key), catalog.nodes().get(key).map(|entry| &*entry.node))?;
                }
                Touched::Instance(key) => {
                    let row = catalog.instances().get(key).map(|entry| &*entry.instance);
                    put(&mut instances, &below(&key.node, &key.id), row)?;
                }
                Touched::Check(key) => {
                    put(&mut checks, &below(&key.node, &key.id), catalog.checks().get(key).map(|check| &**check))?;
                }
                Touched::Kv(key) => put(&mut kv, key.as_bytes(), catalog.kv().get(key).map(|entry| &**entry))?,
                Touched::Coordinate(node, segment) => {
                    let row = catalog.coordinates().get(&(node.clone(), segment.clone()));
                    put(&mut coordinates, &below(node, segment), row.map(|coordinate| &**coordinate))?;
                }
            }
        }
        let mut definitions = database!(transaction.open_table(DEFINITIONS))?;
        for id in &changes.definitions {
            put(&mut definitions, id.as_bytes(), agent.definition(id).map(|definition| &**definition))?;
        }
        let mut files = database!(transaction.open_table(FILES))?;
        for id in &changes.files {
            put(&mut files, id.as_bytes(), agent.file(id))?;
        }
        let mut files = database!(transaction.open_table(FILES_OF_CHECKS))?;
        for id in &changes.files_of_checks {
            put(&mut files, id.as_bytes(), agent.file_of_check(id))?;
        }
        let mut meta = database!(transaction.open_table(META))?;
        let row = Meta { format: FORMAT, index: catalog.index(), tables: catalog.tables() };
        put(&mut meta, b"", Some(&row))?;
    }
    database!(transaction.commit())
}

/// Reads a table in the order of its keys.
fn each<T: DeserializeOwned>(
    read: &redb::ReadTransaction,
    table: Table,
    name: &'static str,
    mut take: impl FnMut(&[u8], T),
) -> Result<(), Fault> {
    let table = database!(read.open_table(table))?;
    for entry in database!(table.iter())? {
        let (key, value) = database!(entry)?;
        let row = serde_json::from_slice(value.value()).map_err(|source| Fault::Row { table: name, source })?;
        take(key.value(), row);
    }
    Ok(())
}

/// Writes a row, or removes it.
fn put<T: Serialize>(table: &mut redb::Table<'_, &[u8], &[u8]>, key: &[u8], row: Option<&T>) -> Result<(), Fault> {
    match row {
        Some(row) => {
            let json = serde_json::to_vec(row).map_err(|source| Fault::Row { table: "to be written", source })?;
            database!(table.insert(key, json.as_slice()))?;
        }
        None => {
            database!(table.remove(key))?;
        }
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
        agent.set_file(&"web".into(), Some(&"a.json".into()));
        let changes = Changes { files: ["web".into()].into(), ..Changes::default() };
        // As an error of the disk leaves it.
        store.database = None;
        store.commit(&loaded.catalog, &agent, &changes).unwrap();
        drop(store);
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.agent.file("web").map(|file| &**file), Some("a.json"));

        store.database = None;
        std::fs::remove_file(dir.path().join("registry.redb")).unwrap();
        let refused = store.commit(&loaded.catalog, &agent, &changes);
        assert!(matches!(refused, Err(StoreError::Open { .. })), "a file that vanished is not made anew: {refused:?}");
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
