//! `makima status` and `makima version`.

use serde::Serialize;

use super::args::{StatusArgs, VersionArgs};
use super::host::running;
use super::print;
use crate::config;
use crate::home::is_held;
use crate::report::Failure;
use crate::rest::{Rest, Task};
use crate::service::{self, DaemonFile, VERSION};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    home: String,
    daemon: Option<DaemonFile>,
    server: Option<String>,
    tasks: Vec<Task>,
}

pub(super) async fn status(args: &StatusArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let daemon = service::read_daemon_file(&home).filter(|_| is_held(&home));
    let server = running(&home).await;
    let tasks = match &server {
        Some(file) => Rest::new(&service::server_endpoint(&file.url, false)?, &file.token)?.list("/tasks").await?,
        None => Vec::new(),
    };
    let unfinished: Vec<Task> = tasks.into_iter().filter(|task: &Task| task.success.is_none()).collect();
    let status =
        Status { home: home.display().to_string(), daemon, server: server.map(|file| file.url), tasks: unfinished };
    if args.json {
        print::json(&status);
    } else {
        tell(&status);
    }
    Ok(())
}

fn tell(status: &Status) {
    print::line(&format!("home     {}", status.home));
    match &status.daemon {
        Some(daemon) => {
            print::line(&format!("daemon   process {}, version {}", daemon.pid, daemon.version));
            print::line(&format!("link     {} to {}", daemon.link, daemon.server));
            if let Some(trouble) = &daemon.trouble {
                print::line(&format!("trouble  {}", print::tame(trouble)));
            }
        }
        None => print::line("daemon   does not run"),
    }
    if let Some(server) = &status.server {
        print::line(&format!("server   {server}"));
    }
    if !status.tasks.is_empty() {
        print::line("");
        super::show::table(&status.tasks);
    }
}

pub(super) fn version(args: &VersionArgs) -> Result<(), Failure> {
    if args.json {
        print::json(&serde_json::json!({ "version": VERSION }));
    } else {
        print::line(&format!("makima {VERSION}"));
    }
    Ok(())
}
