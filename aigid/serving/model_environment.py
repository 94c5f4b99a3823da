"""The environment of Python that the server's models see: the server's packages, and this aigid.

It has what is different on each host, and for each installation of aigid. So it is not in the
server's folder, which may be a copy, or be read by several hosts.
"""

import hashlib
import tempfile
from pathlib import Path

from aigid.serving.host_python import HostPython


def make_environment(cache: Path, python: HostPython, packages: Path) -> Path:
    """Return an environment of this Python that imports `packages`, and this aigid; OSError.

    It is made below `cache` if needed, and does not import what is installed for this Python.
    """
    aigid = Path(__file__).parent.parent
    parts = "\0".join(map(str, (python.executable, python.version, packages, aigid)))
    folder = cache / "environments" / hashlib.sha256(parts.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        new = Path(temporary) / "environment"
        _write(new, python, packages, aigid)
        try:
            new.rename(folder)
        except OSError:
            # Another process has made it meanwhile.
            if not folder.is_dir():
                raise
    return folder


def _write(new: Path, python: HostPython, packages: Path, aigid: Path) -> None:
    imported = new / "lib" / f"python{python.version}" / "site-packages"
    imported.mkdir(parents=True)
    # A link, and not its folder on the path: beside it may lie the packages of another environment.
    (imported / aigid.name).symlink_to(aigid, target_is_directory=True)
    (imported / "packages.pth").write_text(f"{packages}\n", encoding="utf-8")
    # By this file, beside the first `python3` on the PATH, Python finds the environment.
    (new / "pyvenv.cfg").write_text(
        f"home = {python.executable.parent}\ninclude-system-site-packages = false\n",
        encoding="utf-8",
    )
    (new / "bin").mkdir()
    for name in ("python", "python3", f"python{python.version}"):
        (new / "bin" / name).symlink_to(python.executable)
