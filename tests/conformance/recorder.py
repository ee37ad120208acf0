"""A plugin of pytest's that writes each test's outcome as a line of JSON, also where workers run the tests."""

import json
import os

outcomes = {}


def pytest_addoption(parser):
    parser.addoption("--record", help="the file that the outcomes are written to")
    parser.addoption("--only", help="a file of tests' names: no others are run")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--only"):
        with open(config.getoption("--only")) as lines:
            wanted = set(lines.read().split("\n"))
        items[:] = [item for item in items if name(item.nodeid) in wanted]


def name(nodeid):
    """`test_s3.py::test_name[case]`, without the directory that the suite lies in."""
    return nodeid.rsplit("/", 1)[-1]


def pytest_runtest_logreport(report):
    # With workers this runs in each of them too: only the one that collects writes.
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    before = outcomes.setdefault(name(report.nodeid), {"outcome": "passed", "seconds": 0, "why": ""})
    before["seconds"] += report.duration
    # A failed clean-up counts too: it shows what a listing or a deletion did.
    if report.outcome != "passed" and before["outcome"] != "failed":
        before["outcome"] = report.outcome
        before["why"] = f"{report.when}: {report.longreprtext[-4000:]}"


def pytest_sessionfinish(session):
    path = session.config.getoption("--record")
    if path and not os.environ.get("PYTEST_XDIST_WORKER"):
        with open(path, "w") as lines:
            for test, outcome in sorted(outcomes.items()):
                print(json.dumps({"test": test, **outcome}), file=lines)
