//! Bugs that are let out on purpose, to see that the tests find them. By the feature `zoo` only, which no program for
//! people is built with.
//!
//! Each stands where it would be written: `bug!(Name)` is true while it is out, in the thread that let it out, and is
//! plain `false` without the feature.

extern crate std;

use core::cell::Cell;

std::thread_local! {
    static OUT: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Lets a bug out into this thread, or puts the one that is out away.
pub fn let_out(bug: Option<Bug>) {
    OUT.set(bug);
}

/// Whether this one is out.
pub(crate) fn is_out(bug: Bug) -> bool {
    OUT.get() == Some(bug)
}

macro_rules! bugs {
    ($($area:literal: { $($name:ident: $what:literal, $lost:literal;)* })*) => {
        /// A bug that somebody could have written, or had.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $what] $name,)*)*
        }

        impl Bug {
            /// Every one.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// Its name, by which it is let out.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)*)* }
            }

            /// Which part of the daemon it is in.
            #[must_use]
            pub const fn area(self) -> &'static str {
                match self { $($(Self::$name => $area,)*)* }
            }

            /// What it does.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $($(Self::$name => $what,)*)* }
            }

            /// What comes of it for those who use makima.
            #[must_use]
            pub const fn lost(self) -> &'static str {
                match self { $($(Self::$name => $lost,)*)* }
            }
        }
    };
}

