"""mc: 70 MiB in parts, read from an offset, mirrored to another bucket and to a directory"""

from client_mc import Client
from common import SECRET, files, run_bytes, s3, same, tree
from depth_multipart import MIB, noise


def main(bucket, work):
    client = Client(f"{work}/settings", SECRET)
    bodies = {"large": noise(5, 70 * MIB + 3), "folder/small": noise(6, 1000)}
    tree(f"{work}/up", bodies)
    client.mc("mirror", f"{work}/up", f"p/{bucket}")
    assert s3().head_object(Bucket=bucket, Key="large", PartNumber=1)["PartsCount"] > 1
    rest = run_bytes("mc", "cat", "--offset", str(33 * MIB + 5), f"p/{bucket}/large", **client.env)
    assert rest == bodies["large"][33 * MIB + 5 :]
    client.mc("mb", f"p/{bucket}-2")
    client.mc("mirror", f"p/{bucket}", f"p/{bucket}-2")
    client.mc("mirror", f"p/{bucket}-2", f"{work}/down")
    same(files(f"{work}/down"), bodies, "mirrored back")
