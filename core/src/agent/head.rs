//! What the head of a line says that is too long to be read: who waits for an answer to it is told that there is none.

use alloc::string::String;

use serde_json::{Deserializer, Value};

/// What stands in the head of an object under this name, before a field of that other name in which anything may stand; as JSON.
pub(super) fn field(head: &str, name: &str, before: &str) -> Option<Value> {
    let outer = head.split(&quoted(before)).next()?;
    let (_, rest) = outer.split_once(&quoted(name))?;
    Deserializer::from_str(rest).into_iter::<Value>().next()?.ok()
}

/// A field's name, as whoever leaves no room between the two writes it.
fn quoted(name: &str) -> String {
    ["\"", name, "\":"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects agents from answers to what they did not ask: only what is whole and stands outside of what is asked with counts.
    #[test]
    fn only_whole_fields_of_the_line_itself_are_found() {
        let head = r#"{"jsonrpc":"2.0","id":7,"method":"session/request_permission","params":{"id":9,"a":"#;
        assert_eq!(field(head, "id", "params"), Some(Value::from(7)));
        assert_eq!(field(head, "method", "params"), Some(Value::from("session/request_permission")));
        for (head, name) in [
            (r#"{"method":"m","params":{"id":9}}"#, "id"),
            (r#"{"method":"sess"#, "method"),
            (r#"{"id":"#, "id"),
            ("xxxx", "id"),
            ("", "id"),
        ] {
            assert_eq!(field(head, name, "params"), None, "{head}");
        }
    }
}
