//! What the kernel knows that a process has used.

use std::error::Error;

/// What a process has used of the processors, in seconds; what it has waited for its children is not in it.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("a process without a name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or("no processor time");
    Ok((ticks()? + ticks()?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A line of a file in `/proc/<pid>`, in MiB.
///
/// # Errors
/// There is no such process, file or line.
pub fn memory(pid: u32, file: &str, key: &str) -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or_else(|| format!("no {key} in {file}"))?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}
