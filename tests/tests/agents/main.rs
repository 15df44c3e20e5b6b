//! The real binary with the real Claude Code at work, and a scripted API behind that: what its driver stands on.
//!
//! `MAKIMA_TEST_CLAUDE` names the programs, with colons between them: each test is done with each of them. Without it the
//! tests are left out, which each says; with `MAKIMA_TEST_AGENTS=required` that is a failure. `MAKIMA_LONG=1` adds what
//! takes minutes. `MAKIMA_TEST_ACP` names a folder with agents that speak the Agent Client Protocol, as npm installs them:
//! `claude-agent-acp` and `opencode`, and a `node` that is new enough for them.

mod acp;
mod asking;
mod claudes;
mod going_on;
mod interrupts;
mod kills;
mod leading;
mod many;
mod outcomes;
mod permissions;
mod picture;
mod scene;
#[path = "../e2e/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "it is there for more than these tests")]
mod support;
mod trouble;
mod turns;
