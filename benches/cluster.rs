//! What the exporter takes on a cluster of many pods: `cargo bench --bench cluster`, or with other sizes
//! `cargo bench --bench cluster -- 10000 100000`.
//!
//! Two processes on loopback: a simulated API server with pods of about 12 KB (two containers, 40 environment
//! variables, managedFields), and the exporter as it ships. Prints the exporter's own peak memory and CPU time until its
//! first list is in, its CPU time an event while containers end, the time of whole scrapes meanwhile, and whether it counted
//! what was done. Reads /proc, so it needs Linux.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use exitcode_exporter::sim::{Cluster, ClusterSettings, Load, LoadSettings, Settings};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Container ends a second; each is three writes.
const RATE: f64 = 200.0;
/// How long containers end.
const CHURN: Duration = Duration::from_secs(15);
/// Clock ticks of /proc a second: fixed in the kernel's interface on Linux.
const TICKS: f64 = 100.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(pods) = arguments.iter().position(|a| a == "serve").and_then(|at| arguments.get(at + 1)) {
        return serve(pods.parse()?);
    }
    let sizes: Vec<u32> = match arguments.as_slice() {
        [] => vec![10_000, 100_000],
        sizes => sizes.iter().map(|size| size.parse()).collect::<std::result::Result<_, _>>()?,
    };
    for pods in sizes {
        measure(pods)?;
    }
    Ok(())
}

/// The API server's process: serves, lets containers end when told to by a line, then tells how many did.
#[tokio::main]
async fn serve(pods: u32) -> Result<()> {
    let api = Settings { history: 100_000, ..Settings::default() };
    let cluster = Cluster::new(ClusterSettings { api, ..ClusterSettings::default() });
    let settings = LoadSettings { pods, ..LoadSettings::default() };
    let mut load = Load::fill(cluster.server().store(), cluster.clock(), settings);
    let served = cluster.server().serve(tokio::net::TcpListener::bind("127.0.0.1:0").await?)?;
    println!("{}", served.url());
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    if told.await?? == 0 {
        return Ok(());
    }
    load.churn(RATE, CHURN).await;
    println!("{}", load.truth().lines().join("\u{1f}"));
    let until_closed = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    until_closed.await??;
    Ok(())
}

fn measure(pods: u32) -> Result<()> {
    let mut server = Server::start(pods)?;
    let exporter = Exporter::start(&server.url)?;
    let start = Instant::now();
    exporter.until_ready()?;
    let (synced, cpu) = (start.elapsed(), exporter.cpu()?);
    println!("{pods} pods");
    println!(
        "  first list: {:.1} s, {cpu:.2} s of own CPU, peak {} MB",
        synced.as_secs_f64(),
        exporter.peak()?
    );
    let before = exporter.pod_events()?;
    server.tell("go")?;
    let mut scrapes = Vec::new();
    let ends = Instant::now() + CHURN;
    while Instant::now() < ends {
        let start = Instant::now();
        exporter.get("/metrics")?;
        scrapes.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
    let truth = server.line()?;
    std::thread::sleep(Duration::from_secs(5)); // what waits for an event or an owner waits 2 s
    let events = exporter.pod_events()? - before;
    scrapes.sort();
    let text = exporter.get("/metrics")?;
    let scraping = exporter.scraping_cost()? * scrapes.len() as f64;
    let own = exporter.cpu()? - cpu - scraping;
    println!(
        "  {events} events: {:.0} us of own CPU each ({scraping:.2} s of scraping left out), peak {} MB",
        own * 1e6 / events as f64,
        exporter.peak()?
    );
    println!(
        "  {} series, scrape of {} KB while events come: median {:.1} ms, slowest {:.1} ms",
        text.lines().filter(|line| !line.starts_with('#')).count(),
        text.len() / 1024,
        scrapes[scrapes.len() / 2].as_secs_f64() * 1e3,
        scrapes[scrapes.len() - 1].as_secs_f64() * 1e3
    );
    let done: f64 = truth.split('\u{1f}').filter_map(count_of).sum();
    println!("  ended {done}, counted {}", sum(&text, "exitcode_container_terminations_total"));
    Ok(())
}

/// The count at the end of a line of the truth about terminations.
fn count_of(line: &str) -> Option<f64> {
    line.strip_prefix("termination ")?.rsplit(' ').next()?.parse().ok()
}

fn sum(text: &str, family: &str) -> f64 {
    let samples = text.lines().filter(|line| line.starts_with(family));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

struct Server {
    process: Child,
    said: BufReader<ChildStdout>,
    told: ChildStdin,
    url: String,
}

impl Server {
    fn start(pods: u32) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", &pods.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let told = process.stdin.take().ok_or("no standard input")?;
        let said = BufReader::new(process.stdout.take().ok_or("no standard output")?);
        let mut server = Self { process, said, told, url: String::new() };
        server.url = server.line()?;
        Ok(server)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn tell(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.told, "{word}")?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Exporter {
    process: Child,
    address: SocketAddr,
    kubeconfig: std::path::PathBuf,
}

impl Exporter {
    fn start(url: &str) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let kubeconfig = std::env::temp_dir().join(format!("exitcode-bench-{}", address.port()));
        let cluster = format!("{{name: c, cluster: {{server: \"{url}\"}}}}");
        std::fs::write(
            &kubeconfig,
            format!(
                "{{apiVersion: v1, kind: Config, clusters: [{cluster}], users: [{{name: u, user: {{}}}}], \
                 contexts: [{{name: c, context: {{cluster: c, user: u}}}}], current-context: c}}"
            ),
        )?;
        let process = Command::new(env!("CARGO_BIN_EXE_exitcode-exporter"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--listen-address", &address.to_string()])
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, address, kubeconfig })
    }

    fn until_ready(&self) -> Result<()> {
        for _ in 0..30_000 {
            if self.answer("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the exporter did not become ready".into())
    }

    fn answer(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn get(&self, path: &str) -> Result<String> {
        let answer = self.answer(path)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        Ok(body.to_owned())
    }

    fn pod_events(&self) -> Result<u64> {
        let text = self.get("/metrics")?;
        let events = text.lines().filter(|line| {
            line.starts_with("exitcode_exporter_watch_events_total{") && line.contains("\"pods\"")
        });
        Ok(events.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Seconds of CPU of one scrape, now that nothing else happens.
    fn scraping_cost(&self) -> Result<f64> {
        const SCRAPES: usize = 50;
        let before = self.cpu()?;
        for _ in 0..SCRAPES {
            self.get("/metrics")?;
        }
        Ok((self.cpu()? - before) / SCRAPES as f64)
    }

    /// Seconds of CPU so far.
    fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
        let ticks: f64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    }

    /// Peak resident memory in MB.
    fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse::<u64>()? / 1024)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}
