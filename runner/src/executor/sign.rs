//! Making a commit as the user makes one.

use std::time::Duration;

use super::cancel::Cancel;
use super::git::Call;
use super::trouble::Trouble;
use super::user::User;
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
    make_by(hands, &hands.user, cancel, call, tree, parents, message).await
}

/// The same, by the user as a repository knows them.
pub(super) async fn make_by(
    hands: &Hands,
    user: &User,
    cancel: &Cancel,
    call: Call,
    tree: &str,
    parents: &[&str],
    message: String,
) -> Result<String, Trouble> {
    let mut call = call.limit(SIGN).envs(user.identity.iter().cloned());
    if user.signs {
        call = user.how.iter().fold(call.arg("-S"), |call, (key, value)| call.setting(key, value));
    }
    for parent in parents {
        call = call.args(["-p", parent]);
    }
    let made = hands.git.run(cancel, call.args(["-F", "-", tree]).input(message)).await?;
    made.line().filter(|oid| refs::is_oid(oid)).ok_or_else(|| Trouble::Plain("git made no commit".to_owned()))
}
