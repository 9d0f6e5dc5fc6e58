"""Make every secret and certificate of the compose example, once.

    sudo python3 deploy/compose/prepare.py --name twin.example.org

Standard library and openssl only. Writes ``secrets/`` beside this file: one
folder for each container that reads it, owned by the user that it runs as, and
``gateway1/``, which goes to the plant's gateway. A folder that is there already
is left alone: to make it anew, move it away first.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The users that the images run as; the service's is set in deploy/Dockerfile.
OWNERS = {"mosquitto": 1883, "hptwin": 10001, "influxdb": 1000, "grafana": 472}
ITERATIONS = 20_000
DAYS = 3650


def password_line(name: str, password: str, salt: bytes) -> str:
    """Return a line of a mosquitto password file: PBKDF2 with SHA-512."""
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    parts = (base64.b64encode(part).decode() for part in (salt, key))
    return f"{name}:$7${ITERATIONS}${'$'.join(parts)}"


def certify(folder: Path, stem: str, authority: Path, names: str) -> None:
    """Make ``stem.key`` and ``stem.crt`` in a folder, signed by the authority."""
    key, certificate = folder / f"{stem}.key", folder / f"{stem}.crt"
    request = folder / f"{stem}.csr"
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", str(key), "-out", str(request), "-subj", f"/CN={stem}",
        "-addext", f"subjectAltName={names}",
    )  # fmt: skip
    openssl(
        "x509", "-req", "-in", str(request), "-days", str(DAYS),
        "-CA", str(authority / "ca.crt"), "-CAkey", str(authority / "ca.key"),
        "-set_serial", str(secrets.randbits(64)), "-copy_extensions", "copyall",
        "-out", str(certificate),
    )  # fmt: skip
    request.unlink()
    (folder / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())


def openssl(*arguments: str) -> None:
    """Run openssl, and end with its words if it fails."""
    done = subprocess.run(  # noqa: S603  our own arguments
        ["openssl", *arguments],  # noqa: S607  the machine's own
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"prepare: openssl {arguments[0]} failed:\n{done.stderr}")


def write(file: Path, content: str) -> None:
    """Write a secret."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")


def prepare(root: Path, names: list[str]) -> None:
    """Write all of it below a folder."""
    for part in (*OWNERS, "authority", "gateway1"):
        (root / part).mkdir(parents=True)
    authority = root / "authority"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-keyout", str(authority / "ca.key"), "-days", str(DAYS),
        "-out", str(authority / "ca.crt"), "-subj", "/CN=hptwin plant",
    )  # fmt: skip
    served = ",".join(f"DNS:{name}" for name in ["mosquitto", "localhost", *names])
    certify(root / "mosquitto", "server", authority, served)
    lines = []
    for who in ("hptwin", "gateway1"):
        certify(root / who, who, authority, f"DNS:{who}")
        password = secrets.token_urlsafe(24)
        write(root / who / "mqtt.password", password)
        lines.append(password_line(who, password, secrets.token_bytes(12)))
    write(root / "mosquitto" / "hptwin.passwd", "\n".join(lines) + "\n")
    token = secrets.token_urlsafe(48)
    for who in ("influxdb", "hptwin", "grafana"):
        write(root / who / "influx.token", token)
    for who in ("influxdb", "grafana", "hptwin"):
        write(root / who / "admin.password", secrets.token_urlsafe(24))
    for part in root.iterdir():
        owner = OWNERS.get(part.name, 0)
        for file in (part, *part.iterdir()):
            file.chmod(0o700 if file.is_dir() else 0o400)
            os.chown(file, owner, owner)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOST",
        help="how gateways call this machine, for the broker's certificate",
    )  # fmt: skip
    parser.add_argument("--into", type=Path, default=HERE / "secrets")
    given = parser.parse_args()
    if given.into.exists():
        sys.exit(f"prepare: {given.into} is there already; move it away first")
    if os.geteuid() != 0:
        sys.exit("prepare: files are given to the containers' users; run it with sudo")
    os.umask(0o077)
    prepare(given.into, given.name)
    sys.stdout.write(f"{given.into}: done. gateway1/ goes to the plant's gateway.\n")


if __name__ == "__main__":
    main()
