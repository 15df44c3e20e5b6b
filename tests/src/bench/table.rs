//! What is printed of a figure.

/// One figure.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) ours: f64,
    /// What it is compared with, from the same run.
    pub(crate) limit: Option<f64>,
    pub(crate) goal: Goal,
}

/// What was promised of it.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// At least so many times the limit.
    Times(f64),
    /// At most so many times the limit.
    AtMostTimes(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing: it is only shown.
    None,
}

pub(crate) fn print_head() {
    println!("{:44} {:>12} {:>12} {:>8}  {:12} met", "figure", "ours", "limit", "ratio", "goal");
}

impl Row<'_> {
    pub(crate) fn print(&self) {
        let ratio = self.limit.map(|limit| self.ours / limit);
        let (goal, met) = match self.goal {
            Goal::Times(least) => (format!(">= {least}x"), ratio.map(|ratio| ratio >= least)),
            Goal::AtMostTimes(most) => (format!("<= {most}x"), ratio.map(|ratio| ratio <= most)),
            Goal::AtMost(most) => (format!("<= {most}"), Some(self.ours <= most)),
            Goal::None => (String::new(), None),
        };
        let met = met.map_or("", |met| if met { "yes" } else { "NO" });
        let limit = self.limit.map_or_else(String::new, number);
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
        let name = format!("{}, {}", self.name, self.unit);
        println!("{name:44} {:>12} {limit:>12} {ratio:>8}  {goal:12} {met}", number(self.ours));
    }
}

fn number(value: f64) -> String {
    match value {
        large if large >= 1e6 => format!("{:.2} M", large / 1e6),
        medium if medium >= 100.0 => format!("{medium:.0}"),
        small if small >= 10.0 => format!("{small:.1}"),
        tiny => format!("{tiny:.3}"),
    }
}

/// The value below which the share `of` of them lie.
pub(crate) fn quantile(values: &[f64], of: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * of).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
