"""s3veil over TLS: clients send checksums behind the body only there. Its own, or that of a terminator before `s3veil dev`."""

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
import threading

from common import HOST
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _certificate(path):
    """Writes a key and its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s3veil-test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with open(path, "wb") as file:
        file.write(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))


def _pump(source, target):
    # A side that hangs up ends both ways.
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
    for side in (source, target):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def _accept(listener, context):
    host, port = HOST.split(":")
    with contextlib.suppress(OSError):
        while True:
            raw, _ = listener.accept()
            client, server = context.wrap_socket(raw, server_side=True), socket.create_connection((host, int(port)))
            for pair in [(client, server), (server, client)]:
                threading.Thread(target=_pump, args=pair, daemon=True).start()


@contextlib.contextmanager
def front():
    """Gives the address and the certificate that a client must trust."""
    if "TLS_ENDPOINT" in os.environ:
        yield os.environ["TLS_ENDPOINT"], os.environ["TLS_CERTIFICATE"]
        return
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        path = os.path.join(directory, "certificate.pem")
        _certificate(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", path
