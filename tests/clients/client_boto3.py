"""boto3."""

import os

from botocore.exceptions import ClientError
from common import ENDPOINT, files, s3


class Client:
    ERRORS = (ClientError,)
    RANGES = None  # all

    def __init__(self, _settings, secret):
        self.s3 = s3(ENDPOINT, secret=secret)

    def create(self, bucket):
        self.s3.create_bucket(Bucket=bucket)

    def remove(self, bucket):
        self.s3.delete_bucket(Bucket=bucket)

    def upload(self, bucket, root, kind, metadata):
        for key, body in files(root).items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=kind, Metadata=metadata)

    def download(self, bucket, root):
        for key in self.listing(bucket):
            # As it transfers files: in threads, above a size in parts.
            os.makedirs(os.path.dirname(f"{root}/{key}"), exist_ok=True)
            self.s3.download_file(bucket, key, f"{root}/{key}")

    def listing(self, bucket):
        return {entry["Key"]: entry["Size"] for entry in self.s3.list_objects(Bucket=bucket)["Contents"]}

    def head(self, bucket, key):
        head = self.s3.head_object(Bucket=bucket, Key=key)
        assert head["ServerSideEncryption"] == "aws:kms"
        return head["ContentLength"], head["ContentType"], head["Metadata"]

    def ranges(self, bucket, key, spec):
        answer = self.s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={spec}")
        body = answer["Body"].read()
        assert answer["ContentLength"] == len(body) and answer["ContentRange"].endswith("/300123"), answer
        return body

    def presigned_get(self, bucket, key):
        return self.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})

    def presigned_put(self, bucket, key):
        return self.s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key})

    def delete(self, bucket, key):
        self.s3.delete_object(Bucket=bucket, Key=key)

    def delete_many(self, bucket, keys):
        answer = self.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
        assert len(answer["Deleted"]) == len(keys), answer
