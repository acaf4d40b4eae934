//! How long a scrape takes and what the series cost: `cargo bench --bench exposition`.
//!
//! Realistic names: 20 namespaces, workloads of one or two containers. Prints the best and the median of many
//! renderings in both formats, and of gzip at the level that the server uses, and the resident memory a series.

#![allow(clippy::print_stdout)]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exitcode_exporter::core::Effect;
use exitcode_exporter::exposition::{Format, OwnMetrics, Sources};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::series::SeriesOptions;
use exitcode_exporter::termination::{
    Cause, ContainerType, Evidence, ExitCode, Outcome, Reason, Subject, Termination, Workload,
};
use exitcode_exporter::time::Clock;

fn main() {
    for series in [10_000, 100_000] {
        let before = resident();
        let (published, applied) = published(series);
        let held = resident().saturating_sub(before);
        println!(
            "{series} series: {} MB resident, {} ns a count",
            held >> 20,
            applied.as_nanos() / series as u128
        );
        for format in [Format::Text, Format::OpenMetrics] {
            let size = published.render(format, None).len();
            let times = measure(|| published.render(format, Some(Duration::from_secs(65))).len());
            println!("  {format:?}: {:.1} MB, {times}", size as f64 / 1e6);
        }
        let text = published.render(Format::Text, None);
        let times = measure(|| gzip(&text));
        println!("  gzip of it: {:.1} MB, {times}", gzip(&text) as f64 / 1e6);
    }
}

/// So many series: terminations, restarts, last terminations and pods of their workloads, some nodes.
fn published(series: usize) -> (Published, Duration) {
    let options = PublishOptions {
        series: SeriesOptions { max_series: series, ..SeriesOptions::default() },
        ..PublishOptions::default()
    };
    let ready = Arc::new(|| Ok(()));
    let published = Published::new(options, OwnMetrics::new(Sources::default()), Clock::start(), ready);
    let start = Instant::now();
    let mut i = 0;
    // Four counts a container in two outcomes, and a gauge: about six series.
    while published.series_len() < series {
        for effect in effects(i) {
            published.apply(&effect, published.clock.now());
        }
        i += 1;
    }
    (published, start.elapsed())
}

fn effects(i: usize) -> Vec<Effect> {
    let workload = Workload {
        namespace: format!("team-{:02}-production", i % 20).into(),
        workload_type: "deployment".into(),
        name: format!("checkout-service-{i:05}").into(),
    };
    let subject = Subject {
        workload: workload.clone(),
        container: "application".into(),
        container_type: ContainerType::App,
        extra: Arc::new([]),
    };
    let mut effects = vec![Effect::WorkloadPods { workload, pods: 3 }];
    for (code, reason, cause) in
        [(137, Reason::OomKilled, Cause::OomLimit), (143, Reason::Error, Cause::LivenessProbe)]
    {
        let outcome = Outcome { exit_code: ExitCode(Some(code)), reason, cause };
        effects.push(Effect::Terminated(Box::new(Termination {
            subject: subject.clone(),
            outcome,
            count: 1,
            evidence: Evidence::Status,
            pod: format!("checkout-service-{i:05}-6d4cf56db6-x2k8p").into(),
            node: format!("ip-10-0-{}-{}.compute.internal", i % 10, i % 100).into(),
            started_at: None,
            finished_at: None,
            counted_at: Clock::start().now(),
            restart_count: 1,
            image: "registry.example/checkout:1.2.3".into(),
            message: None,
            windows: false,
        })));
        effects.push(Effect::Restarted { subject: subject.clone(), outcome, count: 1 });
    }
    effects
}

/// Best and median of 30 runs.
fn measure(mut act: impl FnMut() -> usize) -> String {
    let mut times: Vec<Duration> = (0..30)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(act());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    format!("best {:.2} ms, median {:.2} ms", millis(times[0]), millis(times[times.len() / 2]))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn gzip(text: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let _ = encoder.write_all(text);
    encoder.finish().map_or(0, |bytes| bytes.len())
}

/// Resident bytes of this process, on Linux.
fn resident() -> u64 {
    metrics_process::collector::collect().resident_memory_bytes.unwrap_or(0)
}
