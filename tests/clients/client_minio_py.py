"""minio-py."""

import io

from common import HOST, KEY, files
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import S3Error


class Client:
    ERRORS = (S3Error,)
    RANGES = ("0-0", "65530-131100", "131072-196607", "100000-")

    def __init__(self, _settings, secret):
        self.minio = Minio(HOST, access_key=KEY, secret_key=secret, secure=False, region="us-east-1")

    def create(self, bucket):
        self.minio.make_bucket(bucket)

    def remove(self, bucket):
        self.minio.remove_bucket(bucket)

    def upload(self, bucket, root, kind, metadata):
        for key, body in files(root).items():
            self.minio.put_object(bucket, key, io.BytesIO(body), len(body), content_type=kind, metadata=dict(metadata))

    def download(self, bucket, root):
        for key in self.listing(bucket):
            self.minio.fget_object(bucket, key, f"{root}/{key}")

    def listing(self, bucket):
        return {entry.object_name: entry.size for entry in self.minio.list_objects(bucket, recursive=True)}

    def head(self, bucket, key):
        stat = self.minio.stat_object(bucket, key)
        metadata = {name.lower().removeprefix("x-amz-meta-"): value for name, value in stat.metadata.items()}
        return stat.size, stat.content_type, metadata

    def ranges(self, bucket, key, spec):
        first, last = spec.split("-")
        length = int(last) - int(first) + 1 if last else 0
        answer = self.minio.get_object(bucket, key, offset=int(first), length=length)
        try:
            return answer.read()
        finally:
            answer.close()

    def presigned_get(self, bucket, key):
        return self.minio.presigned_get_object(bucket, key)

    def presigned_put(self, bucket, key):
        return self.minio.presigned_put_object(bucket, key)

    def delete(self, bucket, key):
        self.minio.remove_object(bucket, key)

    def delete_many(self, bucket, keys):
        assert list(self.minio.remove_objects(bucket, [DeleteObject(key) for key in keys])) == []
