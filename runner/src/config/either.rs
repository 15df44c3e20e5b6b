//! What stands in a configuration as one word or as a table.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};

/// Reads what stands there as one word or as a table. By hand: serde's own way to read one of several forms forgets what was
/// wrong and where.
pub(super) struct Either<W, T> {
    pub(super) expects: &'static str,
    pub(super) word: fn(&str) -> Result<W, String>,
    pub(super) table: fn(T) -> W,
}

impl<'de, W, T: Deserialize<'de>> Visitor<'de> for Either<W, T> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<W, E> {
        (self.word)(word).map_err(E::custom)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<W, M::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(self.table)
    }
}
