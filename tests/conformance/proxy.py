"""s3veil in front of a store, as the program that cargo built."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from processes import Failed, Server, free_ports, until
from users import USERS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/debug/s3veil"

# "main" is the policy's, the others are those that the suites ask for.
EKS = ["main", "testkey-1", "testkey-2"]


class Proxy:
    """With a keystore of its own. Each user goes on with his own credentials at the store."""

    def __init__(self, store, program=PROGRAM, more=""):
        self.more = more
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="s3veil-conformance-"))
        try:
            self._start(store, program)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def _start(self, store, program):
        (self.port,) = free_ports(1)
        master, configuration = self.directory / "master.key", self.directory / "proxy.toml"
        master.write_text("ab" * 32)
        master.chmod(0o600)
        configuration.write_text(self._settings(store, master))
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        for ek in EKS:
            command = [program, "key", "--config", configuration, "create", ek]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise Failed(f"s3veil key create {ek}: {done.stderr}")
        self.server = Server([program, "serve", "--config", configuration], environment, self.directory, "s3veil")
        try:
            until(lambda: self.server.answers(self.port), "s3veil does not answer", [self.server])
        except BaseException:
            self.server.stop()
            raise

    def _settings(self, store, master):
        text = f"""
listen = "127.0.0.1:{self.port}"
[store]
endpoint = "http://127.0.0.1:{store.port}"
region = "{store.region}"
{store.settings}
[kms.local]
kind = "local"
path = "{self.directory}/keys"
master_key = {{ file = "{master}" }}
[[policy]]
bucket = "*"
ek = "main"
client_eks = ["testkey-*"]
anonymous = "forward"
[auth]
sigv2_forms = true
"""
        for number, user in enumerate(USERS):
            keys = f'access_key = "{user.access_key}"\nsecret_key = "{user.secret_key}"\n'
            name = "default" if number == 0 else user.section.replace(" ", "-")
            text += f'[store.credentials.{name}]\n{keys}[[auth.identities]]\nname = "{name}"\nstore = "{name}"\n{keys}'
        return text + self.more

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
