"""The list of packages with hashes, and what pip says when it cannot install them."""

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aigid.errors import ServerError
from aigid.serving import server_install
from aigid.serving.host_python import PYTHONS, HostPython, find_python
from aigid.serving.server_folder import REQUIREMENTS
from aigid.serving.server_install import install_server

ROOT = Path(__file__).parents[3]
# numpy 1, and the server itself, are not what aigid's own environment has.
OTHER = {"numpy", "nvidia-pytriton"}


def listed() -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of each package of the list."""
    text = re.sub(r"^#.*\n", "", REQUIREMENTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        pin, *hashes = line.split()
        name, version = pin.split("==")
        found[name] = (version, hashes)
    return found


def test_every_package_is_pinned_with_a_hash_for_each_python() -> None:
    for name, (_, hashes) in listed().items():
        # One for all versions of Python, or one for each.
        assert len(hashes) in {1, len(PYTHONS)}, name
        assert len(set(hashes)) == len(hashes)
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes)


def test_the_versions_are_those_that_aigid_is_tested_with() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    fixed = dict(line.split("==") for line in lines if "==" in line)
    tested = {canonicalize_name(name): version for name, version in fixed.items()}
    for name, (version, _) in listed().items():
        assert name in OTHER or tested[canonicalize_name(name)] == version, name


def test_what_models_import_is_new_enough_for_this_aigid() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = map(
        Requirement, project["dependencies"] + project["optional-dependencies"]["evidence"]
    )
    bounds = {canonicalize_name(one.name): one.specifier for one in wanted}
    for name in ("c2pa-python", "numpy", "onnxruntime", "pillow", "simplejpeg", "tokenizers"):
        assert bounds[canonicalize_name(name)].contains(listed()[name][0]), name


@pytest.fixture(scope="module")
def python() -> HostPython:
    return find_python(to_install=True)


def wheel(folder: Path, name: str, version: str) -> str:
    """Write a small wheel, and return its SHA-256."""
    stem = name.replace("-", "_")
    information = f"{stem}-{version}.dist-info"
    path = folder / f"{stem}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{stem}/__init__.py", "")
        file.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(
            f"{information}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{information}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is told to take packages from, and no others, by its own variables."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def failure(tmp_path: Path, python: HostPython) -> str:
    """Install, and return the error; nothing is left."""
    fractions: list[float] = []
    with pytest.raises(ServerError) as caught:
        install_server(tmp_path / "cache" / "server", python, print, fractions.append)
    assert not list((tmp_path / "cache").iterdir())
    assert fractions == sorted(fractions)
    assert 0 < fractions[-1] < 1
    return str(caught.value)


def test_a_host_without_an_index_is_told_what_pip_needs(
    index: Path, tmp_path: Path, python: HostPython
) -> None:
    message = failure(tmp_path, python)
    assert re.search(
        r"cannot be installed: ERROR: No matching distribution found for \S+==", message
    )
    assert "look at the network and at pip's settings (PIP_INDEX_URL); or prepare the" in message


def test_a_wheel_that_is_not_the_one_of_the_list_is_refused(
    index: Path, tmp_path: Path, python: HostPython
) -> None:
    for name, (version, _) in listed().items():
        wheel(index, name, version)
    message = failure(tmp_path, python)
    assert re.match(r"pip was given another file as \S+==\S+ \(file:/", message)
    assert "its SHA-256 differs: it is damaged, or an index or a cache has replaced it" in message


def test_a_source_archive_is_never_compiled(
    index: Path, tmp_path: Path, python: HostPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    source = index / "numpy-1.26.4"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n")
    subprocess.run(["tar", "-czf", "numpy-1.26.4.tar.gz", source.name], cwd=index, check=True)
    digest = hashlib.sha256((index / "numpy-1.26.4.tar.gz").read_bytes()).hexdigest()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"numpy==1.26.4 --hash=sha256:{digest}\n")
    monkeypatch.setattr(server_install, "REQUIREMENTS", requirements)
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    assert "No matching distribution found for numpy==1.26.4" in failure(tmp_path, python)
    assert not ran.exists()


def test_pip_gets_the_user_s_own_settings(
    index: Path, tmp_path: Path, python: HostPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own folder of packages is read, and the user's own site-packages not written."""
    digest = wheel(index, "of-my-own", "1.0")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"of-my-own==1.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr(server_install, "REQUIREMENTS", requirements)
    monkeypatch.setenv("PIP_USER", "1")
    server_install._install_packages(tmp_path / "new", python, lambda fraction: None)
    assert (tmp_path / "new" / "server" / "packages" / "of_my_own" / "__init__.py").is_file()


def test_a_second_installation_waits_for_the_first_and_removes_what_a_killed_one_left(
    index: Path, tmp_path: Path, python: HostPython
) -> None:
    left = tmp_path / "cache" / ".aigid-installs-killed"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    said, told = threading.Event(), []

    def message(line: str) -> None:
        told.append(line)
        said.set()

    def second() -> None:
        with pytest.raises(ServerError):
            install_server(tmp_path / "cache" / "server", python, message, lambda fraction: None)

    handle = os.open(left.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    thread = threading.Thread(target=second)
    thread.start()
    try:
        assert said.wait(60)
        assert left.is_dir()
    finally:
        os.close(handle)
        thread.join()
    assert told == [f"another process installs a server below {left.parent}: waiting for it"]
    assert not list(left.parent.iterdir())


def test_a_killed_installation_leaves_no_pip_that_goes_on(
    index: Path, tmp_path: Path, python: HostPython
) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from aigid.serving.server_install import _run\n"
        "_run(['/bin/sh', '-c', 'echo $$; exec sleep 600'], {}, Path(sys.argv[1]), lambda: None)"
    )
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", script, str(log)], cwd=ROOT)
    try:
        while not (log.exists() and log.read_text().endswith("\n")):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert_ends(int(log.read_text()))


def assert_ends(process: int) -> None:
    """Wait until a process that is no child of this one has ended."""
    stat = Path("/proc", str(process), "stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        threading.Event().wait(0.05)
