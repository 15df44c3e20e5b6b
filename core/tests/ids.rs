//! Names of things.

use makima_core::id::TaskId;
use uuid::Uuid;

/// Protects what goes through all tasks, and so what is sent when: the order of ids is that of their bytes, wherever two of
/// them differ.
#[test]
fn ids_are_in_the_order_of_their_bytes() {
    let mut all = vec![[0_u8; 16], [0xff; 16]];
    for at in 0..16 {
        for byte in [1, 0x7f, 0x80, 0xff] {
            let mut bytes = [0; 16];
            bytes[at] = byte;
            all.push(bytes);
            bytes[15 - at] |= 1;
            all.push(bytes);
        }
    }
    for left in &all {
        for right in &all {
            let id = |bytes: &[u8; 16]| TaskId(Uuid::from_bytes(*bytes));
            assert_eq!(id(left).cmp(&id(right)), left.cmp(right), "{left:?} and {right:?}");
            assert_eq!(id(left).partial_cmp(&id(right)), left.partial_cmp(right));
        }
    }
}
