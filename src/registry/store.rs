//! The registry on disk: an embedded database (redb), one table a kind of row, rows as JSON.
//!
//! Only the writer thread writes, one transaction for all that waited. A transaction that is `durable` is on the disk when
//! it returns; the file stays readable without a long walk after a crash (quick repair).

use std::collections::BTreeSet;
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
/// Octets that the database may hold in memory. All rows are in the catalog; what is read again is the tree on the way to a
/// row that is written.
const CACHE_OCTETS: usize = 16 << 20;
/// How our own agent runs a check, by check id.
const DEFINITIONS: Table = Table::new("definitions");
/// Which file a service was read from, by service id.
const FILES: Table = Table::new("files");
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
        "cannot use the registry\n  expected  a readable and writable file\n  got       {0}\n  hint      see whether the disk is full or failing; what was acknowledged before is kept"
    )]
    Database(#[from] Box<redb::Error>),
    #[error(
        "cannot read a row of table {table}\n  expected  JSON as this program writes it\n  got       {source}\n  hint      the file was written by something else, or is damaged; put back a copy, or move it away to start empty"
    )]
    Row { table: &'static str, source: serde_json::Error },
    #[error(
        "cannot use the registry\n  expected  format {FORMAT} or older\n  got       format {found}\n  hint      it was written by a newer rollcall; use that one"
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
        $result.map_err(|error| StoreError::Database(Box::new(redb::Error::from(error))))
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
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.definitions.is_empty() && self.files.is_empty()
    }

    pub(super) fn append(&mut self, mut other: Changes) {
        self.touched.append(&mut other.touched);
        self.definitions.append(&mut other.definitions);
        self.files.append(&mut other.files);
    }
}

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    /// Opens the registry in `directory`, which is made if need be, and reads all of it.
    pub(super) fn open(directory: &Path) -> Result<(Self, Loaded), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Directory { path: directory.into(), source })?;
        let path = directory.join("registry.redb");
        let opened = Database::builder().set_cache_size(CACHE_OCTETS).create(&path);
        let store = Self { database: opened.map_err(|source| StoreError::Open { path, source: Box::new(source) })? };
        let loaded = store.load()?;
        Ok((store, loaded))
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        let mut transaction = database!(self.database.begin_write())?;
        // A crash before the next write is then no reason for a long walk either.
        transaction.set_quick_repair(true);
        for table in [NODES, INSTANCES, CHECKS, KV, COORDINATES, DEFINITIONS, FILES, META] {
            database!(transaction.open_table(table))?;
        }
        database!(transaction.commit())?;
        let read = database!(self.database.begin_read())?;
        let mut meta = Meta::default();
        each(&read, META, "meta", |_, row| meta = row)?;
        if meta.format > FORMAT {
            return Err(StoreError::Format { found: meta.format });
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
        Ok(loaded)
    }

    /// Writes what changed, as it stands in `catalog`, in one transaction that is on the disk when this returns.
    pub(super) fn commit(&mut self, catalog: &Catalog, agent: &State, changes: &Changes) -> Result<(), StoreError> {
        let mut transaction = database!(self.database.begin_write())?;
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
            let mut meta = database!(transaction.open_table(META))?;
            let row = Meta { format: FORMAT, index: catalog.index(), tables: catalog.tables() };
            put(&mut meta, b"", Some(&row))?;
        }
        database!(transaction.commit())
    }
}

/// Reads a table in the order of its keys.
fn each<T: DeserializeOwned>(
    read: &redb::ReadTransaction,
    table: Table,
    name: &'static str,
    mut take: impl FnMut(&[u8], T),
) -> Result<(), StoreError> {
    let table = database!(read.open_table(table))?;
    for entry in database!(table.iter())? {
        let (key, value) = database!(entry)?;
        let row = serde_json::from_slice(value.value()).map_err(|source| StoreError::Row { table: name, source })?;
        take(key.value(), row);
    }
    Ok(())
}

/// Writes a row, or removes it.
fn put<T: Serialize>(table: &mut redb::Table<'_, &[u8], &[u8]>, key: &[u8], row: Option<&T>) -> Result<(), StoreError> {
    match row {
        Some(row) => {
            let json = serde_json::to_vec(row).map_err(|source| StoreError::Row { table: "to be written", source })?;
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
