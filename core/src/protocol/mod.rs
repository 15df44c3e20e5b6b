//! The wire: the commands a server sends, the messages a daemon sends, and nothing else.
//!
//! The only place that knows the wire's names. It is fixed byte for byte: other people's servers
//! speak it. Writing never fails; reading says what could not be read without repeating what stood there.

mod command;
mod frame;
mod message;
mod read;
#[cfg(feature = "schema")]
mod schema;

pub use command::{
    Authenticated, CheckMergeComplete, CheckTargetExists, CloneWorktree, DaemonCommand, InjectSiblingContext,
    InterruptTask, ListBranches, MergeAbort, MergeCommit, MergeResolve, MergeSkip, MergeStart, MergeStatus, PauseTask,
    ResumeTask, RetryCompletionAction, SendMessage, ServerError, SpawnTask,
};
pub use frame::{Frame, Hello, Meta, Place, Said, WIRE_HEADER, WIRE_VERSION, Wire, envelope};
pub use message::{
    Authenticate, BranchInfo, BranchList, CheckTargetExistsResult, CloneWorktreeResult, CompletionActionResult,
    DaemonDirectories, DaemonMessage, Heartbeat, MergeCompleteCheck, MergeResult, MergeStatusResponse, RegisterToolKey,
    RevokeToolKey, TaskComplete, TaskOutput, TaskProgress, TaskStatusChange, begin_task_output, finish_task_output,
    write_task_output,
};
pub use read::{Unreadable, UnreadableKind};
#[cfg(feature = "schema")]
pub use schema::schema;

/// Declares one direction of the wire: the structs in their tables' order, the tagged enum over
/// them, and how each is read and written.
macro_rules! wire {
    (
        $(#[$enum_meta:meta])*
        pub enum $name:ident {
            $(
                $(#[$meta:meta])*
                $tag:literal $variant:ident {
                    $( $(#[$field_meta:meta])* $field:ident: $ty:ty, )*
                }
            )*
        }
    ) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
            #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
            #[serde(rename_all = "camelCase")]
            pub struct $variant {
                $( $(#[$field_meta])* pub $field: $ty, )*
            }

            impl From<$variant> for $name {
                fn from(body: $variant) -> Self {
                    Self::$variant(body)
                }
            }
        )*

        $(#[$enum_meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "type")]
        pub enum $name {
            $(
                $(#[$meta])*
                #[serde(rename = $tag)]
                $variant($variant),
            )*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            /// As it was written. For records; what comes over the wire is read by `read`, which says what is wrong.
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <&serde_json::value::RawValue>::deserialize(from)?;
                Self::read(text.get()).map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            /// The `type` of every member of this direction, in the tables' order.
            pub const TYPES: &'static [&'static str] = &[$($tag),*];

            /// Reads one JSON object.
            ///
            /// # Errors
            /// Where it is no JSON object, its `type` is not of this direction, or a field is missing or of
            /// another type. The error never repeats a value.
            pub fn read(text: &str) -> Result<Self, crate::protocol::Unreadable> {
                let kind = crate::protocol::read::kind(text)?;
                match kind.as_ref() {
                    $( $tag => crate::protocol::read::body(text, $tag).map(Self::$variant), )*
                    _ => Err(crate::protocol::read::unknown(&kind)),
                }
            }

            /// Writes it as one line of JSON, without a newline.
            #[must_use]
            pub fn write(&self) -> alloc::string::String {
                // Only strings, numbers, booleans and lists of them: nothing here can fail to be written.
                serde_json::to_string(self).unwrap_or_default()
            }

            /// Its `type` on the wire.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => $tag, )*
                }
            }
        }
    };
}
pub(crate) use wire;
