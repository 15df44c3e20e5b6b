//! Folders that a server names: what such a name may be, and where things may be written to on a server's word.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Refused, shorten};
use crate::limits;

/// A folder that a server names, to be written to or looked at. Absolute, `~` put in; links in it, and what `..` leads
/// to behind them, are the executor's to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Reads what a server wrote. `user` is the folder that `~` means. Slashes at its end, doubled ones and `.` mean
    /// nothing.
    ///
    /// # Errors
    /// What is not absolute, or is another user's; what has a control character in it; what the kernel makes up.
    pub fn read(text: &str, user: Option<&str>) -> Result<Self, Refused> {
        let shown = || shorten(text, limits::NAME_SHOWN);
        if text.is_empty() {
            return Err(Refused("no folder was named".to_string()));
        }
        if text.len() > limits::PATH {
            return Err(Refused(format!("`{}` is longer than a path can be", shown())));
        }
        if text.chars().any(char::is_control) {
            return Err(Refused(format!("`{}` has a control character in it", shown())));
        }
        let (home, rest) = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let home = user.filter(|home| home.starts_with('/'));
                (home.ok_or_else(|| Refused(format!("`{}` cannot be found: HOME is not set", shown())))?, rest)
            }
            Some(_) => {
                return Err(Refused(format!("`{}` is another user's; `~` and `~/…` are understood", shown())));
            }
            None if text.starts_with('/') => ("", text),
            None => return Err(Refused(format!("`{}` is no absolute path", shown()))),
        };
        let parts = |text: &str| -> Vec<String> {
            text.split('/').filter(|part| !part.is_empty() && *part != ".").map(ToString::to_string).collect()
        };
        let named = parts(rest);
        if home.is_empty() && named.first().is_some_and(|first| MADE_UP.contains(&first.as_str())) {
            return Err(Refused(format!("`{}` is none of the user's folders: the kernel makes it up", shown())));
        }
        let all = [parts(home), named].concat();
        Ok(Self(format!("/{}", all.join("/"))))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where nothing is what it seems: each process sees something else there.
const MADE_UP: &[&str] = &["proc", "sys"];

/// Where things may be written to on a server's word. Paths are absolute and have no links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// What the user has allowed.
    pub allowed: Vec<Vec<u8>>,
    /// The folder that the daemon works in.
    pub working: Option<Vec<u8>>,
    /// The daemon's own folder. Nothing in it is written to.
    pub own: Vec<u8>,
    /// But for this one, which is there for finished work, and is what servers are told.
    pub advertised: Vec<u8>,
}

impl Grounds {
    /// Whether this may be written to. The path is absolute and has no links.
    #[must_use]
    pub fn cover(&self, path: &[u8]) -> bool {
        if lies_in(path, &self.advertised) {
            return true;
        }
        // A daemon that stands in `/` stands nowhere.
        let working = self.working.iter().filter(|working| working.as_slice() != b"/");
        !lies_in(path, &self.own) && self.allowed.iter().chain(working).any(|root| lies_in(path, root))
    }
}

/// Whether a path is this folder, or lies in it. None lies in one without a name.
fn lies_in(path: &[u8], folder: &[u8]) -> bool {
    if folder.is_empty() {
        return false;
    }
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    match path.strip_prefix(folder) {
        Some(rest) if folder.is_empty() => rest.starts_with(b"/"),
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        Place::read(text, Some("/home/ada/")).map(|place| place.0).map_err(|why| why.0)
    }

    #[test]
    fn a_place_is_an_absolute_path_of_the_users() {
        assert_eq!(read("~").as_deref(), Ok("/home/ada"));
        assert_eq!(read("~/x//y/./z///").as_deref(), Ok("/home/ada/x/y/z"));
        assert_eq!(read("/").as_deref(), Ok("/"));
        // What it leads to depends on links before it.
        assert_eq!(read("/a/../b").as_deref(), Ok("/a/../b"));
        assert_eq!(read("/a b/-c/$d/é").as_deref(), Ok("/a b/-c/$d/é"));
        for bad in ["", "x", "./x", "-x", "~bob", "~bob/x", "~\0", "/a\nb", "/a\rb", "/a\0", "/a\u{1b}[0m"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        for bad in ["/proc/self/cwd/x", "//proc/1/root", "/./proc/self/fd/3", "/sys/x", "/proc"] {
            assert!(read(bad).is_err_and(|why| why.contains("the kernel makes it up")), "{bad:?}");
        }
        assert!(read(&format!("/{}", "x".repeat(limits::PATH))).is_err());
        assert!(Place::read("~/x", None).is_err());
        assert!(Place::read("~/x", Some("relative")).is_err());
    }

    fn grounds() -> Grounds {
        Grounds {
            allowed: Vec::from([b"/home/ada".to_vec()]),
            working: Some(b"/srv/work".to_vec()),
            own: b"/home/ada/.makima".to_vec(),
            advertised: b"/home/ada/.makima/home".to_vec(),
        }
    }

    #[test]
    fn what_lies_in_an_allowed_folder_may_be_written_to() {
        for good in ["/home/ada", "/home/ada/x", "/srv/work", "/srv/work/x/y", "/home/ada/.makima/home/x"] {
            assert!(grounds().cover(good.as_bytes()), "{good}");
        }
        for bad in ["/", "/home", "/home/adam", "/home/ada2/x", "/srv", "/srv/workshop", "relative", ""] {
            assert!(!grounds().cover(bad.as_bytes()), "{bad}");
        }
        assert!(!Grounds::default().cover(b"relative") && !Grounds::default().cover(b"/etc"));
    }

    #[test]
    fn the_daemons_own_folder_is_nobodys_target() {
        for bad in ["/home/ada/.makima", "/home/ada/.makima/worktrees/x", "/home/ada/.makima/homely"] {
            assert!(!grounds().cover(bad.as_bytes()), "{bad}");
        }
        assert!(grounds().cover(b"/home/ada/.makima2"));
    }

    #[test]
    fn a_daemon_that_stands_in_the_root_allows_nothing_by_that() {
        let grounds = Grounds { working: Some(b"/".to_vec()), ..grounds() };
        assert!(!grounds.cover(b"/etc"));
        // What the user has written down is another matter.
        assert!(Grounds { allowed: Vec::from([b"/".to_vec()]), ..grounds }.cover(b"/etc"));
    }

    proptest::proptest! {
        /// Whatever is named, it is refused or an absolute path of plain parts, which is read again as itself.
        #[test]
        fn any_name_is_refused_or_plain(text in "[~/.a\\-\\n\\x00é ]{0,12}|\\PC{0,20}") {
            if let Ok(place) = read(&text) {
                proptest::prop_assert!(place.starts_with('/') && !place.contains("//") && !place.contains("/./"));
                proptest::prop_assert!(place == "/" || !place.ends_with('/'));
                proptest::prop_assert_eq!(read(&place), Ok(place));
            }
        }

        /// A path lies in a folder if it has all of that folder's parts, and no other way.
        #[test]
        fn a_path_lies_in_what_has_its_first_parts(path in "(/[ab]{1,2}){1,4}", root in "(/[ab]{1,2}){1,3}") {
            let parts = |text: &str| text.split('/').map(ToString::to_string).collect::<Vec<_>>();
            let grounds = Grounds { allowed: Vec::from([root.clone().into_bytes()]), ..Grounds::default() };
            proptest::prop_assert_eq!(grounds.cover(path.as_bytes()), parts(&path).starts_with(&parts(&root)));
        }
    }
}
