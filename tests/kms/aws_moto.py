"""moto's server, with what AWS KMS keeps and moto leaves out.

A key that is disabled or pending deletion is refused; what another key than the named one has wrapped is an
IncorrectKeyException; a rotation on demand gives a key new material. Sources: AWS KMS API Reference, Decrypt,
DescribeKey, RotateKeyOnDemand; AWS KMS Developer Guide, "Key states of KMS keys".
"""

import hashlib

from moto.core.exceptions import JsonRESTError
from moto.kms import models
from moto.kms.exceptions import AccessDeniedException, InvalidCiphertextException
from moto.server import main

Backend = models.KmsBackend


def usable(backend, key_id):
    key = backend.keys[backend.any_id_to_key_id(key_id)]
    if key.key_state == "Disabled":
        raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
    if key.key_state == "PendingDeletion":
        raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return key


def guard(name):
    inner = getattr(Backend, name)

    def guarded(self, key_id, *args, **kwargs):
        usable(self, key_id)
        return inner(self, key_id, *args, **kwargs)

    setattr(Backend, name, guarded)


def decrypt(self, ciphertext_blob, encryption_context, key_id=None, inner=Backend.decrypt):
    if key_id:
        usable(self, key_id)
    try:
        return inner(self, ciphertext_blob, encryption_context, key_id)
    except AccessDeniedException:
        pass
    try:
        inner(self, ciphertext_blob, encryption_context)
    except AccessDeniedException:
        raise InvalidCiphertextException() from None
    raise JsonRESTError("IncorrectKeyException", "The key ID in the request does not identify the key.")


def described(self, inner=models.Key.to_dict):
    answer = inner(self)
    material = f"{self.id} {len(self.rotations)}".encode()
    answer["KeyMetadata"]["CurrentKeyMaterialId"] = hashlib.sha256(material).hexdigest()
    return answer


guard("generate_data_key")
Backend.decrypt = decrypt
models.Key.to_dict = described
main()
