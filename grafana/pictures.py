#!/usr/bin/env python3
"""pictures.py http://HOST:PORT DIR [MINUTES]: draws each dashboard as DIR/NAME.svg from what Prometheus answers to its panels'
queries, over the last MINUTES (3). No picture of Grafana: the same queries, titles, units and places, drawn plainly. Nothing but
Python's own library is needed."""
import json
import math
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from html import escape

from panels import DASHBOARDS

CELL_W, CELL_H, GAP = 52, 30, 6
COLORS = ["#3274d9", "#e0752d", "#37872d", "#8f3bb8", "#c4162a", "#0aa89e", "#b58b00", "#5b6b7a", "#d35ba0", "#7a5230"]
LINES_MAX, POINTS = 10, 90
WORDS = {"red": "#c4162a", "green": "#37872d", "blue": "#3274d9", "orange": "#e0752d"}


class Source:
    """Asks one Prometheus over one span of time."""

    def __init__(self, address, minutes):
        self.address, self.end = address, time.time()
        self.start = self.end - 60 * minutes
        self.step = max(1, round(60 * minutes / POINTS))

    def ask(self, page, **words):
        url = f"{self.address}/api/v1/{page}?{urllib.parse.urlencode(words)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            sys.exit(f"{words['query']}: {error.read().decode()}")

    def now(self, expr):
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=plain(expr), time=self.end)]

    def lines(self, expr):
        found = self.ask("query_range", query=plain(expr), start=self.start, end=self.end, step=self.step)
        return [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found]


def plain(expr):
    for name, value in {"$__rate_interval": "15s", "$name": ".*", "$mount": ".*", "$op": ".*"}.items():
        expr = expr.replace(name, value)
    return expr


def legend(pattern, labels):
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    while "{{" in pattern and "}}" in pattern:
        pattern = pattern[: pattern.index("{{")] + pattern[pattern.index("}}") + 2 :]
    return pattern.strip() or "total"


def digits(value):
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def shown(value, unit):
    if math.isnan(value):
        return "–"
    if unit in ("bytes", "Bps"):
        power = min(4, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
        return f"{digits(value / 1024 ** power)} {['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}{'/s' if unit == 'Bps' else ''}"
    if unit == "s":
        if value and abs(value) < 1:
            return f"{digits(value * 1000)} ms" if abs(value) >= 0.001 else f"{digits(value * 1e6)} µs"
        return f"{digits(value)} s" if abs(value) < 7200 else f"{value / 3600:.3g} h"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.3g} k" if abs(value) < 1e6 else f"{value / 1e6:.3g} M"
    return digits(value) + {"ops": "/s", "pps": "/s", "d": " d"}.get(unit, "")


