//! The command line: every option with its environment variable, checked at the edge.
//!
//! A wrong value is one line that names the option (or the variable), the value and what is allowed.

mod report;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use report::{By, Output, Report};
pub use values::{CopyLabel, InvalidValue, ListenAddress, ListenHost, Namespaces, RunbookUrl};

use crate::duration::PromDuration;
use crate::log::{LogFormat, LogLevel};
use crate::publish::PublishOptions;
use crate::runbook::Runbooks;
use crate::series::SeriesOptions;
use crate::server::{Access, AccessError};
use crate::text::clean;

/// Where the exporter listens if nothing else is said.
pub const DEFAULT_PORT: u16 = 10137;

/// Where a subcommand's help has the options of all commands.
const AFTER_OWN: usize = 500;
/// Options of all commands that concern a report.
const OF_REPORT: [&str; 8] = [
    "kubeconfig",
    "context",
    "namespaces",
    "exclude_namespaces",
    "events",
    "log_format",
    "log_level",
    "runbook_url",
];

/// Counts why the containers of a Kubernetes cluster ended, for Prometheus.
///
/// Without a subcommand it runs the exporter. In a cluster it uses its service account, elsewhere KUBECONFIG or
/// ~/.kube/config.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "exitcode-exporter", version, max_term_width = 100)]
pub struct Options {
    /// What to do instead of running the exporter.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Kubeconfig file to use instead of KUBECONFIG, ~/.kube/config or the service account.
    #[arg(long, global = true, value_name = "FILE", env = "EXITCODE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use instead of its current one.
    #[arg(long, global = true, value_name = "NAME", env = "EXITCODE_CONTEXT")]
    pub context: Option<String>,

    /// Namespaces to watch, separated by commas; all if not given.
    #[arg(long, global = true, value_name = "NAMES", env = "EXITCODE_NAMESPACES")]
    pub namespaces: Vec<Namespaces>,

    /// Namespaces not to count, separated by commas.
    #[arg(long, global = true, value_name = "NAMES", env = "EXITCODE_EXCLUDE_NAMESPACES")]
    pub exclude_namespaces: Vec<Namespaces>,

    /// Whether to watch events, which tell who killed a container.
    #[arg(
        long,
        global = true,
        value_name = "true|false",
        env = "EXITCODE_EVENTS",
        default_value = "true",
        action = ArgAction::Set
    )]
    pub events: bool,

    #[allow(rustdoc::broken_intra_doc_links)] // an address, no link
    /// Address to listen on, like :10137, 127.0.0.1:10137 or [::]:10137; may be repeated. [default: :10137]
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "EXITCODE_LISTEN_ADDRESS",
        value_delimiter = ','
    )]
    pub listen_address: Vec<ListenAddress>,

    /// File with TLS, users and headers, in the format of the Prometheus exporter-toolkit.
    #[arg(long = "web.config.file", global = true, value_name = "FILE", env = "EXITCODE_WEB_CONFIG_FILE")]
    pub web_config_file: Option<PathBuf>,

    /// Who may read: with kubernetes, those whose token the cluster knows and who may get the path.
    #[arg(long, global = true, value_name = "kubernetes", env = "EXITCODE_AUTH")]
    pub auth: Option<Auth>,

    /// Form of the log on standard error.
    #[arg(long, global = true, value_name = "FORMAT", env = "EXITCODE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// What to log: at debug, expected terminations too.
    #[arg(long, global = true, value_name = "LEVEL", env = "EXITCODE_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// Pod label to copy onto the counters, as KEY or KEY=NAME; may be repeated.
    #[arg(
        long,
        global = true,
        value_name = "KEY[=NAME]",
        env = "EXITCODE_COPY_LABEL",
        value_delimiter = ','
    )]
    pub copy_label: Vec<CopyLabel>,

    /// Put the pod's name on the counters: series grow with every rollout.
    #[arg(long, global = true, env = "EXITCODE_POD_LABEL", value_parser = values::flag)]
    pub pod_label: bool,

    /// How long the series of a workload stay after its last pod and its last count.
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "EXITCODE_SERIES_TTL",
        default_value = "2h",
        value_parser = values::series_ttl
    )]
    pub series_ttl: PromDuration,

    /// How long a new series reads 0 for Prometheus: twice the scrape interval and 5 s.
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "EXITCODE_NEW_SERIES_ZERO_FOR",
        default_value = "65s",
        value_parser = values::zero_for
    )]
    pub new_series_zero_for: PromDuration,

    /// Write _created lines in OpenMetrics.
    #[arg(long, global = true, env = "EXITCODE_OPENMETRICS_CREATED", value_parser = values::flag)]
    pub openmetrics_created: bool,

    /// How many series there may be.
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "EXITCODE_MAX_SERIES",
        default_value = "100000",
        value_parser = values::max_series
    )]
    pub max_series: u32,

    /// Show termination messages, which may hold log lines, in the API.
    #[arg(long, global = true, env = "EXITCODE_SHOW_MESSAGES", value_parser = values::flag)]
    pub show_messages: bool,

    /// Directory to save the state in, so that counts go on after a restart; kept in memory only if not given.
    #[arg(long, global = true, value_name = "DIR", env = "EXITCODE_STATE_DIR", value_parser = values::directory)]
    pub state_dir: Option<PathBuf>,

    /// Base of all links to runbooks; the exporter's own pages if not given.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "EXITCODE_RUNBOOK_URL",
        default_value = "/runbooks/"
    )]
    pub runbook_url: RunbookUrl,
}

