//! Looks at a daemon's side of a connection as it goes by: a WebSocket, or requests of long-poll.

use serde_json::Value;

const KIND: &str = "taskComplete";

/// One connection, from its first byte on.
#[derive(Default)]
pub(super) struct Sniffer {
    bytes: Vec<u8>,
    /// The handshake of a WebSocket is over.
    open: bool,
}

impl Sniffer {
    /// The ends of tasks that are told in these bytes: the task, and how it ended.
    pub(super) fn ends(&mut self, bytes: &[u8]) -> Vec<(String, String)> {
        self.bytes.extend_from_slice(bytes);
        let (mut ends, mut at) = (Vec::new(), 0);
        while let Some((payload, length)) = self.next(at) {
            at += length;
            // Lines of output are many, and cheap to tell from it.
            if payload.windows(KIND.len()).any(|window| window == KIND.as_bytes()) {
                told(&serde_json::from_slice(&payload).unwrap_or_default(), &mut ends);
            }
        }
        self.bytes.drain(..at);
        ends
    }

    /// What comes next from there, and its length.
    fn next(&mut self, at: usize) -> Option<(Vec<u8>, usize)> {
        let bytes = self.bytes.get(at..)?;
        if self.open {
            return frame(bytes);
        }
        let (is_upgrade, payload, length) = request(bytes)?;
        self.open = is_upgrade;
        Some((payload, length))
    }
}

/// The ends that a message tells of: as it is, in a numbered frame, or in a list of such.
fn told(message: &Value, ends: &mut Vec<(String, String)>) {
    if let (Some(KIND), Some(task)) = (message["type"].as_str(), message["taskId"].as_str()) {
        ends.push((task.to_owned(), format!("success {}, error {}", message["success"], message["error"])));
    }
    let frames = message.get("frames").and_then(Value::as_array);
    for inner in message.get("body").into_iter().chain(frames.into_iter().flatten()) {
        told(inner, ends);
    }
}

/// The first request: whether it is the last before a WebSocket, its body, and its length with its head.
fn request(bytes: &[u8]) -> Option<(bool, Vec<u8>, usize)> {
    let begin = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..begin)?).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let end = begin + field("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    Some((field("upgrade") == Some("websocket"), bytes.get(begin..end)?.to_vec(), end))
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
        let mut socket = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
        [&end, &output, &numbered].iter().for_each(|text| socket.extend(masked(text)));
        let push = |frames: &str| {
            let body = format!(r#"{{"session":"s","frames":[{frames}]}}"#);
            format!("POST /push HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let polls = [push(&numbered), push(""), push(&format!("{numbered},{{\"ack\":1}}"))].concat().into_bytes();
        for bytes in [socket, polls] {
            for step in [1, 7, 100, bytes.len()] {
                let mut sniffer = Sniffer::default();
                let ends: Vec<_> = bytes.chunks(step).flat_map(|chunk| sniffer.ends(chunk)).collect();
                assert_eq!(ends.len(), 2, "in steps of {step}");
                assert!(ends.iter().all(|(task, how)| task == "t" && how.starts_with("success false, error \"why")));
            }
        }
    }
}
