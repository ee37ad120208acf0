"""s3cmd. Its `sync` must be told not to take an ETag for an MD5."""

import os

from common import HOST, KEY, run


class Client:
    ERRORS = ()
    RANGES = ("100000-",)  # it resumes downloads

    def __init__(self, settings, secret):
        os.makedirs(settings)
        self.part = f"{settings}/part"
        self.options = [
            "--no-ssl", f"--host={HOST}", f"--host-bucket={HOST}", f"--access_key={KEY}", f"--secret_key={secret}",
            "--region=us-east-1", f"--config={settings}/none", "--no-progress",
        ]

    def s3cmd(self, *command):
        return run("s3cmd", *self.options, *command)

    def create(self, bucket):
        self.s3cmd("mb", f"s3://{bucket}")

    def remove(self, bucket):
        self.s3cmd("rb", f"s3://{bucket}")

    def upload(self, bucket, root, kind, metadata):
        pairs = [f"--add-header=x-amz-meta-{name}:{value}" for name, value in metadata.items()]
        self.s3cmd("put", "--recursive", f"--mime-type={kind}", *pairs, f"{root}/", f"s3://{bucket}/")

    def download(self, bucket, root):
        self.s3cmd("get", "--recursive", f"s3://{bucket}/", f"{root}/")

    def listing(self, bucket):
        lines = self.s3cmd("ls", "--recursive", f"s3://{bucket}/").splitlines()
        prefix = f"s3://{bucket}/"
        return {key.removeprefix(prefix): int(size) for _, _, size, key in (line.split(None, 3) for line in lines)}

    def head(self, bucket, key):
        lines = [line.strip() for line in self.s3cmd("info", f"s3://{bucket}/{key}").splitlines()]
        said = dict(line.split(":", 1) for line in lines if ":" in line)
        metadata = {name.removeprefix("x-amz-meta-"): value.strip() for name, value in said.items()}
        return int(said["File size"]), said["MIME type"].strip(), metadata

    def ranges(self, bucket, key, spec):
        start = int(spec.removesuffix("-"))
        with open(self.part, "wb") as file:
            file.write(b"." * start)
        self.s3cmd("get", "--continue", f"s3://{bucket}/{key}", self.part)
        with open(self.part, "rb") as file:
            return file.read()[start:]

    def sync(self, from_root, from_bucket, to_root, to_bucket):
        source = f"{from_root}/" if from_root else f"s3://{from_bucket}/"
        target = f"{to_root}/" if to_root else f"s3://{to_bucket}/"
        said = self.s3cmd("sync", "--no-check-md5", source, target).splitlines()
        return [line for line in said if line.startswith(("upload:", "download:"))]

    def delete(self, bucket, key):
        self.s3cmd("del", f"s3://{bucket}/{key}")

    def delete_many(self, bucket, keys):
        self.s3cmd("del", *(f"s3://{bucket}/{key}" for key in keys))
