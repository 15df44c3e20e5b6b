//! Making a commit as the user makes one.

use std::time::Duration;

use super::cancel::Cancel;
use super::git::Call;
use super::trouble::Trouble;
use super::user::User;
use super::{Hands, refs};

/// The longest that signing may take: a program that asks somebody for a passphrase asks nobody.
const SIGN: Duration = Duration::from_secs(60);

/// Makes one by a call of `commit-tree`: by the user as a repository knows them, signed as they sign.
pub(super) async fn make(
    hands: &Hands,
    user: &User,
    cancel: &Cancel,
    call: Call,
    tree: &str,
    parents: &[&str],
    message: String,
) -> Result<String, Trouble> {
    write(hands, (user, user.signs), cancel, call, (tree, parents), message).await
}

/// Makes one of work that must not be lost: where it cannot be signed it is made without, and it is said why. A key that is
/// locked overnight is no reason to leave a night's work in no commit.
pub(super) async fn keep(
    hands: &Hands,
    user: &User,
    cancel: &Cancel,
    call: impl Fn() -> Call,
    of: (&str, &[&str]),
    message: String,
) -> Result<(String, Option<String>), Trouble> {
    match write(hands, (user, user.signs), cancel, call(), of, message.clone()).await {
        Err(Trouble::Plain(why)) if user.signs && !cancel.is_set() => {
            let oid = write(hands, (user, false), cancel, call(), of, message).await?;
            Ok((oid, Some(format!("it could not be signed: {why}"))))
        }
        made => made.map(|oid| (oid, None)),
    }
}

async fn write(
    hands: &Hands,
    (user, signs): (&User, bool),
    cancel: &Cancel,
    call: Call,
    (tree, parents): (&str, &[&str]),
    message: String,
) -> Result<String, Trouble> {
    let mut call = call.limit(SIGN).envs(user.identity.iter().cloned());
    if signs {
        call = user.how.iter().fold(call.free().arg("-S"), |call, (key, value)| call.setting(key, value));
    }
    for parent in parents {
        call = call.args(["-p", parent]);
    }
    let made = hands.git.run(cancel, call.args(["-F", "-", tree]).input(message)).await?;
    made.line().filter(|oid| refs::is_oid(oid)).ok_or_else(|| Trouble::Plain("git made no commit".to_owned()))
}
