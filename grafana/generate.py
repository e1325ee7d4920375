#!/usr/bin/env python3
"""generate.py [--check]: writes dashboards/*.json from panels.py. With --check nothing is written: exit code 1 and the names of
files that are not what it would write."""
import json
import os
import sys

from panels import DASHBOARDS

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The queries behind the variables.
VARIABLES = {
    "name": ("Process", 'label_values(up{job="dgfs-stored"}, name)', False),
    "mount": ("Mount", 'label_values(up{job="dgfs-mount"}, name)', True),
    "op": ("Operation", "label_values(dgfs_mount_operations_total, op)", True),
}


def variable(name):
    label, query, many = VARIABLES[name]
    every = {"text": "All", "value": "$__all"}
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1, "regex": "", "hide": 0,
        "query": {"query": query, "refId": name}, "includeAll": many, "multi": many, **({"allValue": ".*", "current": every} if many else {}),
    }


def data_source():
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0, "regex": ""}


def thresholds(bad):
    if bad is None:
        steps = [{"color": "text", "value": None}]
    elif isinstance(bad, tuple):
        steps = [{"color": "red", "value": None}, {"color": "green", "value": bad[1] + 1}]
    else:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": bad}]
    return {"mode": "absolute", "steps": steps}


def mappings(words):
    if not words:
        return []
    return [{"type": "value", "options": {str(value): {"text": word, "color": color, "index": at} for at, (value, (word, color)) in enumerate(words.items())}}]


def field(panel):
    defaults = {"unit": panel["unit"] or "none", "mappings": mappings(panel.get("words")), "thresholds": thresholds(panel.get("bad"))}
    if panel["kind"] == "timeseries":
        stack = {"mode": "normal" if panel["stack"] else "none", "group": "A"}
        defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if panel["stack"] else 8, "showPoints": "never", "spanNulls": False, "stacking": stack}
        defaults["color"] = {"mode": "palette-classic"}
        defaults["min"] = 0
        if panel["max"]:
            defaults["max"] = panel["max"]
        if panel["title"] == "Clock offset":
            del defaults["min"]
    if panel["kind"] == "state-timeline":
        defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
        defaults["color"] = {"mode": "thresholds"}
    return {"defaults": defaults, "overrides": []}


LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}


def options(panel):
    return {
        "timeseries": lambda: {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": lambda: {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "orientation": "auto"},
        "table": lambda: {"showHeader": True, "cellHeight": "sm"},
        "state-timeline": lambda: {"legend": {**LEGEND, "showLegend": False}, "tooltip": {"mode": "single", "sort": "none"}, "mergeValues": True, "rowHeight": 0.8, "showValue": "auto"},
        "text": lambda: {"mode": "markdown", "content": panel["content"]},
    }[panel["kind"]]()


def target(panel, number, query):
    expr, legend = query
    instant = panel["kind"] == "table"
    return {
        "refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto", "editorMode": "code",
        "instant": instant, "range": not instant, "format": "table" if instant else "time_series",
    }


def transformations(panel):
    if panel["kind"] != "table":
        return []
    order = {name: at for at, name in enumerate([*panel["columns"], "Value"])}
    return [{"id": "filterFieldsByName", "options": {"include": {"names": list(order)}}}, {"id": "organize", "options": {"indexByName": order, "renameByName": {}, "excludeByName": {}}}]


def json_panel(panel, number, x, y):
    made = {
        "id": number, "type": panel["kind"], "title": panel["title"], "description": panel["text"],
        "gridPos": {"x": x, "y": y, "w": panel["width"], "h": panel["height"]}, "options": options(panel), "fieldConfig": field(panel),
    }
    if panel["queries"]:
        made["datasource"] = SOURCE
        made["targets"] = [target(panel, at, query) for at, query in enumerate(panel["queries"])]
        made["transformations"] = transformations(panel)
    return made


def place(panels):
    """Panels from left to right, a new row where one does not fit."""
    made, x, y, tall = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel["width"] > 24:
            x, y, tall = 0, y + tall, 0
        made.append(json_panel(panel, number, x, y))
        x, tall = x + panel["width"], max(tall, panel["height"])
    return made


def links():
    one = {"asDropdown": False, "icon": "dashboard", "includeVars": False, "keepTime": True, "tags": [], "targetBlank": False, "tooltip": "", "type": "link"}
    return [{**one, "title": title, "url": f"/d/dgfs-{name}", "tooltip": sentence} for name, title, sentence, _, _ in DASHBOARDS]


def dashboard(name, title, sentence, variables, panels):
    return {
        "uid": f"dgfs-{name}", "title": f"DGFS / {title}", "description": sentence, "tags": ["dgfs"], "schemaVersion": 42, "version": 1,
        "editable": True, "graphTooltip": 1, "refresh": "5s", "time": {"from": "now-30m", "to": "now"}, "timepicker": {}, "timezone": "browser",
        "links": links(), "annotations": {"list": []}, "templating": {"list": [data_source(), *map(variable, variables)]}, "panels": place(panels),
    }


def main():
    other = []
    for name, *rest in DASHBOARDS:
        file = os.path.join(HERE, "dashboards", f"{name}.json")
        wanted = json.dumps(dashboard(name, *rest), indent=1, ensure_ascii=False) + "\n"
        found = open(file, encoding="utf-8").read() if os.path.exists(file) else ""
        if found != wanted:
            other.append(file)
            if "--check" not in sys.argv:
                with open(file, "w", encoding="utf-8") as out:
                    out.write(wanted)
    if "--check" in sys.argv and other:
        sys.exit("run grafana/generate.py: not what it would write: " + ", ".join(other))


if __name__ == "__main__":
    main()
