//! What the core does by chance can be run again, and stays within its bounds.

use makima_core::effect::{Effect, LinkEffect};
use makima_core::id::Epoch;
use makima_core::input::{Boot, Input, LinkCause};
use makima_core::rng::Rng;
use makima_core::time::Now;
use makima_core::{Compat, Config, Daemon, Keep, limits};
use proptest::prelude::*;

/// Recordings depend on it.
#[test]
fn the_sequence_is_pinned() {
    let mut rng = Rng::new(1_234_567);
    let drawn: Vec<u64> = (0..5).map(|_| rng.next()).collect();
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    assert_eq!(drawn, published);
}

#[test]
fn numbers_stay_within_their_bound() {
    let mut rng = Rng::new(7);
    let mut seen = [0; 4];
    for _ in 0..1_000 {
        seen[rng.up_to(3) as usize] += 1;
    }
    assert!(seen.iter().all(|n| (200..300).contains(n)), "{seen:?}");
    assert_eq!(rng.up_to(0), 0);
    let _ = rng.up_to(u64::MAX);
}

/// A daemon whose server is away, and the clock.
struct Away {
    daemon: Daemon,
    now: Now,
    epoch: Epoch,
}

impl Away {
    fn new(seed: u64) -> Self {
        let config = Config {
            machine_id: String::new(),
            hostname: String::new(),
            max_tasks: 1,
            working_directory: String::new(),
            home_directory: String::new(),
            worktrees_directory: String::new(),
            api_url: String::new(),
            program: "/bin/makima".into(),
            agent: makima_core::agent::Agent::default(),
            once: false,
            compat: Compat::default(),
            keep: Keep::default(),
            allowance: makima_core::allowance::Allowance::default(),
        };
        let mut away = Self { daemon: Daemon::new(config), now: Now::default(), epoch: Epoch(0) };
        away.step(Input::Boot(Boot { incarnation: 1, seed, ..Boot::default() }));
        away
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.daemon.step(self.now, input, &mut effects);
        self.daemon.check();
        for effect in effects {
            if let Effect::Link(LinkEffect::Connect { epoch, .. }) = effect {
                self.epoch = epoch;
            }
        }
    }

    /// The attempt fails; how long until the next one.
    fn wait(&mut self) -> u64 {
        let epoch = self.epoch;
        self.step(Input::LinkDown { epoch, cause: LinkCause::Unreachable(String::new()) });
        let (due, _) = self.daemon.deadline().expect("it tries again");
        let wait = due.since(self.now.mono);
        self.now.mono = due;
        self.step(Input::Tick);
        assert!(self.epoch > epoch, "it tries again when its time has come");
        wait.0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn waits_stay_in_windows_that_double_to_a_limit(seed: u64) {
        let mut away = Away::new(seed);
        let mut again = Away::new(seed);
        for n in 0..40_u32 {
            let window = limits::BACKOFF_FIRST.0.saturating_mul(2_u64.saturating_pow(n)).min(limits::BACKOFF_MAX.0);
            let wait = away.wait();
            prop_assert!((1..=window).contains(&wait), "attempt {n} waits {wait} ms of {window}");
            prop_assert_eq!(wait, again.wait(), "the same seed waits the same");
        }
    }
}

/// Full jitter: daemons that lost the same server do not come back in a crowd.
#[test]
fn waits_are_spread_over_the_whole_window() {
    let mut quarters = [0; 4];
    for seed in 0..400 {
        let mut away = Away::new(seed);
        let wait = (0..7).map(|_| away.wait()).last().expect("a wait");
        quarters[((wait - 1) * 4 / limits::BACKOFF_MAX.0) as usize] += 1;
    }
    assert!(quarters.iter().all(|n| (60..140).contains(n)), "{quarters:?}");
}
