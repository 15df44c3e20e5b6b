//! A program that says what Claude Code says, as far as a script of the test's has it say that.

use std::fs;

use super::place::Place;

/// What it does by itself: it answers requests, and hands each message that it is told to `turn`, which the script has.
/// `say` says a text, `ask` asks for a tool and gives the line of the answer, `cost` says what all of it has cost so far; `begins`
/// and `ends` are another turn.
const PROGRAM: &str = r#"
$| = 1;
my ($asked, $cost) = (0, 0);
sub line { print "$_[0]\n" }
sub hear {
    while (defined(my $line = <STDIN>)) {
        return $line if $line =~ /"type":"(user|control_response)"/;
        my ($request) = $line =~ /"request_id":"([^"]*)"/;
        line(qq({"type":"control_response","response":{"subtype":"success","request_id":"$request"}}));
        exit 0 if $line =~ /"end_session"/;
    }
    exit 0;
}
sub say { line(qq({"type":"assistant","message":{"content":[{"type":"text","text":"$_[0]"}]}})) }
sub cost { $cost = $_[0] }
sub ask {
    my ($tool, $input) = @_;
    $asked++;
    line(qq({"type":"control_request","request_id":"q$asked","request":{"subtype":"can_use_tool","tool_name":"$tool","tool_use_id":"u$asked","input":$input}}));
    return hear();
}
sub await { until (-e $_[0]) { select(undef, undef, undef, 0.02) } }
sub begins { line(q({"type":"system","subtype":"init","session_id":"s","model":"m","permissionMode":"default"})) }
sub ends { line(qq({"type":"result","subtype":"success","is_error":false,"result":"done","total_cost_usd":$cost})) }
while (1) {
    my ($message) = hear() =~ /"uuid":"([^"]*)"/ or next;
    line(qq({"type":"command_lifecycle","command_uuid":"$message","state":"started"}));
    begins();
    turn();
    ends();
    line(qq({"type":"command_lifecycle","command_uuid":"$message","state":"completed"}));
}
"#;

impl Place {
    /// Such an agent, which takes its turns by this script. Gives what stands in the configuration under `[agent]`.
    pub(crate) fn claude(&self, turn: &str) -> String {
        let program = self.path("claude.pl");
        fs::write(&program, format!("sub turn {{\n{turn}\n}}\n{PROGRAM}")).expect("a script");
        format!("[agent]\nname = 'claude'\ncommand = ['perl', '{}']\n", program.display())
    }
}
