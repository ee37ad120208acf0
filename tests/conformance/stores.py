"""The stores, each with all the users of the suites."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import cluster
from processes import Failed, Server, free_ports, tool, until
from users import USERS

# Seconds that a day of a lifecycle's rule lasts, at stores that can be told so.
DAY = 10

# Bytes that a store's data may come to.
ROOM = 4 << 30


class Store:
    """A running store, its files in a directory of its own."""

    region = "us-east-1"

    def __init__(self, name, start):
        self.name = name
        # What else `[store]` of proxy.toml must say.
        self.settings = SETTINGS.get(name, "")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"s3veil-conformance-{name}-", dir=in_memory()))
        try:
            self.port, self._stop = start(self.directory)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def in_memory():
    """Where files cost no disk's time, if there is room: stores wait for the disk at each object otherwise."""
    memory = "/dev/shm"
    try:
        return memory if shutil.disk_usage(memory).free > ROOM else None
    except OSError:
        return None


def environment(directory, **more):
    """Nothing of whoever runs the tests."""
    return {"PATH": os.environ["PATH"], "HOME": str(directory), **more}


def minio(directory):
    program, mc, (port,) = tool("minio"), tool("mc"), free_ports(1)
    root, password = "s3veil-conformance", "s3veil-conformance-secret"
    server = Server(
        [program, "server", directory / "data", f"--address=127.0.0.1:{port}", "--certs-dir", directory / "certs"],
        environment(
            directory, MINIO_ROOT_USER=root, MINIO_ROOT_PASSWORD=password, MINIO_BROWSER="off", MINIO_UPDATE="off", MINIO_CI_CD="1",
        ),
        directory, "minio",
    )
    try:
        # 503 until it has its buckets; its page of health says ready before that.
        until(lambda: server.answers(port, "/", 403), "minio is not ready", [server])
        hosts = environment(directory, MC_HOST_store=f"http://{root}:{password}@127.0.0.1:{port}")
        policy = directory / "all.json"
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]},
        ]}))
        commands = [["admin", "policy", "create", "store", "all", policy]]
        for user in USERS:
            commands.append(["admin", "user", "add", "store", user.access_key, user.secret_key])
            commands.append(["admin", "policy", "attach", "store", "all", "--user", user.access_key])
        for command in commands:
            done = subprocess.run([mc, *command], env=hosts, capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise Failed(f"mc {command[:3]}: {done.stdout}{done.stderr}")
    except BaseException:
        server.stop()
        raise
    return port, server.stop


def seaweedfs(directory):
    program = tool("weed")
    names = ["s3", "master", "volume", "filer"]
    # All at once: two that are asked for one after the other may be the same.
    free = free_ports(8)
    ports, rpc = dict(zip(names, free[:4])), dict(zip(names, free[4:]))
    (directory / "data").mkdir()
    identities = directory / "s3.json"
    identities.write_text(json.dumps({"identities": [
        {
            "name": user.user_id,
            "account": {"id": user.user_id, "displayName": user.name, "emailAddress": user.email},
            "credentials": [{"accessKey": user.access_key, "secretKey": user.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        for user in USERS
    ]}))
    server = Server(
        [
            program, "-logtostderr", "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory / 'data'}",
            f"-s3.config={identities}", f"-s3.localSocket={directory / 's3.sock'}",
            f"-filer.localSocket={directory / 'filer.sock'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false",
            "-s3.autoCreateBucket=false", "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=2000",
            "-master.peers=none", "-master.electionTimeout=200ms",
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *(f"-{name}.port.grpc={port}" for name, port in rpc.items()),
        ],
        # Each bucket grows volumes of its own, seven at a time unless told.
        environment(directory, WEED_MASTER_VOLUME_GROWTH_COPY_1="1"),
        directory, "seaweedfs",
    )

    def stop():
        server.stop()
        for name, port in rpc.items():
            pathlib.Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)

    try:
        until(lambda: server.answers(ports["s3"], "/healthz", 200), "seaweedfs is not ready", [server])
        until(lambda: has_volumes(server, ports["master"]), "seaweedfs has no volume server", [server])
    except BaseException:
        stop()
        raise
    return ports["s3"], stop


def has_volumes(server, port):
    """The gateway may answer before the volume server has told the master of itself."""
    return '"DataNodes":[{' in (server.page(port, "/dir/status") or "")


def rgw(directory):
    ceph = cluster.Cluster(directory, DAY)
    try:
        for user in USERS:
            tenant = ["--tenant", user.tenant] if user.tenant else []
            ceph.user(user.user_id, user.name, user.email, user.access_key, user.secret_key, *tenant)
        ceph.run("radosgw-admin", "-n", "client.rgw", "caps", "add", "--uid", "testid", "--caps", "user-policy=*;roles=*")
    except BaseException:
        ceph.stop()
        raise
    return ceph.port, ceph.stop


# RGW 16 knows no trailing checksums.
SETTINGS = {"rgw": 'payload = "unsigned"'}

STORES = {"minio": minio, "seaweedfs": seaweedfs, "rgw": rgw}


def start(name):
    return Store(name, STORES[name])
