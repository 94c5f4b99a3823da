"""Write anew what `aigid serve` installs: versions, with the hashes of their wheels."""

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from aigid.serving.host_python import PYTHONS
from aigid.serving.server_folder import REQUIREMENTS

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"

# numpy 1: the wheel's stubs were built with its C interface, and crash with numpy 2.
PINNED = {"nvidia-pytriton": "0.7.0", "numpy": "1.26.4"}
# What models import, as constraints.txt has it. Without what the wheel's own Python package and
# tokenizers' downloads need (gRPC, gevent, a client of the Hub: 50 more): no model imports these.
SAME = (
    "c2pa-python",
    "flatbuffers",
    "onnxruntime",
    "packaging",
    "pillow",
    "protobuf",
    "simplejpeg",
    "tokenizers",
)
HEADER = """\
# What `aigid serve` installs: NVIDIA's server, and what models import. For Linux on x86-64.
# Made by `python build/server_requirements.py`: change the versions there, or in constraints.txt.
"""
# The wheel of the server needs glibc 2.35.
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)]
_PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def pins() -> dict[str, str]:
    """Return the version of each package."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    fixed = dict(line.lower().split("==") for line in lines if "==" in line)
    return dict(sorted((PINNED | {name: fixed[name] for name in SAME}).items()))


def hashes(python: str, versions: dict[str, str]) -> dict[str, str]:
    """Return the SHA-256 of the wheel of each package that pip chooses for a version of Python."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
        command += ["--only-binary=:all:", "--ignore-installed", f"--target={folder}"]
        command += ["--report=-", f"--python-version={python}"]
        command += [f"--platform={platform}" for platform in _PLATFORMS]
        command += [f"{name}=={version}" for name, version in versions.items()]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["download_info"][
            "archive_info"
        ]["hashes"]["sha256"]
        for item in report["install"]
    }


def requirements() -> str:
    """Return the text of the file."""
    versions = pins()
    found = defaultdict(set)
    for python in PYTHONS:
        for name, value in hashes(python, versions).items():
            found[name].add(value)
    lines = []
    for name, version in versions.items():
        wheels = (f"--hash=sha256:{one}" for one in sorted(found[name]))
        lines.append(" \\\n    ".join([f"{name}=={version}", *wheels]))
    return HEADER + "".join(f"{line}\n" for line in lines)


@click.command()
def main() -> None:
    """Write aigid/serving/server_requirements.txt anew, as constraints.txt has the versions.

    pip asks its index for the wheels. Look at the difference before you commit it.

    \b
    Example: python build/server_requirements.py
    """
    REQUIREMENTS.write_text(requirements(), encoding="utf-8")
    print(f"{REQUIREMENTS}: {len(pins())} packages")


if __name__ == "__main__":
    main()
