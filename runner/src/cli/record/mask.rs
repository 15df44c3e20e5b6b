//! What of a frame may be written down: everything but secrets.

use makima_core::policy::{MASK, is_secret};
use serde_json::Value;

use crate::executor::Secrets;

/// A frame as it may be shown. What is found secret in it is masked in later ones too, wherever it stands there.
/// Text that is no JSON is one string.
pub(super) fn masked(text: &str, secrets: &Secrets) -> Value {
    let Ok(mut frame) = serde_json::from_str::<Value>(text) else {
        return Value::String(secrets.masked(&clean(text, secrets)));
    };
    hide(&mut frame, false, secrets);
    // Names of fields may hold some too, so it is the whole that is masked.
    let shown = secrets.masked(&frame.to_string());
    serde_json::from_str(&shown).unwrap_or_else(|_| Value::String(MASK.to_owned()))
}

/// Masks the values of fields whose names say that they are secret, and what texts hold.
fn hide(value: &mut Value, is_named: bool, secrets: &Secrets) {
    match value {
        Value::String(text) if is_named && !text.is_empty() => {
            secrets.add(std::mem::replace(text, MASK.to_owned()));
        }
        Value::Number(_) if is_named => *value = Value::String(MASK.to_owned()),
        Value::String(text) => *text = clean(text, secrets),
        Value::Array(all) => all.iter_mut().for_each(|one| hide(one, is_named, secrets)),
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, one)| hide(one, is_named || is_secret(name), secrets));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without the credentials of URLs in it, and without what is assigned to a name that says it is secret.
fn clean(text: &str, secrets: &Secrets) -> String {
    without_assigned(&without_credentials(text, secrets), secrets)
}

fn ends_a_word(c: char) -> bool {
    c.is_whitespace() || "\"'`<>\\&;,|()".contains(c)
}

/// `https://me:***@host`: also the name, as tokens stand there.
fn without_credentials(text: &str, secrets: &Secrets) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("://") {
        let end = behind.find(|c| ends_a_word(c) || "/?#".contains(c)).unwrap_or(behind.len());
        let (authority, further) = behind.split_at_checked(end).unwrap_or((behind, ""));
        let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        shown.push_str(before);
        shown.push_str("://");
        match authority.rsplit_once('@') {
            // The `git@` of ssh is a name.
            Some((who, host)) if who.contains(':') || !scheme.eq_ignore_ascii_case("ssh") => {
                secrets.add(who);
                secrets.add(who.split_once(':').map_or(who, |(_, password)| password));
                shown.push_str(MASK);
                shown.push('@');
                shown.push_str(host);
            }
            Some(_) | None => shown.push_str(authority),
        }
        rest = further;
    }
    shown + rest
}

/// `TOKEN=***`, in scripts and in queries of URLs.
fn without_assigned(text: &str, secrets: &Secrets) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once('=') {
        let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        shown.push_str(before);
        shown.push('=');
        rest = behind;
        if is_secret(name) {
            let quote = behind.chars().next().filter(|c| ['"', '\''].contains(c));
            let value = behind.strip_prefix(['"', '\'']).unwrap_or(behind);
            let end = match quote {
                Some(quote) => value.find(quote),
                None => value.find(ends_a_word),
            };
            let (value, further) = value.split_at_checked(end.unwrap_or(value.len())).unwrap_or((value, ""));
            secrets.add(value);
            shown.extend(quote);
            shown.push_str(if value.is_empty() { "" } else { MASK });
            rest = further;
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects people who send a recording to somebody.
    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secrets = Secrets::default();
        secrets.add("the daemon's key");
        for (frame, shown) in [
            (json!({ "type": "authenticate", "apiKey": "x" }), json!({ "type": "authenticate", "apiKey": "***" })),
            (json!({ "message": "the daemon's key is bad" }), json!({ "message": "*** is bad" })),
            (json!({ "key": "tool-key-1234" }), json!({ "key": "***" })),
            (json!({ "output": "it is tool-key-1234." }), json!({ "output": "it is ***." })),
            (json!({ "repoUrl": "https://me:hunter2@h/a" }), json!({ "repoUrl": "https://***@h/a" })),
            (json!({ "repoUrl": "ssh://git@h/a" }), json!({ "repoUrl": "ssh://git@h/a" })),
            (
                json!({ "plan": "git clone http://t0ken@h/a b://c" }),
                json!({ "plan": "git clone http://***@h/a b://c" }),
            ),
            (json!({ "plan": "A_TOKEN='two words' A=b make" }), json!({ "plan": "A_TOKEN='***' A=b make" })),
            (json!({ "plan": "curl h?token=abc&b=c x=" }), json!({ "plan": "curl h?token=***&b=c x=" })),
            (json!({ "secret": { "a": ["x", 7, null] } }), json!({ "secret": { "a": ["***", "***", null] } })),
        ] {
            assert_eq!(masked(&frame.to_string(), &secrets), shown);
        }
        assert_eq!(masked("no JSON: the daemon's key", &secrets), json!("no JSON: ***"));
        // What masking would spoil is not shown at all.
        secrets.add("123456789");
        assert_eq!(masked(r#"{"n":123456789}"#, &secrets), json!("***"));
    }
}
