"""Applications that keep what is theirs in S3, through s3veil. apps.py NAME

Each is `app_NAME.py`: a function `main(bucket, work)` that lets the application work as its users do, and compares what comes
back.
"""

import importlib
import sys
import tempfile

from common import listed, s3, store

name = sys.argv[1]
application, bucket = importlib.import_module(f"app_{name}"), f"app-{name}"
s3().create_bucket(Bucket=bucket)
with tempfile.TemporaryDirectory() as work:
    application.main(bucket, work)
left = [key for key in listed(bucket, store()) if key.startswith(".s3veil/")]
assert not left, f"s3veil has left {left}"
print(f"{name}: {application.__doc__.splitlines()[0]}")
