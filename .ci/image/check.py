"""Looks at the image of s3veil and runs it, as a container's runtime would: a root that can't be written to, a user without
rights, a network of its own. Started by .ci/image/test, in namespaces of its own.
"""

import contextlib
import ctypes
import datetime
import http.client
import json
import os
import pathlib
import random
import re
import select
import signal
import socket
import ssl
import stat
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

USER = 65532
LIMIT = 40 << 20
STARTS = 20

# Everything that is in the image: rights, owner, name.
FILES = f"""
-rw-r--r-- 0 /LICENSE
drwxr-xr-x 0 /etc
-rw-r--r-- 0 /etc/group
-rw-r--r-- 0 /etc/nsswitch.conf
-rw-r--r-- 0 /etc/passwd
drwxr-xr-x 0 /etc/s3veil
drwxr-xr-x 0 /etc/ssl
drwxr-xr-x 0 /etc/ssl/certs
-rw-r--r-- 0 /etc/ssl/certs/ca-certificates.crt
-rwxr-xr-x 0 /s3veil
drwxr-xr-x 0 /var
drwxr-xr-x 0 /var/lib
drwxr-xr-x {USER} /var/lib/s3veil
"""

# Ports of this network, which nobody else has.
S3, ADMIN, STORE, STORE_TLS = 8333, 9333, 9000, 9443
IDENTITY = ("s3veil", "s3veil-dev-secret")

# The store's names: one that only DNS knows, one that only /etc/hosts does.
BY_DNS, BY_HOSTS = "store.dns.test", "store.hosts.test"

CONFIGURATION = f"""
listen = "127.0.0.1:{S3}"
store.endpoint = "http://{BY_DNS}:{STORE}"
store.credentials.default = {{ access_key = "{IDENTITY[0]}", secret_key = "{IDENTITY[1]}" }}
kms.local = {{ kind = "local", path = "/var/lib/s3veil/keys", master_key = {{ file = "/etc/s3veil/master.key" }} }}
policy = [{{ bucket = "*", ek = "main" }}]
auth.identities = [{{ name = "app", access_key = "{IDENTITY[0]}", secret_key = "{IDENTITY[1]}" }}]
admin.listen = "127.0.0.1:{ADMIN}"
"""


def main(root, image, pushed, tools):
    config = json.loads(image.read_text())["OCIv1"]["config"]
    settings(config)
    files(root)
    program(root / "s3veil")
    size(root, pushed)
    # Goes with the namespace, as all that is mounted in it.
    place = image.parent
    mount("-t", "tmpfs", "tmpfs", place)
    container = Container(root, place, config)
    try:
        runs(container, tools, place)
    except BaseException:
        container.log.seek(0)
        sys.stderr.write(container.log.read())
        raise
    print("the image: good")


# --- what it is -------------------------------------------------------------------------------------------------------


def settings(config):
    assert config["User"] == f"{USER}:{USER}", config
    assert config["Entrypoint"] == ["/s3veil"], config
    assert config["Cmd"] == ["serve", "--config", "/etc/s3veil/proxy.toml"], config
    assert sorted(config["ExposedPorts"]) == ["8333/tcp", "9333/tcp"], config
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert {"title", "description", "licenses", "version", "revision"} <= set(labels), labels
    manifest = pathlib.Path("Cargo.toml").read_text()
    rust = re.search(r'^rust-version = "(.*)"', manifest, re.M)[1]
    assert f"ARG RUST_VERSION={rust}\n" in pathlib.Path("Dockerfile").read_text(), "another Rust than Cargo.toml's"


