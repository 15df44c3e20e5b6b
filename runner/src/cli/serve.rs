//! `makima serve`: the control server by itself.

use console::style;

use super::args::ServeArgs;
use super::host::{bounds, running, start_server};
use super::print;
use super::signals::Signals;
use crate::config::{self, ConfigFile};
use crate::home::make_private;
use crate::report::Failure;
use crate::server_file::{self, Origin};

pub(super) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let bounds = bounds(ConfigFile::read(&home)?.orchestration);
    let data = args.data.unwrap_or_else(|| home.clone());
    for folder in [&home, &data] {
        make_private(folder).map_err(|error| {
            Failure::unusable(format!("{}: {error}", folder.display()))
                .hint("set MAKIMA_HOME to a folder that you can write to, and so --data if you use it")
        })?;
    }
    if let Some(there) = running(&data).await {
        return Err(Failure::unusable(format!(
            "a server runs on {} already: {} (process {})",
            data.display(),
            there.url,
            there.pid
        ))
        .hint("use that one, or give --data another folder"));
    }
    if args.listen.ip().is_unspecified() && args.hosts.is_empty() {
        return Err(Failure::unusable(format!("nobody elsewhere could use a server on {}", args.listen))
            .hint("say by which name it is reached: --host NAME, once for each; or listen on one address"));
    }
    let mut signals = Signals::new()?;
    let (token, origin) = server_file::token(&data)?;
    let (server, file) = start_server(&data, args.listen, args.hosts.clone(), bounds).await.inspect_err(|_| {
        if origin == Origin::New {
            // It was not shown, and is to be shown once.
            let _ = std::fs::remove_file(server_file::token_file(&data));
        }
    })?;
    if data != home {
        file.write(&home).map_err(|error| Failure::unusable(error.to_string()))?;
    }
    print::note(&format!("makima serves on {}", style(&file.url).bold().for_stderr()));
    let port = server.address().port();
    for host in &args.hosts {
        print::note(&format!("from elsewhere: http://{}:{port}", print::tame(host)));
    }
    let kept = server_file::token_file(&data);
    match origin {
        Origin::New => print::note(&format!("token (shown once, kept in {}): {token}", kept.display())),
        Origin::Kept => print::note(&format!("token: the one that is kept in {}", kept.display())),
        Origin::Environment => print::note("token: MAKIMA_API_KEY"),
    }
    print::note(&format!("connect a daemon:  MAKIMA_API_KEY=… makima daemon --server {} --agent shell", file.url));
    signals.next().await;
    print::note("ending");
    file.remove(&data);
    file.remove(&home);
    server.shutdown().await;
    Ok(())
}
