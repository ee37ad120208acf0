"""Takes the rules out of a PrometheusRule, and makes rules of a dashboard's expressions, for promtool to check.

    rules.py OBJECTS.yaml DASHBOARD.json DIRECTORY     writes alerts.yaml and dashboard.yaml there
"""

import json
import pathlib
import sys

import yaml

objects, dashboard, directory = map(pathlib.Path, sys.argv[1:])

found = [one for one in yaml.safe_load_all(objects.read_text()) if one and one["kind"] == "PrometheusRule"]
assert len(found) == 1, f"{objects} has {len(found)} PrometheusRules"
(directory / "alerts.yaml").write_text(yaml.safe_dump(found[0]["spec"]))

board = json.loads(dashboard.read_text())
targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
targets += [one["expr"] for one in board["annotations"]["list"] if "expr" in one]
assert len(targets) > 30, f"{dashboard} has {len(targets)} expressions"
assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]), "two panels share an id"
rules = [
    {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m").replace("$", "")}
    for number, expr in enumerate(targets)
]
(directory / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
