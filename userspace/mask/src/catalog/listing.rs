//! Which relations there were at all when a catalog was read: of any other nothing is known.

use std::collections::HashMap;
use std::sync::Arc;

use types::command::TableName;

/// Objects below are the server's own, made by initdb (`FirstNormalObjectId`, access/transam.h).
const FIRST_NORMAL_OID: u32 = 16_384;

/// The schema of the server's own relations, into which nobody else can put one.
const SYSTEM: &str = "pg_catalog";

/// How a session calls its own schema of temporary relations, whatever its number is.
const OWN_TEMPORARY: &str = "pg_temp";

/// The relations of one database, whether classified or not. 100,000 of them are about 20 MB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listing {
    /// By OID the number of their last attribute.
    last_attribute: HashMap<u32, i16>,
    /// By name their schemas.
    schemas: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Listing {
    /// Adds a relation, which has attributes up to this number.
    pub(super) fn add(&mut self, oid: u32, schema: &str, name: &str, last: i16) {
        let known = self.last_attribute.entry(oid).or_insert(last);
        *known = (*known).max(last);
        let schemas = self.schemas.entry(name.into()).or_default();
        if schemas.iter().all(|known| **known != *schema) {
            schemas.push(schema.into());
        }
    }

    /// Whether a relation had this attribute; 0 is its whole row, negative ones every table has.
    pub(super) fn has(&self, oid: u32, attnum: i16) -> bool {
        oid < FIRST_NORMAL_OID || self.last_attribute.get(&oid).is_some_and(|last| attnum <= *last)
    }

    /// Whether a relation that a text calls so was among them; a schema that is not given counts as any.
    pub(super) fn has_name(&self, table: &TableName) -> bool {
        let is_meant =
            |schema: &Arc<str>| table.schema.as_ref().is_none_or(|s| is_schema(s, schema));
        table.schema.as_deref() == Some(SYSTEM)
            || self.schemas.get(&table.name).is_some_and(|schemas| schemas.iter().any(is_meant))
    }
}

/// Whether a schema that a text names `said` may be the one that the catalog has as `schema`.
pub(super) fn is_schema(said: &str, schema: &str) -> bool {
    let own =
        || said == OWN_TEMPORARY && schema.strip_prefix(said).is_some_and(|n| n.starts_with('_'));
    said == schema || own()
}
