"""A plugin of pytest's that writes each test's outcome as a line of JSON, also where workers run the tests."""

import json
import os
import sys

import pytest

outcomes = {}


def pytest_addoption(parser):
    parser.addoption("--record", help="the file that the outcomes are written to")
    parser.addoption("--only", help="a file of tests' names: no others are run")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--only"):
        with open(config.getoption("--only")) as lines:
            wanted = set(lines.read().split("\n"))
        items[:] = [item for item in items if name(item.nodeid) in wanted]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """One bucket that a store does not let go of would fail the clean-up before and after each test that follows."""
    suite = sys.modules.get("s3tests.functional")
    clean = getattr(suite, "nuke_prefixed_buckets", None)
    if clean is None or getattr(clean, "forgiving", False):
        return

    def forgiving(*arguments, **named):
        try:
            clean(*arguments, **named)
        except Exception as why:
            print("not cleaned up:", why)

    forgiving.forgiving = True
    suite.nuke_prefixed_buckets = forgiving


def name(nodeid):
    """`test_s3.py::test_name[case]`, without the directory that the suite lies in."""
    return nodeid.rsplit("/", 1)[-1]


def pytest_runtest_logreport(report):
    # With workers this runs in each of them too: only the one that collects writes.
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    before = outcomes.setdefault(name(report.nodeid), {"outcome": "passed", "seconds": 0, "why": ""})
    before["seconds"] += report.duration
    # What could not be cleaned up says nothing of what was tested.
    if report.when == "teardown":
        return
    if report.outcome != "passed" and before["outcome"] != "failed":
        before["outcome"] = report.outcome
        before["why"] = f"{report.when}: {report.longreprtext[-4000:]}"


def pytest_sessionfinish(session):
    path = session.config.getoption("--record")
    if path and not os.environ.get("PYTEST_XDIST_WORKER"):
        with open(path, "w") as lines:
            for test, outcome in sorted(outcomes.items()):
                print(json.dumps({"test": test, **outcome}), file=lines)
