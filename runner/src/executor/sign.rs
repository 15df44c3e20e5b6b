//! Making a commit as the user makes one.

use std::time::Duration;

use super::cancel::Cancel;
use super::git::Call;
use super::trouble::Trouble;
use super::{Hands, refs};

/// The longest that signing may take: a program that asks somebody for a passphrase asks nobody.
const SIGN: Duration = Duration::from_secs(60);

/// Makes one by a call of `commit-tree`: by the user's identity, signed as the user signs.
pub(super) async fn make(
    hands: &Hands,
    cancel: &Cancel,
    call: Call,
    tree: &str,
    parents: &[&str],
    message: String,
) -> Result<String, Trouble> {
    let mut call = call.limit(SIGN).envs(hands.user.identity.iter().cloned());
    if hands.user.signs {
        call = call.arg("-S");
    }
    for parent in parents {
        call = call.args(["-p", parent]);
    }
    let made = hands.git.run(cancel, call.args(["-F", "-", tree]).input(message)).await?;
    made.line().filter(|oid| refs::is_oid(oid)).ok_or_else(|| Trouble::Plain("git made no commit".to_owned()))
}