def files(root):
    """Nothing but what must be there, and nothing that the user could change."""
    runtime = {root / "etc/hosts", root / "etc/resolv.conf"}
    found = []
    for path in sorted(root.rglob("*")):
        if path not in runtime:
            status = path.lstat()
            found.append(f"{stat.filemode(status.st_mode)} {status.st_uid} /{path.relative_to(root)}")
    assert found == FILES.split("\n")[1:-1], "\n".join(found)
    roots = (root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert roots.count("BEGIN CERTIFICATE") > 50


def program(path):
    """Static, at a random address, and without symbols or debug information."""

    def read(what):
        return subprocess.run(["readelf", "--wide", what, path], check=True, capture_output=True, text=True).stdout

    assert "INTERP" not in read("--program-headers")
    assert "NEEDED" not in read("--dynamic")
    assert re.search(r"Type:\s+DYN", read("--file-header"))
    sections = read("--sections")
    assert ".debug" not in sections and ".symtab" not in sections, sections


def size(root, pushed):
    whole = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    layers = sum(path.stat().st_size for path in pushed.iterdir() if re.fullmatch("[0-9a-f]{64}", path.name))
    program = (root / "s3veil").stat().st_size
    print(f"the image: {mib(whole)}, of which the program is {mib(program)}; {mib(layers)} as pushed (compressed)")
    assert whole < LIMIT, f"more than {mib(LIMIT)}"


def mib(size):
    return f"{size / (1 << 20):.1f} MiB"


# --- how it runs ------------------------------------------------------------------------------------------------------


def runs(container, tools, place):
    said = container.run("--version")
    assert said == f"s3veil {container.config['Labels']['org.opencontainers.image.version']}\n", said
    container.run("key", "create", "main")
    body = random.Random(7).randbytes(1 << 20)
    with container.start("dev", "--data", "/var/lib/s3veil/dev"):
        answers(S3)
        transfers(tools, "dev", body)
    with store(tools, place / "store"):
        in_front_of(container, tools, body)
    # Each came there, and none as it was.
    held = [path for path in place.rglob("*") if path.is_file() and not path.is_relative_to(container.root)]
    assert len([path for path in held if path.stat().st_size > len(body)]) == 4, held
    assert not any(body[:64] in path.read_bytes() for path in held)
    first_process(container)
    start_up(container)


class Container:
    """The image's root, mounted so that it can't be changed, with what a user would mount: configuration and a volume."""

    def __init__(self, image, place, config):
        self.config, self.place, self.log = config, place, (place / "log").open("a+")
        self.root, self.volume, self.etc = place / "root", place / "volume", place / "etc"
        for directory in (self.root, self.volume, self.etc):
            directory.mkdir()
        os.chown(self.volume, USER, USER)
        (self.etc / "proxy.toml").write_text(CONFIGURATION)
        master = self.etc / "master.key"
        master.write_text("ab" * 32)
        master.chmod(0o400)
        os.chown(master, USER, USER)
        (place / "hosts").write_text(f"127.0.0.1 localhost {BY_HOSTS}\n")
        (place / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")

        mount("--bind", image, self.root)
        mount("-o", "remount,bind,ro", self.root)
        for source, target in {
            self.volume: "var/lib/s3veil",
            self.etc: "etc/s3veil",
            place / "hosts": "etc/hosts",
            place / "resolv.conf": "etc/resolv.conf",
        }.items():
            mount("--bind", source, self.root / target)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        name_server()
        self.authority = Authority(BY_HOSTS)
        self.authority.forward(STORE_TLS, STORE)

    @contextlib.contextmanager
    def over(self, name, content):
        """With another file in the place of the image's."""
        file = self.place / "over"
        file.write_bytes(content)
        mount("--bind", file, self.root / name)
        yield
        subprocess.run(["umount", self.root / name], check=True)

    def command(self, arguments, variables):
        return {
            "args": [*self.config["Entrypoint"], *(arguments or self.config["Cmd"])],
            "env": dict(entry.split("=", 1) for entry in self.config["Env"]) | variables,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": self.log,
        }

    def enter(self):
        """What a runtime does between fork and exec."""
        os.chroot(self.root)
        os.chdir("/")
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS

    def run(self, *arguments):
        done = subprocess.run(
            **self.command(arguments, {}), preexec_fn=self.enter, text=True, timeout=60
        )
        assert done.returncode == 0, (arguments, done.returncode)
        return done.stdout

    @contextlib.contextmanager
    def start(self, *arguments, **variables):
        """With the image's own command if there are no arguments. It must end well when it is told to."""
        process = subprocess.Popen(**self.command(arguments, variables), preexec_fn=self.enter)
        try:
            yield process
            process.terminate()
            assert process.wait(timeout=60) == 0, process.returncode
        finally:
            process.kill()
            process.wait()


def in_front_of(container, tools, body):
    """By the image's own command; the store is found by DNS, then by /etc/hosts and over TLS, with the system's roots."""
    with container.start():
        answers(S3)
        assert fetch(ADMIN, "/healthz") == fetch(ADMIN, "/readyz") == 200
        transfers(tools, "by-dns", body)
    # A machine's file of ways to look up names, mounted by habit: those that it names first need modules, and there are none.
    ways = container.over("etc/nsswitch.conf", b"hosts: mymachines mdns4_minimal [NOTFOUND=return] files myhostname dns\n")
    with ways, container.start():
        answers(S3)
        transfers(tools, "by-other-ways", body)
    roots = container.over("etc/ssl/certs/ca-certificates.crt", container.authority.pem)
    with roots, container.start(S3VEIL_STORE__ENDPOINT=f"https://{BY_HOSTS}:{STORE_TLS}"):
        answers(S3)
        transfers(tools, "by-hosts", body)


def first_process(container):
    """The first process of a container does not get a signal that it has not asked for."""
    command = container.command((), {})
    command["args"] = ["unshare", "--pid", "--fork", *("--root", container.root), *("--setuid", str(USER)), *command["args"]]
    process = subprocess.Popen(**command)
    try:
        answers(S3)
        (first,) = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert process.wait(timeout=60) == 0, process.returncode
    finally:
        process.kill()


def transfers(tools, bucket, body):
    """A PUT and a GET with the AWS CLI."""
    with tempfile.TemporaryDirectory() as place:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": place,
            "AWS_ACCESS_KEY_ID": IDENTITY[0],
            "AWS_SECRET_ACCESS_KEY": IDENTITY[1],
            "AWS_REGION": "us-east-1",
        }
        sent, back = pathlib.Path(place) / "sent", pathlib.Path(place) / "back"
        sent.write_bytes(body)
        for command in (["mb", f"s3://{bucket}"], ["cp", sent, f"s3://{bucket}/a"], ["cp", f"s3://{bucket}/a", back]):
            command = [tools / "aws", "--endpoint-url", f"http://127.0.0.1:{S3}", "s3", *command]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done
        assert back.read_bytes() == body


def start_up(container):
    """How long it takes from exec until it is ready: /healthz answers, and the S3 port accepts."""
    times = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        with container.start():
            answers(ADMIN, pause=0.0005)
            assert fetch(ADMIN, "/healthz") == 200
            answers(S3, pause=0.0005)
            times.append((time.perf_counter() - begin) * 1000)
    print(f"from exec to ready: {statistics.median(times):.1f} ms (median of {STARTS}; best {min(times):.1f} ms)")


def answers(port, pause=0.02):
    """Waits until somebody accepts."""
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nobody listens on {port}"
            time.sleep(pause)


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse().status


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


# --- what is around it --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def store(tools, data):
    """MinIO."""
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(data),
        "MINIO_ROOT_USER": IDENTITY[0],
        "MINIO_ROOT_PASSWORD": IDENTITY[1],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CI_CD": "1",
    }
    command = [tools / "minio", "server", data, "--quiet", "--address", f"127.0.0.1:{STORE}"]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    try:
        answers(STORE)
        # 503 until it has its buckets; its page of health says ready before that.
        while fetch(STORE, "/") != 403:
            assert process.poll() is None, "MinIO has ended"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def background(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()


def name_server():
    """DNS on 127.0.0.1 that knows one name, by its IPv4 address. Source: RFC 1035, section 4."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve():
        while True:
            query, client = server.recvfrom(4096)
            end, labels = 12, []
            while query[end]:
                labels.append(query[end + 1 : end + 1 + query[end]].decode().lower())
                end += 1 + query[end]
            kind, question = query[end + 1 : end + 3], query[12 : end + 5]
            known = ".".join(labels) == BY_DNS
            record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x7f\0\0\x01" if known and kind == b"\0\x01" else b""
            flags = b"\x85\x80" if known else b"\x85\x83"  # an answer with authority; or NXDOMAIN
            counts = b"\0\x01" + (b"\0\x01" if record else b"\0\0") + b"\0\0\0\0"
            server.sendto(query[:2] + flags + counts + question + record, client)

    background(serve)


class Authority:
    """A root certificate that signs itself and is a server's too."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(who)
            .issuer_name(who)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = self.root.public_bytes(serialization.Encoding.PEM)

    def forward(self, port, to):
        """TLS on one port, and what comes goes on to another."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            key = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            file.write(self.pem + self.key.private_bytes(serialization.Encoding.PEM, *key))
            file.flush()
            context.load_cert_chain(file.name)
        server = socket.create_server(("127.0.0.1", port))

        def pipe(client, store):
            with contextlib.suppress(OSError), client, store:
                while True:
                    ready = [client] if client.pending() else select.select([client, store], [], [])[0]
                    for source in ready:
                        data = source.recv(65536)
                        if not data:
                            return
                        (store if source is client else client).sendall(data)

        def serve():
            while True:
                plain = server.accept()[0]
                try:
                    client = context.wrap_socket(plain, server_side=True)
                except ssl.SSLError as why:
                    print(f"TLS: {why}", file=sys.stderr)
                    continue
                background(pipe, client, socket.create_connection(("127.0.0.1", to)))

        background(serve)


main(*map(pathlib.Path, sys.argv[1:]))
