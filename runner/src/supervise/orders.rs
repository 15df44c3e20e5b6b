//! What a supervisor is to run: told on its standard input, as secrets may be in it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::executor::Way;
use crate::sandbox::Plan;

/// More than any system takes as arguments and environment.
const ORDERS_MAX: u32 = 16 << 20;

/// Stands among the variables where the portable way is to be gone: a supervisor may be newer than its daemon, whose
/// orders have no other place for it. No agent gets it.
const PORTABLE: &str = "MAKIMA_PORTABLE";

/// Stands there too where commands are to be run first: how many of the words are such commands, and for how many
/// seconds they may run.
const SET_UP: &str = "MAKIMA_SET_UP";

/// Stands there for each thing that is said of the fence around what is run; there is none where it does not.
const FENCE: &str = "MAKIMA_FENCE";

/// Variables that the orders themselves have.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const OURS: [&str; 3] = [PORTABLE, SET_UP, FENCE];

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// The name of this start of the task, by which whoever may speak to the supervisor is known.
    pub(crate) nonce: String,
    /// How its processes are told apart.
    pub(crate) way: Way,
    pub(crate) folder: PathBuf,
    /// Commands of a shell that are run first.
    pub(crate) setup: SetUp,
    /// Never empty.
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The fence around all of it, if there is to be one.
    pub(crate) fence: Option<Plan>,
}

/// Commands that are run before an agent, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetUp {
    pub(crate) commands: Vec<OsString>,
    /// How long all of them may take, in seconds.
    pub(crate) seconds: u64,
}

impl SetUp {
    /// Of the words of a command line the first are commands, as it is written here.
    fn split(written: Option<&OsStr>, argv: &mut Vec<OsString>) -> Option<Self> {
        let Some(written) = written else { return Some(Self::default()) };
        let (count, seconds) = written.to_str()?.split_once(' ')?;
        let (count, seconds) = (count.parse().ok()?, seconds.parse().ok()?);
        let rest = (count < argv.len()).then(|| argv.split_off(count))?;
        Some(Self { commands: std::mem::replace(argv, rest), seconds })
    }
}

impl Orders {
    /// As bytes: their length, then fields that end with a zero byte, as none can hold one.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, String> {
        let commands = self.setup.commands.len();
        let count = commands.saturating_add(self.argv.len()).to_string();
        let set_up = format!("{commands} {}", self.setup.seconds);
        let mut fields = vec![OsStr::new(&self.nonce), self.folder.as_os_str(), OsStr::new(&count)];
        fields.extend(self.setup.commands.iter().map(OsString::as_os_str));
        fields.extend(self.argv.iter().map(OsString::as_os_str));
        fields.extend(self.env.iter().flat_map(|(name, value)| [name.as_os_str(), value.as_os_str()]));
        if self.way == Way::Portable {
            fields.extend([OsStr::new(PORTABLE), OsStr::new("1")]);
        }
        if commands > 0 {
            fields.extend([OsStr::new(SET_UP), OsStr::new(&set_up)]);
        }
        let fence = self.fence.as_ref().map(Plan::words).unwrap_or_default();
        fields.extend(fence.iter().flat_map(|word| [OsStr::new(FENCE), word]));
        if fields.iter().any(|field| field.as_bytes().contains(&0)) {
            return Err("a zero byte stands in its command line or its environment".to_owned());
        }
        let text: Vec<u8> = fields.iter().flat_map(|field| [field.as_bytes(), b"\0"]).flatten().copied().collect();
        let length = u32::try_from(text.len()).ok().filter(|length| *length <= ORDERS_MAX);
        let length = length.ok_or("its command line and its environment are too long")?;
        Ok([&length.to_le_bytes()[..], &text].concat())
    }

    pub(super) fn read(from: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(failure) if failure.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = u32::from_le_bytes(length);
        if length > ORDERS_MAX {
            return Err(io::Error::other("it is too long"));
        }
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        from.by_ref().read_exact(&mut text)?;
        Self::parse(&text).map(Some).ok_or_else(|| io::Error::other("a part is missing"))
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"\0")?;
        let mut fields = text.split(|byte| *byte == 0).map(|field| OsStr::from_bytes(field).to_owned());
        let nonce = fields.next()?.into_string().ok()?;
        let folder = PathBuf::from(fields.next()?);
        let count = fields.next()?.to_str()?.parse().ok()?;
        let mut argv: Vec<OsString> = fields.by_ref().take(count).collect();
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        while let Some(name) = fields.next() {
            env.push((name, fields.next()?));
        }
        if argv.len() != count || count == 0 {
            return None;
        }
        let set_up = env.iter().position(|(name, _)| name == SET_UP).map(|at| env.remove(at).1);
        let setup = SetUp::split(set_up.as_deref(), &mut argv)?;
        let before = env.len();
        env.retain(|(name, _)| name != PORTABLE);
        let way = Way::chosen(env.len() < before);
        let (fence, env): (Vec<_>, Vec<_>) = env.into_iter().partition(|(name, _)| name == FENCE);
        // One that cannot be read is not left out.
        let fence =
            if fence.is_empty() { None } else { Some(Plan::read(fence.iter().map(|(_, word)| word.as_os_str()))?) };
        Some(Self { nonce, way, folder, setup, argv, env, fence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{By, Network};

    /// Protects an agent's fence from being left out because a part of it is not understood.
    #[test]
    fn orders_with_half_a_fence_are_none() {
        let orders = Orders { argv: vec!["sh".into()], ..Orders::default() };
        for said in ["by=nobody", "write=/w", "by=landlock\0MAKIMA_FENCE\0what=x"] {
            let text = [&orders.bytes().expect("bytes")[4..], b"MAKIMA_FENCE\0", said.as_bytes(), b"\0"].concat();
            assert_eq!(Orders::parse(&text), None, "{said}");
        }
    }

    #[test]
    fn orders_are_read_as_they_were_written() {
        let env = vec![("A".into(), String::new().into()), ("B".into(), "x=y".into())];
        let orders = Orders {
            nonce: "n".to_owned(),
            way: Way::chosen(false),
            folder: "/tmp".into(),
            setup: SetUp { commands: vec!["make deps".into()], seconds: 600 },
            argv: vec!["sh".into(), "".into()],
            env,
            fence: Some(Plan {
                apart: true,
                by: By::Landlock,
                network: Network::None,
                sockets: false,
                write: vec!["/w".into(), "/a =\n".into()],
                hidden: vec!["/h".into()],
                shown: vec!["/h/s".into()],
            }),
        };
        let mut bytes = orders.bytes().expect("bytes");
        bytes.extend_from_slice(b"for the agent");
        let mut from = bytes.as_slice();
        assert_eq!(Orders::read(&mut from).expect("orders"), Some(orders.clone()));
        assert_eq!(from, b"for the agent");
        let plain = Orders { setup: SetUp::default(), fence: None, ..orders.clone() };
        let bytes = plain.bytes().expect("bytes");
        assert_eq!(Orders::read(&mut bytes.as_slice()).expect("orders"), Some(plain));
        let none = Orders { argv: Vec::new(), ..orders.clone() }.bytes().expect("bytes");
        assert!(Orders::read(&mut none.as_slice()).is_err(), "commands alone start no agent");
        assert_eq!(Orders::read(&mut &b""[..]).expect("an end"), None);
        assert!(Orders::read(&mut &b"\x05\0\0\0abc"[..]).is_err());
        assert!(Orders { argv: vec!["a\0b".into()], ..Orders::default() }.bytes().is_err());
    }
}
