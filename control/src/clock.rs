//! The only place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use makima_core::time::Millis;

/// Wall clock, in UTC. Only ever shown.
pub(crate) fn unix_millis() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn rfc3339(at: Millis) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use makima_core::time::Millis;

    use super::rfc3339;

    /// Protects the form of every time that clients read.
    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(Millis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Millis(1_732_302_947_120)), "2024-11-22T19:15:47.120Z");
        assert!(rfc3339(Millis(u64::MAX)).ends_with('Z'));
    }
}
