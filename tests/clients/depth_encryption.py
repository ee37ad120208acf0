"""S3's encryption API in depth: bucket defaults, keys of a request's choice, contexts, customers' keys."""

import base64
import hashlib
import io
import json
import os
import tempfile

import client_awscli
import client_mc
import client_rclone
from boto3.s3.transfer import TransferConfig
from common import BODIES, SECRET, STORE, Failed, files, listed, refused, same, sizes, stored, tree
from depth_multipart import MIB, noise

# The EK of the policy, and one that clients may name beside it; `s3veil dev` has one only.
OWN, OTHER = ("s3veil-dev-key", "s3veil-dev-key") if STORE == "dev" else ("main", "other")
BODY = BODIES["big.bin"]
PARTS = TransferConfig(multipart_chunksize=5 * MIB, multipart_threshold=5 * MIB)


def no_plaintext(bucket, bodies):
    """None of these bodies lies in the store, nor a piece of one."""
    held = stored(bucket)
    assert bodies.keys() <= held.keys(), bodies.keys() - held.keys()
    for key, body in bodies.items():
        assert not any(body[at : at + 32] in held[key] for at in range(0, len(body) - 32, len(body) // 9)), key


def encryption_defaults(client, bucket):
    """a bucket's default encryption by boto3, `aws s3api` and `mc encrypt`"""
    refused("ServerSideEncryptionConfigurationNotFoundError", client.get_bucket_encryption, Bucket=bucket)
    with tempfile.TemporaryDirectory() as work:
        aws, mc = client_awscli.Client(f"{work}/aws", SECRET), client_mc.Client(f"{work}/mc", SECRET)

        mc.mc("encrypt", "set", "sse-kms", OTHER, f"p/{bucket}")
        info = mc.mc("encrypt", "info", f"p/{bucket}")
        assert "sse-kms" in info and OTHER in info, info
        written = client.put_object(Bucket=bucket, Key="mc", Body=BODY)
        assert written["SSEKMSKeyId"] == OTHER, written
        shown = json.loads(aws.aws("s3api", "get-bucket-encryption", "--bucket", bucket))
        [rule] = shown["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms", rule
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].endswith(OTHER), rule
        mc.mc("encrypt", "clear", f"p/{bucket}")
        try:
            raise AssertionError(mc.mc("encrypt", "info", f"p/{bucket}"))
        except Failed as cleared:
            assert "was not found" in str(cleared)
        assert client.put_object(Bucket=bucket, Key="cleared", Body=BODY)["SSEKMSKeyId"] == OWN

        rules = {"Rules": [{
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": OTHER},
            "BucketKeyEnabled": True,
        }]}
        encryption = json.dumps(rules)
        aws.aws("s3api", "put-bucket-encryption", "--bucket", bucket, "--server-side-encryption-configuration", encryption)
        assert client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"] == rules
        tree(f"{work}/up", {"by aws": BODY})
        aws.aws("s3", "cp", f"{work}/up/by aws", f"s3://{bucket}/by aws")
        head = client.head_object(Bucket=bucket, Key="by aws")
        assert (head["SSEKMSKeyId"], head["BucketKeyEnabled"]) == (OTHER, True), head
        aws.aws("s3api", "delete-bucket-encryption", "--bucket", bucket)

    unknown = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "x y"}}]}
    refused(
        "KMS.NotFoundException", client.put_bucket_encryption, Bucket=bucket,
        ServerSideEncryptionConfiguration=unknown,
    )
    bodies = dict.fromkeys(("mc", "cleared", "by aws"), BODY)
    assert listed(bucket) == sizes(bodies), "where a default was kept shows nowhere"
    for key in bodies:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
        client.delete_object(Bucket=bucket, Key=key)
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)
    client.delete_bucket(Bucket=bucket)
    client.create_bucket(Bucket=bucket)
    refused("ServerSideEncryptionConfigurationNotFoundError", client.get_bucket_encryption, Bucket=bucket)


def encryption_requests(client, bucket):
    """SSE-KMS with a key and a context of the request's choice, SSE-S3, Bucket Keys"""
    context = base64.b64encode(json.dumps({"team": "blue"}).encode()).decode()
    kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": f"arn:aws:kms:{OTHER}"}
    cases = {
        "plain": ({}, ("aws:kms", OWN)),
        "kms": ({"ServerSideEncryption": "aws:kms"}, ("aws:kms", OWN)),
        "named": (kms, ("aws:kms", OTHER)),
        "context": ({**kms, "SSEKMSEncryptionContext": context}, ("aws:kms", OTHER)),
        "bucket key": ({**kms, "BucketKeyEnabled": True}, ("aws:kms", OTHER)),
        "s3": ({"ServerSideEncryption": "AES256"}, ("AES256", None)),
    }
    big, bodies = noise(9, 11 * MIB), {}

    def whole(key, body, arguments):
        client.put_object(Bucket=bucket, Key=key, Body=body, **arguments)

    def by_parts(key, body, arguments):
        client.upload_fileobj(io.BytesIO(body), bucket, key, ExtraArgs=arguments, Config=PARTS)

    for name, (arguments, shown) in cases.items():
        for key, body, write in ((name, BODY, whole), (f"{name} in parts", big, by_parts)):
            if write is by_parts and "BucketKeyEnabled" in arguments:
                continue  # boto3's own uploads don't take it
            write(key, body, arguments)
            bodies[key] = body
            for answer in (client.head_object(Bucket=bucket, Key=key), client.get_object(Bucket=bucket, Key=key)):
                assert (answer["ServerSideEncryption"], answer.get("SSEKMSKeyId")) == shown, (key, answer)
                assert answer.get("BucketKeyEnabled", False) == (name == "bucket key"), key
                assert answer["Metadata"] == {}, answer
            assert answer["Body"].read() == body, key
        client.copy_object(Bucket=bucket, Key=f"{name} copied", CopySource=f"{bucket}/plain", **arguments)
        bodies[f"{name} copied"] = BODY
        answer = client.get_object(Bucket=bucket, Key=f"{name} copied")
        assert (answer["ServerSideEncryption"], answer.get("SSEKMSKeyId")) == shown, (name, answer)
        assert answer["Body"].read() == BODY
    for code, key in (("KMS.NotFoundException", "no name"), ("AccessDenied KMS.NotFoundException", "forbidden")):
        refused(
            code, client.put_object, Bucket=bucket, Key="x", Body=b"", ServerSideEncryption="aws:kms", SSEKMSKeyId=key
        )
    assert listed(bucket) == sizes(bodies)
    no_plaintext(bucket, bodies)