/// How those prove who they are who want to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    /// By a bearer token, which the API server is asked about.
    Kubernetes,
}

/// What to do instead of running the exporter.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run on a simulated cluster inside this process: no Kubernetes needed.
    Demo,
    /// Ask a cluster once, and print what has terminated and why.
    ///
    /// Lists the pods once (and the events, which tell who killed a container), and keeps nothing. What it shows is what
    /// the API still shows: at most two records of each container, the two newest, of pods that are still there. Counts
    /// over time need the exporter; the column RESTARTS tells how often the containers of a row were restarted in all.
    ///
    /// Unexpected ends come first, the newest of them on top. As `kubectl-exitcode` in the PATH it is a plugin, `kubectl
    /// exitcode`, and then the namespace of the context is the default.
    Report(Report),
}

/// Why there are no options: what to print, and how to exit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOptions {
    /// Help or version was asked for: text for standard output, exit status 0.
    #[error("{0}")]
    Asked(String),
    /// One line for standard error, exit status 2.
    #[error("{0}")]
    Wrong(String),
}

impl Options {
    /// Reads arguments, the program's name first, and the environment. By the name of a kubectl plugin it is `report`.
    ///
    /// # Errors
    /// If help was asked for, or something is wrong.
    pub fn read<I>(arguments: I) -> Result<Self, NoOptions>
    where
        I: IntoIterator<Item = std::ffi::OsString>,
    {
        let mut arguments: Vec<_> = arguments.into_iter().collect();
        let plugin = arguments.first().is_some_and(|name| is_plugin(name));
        if plugin {
            arguments.insert(1, "report".into());
        }
        let explain = |error: clap::Error| explain(&error, &arguments);
        let matches = complete(plugin).try_get_matches_from(&arguments).map_err(explain)?;
        let mut options = Self::from_arg_matches(&matches).map_err(explain)?;
        if options.command == Some(Command::Demo) && options.auth.is_some() {
            return Err(NoOptions::Wrong(
                "--auth kubernetes needs a cluster: the demo's knows no tokens".to_owned(),
            ));
        }
        if let Some(Command::Report(report)) = &mut options.command {
            report.plugin = plugin;
        }
        values::check_distinct(&options.copy_label).map_err(|error| NoOptions::Wrong(error.to_string()))?;
        Ok(options)
    }

    /// What to log. A report logs only what does not work, or more if told to.
    #[must_use]
    pub fn logged(&self) -> LogLevel {
        match (&self.command, self.log_level) {
            (Some(Command::Report(_)), LogLevel::Info) => LogLevel::Warn,
            (_, level) => level,
        }
    }

    /// The namespaces to watch; none means all.
    #[must_use]
    pub fn watched_namespaces(&self) -> Vec<String> {
        Namespaces::distinct(&self.namespaces)
    }

    /// The namespaces not to count.
    #[must_use]
    pub fn excluded_namespaces(&self) -> Vec<String> {
        Namespaces::distinct(&self.exclude_namespaces)
    }

