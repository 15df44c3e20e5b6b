//! Agents at the door of a supervisor: of another task's, and of their own.

use std::fs;

use serde_json::json;

use crate::support::{Fleet, Place};

/// Goes to every supervisor's door and says what a daemon would say, with every name of a start that it can get hold of:
/// from whoever opens, from the environment of processes, from the records. Says at last what came on its own input.
const ATTEMPT: &str = r#"
use Socket;
my ($home) = @ARGV;
sub knock { socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, pack_sockaddr_un($_[0])) ? $s : undef }
sub hear {
    my ($from, $bits, $said) = ($_[0], '', '');
    vec($bits, fileno($from), 1) = 1;
    sysread($from, $said, 65536) if select($bits, undef, undef, 1);
    return $said;
}
sub text { open(my $file, '<', $_[0]) or return ''; local $/; my $text = <$file>; return $text }
my @doors = glob("$home/tasks/*/socket");
my %names = ($ENV{MAKIMA_TREE} => 1);
for (map { text($_) } glob("/proc/[0-9]*/environ")) { $names{$1} = 1 while /MAKIMA_TREE=(\w+)/g }
for (map { text($_) } glob("$home/tasks/*/*")) { $names{$1} = 1 while /"nonce": ?"(\w+)"/g }
for my $door (@doors) {
    my $s = knock($door) or next;
    $names{$1} = 1 if hear($s) =~ /"nonce":"(\w+)"/;
}
for my $door (@doors) {
    for my $name (keys %names) {
        my $s = knock($door) or next;
        syswrite $s, qq({"hello":{"version":4,"nonce":"$name"}}\n{"stdin":{"n":1,"text":"a stranger\\n"}}\n);
        hear($s);
    }
}
print scalar(@doors), " doors\n";
print "heard ", hear(STDIN) || "nobody\n";
"#;

/// Protects an agent from another that sits in a sandbox and can reach its supervisor's socket: it would answer in a person's
/// place. Nor does an agent speak to its own. Without a sandbox both can be done, which shows that the attempt is one.
#[test]
fn in_a_sandbox_no_agent_has_a_say_at_a_supervisors_door() {
    for (mode, who) in [("required", "nobody"), ("off", "a stranger")] {
        let place = Place::new();
        let repo = place.repo();
        let attempt = place.path("attempt");
        fs::write(&attempt, ATTEMPT).expect("a script");
        let daemon = place.makima(["daemon", "--agent", "shell"]).env("MAKIMA_SANDBOX", mode);
        let fleet = Fleet::with(&place, daemon);
        let other = fleet.plan(&repo, "echo waits; read line; echo \"heard $line\"");
        fleet.writes(&other, "waits\n");
        let stranger = fleet.plan(&repo, &format!("perl {} {}", attempt.display(), place.home().display()));
        assert_eq!(fleet.ended(&stranger)["success"], json!(true));
        assert_eq!(fleet.output(&stranger), format!("2 doors\nheard {who}\n"), "{mode}: its own");
        if mode == "required" {
            let (status, body) =
                fleet.post(&format!("/api/v1/tasks/{other}/messages"), &json!({ "message": "a friend" }));
            assert!(status < 300, "{status}: {body}");
        }
        assert_eq!(fleet.ended(&other)["success"], json!(true));
        let heard = if mode == "required" { "a friend" } else { "a stranger" };
        assert_eq!(fleet.output(&other), format!("waits\nheard {heard}\n"), "{mode}: another's");
        fleet.end();
    }
}