bugs! {
    "link": {
        FrameOfAnOldLink: "a frame of a connection that is gone is taken for one of the connection that stands",
            "what an old connection carried counts again";
        RefusedKeyIsTheEnd: "a key that was refused is never tried again",
            "a daemon stays away until somebody starts it anew";
        BackoffOfNothing: "the wait before the next attempt to connect may be none",
            "the daemon spins";
        PingOfBeforeTheSleep: "a ping that went out before the machine slept counts as one that is not answered",
            "a good server is taken for one that answers no pings, and not watched";
        WatchdogFedOnTheWay: "what the kernel takes counts as a sign of life of the server's",
            "a server that is gone behind a proxy is never noticed";
        AnyPongPasses: "any pong says that all that was sent has arrived, also what was sent behind its ping",
            "messages";
        GraceWithoutAFlush: "with a server that answers no pings, time alone says that what was sent has arrived",
            "messages that never left the machine";
        TakeOverForgets: "what is under way by long-poll is not sent again once a WebSocket takes over",
            "messages and output";
    }
    "version 1 of the wire": {
        DeliveredOneTooFar: "a barrier passes one frame more than it stands behind",
            "a message, the end of a task too";
        ReadIsDelivered: "output that was read counts as delivered when any barrier is passed",
            "output";
        HalfALineIsDelivered: "a barrier behind the beginning of a line counts for the whole line",
            "the beginning of a line";
        HeartbeatNamesTooFew: "a heartbeat names only tasks of which something is under way",
            "a server that reconciles gives up tasks that are at work";
        LinesMix: "a line of the other stream that was begun stays open",
            "lines that can be read";
    }
    "version 2 of the wire": {
        AckOffByOne: "one more is acknowledged than was applied",
            "a command";
        AppliedTwice: "a command that was applied is applied once more when it comes again",
            "what a user says once is said twice";
        SeriesOfAnother: "numbers go on, whichever series the server says that it knows",
            "messages";
        NumbersOutliveTheirSession: "numbers that were given stay with what is told without numbers meanwhile",
            "messages";
        AckOfAll: "an acknowledgement counts for all numbers that were given",
            "messages, as their numbers are given again";
        NothingIsSaidAgain: "what the server has not applied is not said again",
            "messages";
        SeriesAreMixed: "another series of the server's goes on where the one before was",
            "commands";
        SalvagedTwice: "what was taken from a journal that is not trusted is not noted as applied",
            "the server says it all again";
        AckInTrouble: "what the journal cannot hold is taken for acknowledged",
            "the server says for ever what was applied";
        RewindIgnored: "the server asks for output from an earlier place, and is not heard",
            "output, and the end behind it";
        OutputWithoutAPlace: "a task that is taken on in a session of version 2 sends its output as version 1 has it",
            "output, as nobody knows where it belongs";
        BeyondTheEnd: "output behind the end of a log gets a place behind the end",
            "the end of a task, as it seems to stand before its output";
        GluedLines: "that a line was begun before a kill is not heeded",
            "lines of the two streams that are two";
        ServerHasMore: "that the server has more of a log than an outage left is not heeded",
            "the daemon, which has delivered more than it read";
        NumberLeftOut: "progress is left out for newer progress, though it has a number",
            "all messages behind it";
        NumberTakenBack: "what was said of a task before it was taken on is taken back, though it has a number",
            "all messages behind it";
        AnswerBehindAnEndTakenBack: "the answer to what was asked behind a task's end is taken back when that end turns out to be known",
            "whoever asked gets no answer";
    }
    "the journal": {
        MessageBeforeTheFlush: "an agent gets a message before that is written down for good",
            "what the user says next, which gets the same number";
        NumberBeforeTheFlush: "a message leaves before its number is written down for good",
            "messages, as the number is given again";
        SessionBeforeTheFlush: "a session of version 1 begins before that is written down for good",
            "trust in an end: the key of who ended stays good";
        AckBeforeTheFlush: "a command is acknowledged before it is written down for good",
            "a command";
        StarvedAreForgotten: "what waits for room in the link is not found again in a snapshot",
            "trust in the journal, as its steps go another way";
    }
    "tasks": {
        InterruptLostAtTheDoor: "an interrupt while a task is being written down is not heeded",
            "the user's word";
        InterruptLostInARestart: "an interrupt while a worktree is made is forgotten by the daemon's next life",
            "the user's word";
        SuccessAllTheSame: "an agent that ends well when it is interrupted has succeeded",
            "the user's word";
        AskedOnceOnly: "an agent that does not end when it is asked is not asked in a sterner way",
            "a task that never ends";
        EndToldFirst: "an end is told before it is written down",
            "the truth, as the task may end again in another way";
        EndToldUnwritten: "an end that cannot be written down is told at once all the same",
            "the truth, as the task may end again in another way";
        EndToldInAHurry: "a daemon that is about to stop tells an end that could not be written down",
            "the truth, as its next life may tell it otherwise";
        NoWordOfTheAction: "a task that never got as far as running says nothing of its completion action",
            "whoever waits for that";
        ForceSkipsTheCommit: "a forced interrupt skips the commit as well",
            "an agent's work";
        CommitForgotten: "a commit that was under way when the daemon was killed is taken for done",
            "an agent's work";
        HandingOverForgotten: "work that was being handed over when the daemon was killed is not handed over",
            "the branch that the user waits for";
        OneTooMany: "one more task runs than may",
            "the machine, under more agents than it was meant to bear";
    }
    "messages and pauses": {
        MessageToWhoStands: "a message goes to an agent that is about to be let go on",
            "the message, where that fails";
        MessageLostInARestart: "a message that was on its way when the daemon was killed counts as sent",
            "the message";
        MessageNumberUsedAgain: "messages are numbered by how many wait",
            "messages, as their supervisor has had their number";
        ThawTakenForDone: "an agent that could not be let go on counts as one that goes on",
            "an agent that stands still and is told to be running";
        ThawIsUndone: "a thaw that took too long counts as not done",
            "an agent that is at work and is told to be paused";
        StandsAsBefore: "whether a tree stands still is believed across a restart",
            "a task that stands still for ever";
    }
    "output": {
        EndOvertakesOutput: "an end is told whether its output has been delivered or not",
            "the last output, which is what says why";
        EndTrustsTheWay: "an end is told once its output was read",
            "the last output, where the link breaks";
        OutputLeftUnread: "the log of an agent that was ended while it started is not read",
            "output, and the end behind it";
        FailedReadIsEmpty: "a read that failed counts as one that found nothing",
            "output, and the end behind it";
        ShortLogHoldsTheEnd: "a log that an outage cut short is read for ever",
            "the end of the task";
        OutputHasNoDeadline: "nothing wakes the daemon for output that waits for time to pass",
            "output, and the end behind it";
        ClosedTaskSendsAgain: "a task whose end the server knows sends its output again after a restart",
            "output that comes once";
    }
    "a new life": {
        StartedTwice: "a start that was under way when the daemon was killed is done again",
            "the worktree, to two agents at once";
        FolderIsNotBelieved: "that a task's folder tells of a start which the journal lost is not heeded",
            "the worktree, to two agents at once";
        AcceptedOtherwise: "a command that is taken again outweighs what was accepted, which the task's folder holds",
            "the agent that was at work, and the conversation that it goes on with";
        EffectIdsUsedAgain: "names of effects begin anew, and are those of the life before",
            "the truth, as late answers are taken for others";
        StopOutlivesTheDaemon: "a daemon that was told to stop stops again each time it is started",
            "the daemon";
        SalvageUnderAStop: "what is taken over from a journal that is not trusted is refused, as the life before was to stop",
            "commands that were acknowledged";
        UnknownAfterAll: "that a task is not known is told although it has been taken on since",
            "the task, in the eyes of its server";
        UnknownThoughFound: "that a task is not known is told although it was found in its folder since",
            "the task, in the eyes of its server";
        EndOfWhoHadBegun: "an end of before the start stands, though the folder tells of a start",
            "an agent that goes on without its task";
        ErrandForgotten: "a question that was under way when the daemon was killed is not asked again",
            "the answer";
    }
    "merging": {
        MergedTooSoon: "the branch of a task that has not ended is merged",
            "half of a task's work";
        CompleteWhileMerging: "an orchestrator may complete while a merge is open",
            "the merge";
        SkipForgotten: "which branches are not to be merged is forgotten by a restart",
            "an orchestrator that can never complete";
    }
    "what goes": {
        FailedMakesRoom: "what did not end well makes room like what was handed over",
            "work that exists once";
        NeverForgotten: "a task whose worktree is gone is never forgotten",
            "memory, month by month";
        GoneBeforeItIsTold: "what has ended may go before the server knows of the end",
            "the output";
        SubtaskGoesFirst: "a subtask may go while its orchestrator is at work",
            "what was to be merged";
    }
    "what an agent says": {
        EndedBeforeItsSubtasks: "an orchestrator ends with a turn that leaves subtasks at work",
            "branches of subtasks that nobody merges";
        NobodyIsWoken: "an orchestrator is not told that a subtask of its has ended",
            "an agent that waits for ever for what has long been done";
        EndedOverAMessage: "an agent is done with the end of a turn, whatever it was told meanwhile",
            "a message that nobody reads";
        BackgroundForgotten: "an agent is done with the end of a turn, whatever it lets run behind the conversation",
            "work that is killed half-way and passes for done";
        NobodyReturns: "what ends behind a conversation is not waited for to be looked at",
            "what came of it";
        NotHeardOut: "an agent that has ended by itself is judged by what was heard of it up to then",
            "work that was done and passes for failed";
        ResultAllTheSame: "an agent that was killed in the middle of a turn did well, as the turn before had",
            "work that was not done and passes for done";
        SilentForGood: "an agent that rests, and never says what it did, is waited for",
            "tasks that never end";
    }
    "keys": {
        KeyIsNotRevoked: "the key of a task that has ended stays good",
            "a key that an agent may have left anywhere";
        KeyToldOnceMore: "the key of a task that has ended is told again in the next session",
            "a key that an agent may have left anywhere";
        KeyJumpsTheLine: "a key is told before what was told before it",
            "the order of messages, and their numbers";
        EmptyKey: "a message that is to bear a key bears none",
            "whatever an orchestrator asks of its server";
        StartsWithoutItsKey: "an orchestrator starts before its server knows its key",
            "whatever it asks of its server at first";
    }
    "time": {
        SleepCounts: "a laptop's sleep counts against the time that a step may take",
            "tasks that fail over night";
        IndexLeftBehind: "what changed of a task is not noted where its deadlines and its place in line are kept",
            "whatever waits for either";
    }
}
