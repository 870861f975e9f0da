"""A certificate authority for one test, by the openssl program: nobody trusts it who is not told to."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Extensions are all spelled out: what openssl adds on its own differs between versions.
CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectAltName = {alternative}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Authority:
    """The authority; its key is made by making one.

    Attributes:
        certificate: The file that makes others trust it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate, self._key = self._make("authority", "authority", "DNS:nowhere", ())

    def issue(self, host: str) -> tuple[Path, Path]:
        """Files of a certificate for a host, named or numbered, and of its key."""
        kind = "IP" if host.replace(".", "").isdigit() else "DNS"
        signed = ("-CA", str(self.certificate), "-CAkey", str(self._key))
        return self._make(host, "leaf", f"{kind}:{host}", signed)

    def _make(self, name: str, section: str, alternative: str, signed: tuple[str, ...]) -> tuple[Path, Path]:
        configuration = self._folder / f"{name}.cnf"
        configuration.write_text(CONFIGURATION.format(name=name, alternative=alternative))
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-config", str(configuration), "-extensions", section, "-days", "1"]
        command += ["-out", str(certificate), "-keyout", str(key), *signed]
        subprocess.run(command, check=True, capture_output=True)
        return certificate, key