    /// The addresses to listen on.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<ListenAddress> {
        match self.listen_address.as_slice() {
            [] => vec![ListenAddress { host: ListenHost::Any, port: DEFAULT_PORT }],
            addresses => addresses.to_vec(),
        }
    }

    /// Keys of the pod labels to copy, in the order of [`crate::termination::Subject::extra`].
    #[must_use]
    pub fn copied_keys(&self) -> Vec<String> {
        self.copy_label.iter().map(|label| label.key.clone()).collect()
    }

    /// Who may read. It reads files.
    ///
    /// # Errors
    /// If the web configuration can't be used.
    pub fn access(&self) -> Result<Access, AccessError> {
        let serves = !matches!(self.command, Some(Command::Report(_)));
        let config = self.web_config_file.as_deref().filter(|_| serves);
        Access::new(config, serves && self.auth == Some(Auth::Kubernetes))
    }

    /// What concerns publishing. Messages, which may hold log lines, are shown where all readers are `authenticated`.
    #[must_use]
    pub fn publish(&self, authenticated: bool) -> PublishOptions {
        PublishOptions {
            series: SeriesOptions {
                copy_labels: self.copy_label.iter().map(|label| label.name.clone()).collect(),
                pod_label: self.pod_label,
                max_series: usize::try_from(self.max_series).unwrap_or(usize::MAX),
                series_ttl: self.series_ttl.0,
            },
            zero_for: self.zero_for(),
            openmetrics_created: self.openmetrics_created,
            show_messages: self.show_messages || authenticated,
            runbooks: Runbooks::new(&self.runbook_url.0),
        }
    }

    fn zero_for(&self) -> Duration {
        self.new_series_zero_for.0
    }
}

/// Whether the program is called by the name under which kubectl finds `kubectl exitcode`.
fn is_plugin(name: &std::ffi::OsStr) -> bool {
    std::path::Path::new(name).file_stem().is_some_and(|stem| stem == "kubectl-exitcode")
}

/// The command with what derives can't say.
fn complete(plugin: bool) -> clap::Command {
    // An empty variable is how a template leaves an option out.
    let arg = |arg: clap::Arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(None) } else { arg }.hide_env_values(true)
    };
    let mut command = Options::command().mut_args(arg).mut_subcommands(|command| command.mut_args(arg));
    // Built, the subcommands have the options of all: a report's help leaves out what only a server needs.
    command.build();
    command.mut_subcommand("report", |report| {
        let report = report.mut_args(|arg| {
            let of_all = Options::command().get_arguments().any(|global| global.get_id() == arg.get_id());
            let concerns = OF_REPORT.iter().any(|id| arg.get_id() == *id);
            if of_all { arg.display_order(AFTER_OWN).hide(!concerns) } else { arg }
        });
        if plugin { report.override_usage("kubectl exitcode [OPTIONS]") } else { report }
    })
}

/// One line of clap's several, naming the variable where the value came from the environment.
fn explain(error: &clap::Error, arguments: &[std::ffi::OsString]) -> NoOptions {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return NoOptions::Asked(error.to_string());
    }
    let text = error.to_string();
    let parts = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = parts.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
    let line = clean(line.strip_prefix("error: ").unwrap_or(&line)).into_owned();
    let line = match variable(error, arguments) {
        Some((argument, variable)) => line.replacen(&format!("'{argument}'"), &variable, 1),
        None => line,
    };
    NoOptions::Wrong(shorten(&line))
}

/// The option that an error is about and its variable, if no argument named the option.
fn variable(error: &clap::Error, arguments: &[std::ffi::OsString]) -> Option<(String, String)> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = argument.split_whitespace().next()?;
    let command = Options::command();
    let option = std::iter::once(&command)
        .chain(command.get_subcommands())
        .flat_map(clap::Command::get_arguments)
        .find(|arg| arg.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long)))?;
    let short = option.get_short().map(|short| format!("-{short}"));
    let names_it = |given: &str| {
        given.split('=').next() == Some(name) || short.as_ref().is_some_and(|short| given.starts_with(short))
    };
    if arguments.iter().filter_map(|argument| argument.to_str()).any(names_it) {
        return None;
    }
    Some((argument.clone(), format!("{} ({name})", option.get_env()?.to_str()?)))
}

fn shorten(line: &str) -> String {
    const MOST: usize = 500;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests;