def encryption_customers(client, bucket):
    """SSE-C: PUT, GET, HEAD, ranges, parts, copies by boto3; `aws s3 cp` and rclone with it"""
    key, other = bytes(range(32)), os.urandom(32)
    mine = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
    theirs = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": other}
    md5 = base64.b64encode(hashlib.md5(key).digest()).decode()
    big = noise(8, 12 * MIB + 5)
    written = client.put_object(Bucket=bucket, Key="one", Body=BODY, **mine)
    assert (written["SSECustomerAlgorithm"], written["SSECustomerKeyMD5"]) == ("AES256", md5), written
    client.upload_fileobj(io.BytesIO(big), bucket, "parts", ExtraArgs=mine, Config=PARTS)
    for name, body in (("one", BODY), ("parts", big)):
        answer = client.get_object(Bucket=bucket, Key=name, **mine)
        assert answer["SSECustomerKeyMD5"] == md5 and "ServerSideEncryption" not in answer, answer
        assert answer["Body"].read() == body
        assert client.head_object(Bucket=bucket, Key=name, **mine)["ContentLength"] == len(body)
        part = client.get_object(Bucket=bucket, Key=name, Range="bytes=70000-140000", **mine)["Body"].read()
        assert part == body[70000:140001]
        refused("InvalidRequest", client.get_object, Bucket=bucket, Key=name)
        refused("AccessDenied", client.get_object, Bucket=bucket, Key=name, **theirs)
        refused("400", client.head_object, Bucket=bucket, Key=name)
        # Anew under another customer's key, and back under the policy's.
        source = {f"CopySource{field}": value for field, value in mine.items()}
        client.copy_object(Bucket=bucket, Key=f"{name} theirs", CopySource=f"{bucket}/{name}", **source, **theirs)
        assert client.get_object(Bucket=bucket, Key=f"{name} theirs", **theirs)["Body"].read() == body
        client.copy_object(Bucket=bucket, Key=f"{name} ours", CopySource=f"{bucket}/{name}", **source)
        assert client.get_object(Bucket=bucket, Key=f"{name} ours")["Body"].read() == body
    bodies = {f"{name}{more}": body for name, body in (("one", BODY), ("parts", big)) for more in ("", " theirs", " ours")}
    with tempfile.TemporaryDirectory() as work:
        aws, rclone = client_awscli.Client(f"{work}/aws", SECRET), client_rclone.Client(f"{work}/rclone", SECRET)
        tree(f"{work}/up", {"aws": big})
        with open(f"{work}/key", "wb") as file:
            file.write(key)
        option = ("--sse-c", "AES256", "--sse-c-key", f"fileb://{work}/key")
        aws.aws("s3", "cp", f"{work}/up/aws", f"s3://{bucket}/aws", *option)
        aws.aws("s3", "cp", f"s3://{bucket}/aws", f"{work}/down/aws", *option)
        same(files(f"{work}/down"), {"aws": big}, "aws s3 cp --sse-c")
        rclone.env.pop("RCLONE_CONFIG_P_SERVER_SIDE_ENCRYPTION")
        rclone.env |= {
            "RCLONE_CONFIG_P_SSE_CUSTOMER_ALGORITHM": "AES256",
            "RCLONE_CONFIG_P_SSE_CUSTOMER_KEY_BASE64": base64.b64encode(key).decode(),
            "RCLONE_CONFIG_P_CHUNK_SIZE": "5M", "RCLONE_CONFIG_P_UPLOAD_CUTOFF": "5M",
        }
        tree(f"{work}/rclone up", {"rclone/a": big, "rclone/b": BODY})
        rclone.rclone("copy", f"{work}/rclone up", f"p:{bucket}")
        rclone.rclone("copy", f"p:{bucket}/rclone", f"{work}/rclone down/rclone")
        same(files(f"{work}/rclone down"), {"rclone/a": big, "rclone/b": BODY}, "rclone with SSE-C")
    bodies |= {"aws": big, "rclone/a": big, "rclone/b": BODY}
    found = listed(bucket)
    for name, body in bodies.items():
        # In parts and without the key at hand: as the store has it (docs/operations.md).
        sealed_size = found[name] > len(body) and body is big and "ours" not in name
        assert found[name] == len(body) or sealed_size, (name, found[name], len(body))
    no_plaintext(bucket, bodies)
