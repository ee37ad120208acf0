"""rclone. As with S3's own SSE-KMS, it must be told that an ETag is not an MD5."""

import json
import os

from common import ENDPOINT, KEY, run, run_bytes


class Client:
    ERRORS = ()
    RANGES = ("65530-131100", "100000-", "-7")

    def __init__(self, settings, secret):
        os.makedirs(settings)
        open(f"{settings}/none", "w").close()
        self.env = {
            "RCLONE_CONFIG": f"{settings}/none", "RCLONE_CONFIG_P_TYPE": "s3", "RCLONE_CONFIG_P_PROVIDER": "Other",
            "RCLONE_CONFIG_P_ENDPOINT": ENDPOINT, "RCLONE_CONFIG_P_ACCESS_KEY_ID": KEY,
            "RCLONE_CONFIG_P_SECRET_ACCESS_KEY": secret, "RCLONE_CONFIG_P_REGION": "us-east-1",
            "RCLONE_CONFIG_P_SERVER_SIDE_ENCRYPTION": "aws:kms", "RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1",
        }

    def rclone(self, *command):
        return run("rclone", *command, **self.env)

    def create(self, bucket):
        self.rclone("mkdir", f"p:{bucket}")

    def remove(self, bucket):
        self.rclone("rmdir", f"p:{bucket}")

    def upload(self, bucket, root, kind, metadata):
        pairs = [f"--metadata-set={name}={value}" for name, value in metadata.items()]
        self.rclone("copy", "--metadata", *pairs, f"--header-upload=Content-Type: {kind}", root, f"p:{bucket}")

    def download(self, bucket, root):
        self.rclone("copy", f"p:{bucket}", root)
        # Its own comparison, of every byte.
        self.rclone("check", "--download", f"p:{bucket}", root)

    def listing(self, bucket):
        lines = self.rclone("ls", f"p:{bucket}").splitlines()
        return {key: int(size) for size, key in (line.strip().split(" ", 1) for line in lines)}

    def head(self, bucket, key):
        entry = json.loads(self.rclone("lsjson", "--stat", "--metadata", f"p:{bucket}/{key}"))
        return entry["Size"], entry["MimeType"], entry["Metadata"]

    def ranges(self, bucket, key, spec):
        first, _, last = spec.partition("-")
        if not first:
            options = ["--tail", last]
        else:
            options = ["--offset", first, *(["--count", str(int(last) - int(first) + 1)] if last else [])]
        return run_bytes("rclone", "cat", *options, f"p:{bucket}/{key}", **self.env)

    def sync(self, from_root, from_bucket, to_root, to_bucket):
        source, target = from_root or f"p:{from_bucket}", to_root or f"p:{to_bucket}"
        log = self.env["RCLONE_CONFIG"] + ".log"
        open(log, "w").close()
        self.rclone("sync", "--log-level", "INFO", "--log-file", log, source, target)
        # Anything done to a file: copied, deleted, its time changed. The statistics have no name of a file.
        with open(log) as file:
            done = [line.partition(" INFO  : ")[2].strip() for line in file]
        return [line for line in done if line and not line.startswith("There was nothing to transfer")]

    def presigned_get(self, bucket, key):
        return self.rclone("link", "--expire", "1h", f"p:{bucket}/{key}").strip()

    def delete(self, bucket, key):
        self.rclone("deletefile", f"p:{bucket}/{key}")

    def delete_many(self, bucket, keys):
        # From a list that takes names as they are.
        path = self.env["RCLONE_CONFIG"] + ".delete"
        with open(path, "w") as file:
            file.writelines(f"{key}\n" for key in keys)
        self.rclone("delete", "--files-from-raw", path, f"p:{bucket}")
