//! The keys by which the agents of orchestrators speak to the server.

use makima_core::id::SecretId;

use super::mask::Secrets;
use super::record::Folder;

/// Random bytes of a key.
const BYTES: usize = 32;

/// The key of a task: the one that lies in its folder, else a new one. Blocks.
pub(super) fn make(folder: &Folder, id: SecretId, secrets: &Secrets) -> Result<SecretId, String> {
    if let Some(key) = folder.key() {
        secrets.set(id, key);
        return Ok(id);
    }
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|failure| format!("the machine gives no random bytes: {failure}"))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Known before it stands anywhere.
    secrets.set(id, key.clone());
    folder.keep_key(&key).map_err(|failure| format!("the key cannot be written down: {failure}"))?;
    Ok(id)
}
