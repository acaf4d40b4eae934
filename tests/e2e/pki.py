"""Authorities and certificates for tests, made by the openssl command."""

import pathlib
import subprocess

from cluster import Failed


def openssl(*arguments):
    """Runs openssl."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failed(f"openssl {arguments[0]}: {done.stderr.strip()}")


class Authority:
    """Signs certificates; everything is in one folder."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = pathlib.Path(folder), name
        self.certificate = self.folder / f"{name}.crt"
        self.key = self.folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
                "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, sans, into=None):
        """A certificate and its key for these names (like DNS:a.example or IP:127.0.0.1); returns their paths."""
        certificate = self.folder / f"{into or name}.crt"
        key = self.folder / f"{into or name}.key"
        request = self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(sans)}\n")
        fresh_certificate, fresh_key = certificate.with_suffix(".crt.new"), key.with_suffix(".key.new")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", fresh_key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
                "-days", 2, "-extfile", extensions, "-out", fresh_certificate)
        # In place, as a certificate manager does it: first the certificate, then the key.
        fresh_certificate.replace(certificate)
        fresh_key.replace(key)
        return certificate, key
