"""MinIO with its data on the disk, s3veil in front of it, and how the commands are run."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import measure
from processes import Failed, Server, free_ports, tool, tools, until
from s3 import Client

STORE = "s3veil-migrate", "s3veil-migrate-secret"
CLIENT = "CLIENTSACCESSKEY", "clients-secret-key"
ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SEALING = 'ek = "main"\nplaintext = "read"'
PASSING = 'mode = "passthrough"'


class Place:
    """`store` and `proxy` are clients of the one and of the other. All of it is gone in the end."""

    def __init__(self, program, versioned):
        self.program, self.versioned = program, versioned
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="s3veil-migrate-"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        self.servers = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for server in reversed(self.servers):
            server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def logs(self):
        """The ends of the servers' logs, for a failure."""
        return "\n".join(f"--- the log of {server.name} ends\n{server.said()}" for server in self.servers)

    def _start(self):
        store, proxy = free_ports(2)
        self.data = self.directory / "data"
        # 503 until it has its buckets; its page of health says ready before that.
        self._serve(
            "minio", store, ("/", 403), [
                tool("minio"), "server", self.data, f"--address=127.0.0.1:{store}", "--certs-dir", self.directory / "certs",
            ],
            MINIO_ROOT_USER=STORE[0], MINIO_ROOT_PASSWORD=STORE[1], MINIO_BROWSER="off", MINIO_UPDATE="off", MINIO_CI_CD="1",
            MINIO_PROMETHEUS_AUTH_TYPE="public",
        )
        self.store, self.proxy = Client(store, *STORE), Client(proxy, *CLIENT)
        master = self.directory / "master.key"
        master.write_text("ab" * 32)
        master.chmod(0o600)
        self.sealing = self._configure("sealing.toml", master, SEALING)
        self.passing = self._configure("passing.toml", master, PASSING)
        for ek in "main", "next":
            self._said([self.program, "key", "--config", self.sealing, "create", ek])
        self._serve("s3veil", proxy, ("/",), [self.program, "serve", "--config", self.sealing])

    def _serve(self, name, port, page, command, **more):
        server = Server(command, {**self.environment, **more}, self.directory, name)
        self.servers.append(server)
        until(lambda: server.answers(port, *page), f"{name} does not answer", [server])

    def _configure(self, name, master, rule):
        path = self.directory / name
        path.write_text(f"""
listen = "127.0.0.1:{self.proxy.port}"
log.level = "warn"
[store]
endpoint = "http://127.0.0.1:{self.store.port}"
credentials.default = {{ access_key = "{STORE[0]}", secret_key = "{STORE[1]}" }}
[kms.local]
kind = "local"
path = "{self.directory}/keys"
master_key = {{ file = "{master}" }}
[[policy]]
bucket = "*"
{rule}
[[auth.identities]]
name = "clients"
access_key = "{CLIENT[0]}"
secret_key = "{CLIENT[1]}"
""")
        return path

    def _said(self, command):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise Failed(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
        return done.stdout

    def create(self, bucket):
        self.store.need("PUT", f"/{bucket}")
        if self.versioned:
            self.store.need("PUT", f"/{bucket}", [("versioning", "")], body=ENABLED)

    def remove(self, bucket):
        """The bucket and all in it."""
        self.store.need("DELETE", f"/{bucket}", headers=[("x-minio-force-delete", "true")])
        self._empty_trash()

    def _empty_trash(self):
        """MinIO does it every five minutes, whatever is measured then."""
        for thrown in (self.data / ".minio.sys/tmp/.trash").glob("*"):
            shutil.rmtree(thrown, ignore_errors=True)

    def s3veil(self, command, *arguments, passing=False, kill_after=None):
        configuration = self.passing if passing else self.sealing
        return self.run([self.program, command, "--config", configuration, "--json", *arguments], kill_after=kill_after)

    def run(self, command, kill_after=None, **more):
        """With nothing left to be removed or written from what came before."""
        if kill_after is None:
            self._empty_trash()
            os.sync()
        return measure.run(command, {**self.environment, **more}, self.directory, self.servers[0].child.pid, kill_after)

    def rclone(self, source, target):
        """From bucket to bucket, or to a crypt remote over it (`crypt:`). Two remotes, or it would leave it all to the store."""
        program = tool("rclone")
        more = {"RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_CRYPT_TYPE": "crypt"}
        for name in "FROM", "TO":
            more |= {
                f"RCLONE_CONFIG_{name}_TYPE": "s3", f"RCLONE_CONFIG_{name}_PROVIDER": "Minio",
                f"RCLONE_CONFIG_{name}_ENDPOINT": f"http://127.0.0.1:{self.store.port}",
                f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": STORE[0], f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": STORE[1],
            }
        remote, _, path = target.partition(":")
        if remote == "crypt":
            bucket, _, path = path.partition("/")
            password = self._said([program, "obscure", "a password of this run"]).strip()
            more |= {"RCLONE_CONFIG_CRYPT_REMOTE": f"to:{bucket}", "RCLONE_CONFIG_CRYPT_PASSWORD": password}
        done = self.run([
            program, "copy", f"from:{source}", f"{remote}:{path}", "--transfers=16", "--checkers=16", "--metadata", "--retries=1",
            "--use-json-log", "--stats=24h", "--stats-log-level=NOTICE",
        ], **more)
        done.good()
        stats = next(line["stats"] for line in map(json.loads, reversed(done.errors.splitlines())) if "stats" in line)
        if stats["errors"] or stats.get("serverSideCopies", 0):
            raise Failed(f"{done.name}: errors, or copies by the store: {stats}")
        return done, stats["transfers"]

    def left(self, bucket):
        """What a command could leave behind: versions and delete markers under .s3veil/, and uploads under way."""
        return sum(self.store.versions(bucket, ".s3veil/")), len(self.uploads())

    def uploads(self):
        """Under way at the store, by its disk, as it lists only what it remembers: the hash of bucket and key, how many parts."""
        found = self.data.glob(".minio.sys/multipart/*/*/")
        return [(upload.parent.name, len(list(upload.glob("*/part.*[0-9]")))) for upload in found]

    def refused(self):
        """How many writes the store has refused so far, for their condition or else."""
        _, page = self.store.need("GET", "/minio/metrics/v3/api/requests")
        counts = [line for line in page.decode().splitlines() if line.startswith("minio_api_requests_4xx_errors_total{")]
        writes = [line for line in counts if 'name="PutObject"' in line or 'name="CompleteMultipartUpload"' in line]
        return sum(int(float(line.split()[-1])) for line in writes)

    def versions(self):
        """Of the programs, by name."""
        stamp = tools() / "stamp/minio"
        return {
            "s3veil": self._said([self.program, "--version"]).split()[-1],
            "minio": stamp.read_text().split()[0] if stamp.is_file() else "unknown",
            "rclone": self._said([tool("rclone"), "version"]).split()[1],
        }
