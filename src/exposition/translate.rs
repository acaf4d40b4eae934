//! One step, line by line: the OpenMetrics text of prometheus-client, put in order, in either format.
//!
//! The library writes the series of a family in the order of a hash map; here they are sorted, so that the
//! output is stable. Histograms have one series each and keep their order.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Format;

#[derive(Default)]
struct Block<'a> {
    kind: &'a str,
    help: &'a str,
    samples: Vec<&'a str>,
}

/// The families of OpenMetrics text in the order of their names, without the end mark.
pub(super) fn translate(openmetrics: &str, format: Format) -> String {
    let mut families: BTreeMap<&str, Block<'_>> = BTreeMap::new();
    let mut current = "";
    for line in openmetrics.lines() {
        if let Some((name, help)) = meta(line, "# HELP ") {
            current = name;
            families.entry(name).or_default().help = help;
        } else if let Some((name, kind)) = meta(line, "# TYPE ") {
            current = name;
            families.entry(name).or_default().kind = kind;
        } else if !line.starts_with('#') {
            families.entry(current).or_default().samples.push(line);
        }
    }
    let mut out = String::with_capacity(openmetrics.len() + 1024);
    for (name, mut block) in families {
        if block.kind != "histogram" {
            block.samples.sort_unstable();
        }
        let suffix = if block.kind == "counter" && format == Format::Text { "_total" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {name}{suffix} {}", block.help);
        let _ = writeln!(out, "# TYPE {name}{suffix} {}", block.kind);
        for sample in block.samples {
            out.push_str(sample);
            out.push('\n');
        }
    }
    out
}

fn meta<'a>(line: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(mark)?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
# HELP b_seconds How long.
# TYPE b_seconds histogram
b_seconds_sum 0.0
b_seconds_count 0
b_seconds_bucket{le=\"2.0\"} 0
b_seconds_bucket{le=\"10.0\"} 0
# HELP a How many.
# TYPE a counter
a_total{x=\"2\"} 1
a_total{x=\"1\"} 1
# EOF
";

    #[test]
    fn families_and_series_are_sorted_and_counters_renamed_for_text() {
        let text = translate(SOURCE, Format::Text);
        assert_eq!(
            text,
            "\
# HELP a_total How many.
# TYPE a_total counter
a_total{x=\"1\"} 1
a_total{x=\"2\"} 1
# HELP b_seconds How long.
# TYPE b_seconds histogram
b_seconds_sum 0.0
b_seconds_count 0
b_seconds_bucket{le=\"2.0\"} 0
b_seconds_bucket{le=\"10.0\"} 0
"
        );
        assert_eq!(
            translate(SOURCE, Format::OpenMetrics),
            text.replace("# HELP a_total", "# HELP a").replace("# TYPE a_total", "# TYPE a")
        );
    }
}
