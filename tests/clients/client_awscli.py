"""The AWS CLI."""

import json
import os

from common import ENDPOINT, KEY, run


class Client:
    ERRORS = ()
    RANGES = ("65530-131100", "100000-", "-7")  # each is a start of the interpreter

    def __init__(self, settings, secret):
        os.makedirs(settings)
        # Version 1 presigns with SigV2 unless told otherwise.
        self.config, self.part = f"{settings}/config", f"{settings}/part"
        with open(self.config, "w") as file:
            file.write("[default]\ns3 =\n  signature_version = s3v4\n")
        self.secret = secret

    def aws(self, *command):
        return run(
            "aws", "--endpoint-url", ENDPOINT, *command, AWS_CONFIG_FILE=self.config, AWS_ACCESS_KEY_ID=KEY,
            AWS_SECRET_ACCESS_KEY=self.secret, AWS_DEFAULT_REGION="us-east-1", AWS_MAX_ATTEMPTS="1",
        )

    def create(self, bucket):
        self.aws("s3", "mb", f"s3://{bucket}")

    def remove(self, bucket):
        self.aws("s3", "rb", f"s3://{bucket}")

    def upload(self, bucket, root, kind, metadata):
        pairs = ",".join(f"{name}={value}" for name, value in metadata.items())
        self.aws("s3", "cp", "--recursive", "--content-type", kind, "--metadata", pairs, root, f"s3://{bucket}")

    def download(self, bucket, root):
        self.aws("s3", "cp", "--recursive", f"s3://{bucket}", root)

    def listing(self, bucket):
        lines = self.aws("s3", "ls", "--recursive", f"s3://{bucket}").splitlines()
        return {key: int(size) for _, _, size, key in (line.split(None, 3) for line in lines)}

    def head(self, bucket, key):
        head = json.loads(self.aws("s3api", "head-object", "--bucket", bucket, "--key", key))
        return head["ContentLength"], head["ContentType"], head["Metadata"]

    def ranges(self, bucket, key, spec):
        self.aws("s3api", "get-object", "--bucket", bucket, "--key", key, "--range", f"bytes={spec}", self.part)
        with open(self.part, "rb") as file:
            return file.read()

    def sync(self, from_root, from_bucket, to_root, to_bucket):
        source, target = from_root or f"s3://{from_bucket}", to_root or f"s3://{to_bucket}"
        return self.aws("s3", "sync", "--no-progress", source, target).splitlines()

    def presigned_get(self, bucket, key):
        return self.aws("s3", "presign", f"s3://{bucket}/{key}").strip()

    def delete(self, bucket, key):
        self.aws("s3", "rm", f"s3://{bucket}/{key}")

    def delete_many(self, bucket, keys):
        delete = json.dumps({"Objects": [{"Key": key} for key in keys]})
        answer = json.loads(self.aws("s3api", "delete-objects", "--bucket", bucket, "--delete", delete))
        assert len(answer["Deleted"]) == len(keys), answer
