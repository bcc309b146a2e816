//! `fieldpost run`: the gateway itself, until it is told to stop.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::exit;
use crate::admin::BindError;
use crate::broker::access::UsersError;
use crate::broker::listener::door::DoorError;
use crate::config::Config;
use crate::gateway::reload::Reload;
use crate::gateway::{Gateway, StartError};
use crate::store::OpenError;

/// Threads for the wires, the uplinks and the page, beside that of the broker: more would sit idle on a Pi, and each costs
/// memory.
const THREADS: usize = 2;

/// A second signal sooner than this is the first one once more: whoever stops a process group, and the process as
/// well, sends it twice.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// How long the end of the process waits for threads that block.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Runs the gateway until SIGTERM or SIGINT. SIGHUP reads the config at `path` anew.
pub(super) fn run(path: PathBuf, config: Config) -> ExitCode {
    log(&config.gateway.log);
    on_runtime(async {
        warn_of_few_files(&config.broker);
        let stop = stop_signal(false);
        // Before anything else takes time: unheard, it would end the process.
        let hangup = signal(SignalKind::hangup());
        let gateway = match Gateway::start(config).await {
            Ok(gateway) => gateway,
            Err(error) => return refuse(&error),
        };
        let brokers: Vec<_> = gateway.broker_addresses().iter().map(ToString::to_string).collect();
        tracing::info!("clients at {}; page at http://{}/", brokers.join(", "), gateway.page_address());
        match hangup {
            Ok(hangup) => drop(tokio::spawn(reload(path, gateway.reload(), hangup))),
            Err(e) => tracing::error!("SIGHUP cannot be caught, and reloads nothing: {e}"),
        }
        // Outside systemd nobody listens, and that is fine.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        match gateway.run(stop).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                tracing::error!("{why}; the gateway ends, to be started anew");
                ExitCode::FAILURE
            }
        }
    })
}

/// Reads the config anew at each SIGHUP and puts in force what can be while the gateway runs. A config that is not right
/// changes nothing.
async fn reload(path: PathBuf, gateway: Arc<Reload>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let path = path.clone();
        let read = tokio::task::spawn_blocking(move || super::load(&path)).await;
        let Ok(Ok(config)) = read else {
            tracing::error!("nothing is reloaded: the config is not right");
            continue;
        };
        if let Err(why) = gateway.apply(config).await {
            tracing::error!("nothing is reloaded: {why}");
        }
    }
}

/// Raises the bound on open files, each connection being one, as far as this user may: shells and systemd begin with 1024.
fn allow_many_connections() {
    let bound = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: bound.maximum, ..bound };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("no more than {:?} files and connections can be open: {e}", bound.current);
    }
}

/// What is open beside the connections of clients: the store, ports, uplinks, the page.
const OTHER_FILES: u64 = 100;

/// Warns when not all clients that the config allows can be connected at the same time.
fn warn_of_few_files(config: &crate::broker::Config) {
    let wanted = u64::from(config.max_clients) + u64::from(config.max_waiting) + OTHER_FILES;
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < wanted) {
        tracing::warn!(
            "`max-clients` and `max-waiting` need {wanted} open files, and this user may have {most}: raise LimitNOFILE \
             of the unit (or `ulimit -Hn`), or lower them"
        );
    }
}

/// Says why the gateway does not start, with the exit code that tells systemd whether another try makes sense.
pub(super) fn refuse(error: &StartError) -> ExitCode {
    tracing::error!("{error}");
    code(error).into()
}

fn code(error: &StartError) -> u8 {
    let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
    match error {
        StartError::Doors(error) => door_code(error),
        StartError::Store(OpenError::Newer { .. } | OpenError::Foreign { .. }) => exit::CONFIG,
        StartError::Store(OpenError::Denied { .. }) => exit::PERMISSION,
        StartError::Broker(e) if denied(e) => exit::PERMISSION,
        StartError::Page(BindError::Permission(_)) => exit::PERMISSION,
        StartError::Page(
            BindError::NotAnAddress(_)
            | BindError::NeedsPassword(_)
            | BindError::EmptyPassword
            | BindError::Password(_),
        ) => exit::CONFIG,
        _ => exit::UNAVAILABLE,
    }
}

/// The exit code when the files behind the broker's doors are not as they have to be.
pub(super) fn door_code(error: &DoorError) -> u8 {
    match error {
        DoorError::Users(UsersError::Read(_, e)) if e.kind() == io::ErrorKind::PermissionDenied => exit::PERMISSION,
        DoorError::Users(_) => exit::CONFIG,
        DoorError::Tls(_, error) if error.is_denied => exit::PERMISSION,
        // Whoever renews certificates writes one file after the other: it may be right the next time.
        DoorError::Tls(..) => exit::UNAVAILABLE,
    }
}

/// Carries out `work` on the gateway's runtime. What still blocks a thread when it is done, such as the look-up of a name
/// that no server answers, is left behind after [`LEFT_BEHIND`].
pub(super) fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    allow_many_connections();
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("fieldpost")
        .enable_all()
        .build()
        .expect("the system gives threads and timers to a process that has just begun");
    let code = runtime.block_on(work);
    runtime.shutdown_timeout(LEFT_BEHIND);
    code
}

/// Cancelled by SIGTERM and SIGINT, and by SIGHUP when `hangup_stops`, of which systemd is told; a second one, at least
/// [`IMPATIENCE`] later, ends the process at once.
pub(super) fn stop_signal(hangup_stops: bool) -> CancellationToken {
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
            return tracing::error!("signals cannot be caught: stopping will not be orderly");
        };
        let mut first = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv(), if hangup_stops => {}
            }
            let first = *first.get_or_insert_with(Instant::now);
            if first.elapsed() >= IMPATIENCE {
                tracing::warn!("told to stop again: not waiting any more");
                std::process::exit(1);
            }
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            told.cancel();
        }
    });
    stop
}

/// Logs to stderr what `filter` lets through; checked with the config.
pub(super) fn log(filter: &str) {
    let targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would complain on stderr that stderr takes nothing (closed, or a file on a full disk), and panic.
        .log_internal_errors(false);
    // The journal has its own time.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let registry = tracing_subscriber::registry().with(targets);
    // A second call, in a process that logs already, changes nothing.
    let _ = if journal { registry.with(layer.without_time()).try_init() } else { registry.with(layer).try_init() };
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_only_a_person_can_mend_is_not_tried_again() {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        for (error, wanted) in [
            (BindError::NotAnAddress("8080".into()), exit::CONFIG),
            (BindError::NeedsPassword(address), exit::CONFIG),
            (BindError::EmptyPassword, exit::CONFIG),
            (BindError::Password(not_found()), exit::CONFIG),
            (BindError::Permission(address), exit::PERMISSION),
            (BindError::InUse(address), exit::UNAVAILABLE),
            (BindError::Unknown("plant:80".into(), not_found()), exit::UNAVAILABLE),
        ] {
            let text = error.to_string();
            assert_eq!(code(&StartError::Page(error)), wanted, "{text}");
        }
    }

    #[test]
    fn the_end_does_not_wait_for_a_thread_that_blocks() {
        let (free, blocked) = mpsc::channel::<()>();
        let (done, is_done) = mpsc::channel();
        on_runtime(async {
            tokio::task::spawn_blocking(move || {
                let _ = blocked.recv_timeout(Duration::from_secs(20));
                let _ = done.send(());
            });
            ExitCode::SUCCESS
        });
        assert_eq!(is_done.try_recv(), Err(mpsc::TryRecvError::Empty), "it waited");
        drop(free);
    }
}
