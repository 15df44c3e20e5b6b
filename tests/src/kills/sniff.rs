//! Looks at a daemon's side of a WebSocket as it goes by.

use serde_json::Value;

const KIND: &[u8] = b"taskComplete";

/// One connection, from its first byte on.
#[derive(Default)]
pub(super) struct Sniffer {
    bytes: Vec<u8>,
    /// The handshake is over.
    open: bool,
}

impl Sniffer {
    /// The ends of tasks that are told in these bytes: the task, and how it ended.
    pub(super) fn ends(&mut self, bytes: &[u8]) -> Vec<(String, String)> {
        self.bytes.extend_from_slice(bytes);
        let mut ends = Vec::new();
        if !self.open {
            let Some(at) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return ends };
            self.bytes.drain(..at + 4);
            self.open = true;
        }
        let mut at = 0;
        while let Some((payload, length)) = self.bytes.get(at..).and_then(frame) {
            ends.extend(end(&payload));
            at += length;
        }
        self.bytes.drain(..at);
        ends
    }
}

/// The end that a message tells of, as it is or in a numbered frame.
fn end(payload: &[u8]) -> Option<(String, String)> {
    // Lines of output are many, and cheap to tell from it.
    if !payload.windows(KIND.len()).any(|window| window == KIND) {
        return None;
    }
    let frame: Value = serde_json::from_slice(payload).ok()?;
    let message = frame.get("body").unwrap_or(&frame);
    if message.get("type")?.as_str()?.as_bytes() != KIND {
        return None;
    }
    let task = message.get("taskId")?.as_str()?.to_owned();
    Some((task, format!("success {}, error {}", message.get("success")?, message.get("error").unwrap_or(&Value::Null))))
}

/// The first frame's payload, and its length with its head.
fn frame(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (head, length) = match bytes.get(1)? & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let masked = bytes.get(1)? & 0x80 != 0;
    let begin = if masked { head + 4 } else { head };
    let end = begin + usize::try_from(length).ok()?;
    let mask = if masked { bytes.get(head..begin)? } else { &[0] };
    let payload = bytes.get(begin..end)?.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((payload, end))
}

#[cfg(test)]
mod tests {
    use super::Sniffer;

    /// A text frame as a client sends it.
    fn masked(text: &str) -> Vec<u8> {
        let mut frame = vec![0x81, 0xfe];
        frame.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn ends_are_heard_wherever_the_bytes_are_cut() {
        let filler = "x".repeat(200);
        let end = format!(r#"{{"type":"taskComplete","taskId":"t","success":false,"error":"why{filler}"}}"#);
        let numbered = format!(r#"{{"seq":1,"ack":0,"body":{end}}}"#);
        let output = format!(r#"{{"type":"taskOutput","taskId":"t","output":"taskComplete {filler}"}}"#);
        let mut bytes = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        [&end, &output, &numbered].iter().for_each(|text| bytes.extend(masked(text)));
        for step in [1, 7, 100, bytes.len()] {
            let mut sniffer = Sniffer::default();
            let ends: Vec<_> = bytes.chunks(step).flat_map(|chunk| sniffer.ends(chunk)).collect();
            assert_eq!(ends.len(), 2, "in steps of {step}");
            assert!(ends.iter().all(|(task, how)| task == "t" && how.starts_with("success false, error \"why")));
        }
    }
}
