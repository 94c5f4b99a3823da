"""Images with C2PA manifests, signed by a test's own issuer."""

import datetime
import io
import json
from dataclasses import dataclass
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.evidence_files import SOURCE_TYPES, jpeg

_FROM = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Issuer:
    """A root certificate, and a signer that it vouches for."""

    root: str
    chain: str
    key: str


def make_issuer(name: str = "Test Camera Maker") -> Issuer:
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("Test Root", root_key, "Test Root", root_key, is_root=True)
    leaf = _certificate(name, key, "Test Root", root_key, is_root=False)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Issuer(root, leaf + root, private.decode())


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_root: bool,
) -> str:
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(_key_usage(is_root=is_root), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not is_root:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    signed = builder.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _key_usage(*, is_root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_root,
        key_cert_sign=is_root,
        crl_sign=is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def created(source_type: str, agent: str = "Test Model 1") -> dict[str, Any]:
    """Return the action that made an image."""
    return {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPES + source_type,
        "softwareAgent": {"name": agent},
    }


def signed(
    issuer: Issuer,
    *actions: dict[str, Any],
    image: bytes | None = None,
    media_type: str = "image/jpeg",
    ingredient: bytes | None = None,
    relationship: str = "parentOf",
) -> bytes:
    """Return an image with a manifest of these actions, and of an ingredient."""
    manifest = {
        "claim_generator_info": [{"name": "Test Generator", "version": "2.0"}],
        "format": media_type,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}],
    }
    info = c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg.ES256, issuer.chain.encode(), issuer.key.encode(), None
    )
    signed_image = io.BytesIO()
    context = c2pa.Context.from_dict({"verify": {"verify_after_sign": False}})
    with (
        context,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(json.dumps(manifest), context=context) as builder,
    ):
        if ingredient is not None:
            about = {"title": "ingredient.jpg", "relationship": relationship}
            builder.add_ingredient(json.dumps(about), "image/jpeg", io.BytesIO(ingredient))
        builder.sign(signer, media_type, io.BytesIO(image or jpeg()), signed_image)
    return signed_image.getvalue()
