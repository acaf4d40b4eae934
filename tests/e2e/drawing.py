"""Draws panels from what Prometheus answers: numbers, stacked areas, lines and tables, as HTML with SVG inside.

Not Grafana, and not meant to look like it: it shows what the panels' queries return.
"""

import html
import re
import time

PALETTE = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
           "#c9184a", "#2a9d8f", "#e9c46a", "#577590", "#bc6c25", "#606c38", "#8338ec", "#00b4d8", "#d4a373", "#7f5539")

STYLE = """
* { box-sizing: border-box; margin: 0 }
body { font: 13px/1.35 'DejaVu Sans', sans-serif; color: #1f2430; background: #f4f5f8; padding: 18px; width: 1280px }
h1 { font-size: 20px; margin-bottom: 2px } .note { color: #646b7a; font-size: 12px; margin-bottom: 12px }
.grid { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
.panel { background: #fff; border: 1px solid #dde0e8; border-radius: 6px; padding: 9px 12px 8px; overflow: hidden }
.panel h2 { font-size: 12px; font-weight: 600; margin-bottom: 4px; white-space: nowrap; overflow: hidden }
.number { font-size: 28px; font-weight: 700 } .green { color: #2a8a43 } .yellow { color: #c98600 } .red { color: #cf2e3c }
table { border-collapse: collapse; width: 100%; font-size: 12.5px }
th { text-align: left; color: #646b7a; font-weight: 500; padding: 2px 8px 3px 0; border-bottom: 1px solid #dde0e8 }
td { padding: 3px 8px 3px 0; border-bottom: 1px solid #eef0f4; white-space: nowrap }
td.link { color: #2456c4 } .bar { display: inline-block; height: 9px; background: #ff725c; border-radius: 2px; margin-right: 7px }
.chart { display: flex; gap: 12px } .legend { font-size: 11.5px; width: 190px; flex: none }
.legend div { display: flex; justify-content: space-between; white-space: nowrap }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px }
svg text { font: 11px 'DejaVu Sans', sans-serif; fill: #646b7a }
"""


def legend(template, labels):
    """A series' name, as Grafana makes it."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), template or "") or "value"


def stat(panel, answers):
    """One number, coloured by the panel's thresholds, or its word."""
    defaults = panel["fieldConfig"]["defaults"]
    found = answers[0][1]
    if not found:
        return f'<div class="number">{html.escape(defaults["noValue"])}</div>'
    value = float(found[0]["value"][1])
    color = "green"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    words = [mapping["options"].get(f"{value:.0f}", {}).get("text") for mapping in defaults.get("mappings", [])]
    text = next((word for word in words if word), f"{value:.0%}" if defaults["unit"] == "percentunit" else f"{value:.0f}")
    return f'<div class="number {color}">{html.escape(text)}</div>'


def series_of(answers):
    """Name and points of each series, the largest first."""
    found = [(legend(target.get("legendFormat"), one["metric"]), {int(float(t)): float(v) for t, v in one["values"]})
             for target, series in answers for one in series]
    return sorted(found, key=lambda one: -sum(one[1].values()))


def amount(value, unit):
    """A number in its unit."""
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "bytes":
        return f"{value / 2 ** 20:.0f} MiB"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def timeseries(panel, answers, colors, span, width, height=170):
    """Stacked areas or lines with a legend of the highest values."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    found, (first, last, step) = series_of(answers), span
    if not found:
        return f"<p>{html.escape(defaults['noValue'])}</p>"
    moments = range(first, last + 1, step)
    top = max(sum(points.get(t, 0) for _, points in found) if stacked else max(points.get(t, 0) for _, points in found) for t in moments) or 1
    wide, left, bottom = width - 230, 42, 18
    x = lambda t: left + (t - first) / (last - first) * (wide - left - 6)
    y = lambda v: height - bottom - v / top * (height - bottom - 8)
    parts = []
    for share in (0, 0.5, 1):
        parts.append(f'<line x1="{left}" x2="{wide - 6}" y1="{y(top * share):.1f}" y2="{y(top * share):.1f}" stroke="#e3e6ec"/>'
                     f'<text x="{left - 6}" y="{y(top * share) + 4:.1f}" text-anchor="end">{amount(top * share, defaults["unit"])}</text>')
    for t in moments:
        if t % 300 == 0:
            parts.append(f'<text x="{x(t):.1f}" y="{height - 3}" text-anchor="middle">{time.strftime("%H:%M", time.gmtime(t))}</text>')
    below = dict.fromkeys(moments, 0.0)
    for name, points in found:
        color = colors(name)
        if not stacked:
            line = " ".join(f"{x(t):.1f},{y(points[t]):.1f}" for t in moments if t in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.6"/>')
            continue
        above = {t: below[t] + points.get(t, 0) for t in moments}
        edge = [f"{x(t):.1f},{y(above[t]):.1f}" for t in moments] + [f"{x(t):.1f},{y(below[t]):.1f}" for t in reversed(moments)]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{color}" fill-opacity="0.8"/>')
        below = above
    rows = [f'<div><span><i style="background:{colors(name)}"></i>{html.escape(name)}</span><span>{amount(max(points.values()), defaults["unit"])}</span></div>'
            for name, points in found[:11]]
    if len(found) > 11:
        rows.append(f"<div><span>and {len(found) - 11} more</span></div>")
    return (f'<div class="chart"><svg width="{wide}" height="{height}">{"".join(parts)}</svg>'
            f'<div class="legend"><div style="color:#646b7a"><span></span><span>max</span></div>{"".join(rows)}</div></div>')


def table(panel, answers, rows):
    """The first rows, in the panel's order of columns; what leads on is blue."""
    found = sorted(answers[0][1], key=lambda one: (-float(one["value"][1]), sorted(one["metric"].items())))
    if not found:
        return f'<p>{html.escape(panel["fieldConfig"]["defaults"]["noValue"])}</p>'
    organize = panel["transformations"][0]["options"]
    shown = organize["renameByName"]["Value"]
    linked = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"] for it in one["properties"] if it["id"] == "links"}
    columns = [name for name in organize["indexByName"] if name != "Value" and name != "cluster"]
    top = float(found[0]["value"][1])
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in [*columns, shown]) + "</tr>"]
    for one in found[:rows]:
        value = float(one["value"][1])
        cells = "".join(f'<td{" class=link" if name in linked else ""}>{html.escape(one["metric"].get(name, ""))}</td>' for name in columns)
        lines.append(f'<tr>{cells}<td><span class="bar" style="width:{90 * value / top:.0f}px"></span>{value:.0f}</td></tr>')
    return f'<table>{"".join(lines)}</table>'


class Colors:
    """A colour for each name, the same in all panels of a page."""

    def __init__(self):
        self.known = {}

    def __call__(self, name):
        return self.known.setdefault(name, PALETTE[len(self.known) % len(PALETTE)])


def page(dashboard, title, note, drawn):
    """The whole page; `drawn` are pairs of panel and its HTML."""
    boxes = "".join(f'<div class="panel" style="grid-column:span {panel["gridPos"]["w"]}"><h2>{html.escape(panel["title"])}</h2>{inner}</div>'
                    for panel, inner in drawn)
    return (f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
            f'<h1>{html.escape(dashboard["title"])}</h1><p class="note">{html.escape(note)}</p><div class="grid">{boxes}</div>')
