//! What a service manager is given: a unit of systemd's, or a property list of launchd's. No key stands in either.

use std::path::{Path, PathBuf};

use crate::executor::OF_THE_DAEMON;

/// What the service is to be.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// This program.
    pub(super) program: PathBuf,
    /// Its arguments, in order.
    pub(super) arguments: Vec<String>,
    /// Variables of its environment, in order.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// Stands before the checksum by which a file is known that a person has changed.
const SEAL: &str = "made by `makima service install`; as made: ";

/// A unit of systemd's for a user's own manager.
pub(super) fn unit(plan: &Plan) -> String {
    let quoted = |text: &str| quote(text, true);
    let command: Vec<String> = std::iter::once(&*plan.program.to_string_lossy())
        .chain(plan.arguments.iter().map(String::as_str))
        .map(quoted)
        .collect();
    let variables = plan.environment.iter().map(|(name, value)| {
        // Not a command: a dollar is a dollar there.
        format!("Environment={}\n", quote(&format!("{name}={value}"), false))
    });
    let variables: String = variables.collect();
    let text = format!(
        "\
[Unit]
Description=makima, which runs coding agents each in its own git worktree
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=notify
ExecStart={}
{variables}Restart=always
RestartSec=2
# What cannot be used as given will not get better by itself.
RestartPreventExitStatus=2
TimeoutStartSec=300
TimeoutStopSec=30
WatchdogSec=60
# Agents outlive the daemon: the next one finds them.
KillMode=process
# Each task has a control group below the service's own, beside the daemon's.
Delegate=yes
DelegateSubgroup={OF_THE_DAEMON}
# One agent that takes too much memory is not the end of all.
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy=default.target
",
        command.join(" ")
    );
    format!("# {SEAL}{:08x}\n{text}", crc32fast::hash(text.as_bytes()))
}

/// A word as systemd reads it. In a command a dollar begins a variable; a percent sign always begins a specifier.
fn quote(text: &str, is_command: bool) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            '$' if is_command => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A property list of launchd's for a user's own session.
pub(super) fn property_list(plan: &Plan, label: &str, log: &Path) -> String {
    let string = |text: &str| format!("<string>{}</string>", escape(text));
    let program = plan.program.to_string_lossy();
    let words = std::iter::once(&*program).chain(plan.arguments.iter().map(String::as_str));
    let words: String = words.map(|word| format!("    {}\n", string(word))).collect();
    let variables = plan.environment.iter();
    let variables: String =
        variables.map(|(name, value)| format!("    <key>{name}</key>{}\n", string(value))).collect();
    let (label, log) = (string(label), string(&log.to_string_lossy()));
    let text = format!(
        "\
<plist version=\"1.0\">
<dict>
  <key>Label</key>{label}
  <key>ProgramArguments</key>
  <array>
{words}  </array>
  <key>EnvironmentVariables</key>
  <dict>
{variables}  </dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>ThrottleInterval</key><integer>10</integer>
  <!-- Agents outlive the daemon: the next one finds them. -->
  <key>AbandonProcessGroup</key><true/>
  <key>ProcessType</key><string>Interactive</string>
  <key>StandardErrorPath</key>{log}
</dict>
</plist>
"
    );
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
                \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n";
    format!("{head}<!-- {SEAL}{:08x} -->\n{text}", crc32fast::hash(text.as_bytes()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether a file is as some makima made it, and nobody has changed it since.
pub(super) fn is_as_made(text: &str) -> bool {
    let Some((_, rest)) = text.split_once(SEAL) else { return false };
    let Some((line, body)) = rest.split_once('\n') else { return false };
    let seal = line.trim_end_matches("-->").trim_end();
    u32::from_str_radix(seal, 16).is_ok_and(|seal| seal == crc32fast::hash(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            program: "/opt/my tools/makima".into(),
            arguments: ["daemon", "--server", "wss://a.example/x?a=%20&b=\"$HOME\""].map(str::to_owned).to_vec(),
            environment: vec![("MAKIMA_HOME", "/srv/100% \\mine".to_owned()), ("PATH", "/bin:$x".to_owned())],
        }
    }

    #[test]
    fn what_means_something_to_systemd_is_quoted() {
        let unit = unit(&plan());
        let command = r#"ExecStart="/opt/my tools/makima" "daemon" "--server" "wss://a.example/x?a=%%20&b=\"$$HOME\"""#;
        for line in [command, r#"Environment="MAKIMA_HOME=/srv/100%% \\mine""#, r#"Environment="PATH=/bin:$x""#] {
            assert!(unit.lines().any(|found| found == line), "{line}\nis to stand in\n{unit}");
        }
        for line in [
            "Type=notify",
            "KillMode=process",
            "Delegate=yes",
            "DelegateSubgroup=makima-daemon",
            "Restart=always",
            "WatchdogSec=60",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn what_means_something_to_launchd_is_escaped() {
        let list = property_list(&plan(), "dev.makima.daemon", Path::new("/a & b/daemon.log"));
        for part in [
            "<string>/opt/my tools/makima</string>",
            "<string>wss://a.example/x?a=%20&amp;b=&quot;$HOME&quot;</string>",
            "<key>MAKIMA_HOME</key><string>/srv/100% \\mine</string>",
            "<key>StandardErrorPath</key><string>/a &amp; b/daemon.log</string>",
            "<key>AbandonProcessGroup</key><true/>",
        ] {
            assert!(list.contains(part), "{part}\nis to stand in\n{list}");
        }
        assert!(list.starts_with("<?xml "));
        let opened = |what: &str| list.matches(what).count();
        assert_eq!((opened("<dict>"), opened("<array>")), (opened("</dict>"), opened("</array>")));
    }

    #[test]
    fn a_change_by_hand_is_seen() {
        for text in [unit(&plan()), property_list(&plan(), "x", Path::new("/log"))] {
            assert!(is_as_made(&text));
            assert!(!is_as_made(&text.replace("makima", "Makima")));
            assert!(!is_as_made(&format!("{text}\n")));
        }
        assert!(!is_as_made(""));
    }
}
