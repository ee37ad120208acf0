"""s5cmd."""

import json

from common import ENDPOINT, KEY, run


class Client:
    ERRORS = ()

    def __init__(self, _settings, secret):
        self.env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}

    def s5cmd(self, *command):
        return run("s5cmd", "--endpoint-url", ENDPOINT, *command, **self.env)

    def create(self, bucket):
        self.s5cmd("mb", f"s3://{bucket}")

    def remove(self, bucket):
        self.s5cmd("rb", f"s3://{bucket}")

    def upload(self, bucket, root, kind, metadata):
        pairs = [f"--metadata={name}={value}" for name, value in metadata.items()]
        self.s5cmd("cp", *pairs, "--content-type", kind, f"{root}/", f"s3://{bucket}/")

    def download(self, bucket, root):
        self.s5cmd("cp", f"s3://{bucket}/*", f"{root}/")

    def listing(self, bucket):
        entries = [json.loads(line) for line in self.s5cmd("--json", "ls", f"s3://{bucket}/*").splitlines()]
        return {entry["key"].removeprefix(f"s3://{bucket}/"): entry.get("size", 0) for entry in entries}

    def head(self, bucket, key):
        entry = json.loads(self.s5cmd("--json", "head", "--raw", f"s3://{bucket}/{key}"))
        metadata = {name.lower(): value for name, value in entry["metadata"].items()}
        return entry["size"], entry["content_type"], metadata

    def sync(self, from_root, from_bucket, to_root, to_bucket):
        source = f"{from_root}/" if from_root else f"s3://{from_bucket}/*"
        target = f"{to_root}/" if to_root else f"s3://{to_bucket}/"
        return self.s5cmd("sync", source, target).splitlines()

    def presigned_get(self, bucket, key):
        return self.s5cmd("presign", f"s3://{bucket}/{key}").strip()

    def delete(self, bucket, key):
        self.s5cmd("rm", f"s3://{bucket}/{key}")

    def delete_many(self, bucket, keys):
        self.s5cmd("rm", "--raw", *(f"s3://{bucket}/{key}" for key in keys))
