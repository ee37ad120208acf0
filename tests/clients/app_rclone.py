"""rclone: 64 MiB in parts of 5 MiB and in four streams, and random writes through its file system"""

import json
import os
import random
import socket
import subprocess
import time
import urllib.request

import paramiko

from client_rclone import Client
from common import BIN, SECRET, listed, s3, store, tree
from depth_multipart import MIB, noise


def main(bucket, work):
    client = Client(f"{work}/settings", SECRET)
    large = noise(3, 64 * MIB + 11)
    tree(f"{work}/up", {"large": large})
    parts = ["--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "--s3-upload-concurrency", "8"]
    client.rclone("copy", *parts, f"{work}/up", f"p:{bucket}")
    streams = ["--multi-thread-streams", "4", "--multi-thread-cutoff", "1M", "--multi-thread-chunk-size", "5M"]
    client.rclone("copy", *streams, f"p:{bucket}", f"{work}/down")
    with open(f"{work}/down/large", "rb") as file:
        assert file.read() == large
    client.rclone("check", "--download", f"{work}/up", f"p:{bucket}")
    head = s3().head_object(Bucket=bucket, Key="large", PartNumber=1)
    assert (head["ContentLength"], head["PartsCount"]) == (5 * MIB, 13), head
    file_system(client, parts, bucket, work, bytearray(large))


def file_system(client, parts, bucket, work, expected):
    """What a mount does, without the kernel's part in it: a file is changed anywhere, read anywhere, and written back."""
    port, control = free_port(), free_port()
    options = ["--vfs-cache-mode=full", f"--cache-dir={work}/cache", "--vfs-write-back=100ms", "--vfs-read-chunk-size=1M"]
    login = ["--user=u", "--pass=p", f"--addr=127.0.0.1:{port}"]
    remote = ["--rc", "--rc-no-auth", f"--rc-addr=127.0.0.1:{control}"]
    command = [os.path.join(BIN, "rclone"), "serve", "sftp", f"p:{bucket}", *login, *remote, *options, *parts]
    with open(f"{work}/log", "w") as log:
        server = subprocess.Popen(command, env={**client.env, "HOME": work}, stderr=log)
    try:
        files = connected(server, port, f"{work}/log")
        spot = random.Random(5)
        for turn in range(6):
            with files.open("large", "r+") as file:
                for seed in range(10):
                    at, piece = spot.randrange(len(expected)), noise(seed, spot.randrange(1, 100_000))
                    file.seek(at)
                    file.write(piece)
                    expected[at : at + len(piece)] = piece
            with files.open("large") as file:
                for _ in range(10):
                    at = spot.randrange(len(expected))
                    file.seek(at)
                    assert file.read(70_000) == expected[at : at + 70_000], f"turn {turn}, read at {at}"
        files.get_channel().get_transport().close()
        written_back(control)
        assert s3().get_object(Bucket=bucket, Key="large")["Body"].read() == expected, "the file is not written back"
        assert not any(key.startswith(".s3veil/") for key in listed(bucket, store()))
    finally:
        server.terminate()
        server.wait()


def connected(server, port, log):
    while True:
        try:
            transport = paramiko.Transport(("127.0.0.1", port))
            break
        except paramiko.SSHException:
            assert server.poll() is None, open(log).read()
            time.sleep(0.05)
    transport.connect(username="u", password="p")
    return paramiko.SFTPClient.from_transport(transport)


def written_back(control):
    """rclone writes a file back some time after it is closed, and is not ended before its upload has its answer. It is asked
    itself: an object that is read while another takes its place is one that some stores break off."""
    end = time.monotonic() + 120
    while True:
        request = urllib.request.Request(f"http://127.0.0.1:{control}/vfs/stats", data=b"")
        with urllib.request.urlopen(request) as answer:
            cache = json.load(answer)["diskCache"]
        if cache["uploadsQueued"] == 0 and cache["uploadsInProgress"] == 0:
            return
        assert time.monotonic() < end, f"the file is not written back: {cache}"
        time.sleep(0.2)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
