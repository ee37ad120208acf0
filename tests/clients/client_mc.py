"""mc, MinIO's own client. It signs bodies in chunks."""

import json

from common import HOST, KEY, run, run_bytes


class Client:
    ERRORS = ()
    RANGES = ("100000-", "-7")

    def __init__(self, settings, secret):
        self.env = {"MC_HOST_p": f"http://{KEY}:{secret}@{HOST}", "MC_CONFIG_DIR": settings, "MC_REGION": "us-east-1"}

    def mc(self, *command):
        return run("mc", "--quiet", *command, **self.env)

    def lines(self, *command):
        return [json.loads(line) for line in self.mc("--json", *command).splitlines()]

    def create(self, bucket):
        self.mc("mb", f"p/{bucket}")

    def remove(self, bucket):
        self.mc("rb", f"p/{bucket}")

    def upload(self, bucket, root, kind, metadata):
        pairs = ";".join(f"{name}={value}" for name, value in {"Content-Type": kind, **metadata}.items())
        self.mc("cp", "--recursive", "--attr", pairs, f"{root}/", f"p/{bucket}/")

    def download(self, bucket, root):
        self.mc("cp", "--recursive", f"p/{bucket}/", f"{root}/")

    def listing(self, bucket):
        return {entry["key"]: entry["size"] for entry in self.lines("ls", "--recursive", f"p/{bucket}/")}

    def head(self, bucket, key):
        [entry] = self.lines("stat", f"p/{bucket}/{key}")
        metadata = {name.lower().removeprefix("x-amz-meta-"): value for name, value in entry["metadata"].items()}
        return entry["size"], metadata.pop("content-type"), metadata

    def ranges(self, bucket, key, spec):
        options = ["--tail", spec[1:]] if spec.startswith("-") else ["--offset", spec[:-1]]
        return run_bytes("mc", "cat", *options, f"p/{bucket}/{key}", **self.env)

    def sync(self, from_root, from_bucket, to_root, to_bucket):
        source, target = from_root or f"p/{from_bucket}", to_root or f"p/{to_bucket}"
        return [line for line in self.lines("mirror", "--overwrite", source, target) if "source" in line]

    def presigned_get(self, bucket, key):
        [entry] = self.lines("share", "download", f"p/{bucket}/{key}")
        return entry["share"]

    def delete(self, bucket, key):
        self.mc("rm", f"p/{bucket}/{key}")

    def delete_many(self, bucket, keys):
        self.mc("rm", *(f"p/{bucket}/{key}" for key in keys))
