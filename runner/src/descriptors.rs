//! How many descriptors this process may have open, and what agents get instead.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with.
static FOUND: OnceLock<Option<u64>> = OnceLock::new();

/// Lets this process have as many descriptors as it may: a limit of 1,024 is the usual one, for the sake of old
/// programs that can count no further, and a few hundred tasks would reach it. Returns the limit that it had
/// before; none where there was none.
pub(crate) fn raise() -> Option<u64> {
    *FOUND.get_or_init(|| {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if let Err(failure) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            tracing::debug!("the limit of open files stays as it is: {failure}");
        }
        current
    })
}

/// What the system says where there are too many.
pub(crate) const TOO_MANY: &str = "Too many open files";

/// The same words, and where they say that too many files are open, how many may be and what to do.
pub(crate) fn explained(why: String) -> String {
    match getrlimit(Resource::Nofile).current {
        Some(most) if why.contains(TOO_MANY) => {
            format!(
                "{why}; {most} may be open here: run fewer tasks at once, or raise the limit (`ulimit -Hn`, `LimitNOFILE=`)"
            )
        }
        Some(_) | None => why,
    }
}

/// Sets the limit back to what it was, for an agent, which may be such an old program.
pub(crate) fn give_back(found: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it cannot be set the agent may have more than it needs.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(found), maximum });
}
