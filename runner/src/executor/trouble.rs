//! What may be mended by another try, and what not.

use super::answer::lacks_room;
use super::bare::says_damaged;
use super::git::GitError;

/// Why something that git had a part in was not done.
pub(super) enum Trouble {
    /// A repository that it was to be done with is damaged: worth another try with a new one, or with less of it.
    Damaged(String),
    /// Anything else.
    Plain(String),
}

impl Trouble {
    /// The same of a repository that is nobody's to make anew: an agent's or the user's.
    pub(super) fn of_others(self) -> Self {
        Self::Plain(self.into_words())
    }

    pub(super) fn into_words(self) -> String {
        match self {
            Self::Damaged(why) | Self::Plain(why) => why,
        }
    }
}

impl From<GitError> for Trouble {
    fn from(why: GitError) -> Self {
        // A full disk leaves git with the same words as a damaged one.
        if says_damaged(why.said()) && !lacks_room(why.said()) {
            Self::Damaged(why.to_string())
        } else {
            Self::Plain(why.to_string())
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(why: std::io::Error) -> Self {
        Self::Plain(why.to_string())
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Plain(why)
    }
}
