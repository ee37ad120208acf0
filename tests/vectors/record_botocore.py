"""Writes botocore.json: requests as botocore sends them, with AWS's example keys at AWS's example time.

    pip install botocore && python3 tests/vectors/record_botocore.py > tests/vectors/botocore.json
"""

import base64
import datetime
import json
import sys

import botocore.auth
import botocore.session
import botocore.signers
from botocore.awsrequest import AWSResponse
from botocore.config import Config

TIME = datetime.datetime(2013, 5, 24)
KEYS = ["plain.txt", "a b+c/ä~*'()!$&=,;:@%2F", "//double//slash/./../x", "%", "?#[]|\\^`{}<>\"", "日本語/e\u0301"]


def main():
    for module in [botocore.auth, botocore.signers]:
        assert hasattr(module, "get_current_datetime")
        module.get_current_datetime = lambda remove_tzinfo=True: TIME
    vectors = []
    for style in ["path", "virtual"]:
        for scheme in ["http", "https"]:
            vectors += Recorder(scheme, style).record()
    forms = [Recorder("https", "path").form(token) for token in [None, "token+/="]]
    json.dump({"requests": vectors, "forms": forms}, sys.stdout, indent=1, ensure_ascii=True)
    print()


class Recorder:
    def __init__(self, scheme, style):
        session = botocore.session.Session()
        session.set_credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        config = Config(signature_version="s3v4", s3={"addressing_style": style})
        endpoint = f"{scheme}://s3.amazonaws.com"
        self.client = session.create_client("s3", region_name="us-east-1", endpoint_url=endpoint, config=config)
        self.client.meta.events.register("before-send.s3", self.before_send)
        self.name, self.vectors = f"{scheme} {style}", []

    def before_send(self, request, **_):
        body = request.body or b""
        body = body.read() if hasattr(body, "read") else body
        body = body.encode() if isinstance(body, str) else body
        told = ("user-agent", "amz-sdk-")  # Of the machine and the call; not signed.
        headers = [(n, v) for n, v in request.headers.items() if not n.lower().startswith(told)]
        headers = [[n, v.decode() if isinstance(v, bytes) else v] for n, v in headers]
        self.add(request.method, request.url, headers, body)
        return AWSResponse(request.url, 200, {}, Raw())

    def add(self, method, url, headers, body):
        self.vectors.append({
            "name": f"{self.name}: {self.what}", "method": method, "url": url, "headers": headers,
            "bucket": "bucket", "key": self.key, "body": base64.b64encode(body).decode(),
        })

    def record(self):
        client = self.client
        for key in KEYS:
            at = {"Bucket": "bucket", "Key": key}
            self.call("get", key, client.get_object, **at, Range="bytes=0-9", ResponseContentType="a b/c+d")
            self.call("put", key, client.put_object, **at, Body=b"hello", Metadata={"a": "b  c", "d": "+/"})
            self.presign("presigned get", key, "get_object", {**at, "ResponseContentDisposition": 'x; f="a b+c"'})
            self.presign("presigned put", key, "put_object", {**at, "Metadata": {"a": "b c"}})
        at = {"Bucket": "bucket", "Key": "plain.txt"}
        self.call("put stream sha256", at["Key"], client.put_object, **at, Body=b"hello", ChecksumAlgorithm="SHA256")
        self.call("copy", at["Key"], client.copy_object, **at, CopySource={"Bucket": "other", "Key": "a b+c/ä"})
        self.call("list", None, client.list_objects_v2, Bucket="bucket", Prefix="a b+/ä&=", Delimiter="/")
        self.call("delete many", None, client.delete_objects, Bucket="bucket", Delete={"Objects": [{"Key": "a"}]})
        return self.vectors

    def form(self, token):
        self.client._request_signer._credentials.token = token
        return self.client.generate_presigned_post("bucket", "folder/${filename}", ExpiresIn=60)["fields"]

    def call(self, what, key, operation, **arguments):
        self.what, self.key = what, key
        try:
            operation(**arguments)
        except Exception:  # The empty answer is no answer to some operations.
            pass

    def presign(self, what, key, operation, arguments):
        self.what, self.key = what, key
        url = self.client.generate_presigned_url(operation, arguments, ExpiresIn=60)
        headers = [["x-amz-meta-a", "b c"]] if "x-amz-meta-a" in url else []
        self.add("PUT" if operation.startswith("put") else "GET", url, headers, b"")


class Raw:
    def stream(self, **_):
        yield b""

    def read(self, *_):
        return b""


main()
