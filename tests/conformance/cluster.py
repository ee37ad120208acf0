"""Ceph RGW: the smallest cluster that it runs on, one monitor and one memory store, as the current user.

There is no `ceph` command: the one thing that a new cluster must be told is said to its monitor by librados.
"""

import ctypes
import json
import os
import subprocess
import sys
import uuid

from processes import Failed, Server, free_ports, tools, until

# What RGW's own SSE-KMS seals with, so that its tests pass directly: keys of 32 bytes, in base64.
KMS_KEYS = "testkey-1=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo= testkey-2=aWIKTWFrZWZpbGUKbWFuCm91dApzcmMKVGVzdGluZwo="

SETTINGS = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = {osd}
ms_bind_port_max = {osd_last}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = {directory}
admin_socket =
log_file =
mon_cluster_log_file =
crash_dir = {directory}
mon_data = {directory}/mon
paxos_propose_interval = 0.05
mon_data_avail_warn = 1
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_class_dir = {libraries}/rados-classes
osd_class_load_list = *
osd_class_default_list = *
plugin_dir = {libraries}/ceph
erasure_code_dir = {libraries}/ceph/erasure-code
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
rgw_frontends = beast endpoint=127.0.0.1:{http}
rgw_enable_usage_log = false
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = {kms_keys}
# A day of a lifecycle's rule lasts this many seconds.
rgw_lc_debug_interval = {day}
"""


class Cluster:
    """Started whole, or not at all. Its log is `log` in its directory."""

    def __init__(self, directory, day):
        self.directory = directory
        self.root = tools() / "rgw"
        self.libraries = self.root / "usr/lib/x86_64-linux-gnu"
        if not (self.root / "usr/bin/radosgw").is_file():
            raise Failed("radosgw is not there; run tests/setup rgw")
        paths = [self.libraries, self.libraries / "ceph", self.root / "lib/x86_64-linux-gnu"]
        self.environment = {"LD_LIBRARY_PATH": ":".join(map(str, paths)), "PATH": os.environ["PATH"], "HOME": str(directory)}
        self.servers = []
        try:
            self._start(day)
        except BaseException:
            self.stop()
            raise

    def _start(self, day):
        # The memory store listens on four ports of the range that it is given.
        mon, self.port, osd = free_ports(2, run=8)
        fsid, settings = str(uuid.uuid4()), self.directory / "ceph.conf"
        settings.write_text(SETTINGS.format(
            fsid=fsid, mon=mon, osd=osd, osd_last=osd + 7, http=self.port, day=day, directory=self.directory,
            libraries=self.libraries, kms_keys=KMS_KEYS,
        ))
        for name in "mon", "osd":
            (self.directory / name).mkdir()
        (self.directory / "keyring").touch()
        monmap = str(self.directory / "monmap")
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap)
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._serve("ceph-mon", "-i", "a")
        osd_uuid = str(uuid.uuid4())
        # In a process of its own: a library's path is read when a process starts.
        told = json.dumps({"prefix": "osd new", "uuid": osd_uuid})
        self._done([sys.executable, __file__, str(settings), told])
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
        self._serve("ceph-osd", "-i", "0")
        # Some tests of the current suite end RGW 16 ("crashed" in its log); what it holds is in the memory store.
        self._serve("radosgw", "-n", "client.rgw", lasting=True)
        until(lambda: self.servers[-1].answers(self.port), "radosgw does not answer", self.servers)

    def run(self, program, *arguments):
        return self._done([self.root / "usr/bin" / program, "-c", self.directory / "ceph.conf", *arguments])

    def user(self, user_id, name, email, access_key, secret_key, *more):
        """Makes a user of RGW's."""
        self.run(
            "radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", user_id, "--display-name", name, "--email", email,
            "--access-key", access_key, "--secret-key", secret_key, *more,
        )

    def stop(self):
        for server in reversed(self.servers):
            server.stop()

    def _serve(self, program, *arguments, lasting=False):
        command = [self.root / "usr/bin" / program, "-c", self.directory / "ceph.conf", *arguments, "-f"]
        self.servers.append(Server(command, self.environment, self.directory, program, lasting))

    def _done(self, command):
        done = subprocess.run(
            list(map(str, command)), env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=120,
        )
        if done.returncode:
            raise Failed(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout


def tell_monitor(settings, command):
    """Says a command to the monitor, as `ceph` would."""
    rados = ctypes.CDLL("librados.so.2")
    cluster = ctypes.c_void_p()

    def check(result, what):
        if result < 0:
            raise SystemExit(f"librados: {what}: {os.strerror(-result)}")

    check(rados.rados_create(ctypes.byref(cluster), b"admin"), "create")
    check(rados.rados_conf_read_file(cluster, settings.encode()), "settings")
    check(rados.rados_connect(cluster), "connect")
    commands = (ctypes.c_char_p * 1)(command.encode())
    out, said = ctypes.c_char_p(), ctypes.c_char_p()
    lengths = ctypes.c_size_t(), ctypes.c_size_t()
    check(rados.rados_mon_command(
        cluster, commands, ctypes.c_size_t(1), None, ctypes.c_size_t(0),
        ctypes.byref(out), ctypes.byref(lengths[0]), ctypes.byref(said), ctypes.byref(lengths[1]),
    ), command)
    rados.rados_shutdown(cluster)


if __name__ == "__main__":
    tell_monitor(*sys.argv[1:])
