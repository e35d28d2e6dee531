"""docs/grafana/mlx-flash.json: it asks for metrics that there are, in ways that
fit their types. Which ones there are is in docs/metrics.md, and that this is
true is a test of src/server/metrics_test.cpp."""

import copy
import json
import os
import re
import unittest

import support

DASHBOARD = os.path.join(support.ROOT, "docs", "grafana", "mlx-flash.json")
METRICS = os.path.join(support.ROOT, "docs", "metrics.md")

ROW = re.compile(r"\| `(mlx_flash_\w+)` \| (\w+) \|([^|]*)\|")
NAME = re.compile(r"\bmlx_flash_\w+")
PARTS = ("_bucket", "_sum", "_count")
COMMON_LABELS = {"instance", "job", "le"}  # Prometheus' own, and a histogram's


def read_metrics(text):
    """Type and labels of each metric in the table."""
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(text)}


def base_name(name, metrics):
    """The metric that a name in a query is of, or None."""
    if name in metrics:
        return None if metrics[name][0] == "histogram" else name
    for part in PARTS:
        base = name.removesuffix(part)
        if base != name and metrics.get(base, ("",))[0] == "histogram":
            return base
    return None


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard):
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def check_query(title, expr, legend, metrics):
    names = NAME.findall(expr)
    if not names:
        yield f"{title}: names no metric: {expr}"
    labels = set(COMMON_LABELS)
    for name in names:
        base = base_name(name, metrics)
        if base is None:
            yield f"{title}: there is no {name}"
            continue
        kind, own = metrics[base]
        labels |= own
        # A counter alone says nothing, and a gauge has no rate.
        rated = re.search(r"\b(?:rate|increase)\(" + name + r"\b", expr) is not None
        if rated != (kind != "gauge"):
            yield f"{title}: {name} is a {kind}, which does not fit {expr}"
    used = set(re.findall(r"(\w+)(?:=~?|!~|!=)\"", expr)) | set(re.findall(r"{{\s*(\w+)\s*}}", legend))
    for group in re.findall(r"\bby \(([^)]*)\)", expr):
        used |= {label.strip() for label in group.split(",")}
    for label in sorted(used - labels):
        yield f"{title}: no metric of {expr} has a label {label}"
    if expr.count("(") != expr.count(")") or expr.count("{") != expr.count("}"):
        yield f"{title}: brackets of {expr}"


def check_places(dashboard):
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']}: is wider than the dashboard"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    yield f"{panel['title']}: lies over {other}"
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"


def problems(dashboard, metrics):
    used = set()
    for title, expr, legend in queries(dashboard):
        yield from check_query(title, expr, legend, metrics)
        used |= {base_name(name, metrics) for name in NAME.findall(expr)}
    for name, (kind, _) in metrics.items():
        if kind == "histogram" and name not in used:
            yield f"no panel shows {name}"
    for variable in dashboard["templating"]["list"]:
        for name in NAME.findall(variable.get("definition", "")):
            if name not in metrics:
                yield f"variable {variable['name']}: there is no {name}"
    for panel in panels(dashboard):
        for source in [panel, *panel["targets"]]:
            if source["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{panel['title']}: is bound to one data source"
    yield from check_places(dashboard)


class Dashboard(unittest.TestCase):
    def setUp(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            self.dashboard = json.load(file)
        with open(METRICS, encoding="utf-8") as file:
            self.metrics = read_metrics(file.read())

    def problems_with(self, expr, legend=""):
        changed = copy.deepcopy(self.dashboard)
        target = panels(changed)[0]["targets"][0]
        target["expr"], target["legendFormat"] = expr, legend
        return "; ".join(problems(changed, self.metrics))

    def test_it_asks_for_what_there_is(self):
        self.assertGreater(len(self.metrics), 30)
        self.assertGreater(len(list(queries(self.dashboard))), 30)
        self.assertEqual(list(problems(self.dashboard, self.metrics)), [])

    def test_it_is_for_grafana_10(self):
        self.assertGreaterEqual(self.dashboard["schemaVersion"], 38)
        self.assertNotIn("id", self.dashboard)  # of the one Grafana that it was made in

    def test_names_that_there_are_not_are_found(self):
        self.assertIn("there is no mlx_flash_nothing", self.problems_with("mlx_flash_nothing"))
        self.assertIn("there is no mlx_flash_sessions_sum", self.problems_with("mlx_flash_sessions_sum"))
        self.assertIn("names no metric", self.problems_with("up"))

    def test_uses_that_do_not_fit_a_type_are_found(self):
        self.assertIn("is a counter", self.problems_with("sum(mlx_flash_cache_hits_total)"))
        self.assertIn("is a gauge", self.problems_with("rate(mlx_flash_sessions[5m])"))
        self.assertIn("there is no mlx_flash_queue_seconds", self.problems_with("rate(mlx_flash_queue_seconds[5m])"))

    def test_labels_that_there_are_not_are_found(self):
        self.assertIn("has a label user", self.problems_with("sum by (user) (mlx_flash_sessions)"))
        self.assertIn("has a label user", self.problems_with('mlx_flash_sessions{user="x"}'))
        self.assertIn("has a label route", self.problems_with("mlx_flash_sessions", "{{route}}"))

    def test_a_histogram_that_no_panel_shows_is_found(self):
        for name in [name for name, (kind, _) in self.metrics.items() if kind == "histogram"]:
            less = copy.deepcopy(self.dashboard)
            less["panels"] = [panel for panel in less["panels"] if name not in json.dumps(panel)]
            self.assertIn(f"no panel shows {name}", list(problems(less, self.metrics)))

    def test_panels_on_each_other_are_found(self):
        self.dashboard["panels"][2]["gridPos"] = self.dashboard["panels"][1]["gridPos"]
        self.assertIn("lies over", "; ".join(problems(self.dashboard, self.metrics)))


if __name__ == "__main__":
    unittest.main()
