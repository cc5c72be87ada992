"""Keys for the embedded store's internal traffic on its gRPC and file ports.

SeaweedFS trusts everyone who can reach its gRPC ports, and on loopback that is every user of the machine: `weed
shell` could list all photos and become an S3 administrator. With `security.toml` in the store's folder, its gRPC
ports require a client certificate (mutual TLS), and its file ports a signed token. Each start creates new ones,
because only the store's own processes need them.
"""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from humanseg.common.files import write_whole

# Every component with a section in weed 4.48; an omitted one would listen without TLS.
COMPONENTS = ("master", "volume", "filer", "s3", "msg_broker", "msg_agent", "admin", "worker", "mq", "client")
VALID_DAYS = 3650  # a running store can't renew them; each start creates new ones
JWT_BYTES = 32


def write_security(folder: Path) -> Path:
    """Writes a new CA, one certificate and `security.toml` into `folder` (0700); all files 0600.

    The private key of the CA is discarded: nobody can sign another certificate.

    Returns:
        The path of `security.toml`, which weed reads from its working folder.

    Raises:
        OSError: the folder can't be written.
    """
    tls = folder / "tls"
    tls.mkdir(mode=0o700, exist_ok=True)
    tls.chmod(0o700)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("humanseg store CA", ca_key, "humanseg store CA", ca_key, is_ca=True)
    leaf = _certificate("humanseg store", key, "humanseg store CA", ca_key, is_ca=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_whole(tls / "ca.pem", ca.public_bytes(serialization.Encoding.PEM), mode=0o600)
    write_whole(tls / "cert.pem", leaf.public_bytes(serialization.Encoding.PEM), mode=0o600)
    write_whole(tls / "key.pem", private, mode=0o600)
    path = folder / "security.toml"
    write_whole(path, _toml(tls).encode(), mode=0o600)
    return path


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # tolerates a clock that is set back
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
    )
    if not is_ca:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        names = [x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _toml(tls: Path) -> str:
    def quoted(text: object) -> str:
        return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["[grpc]", f"ca = {quoted(tls / 'ca.pem')}"]
    for component in COMPONENTS:
        lines += [f"[grpc.{component}]"]
        lines += [f"cert = {quoted(tls / 'cert.pem')}", f"key = {quoted(tls / 'key.pem')}"]
    for section in ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read"):
        lines += [f"[{section}]", f"key = {quoted(secrets.token_hex(JWT_BYTES))}"]
    lines += ["[admin]", 'user = "nobody"', f"password = {quoted(secrets.token_hex(16))}"]
    return "\n".join([*lines, ""])