def words(x, y, content, size=11, color="#333", anchor="start", weight="normal"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>'


def curve(values, place, top, bottom, span, color):
    x, y, w, h = place
    start, end = span
    parts, last = [], None
    for at, value in values:
        if math.isnan(value) or math.isinf(value):
            last = None
            continue
        px = x + w * (at - start) / (end - start)
        py = y + h - h * (value - bottom) / (top - bottom)
        parts.append(f"{'M' if last is None else 'L'}{px:.0f} {py:.0f}")
        last = at
    return f'<path d="{"".join(parts)}" fill="none" stroke="{color}" stroke-width="1.3"/>'


def graph(source, panel, place):
    x, y, w, h = place
    series = [(legend(pattern, labels), values) for expr, pattern in panel["queries"] for labels, values in source.lines(expr)]
    if not series:
        return [words(x + w / 2, y + h / 2, "no data", 12, "#999", "middle")]
    series.sort(key=lambda one: -max((v for _, v in one[1] if v == v and not math.isinf(v)), default=0))
    more, series = len(series) - LINES_MAX, series[:LINES_MAX]
    every = [value for _, values in series for _, value in values if value == value and not math.isinf(value)]
    top, bottom = max([*every, 0]) * 1.05, min([*every, 0]) * 1.05
    top = panel["max"] or (top if top > bottom else bottom + 1)
    rows = math.ceil(len(series) / 2)
    area = (x + 58, y + 24, w - 68, h - 46 - 12 * rows)
    drawn = []
    for tick in range(4):
        value = bottom + (top - bottom) * tick / 3
        at = area[1] + area[3] - area[3] * tick / 3
        drawn.append(f'<path d="M{area[0]:.0f} {at:.0f}h{area[2]:.0f}" stroke="#e4e4e4"/>' + words(area[0] - 4, at + 4, shown(value, panel["unit"]), 9, "#777", "end"))
    for tick in range(3):
        at = source.start + (source.end - source.start) * tick / 2
        drawn.append(words(area[0] + area[2] * tick / 2, area[1] + area[3] + 12, time.strftime("%H:%M:%S", time.gmtime(at)), 9, "#777", ["start", "middle", "end"][tick]))
    for at, (name, values) in enumerate(series):
        color = COLORS[at % len(COLORS)]
        drawn.append(curve(values, area, top, bottom, (source.start, source.end), color))
        lx, ly = x + 10 + (at % 2) * w / 2, area[1] + area[3] + 26 + 12 * (at // 2)
        drawn.append(f'<path d="M{lx:.0f} {ly - 3:.0f}h10" stroke="{color}" stroke-width="3"/>' + words(lx + 14, ly, name[: int(w / 2 / 6) - 3], 9))
    if more > 0:
        drawn.append(words(x + w - 6, y + 16, f"and {more} more", 9, "#999", "end"))
    return drawn


def stat(source, panel, place):
    x, y, w, h = place
    expr, pattern = panel["queries"][0]
    found = source.now(expr)
    if not found:
        return [words(x + w / 2, y + h / 2 + 10, "no data", 12, "#999", "middle")]
    if len(found) > 1:
        return [words(x + 10, y + 40 + 15 * at, f"{legend(pattern, labels)}: {shown(value, panel['unit'])}", 12) for at, (labels, value) in enumerate(found[:5])]
    value = found[0][1]
    bad, color = panel["bad"], "#333"
    if bad is not None:
        color = WORDS["red"] if (value <= bad[1] if isinstance(bad, tuple) else value >= bad) else WORDS["green"]
    content = shown(value, panel["unit"])
    if panel["words"] and value in panel["words"]:
        content, name = panel["words"][value]
        color = WORDS[name]
    return [words(x + w / 2, y + h / 2 + 18, content, 26, color, "middle", "bold")]


def table(source, panel, place):
    x, y, w, h = place
    columns = panel["columns"]
    wide = (w - 90) / len(columns)
    drawn = [words(x + 8 + wide * at, y + 34, name, 10, "#777") for at, name in enumerate(columns)] + [words(x + w - 8, y + 34, "value", 10, "#777", "end")]
    rows = source.now(panel["queries"][0][0])
    for at, (labels, value) in enumerate(rows[: int((h - 44) / 14)]):
        drawn += [words(x + 8 + wide * column, y + 50 + 14 * at, labels.get(name, "")[: int(wide / 6)], 10) for column, name in enumerate(columns)]
        drawn.append(words(x + w - 8, y + 50 + 14 * at, shown(value, panel["unit"]), 10, "#333", "end"))
    return drawn if rows else [words(x + w / 2, y + h / 2, "no data", 12, "#999", "middle")]


def states(source, panel, place):
    x, y, w, h = place
    expr, pattern = panel["queries"][0]
    series = source.lines(expr)
    tall = min(20, (h - 30) / max(1, len(series)))
    drawn, span = [], source.end - source.start
    for at, (labels, values) in enumerate(series[:12]):
        top = y + 26 + tall * at
        drawn.append(words(x + 8, top + tall * 0.7, legend(pattern, labels)[:24], 9))
        begin = None
        for (since, value), following in zip(values, [*values[1:], (source.end, None)]):
            begin = since if begin is None else begin
            if following[1] != value:
                left, right = (x + 150 + (w - 160) * (moment - source.start) / span for moment in (begin, following[0]))
                color = WORDS[panel["words"].get(value, ("", "orange"))[1]]
                drawn.append(f'<rect x="{left:.0f}" y="{top:.0f}" width="{max(1, right - left):.0f}" height="{tall - 3:.0f}" fill="{color}" fill-opacity="0.7"/>')
                begin = None
    return drawn or [words(x + w / 2, y + h / 2, "no data", 12, "#999", "middle")]


def prose(_, panel, place):
    lines = panel["content"].replace("**", "").split("\n")
    return [words(place[0] + 10, place[1] + 40 + 16 * at, line.strip(), 11) for at, line in enumerate(lines)]


DRAW = {"timeseries": graph, "stat": stat, "table": table, "state-timeline": states, "text": prose}


def picture(source, title, sentence, panels):
    drawn, x, y, tall = [], 0, 0, 0
    for panel in panels:
        if x + panel["width"] > 24:
            x, y, tall = 0, y + tall, 0
        place = (x * CELL_W + GAP, 46 + y * CELL_H + GAP, panel["width"] * CELL_W - GAP, panel["height"] * CELL_H - GAP)
        left, top, w, h = place
        drawn.append(f'<rect x="{left}" y="{top}" width="{w}" height="{h}" fill="#fff" stroke="#d8d8d8"/>' + words(left + 8, top + 16, panel["title"], 12, "#111", weight="bold"))
        drawn += DRAW[panel["kind"]](source, panel, place)
        x, tall = x + panel["width"], max(tall, panel["height"])
    width, height = 24 * CELL_W + GAP, 46 + (y + tall) * CELL_H + GAP
    head = words(10, 22, f"DGFS / {title}", 17, "#111", weight="bold") + words(10, 40, sentence, 12, "#666")
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"><rect width="{width}" height="{height}" fill="#f4f5f5"/>{head}{"".join(drawn)}</svg>\n'


def main():
    address, directory = sys.argv[1:3]
    source = Source(address, float(sys.argv[3]) if len(sys.argv) > 3 else 3)
    os.makedirs(directory, exist_ok=True)
    for name, title, sentence, _, panels in DASHBOARDS:
        with open(os.path.join(directory, f"{name}.svg"), "w", encoding="utf-8") as out:
            out.write(picture(source, title, sentence, panels))


main()
