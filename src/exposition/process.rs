//! `process_*`, as every exporter has them.

use metrics_process::collector::Metrics;

use super::Format;
use super::write::{Family, Kind, float};

/// What the kernel calls unlimited reads as the largest number there, as in other exporters.
const UNLIMITED: f64 = 18_446_744_073_709_552_000.0;

/// The families in the order of their names; what the system does not tell is left out, HELP and TYPE stay.
pub(super) fn render(metrics: &Metrics, format: Format) -> String {
    let limit = |value: Option<u64>| whole(value).map(|value| if value == 0.0 { UNLIMITED } else { value });
    let rows = [
        (
            "process_cpu_seconds",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            metrics.cpu_seconds_total,
        ),
        ("process_max_fds", Kind::Gauge, "Maximum number of open file descriptors.", limit(metrics.max_fds)),
        ("process_open_fds", Kind::Gauge, "Number of open file descriptors.", whole(metrics.open_fds)),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory size in bytes.",
            whole(metrics.resident_memory_bytes),
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "Start time of the process since unix epoch in seconds.",
            whole(metrics.start_time_seconds),
        ),
        ("process_threads", Kind::Gauge, "Number of OS threads in the process.", whole(metrics.threads)),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory size in bytes.",
            whole(metrics.virtual_memory_bytes),
        ),
        (
            "process_virtual_memory_max_bytes",
            Kind::Gauge,
            "Maximum amount of virtual memory available in bytes.",
            limit(metrics.virtual_memory_max_bytes),
        ),
    ];
    let mut out = Vec::with_capacity(2048);
    for (name, kind, help, value) in rows {
        Family { name, kind, help }.head(&mut out, format);
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(if kind == Kind::Counter { b"_total " } else { b" " });
            float(&mut out, value);
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

#[allow(clippy::cast_precision_loss)] // bytes and counts far below 2^53
fn whole(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_all_of_them_here() {
        let text = render(&metrics_process::collector::collect(), Format::Text);
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_virtual_memory_bytes",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
        ] {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            assert!(
                line.is_some_and(|line| line.rsplit(' ').next().unwrap().parse::<f64>().is_ok()),
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn unlimited_reads_as_the_largest_number_and_the_unknown_is_left_out() {
        let metrics = Metrics { max_fds: Some(0), cpu_seconds_total: Some(1.5), ..Metrics::default() };
        let text = render(&metrics, Format::OpenMetrics);
        assert!(
            text.contains("# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 1.5\n"),
            "{text}"
        );
        assert!(text.contains("\nprocess_max_fds 18446744073709552000\n"), "{text}");
        assert!(!text.contains("\nprocess_threads "), "{text}");
    }
}
