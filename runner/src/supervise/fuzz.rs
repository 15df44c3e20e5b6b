//! What must hold of what daemons and supervisors say to each other: see `crate::fuzz`.

use super::orders::{OURS, Orders};
use super::protocol::{Said, Told, line, lines};

/// Lines, and the orders of a supervisor: what is read is written so that the same is read again.
pub(crate) fn supervise(data: &[u8]) {
    let mut heard = data.to_vec();
    let told: Vec<Told> = lines(&mut heard);
    assert!(!heard.contains(&b'\n') && data.ends_with(&heard));
    let mut written: Vec<u8> = told.iter().flat_map(line).collect();
    assert_eq!(lines::<Told>(&mut written), told);
    let mut heard = data.to_vec();
    let said: Vec<Said> = lines(&mut heard);
    let mut written: Vec<u8> = said.iter().flat_map(line).collect();
    assert_eq!(lines::<Said>(&mut written), said);
    for orders in [Orders::parse(data), Orders::read(&mut &*data).ok().flatten()].into_iter().flatten() {
        assert!(!orders.argv.is_empty());
        // Those that no daemon writes: with our own variables among the agent's.
        if orders.setup.commands.is_empty() || orders.env.iter().any(|(name, _)| OURS.iter().any(|ours| name == ours)) {
            continue;
        }
        let again = orders.bytes().ok().and_then(|bytes| Orders::read(&mut bytes.as_slice()).ok().flatten());
        assert_eq!(again, Some(orders));
    }
}
