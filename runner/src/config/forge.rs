//! `[forge]`: which kind of forge is at a host, and by what the user is known there.

use std::fmt;
use std::path::PathBuf;

use makima_core::forge::Kind;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// `"host" = "gitlab"`, or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeFile {
    /// What it is like.
    pub kind: Kind,
    /// A file that holds a token for it, by an absolute path or one that begins with `~`.
    pub token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Kind,
    #[serde(default, deserialize_with = "super::absolute")]
    token_file: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for ForgeFile {
    /// By hand: serde's own way to read one of several forms forgets what was wrong and where.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ForgeFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`github` or `gitlab`, or a table with `kind` and `token_file`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<ForgeFile, E> {
                Kind::deserialize(StrDeserializer::new(name)).map(|kind| ForgeFile { kind, token_file: None })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<ForgeFile, M::Error> {
                let Table { kind, token_file } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ForgeFile { kind, token_file })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::ConfigFile;

    #[test]
    fn a_forge_is_named_by_its_kind_or_with_a_token_of_its_own() {
        let text = "[forge]\n\"a.example.org\" = \"gitlab\"\n\"b.example.org:8443\" = { kind = \"github\", token_file = \"~/t\" }\n";
        let file: ConfigFile = toml::from_str(text).expect("it is right");
        let forges = file.forges();
        assert_eq!(forges.len(), 2);
        assert!(forges[1].token_file.as_ref().is_some_and(|path| path.ends_with("t") && !path.starts_with("~")));
        for bad in [
            "\"x\" = \"svn\"",
            "\"x\" = 7",
            "\"x\" = {}",
            "\"x\" = { kind = \"github\", token_file = \"t\" }",
            "\"x\" = { kind = \"github\", token = \"t\" }",
        ] {
            let text = format!("[forge]\n{bad}\n");
            assert!(toml::from_str::<ConfigFile>(&text).is_err(), "{bad}");
        }
    }
}
