"""Docker's registry: layers pushed in pieces and pulled, one in the middle of its push taken up by another registry"""

import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

from common import BIN, ENDPOINT, KEY, SECRET, s3
from depth_multipart import MIB, noise

CONFIGURATION = """
version: 0.1
log: {{level: warn}}
storage:
  s3:
    accesskey: {key}
    secretkey: {secret}
    region: us-east-1
    regionendpoint: {endpoint}
    forcepathstyle: true
    secure: false
    bucket: {bucket}
    chunksize: 5242880
  redirect: {{disable: true}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}", secret: a-secret-of-all-replicas}}
"""


class Registry:
    """The real program, and what of Docker's client is needed: its HTTP API."""

    def __init__(self, bucket, work):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.root, file = f"http://127.0.0.1:{port}", f"{work}/{port}.yml"
        with open(file, "w") as out:
            out.write(CONFIGURATION.format(key=KEY, secret=SECRET, endpoint=ENDPOINT, bucket=bucket, port=port))
        with open(f"{work}/{port}.log", "w") as log:
            environment = {"HOME": work, "OTEL_TRACES_EXPORTER": "none"}
            program = [os.path.join(BIN, "registry"), "serve", file]
            self.process = subprocess.Popen(program, env=environment, stdout=log, stderr=log)
        while True:
            try:
                self.ask("GET", "/v2/")
                break
            except urllib.error.URLError:
                assert self.process.poll() is None, open(f"{work}/{port}.log").read()
                time.sleep(0.05)

    def ask(self, method, path, body=None, **headers):
        """Path, or an upload's whole address of which the host may be another registry's."""
        path = "/v2/" + path.split("/v2/", 1)[1]
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.root + path, body, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.headers, answer.read()

    def begin(self, name):
        return self.ask("POST", f"/v2/{name}/blobs/uploads/", b"")[0]["Location"]

    def append(self, upload, piece):
        return self.ask("PATCH", upload, piece, Content_Type="application/octet-stream")[0]["Location"]

    def end(self, upload, body):
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        joined = f"{upload}&digest={digest}" if "?" in upload else f"{upload}?digest={digest}"
        self.ask("PUT", joined, b"")
        return {"digest": digest, "size": len(body)}

    def push(self, name, body, piece):
        upload = self.begin(name)
        for at in range(0, len(body), piece):
            upload = self.append(upload, body[at : at + piece])
        return self.end(upload, body)

    def kill(self):
        self.process.kill()
        self.process.wait()


def main(bucket, work):
    registries = [Registry(bucket, work)]
    try:
        pushed_and_pulled(registries, bucket, work)
    finally:
        for registry in registries:
            registry.kill()


def pushed_and_pulled(registries, bucket, work):
    first = registries[0]
    bodies = [noise(1, 100), noise(2, 33 * MIB + 5), noise(3, 12 * MIB)]
    # Pieces that fit no part, and some shorter than any.
    layers = [first.push("team/app", body, piece) for body, piece in zip(bodies, [60, 7 * MIB + 1, 3 * MIB])]

    # Of the last layer one registry takes the first pieces, and is killed.
    interrupted = noise(4, 21 * MIB + 9)
    upload = first.append(first.append(first.begin("team/app"), interrupted[: 6 * MIB]), interrupted[6 * MIB : 14 * MIB])
    first.kill()
    second = Registry(bucket, work)
    registries.append(second)
    layers.append(second.end(second.append(upload, interrupted[14 * MIB :]), interrupted))
    bodies.append(interrupted)

    kind = "application/vnd.oci.image.manifest.v1+json"
    for layer, media in zip(layers, ["config.v1+json", *["layer.v1.tar"] * 3]):
        layer["mediaType"] = f"application/vnd.oci.image.{media}"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": layers[0], "layers": layers[1:]}
    manifest = json.dumps(manifest).encode()
    second.ask("PUT", "/v2/team/app/manifests/latest", manifest, Content_Type=kind)
    assert second.ask("GET", "/v2/team/app/manifests/latest", Accept=kind)[1] == manifest
    for layer, body in zip(layers, bodies):
        assert second.ask("GET", f"/v2/team/app/blobs/{layer['digest']}")[1] == body
        _, piece = second.ask("GET", f"/v2/team/app/blobs/{layer['digest']}", Range="bytes=40-90")
        assert piece == body[40:91]
    left = s3().list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert not left, left
