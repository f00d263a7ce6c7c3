"""A certificate for the tests of TLS."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from kvlab.server import engines


@pytest.fixture(scope="session")
def of_tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The options of a server that speaks TLS, but for its port; its certificate is the CA too."""
    engine = engines.find("redis")
    if engine.missing or shutil.which("openssl") is None:
        pytest.skip(f"needs redis-server with TLS and openssl: {engine.missing or 'no openssl'}")
    here = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    make += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    make += ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(make, cwd=here, check=True, capture_output=True)
    return {
        "tls-cert-file": str(here / "cert.pem"),
        "tls-key-file": str(here / "key.pem"),
        "tls-ca-cert-file": str(here / "cert.pem"),
        "tls-auth-clients": "no",
    }
