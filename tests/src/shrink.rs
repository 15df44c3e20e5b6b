//! Makes a failing run short, so that a person can read it.

use makima_core::reduce::{alike, reduce};

/// A run that can be made shorter.
pub trait Shrinks: Clone {
    /// What it consists of.
    type Act: Clone;

    /// What happens in it, in order.
    fn acts(&mut self) -> &mut Vec<Self::Act>;

    /// What does not hold in it, in the words of the check that found it.
    fn why(&self) -> Option<String>;
}

/// The shortest run found that fails in the same way, and how it fails.
#[must_use]
pub fn shrink<R: Shrinks>(run: &R) -> (R, String) {
    let mut failure = run.why().unwrap_or_default();
    let mut shorter = run.clone();
    let acts = reduce(shorter.acts().clone(), |acts| {
        *shorter.acts() = acts.to_vec();
        match shorter.why() {
            Some(why) if alike(&why, &failure) => {
                failure = why;
                true
            }
            _ => false,
        }
    });
    *shorter.acts() = acts;
    (shorter, failure)
}
