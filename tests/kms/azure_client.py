"""What s3veil keeps at Azure, read and written with Microsoft's own client.

Reads questions as JSON, one a line, and answers each with a line of JSON. Argument: the vault. The CA is in REQUESTS_CA_BUNDLE.
"""

import base64
import json
import sys
import time

from azure.core.credentials import AccessToken
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm
from azure.keyvault.secrets import SecretClient


class Token:
    """A token that is had already."""

    def __init__(self, token):
        self.token = token

    def get_token(self, *scopes, **_):
        assert scopes == ("https://vault.azure.net/.default",), scopes
        return AccessToken(self.token, int(time.time()) + 3600)


def main():
    question = json.loads(sys.stdin.read())
    options = {"credential": Token(question["token"]), "verify_challenge_resource": False}
    keys = KeyClient(question["vault"], **options)
    secrets = SecretClient(question["vault"], **options)

    key = keys.get_key("a", question["version"])
    assert key.properties.enabled and key.properties.version == question["version"]
    assert [version.version for version in keys.list_properties_of_key_versions("a")] == question["versions"]
    crypto = CryptographyClient(key, **options)
    # Unwrapped by the vault, wrapped here, with the public key alone.
    opened = crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, bytes.fromhex(question["wrapped"]))
    wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, opened.key)

    secret = secrets.get_secret("a").value
    assert len(base64.b64decode(secret, validate=True)) > 64
    secrets.set_secret("copy", secret)
    keys.update_key_properties("a", question["version"], enabled=False)
    print(json.dumps({"dek": opened.key.hex(), "wrapped": wrapped.encrypted_key.hex()}))


main()
