//! The exporter's command: reads the options, connects, and runs until it is told to stop.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use exitcode_exporter::options::{Command, NoOptions, Options};
use exitcode_exporter::server::Access;
use exitcode_exporter::{demo, exporter, log, report, server, watch};
use tokio::signal::unix::{SignalKind, signal};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args_os()) {
        Ok(options) => options,
        Err(NoOptions::Asked(text)) => {
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(NoOptions::Wrong(line)) => {
            let _ = writeln!(std::io::stderr(), "{line}");
            return ExitCode::from(2);
        }
    };
    let access = match options.access() {
        Ok(access) => access,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::from(2);
        }
    };
    let log = log::init(options.log_format, options.logged());
    let result = start(&options, access);
    // What was logged stands before the last word.
    drop(log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "exitcode-exporter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options, access: Access) -> anyhow::Result<()> {
    // One thread: each event is a few microseconds of work, and handing it to another thread costs more than
    // that. Scrapes are encoded on threads of their own.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("cannot start the runtime")?;
    let result = runtime.block_on(run(options, access));
    // What still blocks (a name look-up) must not keep the process.
    runtime.shutdown_background();
    result
}

async fn run(options: &Options, access: Access) -> anyhow::Result<()> {
    let simulated = match &options.command {
        Some(Command::Report(what)) => return Ok(report::print(options, what).await?),
        Some(Command::Demo) => true,
        None => false,
    };
    let listeners = server::bind(&options.listen_addresses())?;
    let stop = told_to_stop()?;
    if simulated {
        demo::run(options, access, listeners, stop).await?;
    } else {
        let client = watch::connect(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
        let access = access.asking(&client)?;
        exporter::run(client, options, access, listeners, stop).await?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// SIGTERM or SIGINT. Bound at once, so that none is lost while starting.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
