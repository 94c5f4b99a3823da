"""Checks of the network's variables, of folders and of the Triton server."""

import fcntl
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from aigid.doctor import State
from aigid.doctor.check import Check
from aigid.doctor.folders import check_current_folder, check_temporary_folder
from aigid.doctor.model import check_server
from aigid.doctor.network import check_network
from aigid.errors import ServerError
from aigid.serving import ServerConfig, TritonServer, folder_to_install

SECRET = "s3cr3t-value"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that says nothing about the network."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "HF_", "AIGID_", "AZURE_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return monkeypatch


def network() -> dict[str, Check]:
    return {check.name: check for check in check_network()}


def test_an_environment_without_a_word_about_the_network(bare: pytest.MonkeyPatch) -> None:
    found = network()
    assert all(check.state is State.OK for check in found.values())
    assert found["http proxy"].text == found["https proxy"].text == "none"
    assert found["stores"].text == "the providers' own servers"
    assert "are refused without" in found["addresses"].text


@pytest.mark.parametrize(
    ("variables", "name", "state", "said"),
    [
        (
            {"HTTPS_PROXY": f"http://user:{SECRET}@proxy:3128"},
            "https proxy",
            State.OK,
            "http://proxy:3128 from HTTPS_PROXY, with credentials",
        ),
        ({"all_proxy": "proxy:8080"}, "http proxy", State.OK, "http://proxy:8080 from all_proxy"),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "*"}, "http proxy", State.OK, "none"),
        ({"HTTP_PROXY": f"socks5://u:{SECRET}@p"}, "http proxy", State.PROBLEM, "not supported"),
        ({"HTTPS_PROXY": f"http://[{SECRET}"}, "https proxy", State.PROBLEM, "not the URL"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "stores", State.OK, "s3:// asks https://local"),
        ({"AWS_ENDPOINT_URL_S3": "ftp://x"}, "stores", State.PROBLEM, "is not a server"),
        (
            {"AWS_ENDPOINT_URL": f"http://user:{SECRET}@host"},
            "stores",
            State.PROBLEM,
            "'host' is not a server",
        ),
        ({"STORAGE_EMULATOR_HOST": "localhost:1"}, "stores", State.OK, "gs:// asks http://loc"),
        ({"HF_ENDPOINT": "https://hub.example"}, "stores", State.OK, "hf:// asks hub.example"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET}, "credentials", State.OK, "AWS_SECRET_ACCESS_KEY"),
        ({"HF_TOKEN": SECRET}, "credentials", State.OK, "HF_TOKEN"),
        ({"AIGID_SCAN_HEADER": f"h=k:{SECRET}"}, "options", State.OK, "AIGID_SCAN_HEADER"),
        (
            {"AIGID_SCAN_ALLOW_PRIVATE_ADDRESSES": "true"},
            "addresses",
            State.OK,
            "allows images from private addresses",
        ),
    ],
)
def test_what_the_environment_says_about_the_network_without_its_secrets(
    bare: pytest.MonkeyPatch, variables: dict[str, str], name: str, state: State, said: str
) -> None:
    for variable, value in variables.items():
        bare.setenv(variable, value)
    found = network()
    assert found[name].state is state
    assert said in found[name].text
    assert SECRET not in str(found)
    assert (found[name].remedy is None) == (state is State.OK)


def test_a_folder_that_can_be_written_to_and_locked(tmp_path: Path) -> None:
    check = check_current_folder(tmp_path)
    assert check.state is not State.PROBLEM
    assert check.text.startswith(f"{tmp_path}: writable, with locks; ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_a_hint() -> None:
    # Nobody can make files there, not even root.
    check = check_current_folder(Path("/proc"))
    assert check.state is State.HINT
    assert "cannot be written to" in check.text
    assert "--out" in str(check.remedy)


def test_a_file_system_without_locks_is_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    check = check_current_folder(tmp_path)
    assert check.state is State.HINT
    assert "has no locks" in check.text


def test_no_folder_for_temporary_files_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_temporary_folder().state is not State.PROBLEM
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    check = check_temporary_folder()
    assert check.state is State.PROBLEM
    assert "TMPDIR" in str(check.remedy)


def test_a_tmpdir_that_is_passed_over_is_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    check = check_temporary_folder()
    assert check.state is State.HINT
    assert f"TMPDIR={tmp_path / 'gone'}" in check.text
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert check_temporary_folder().text.startswith(f"{tmp_path}; ")


def test_where_a_triton_server_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = tmp_path / "cache"
    missing = check_server(cache)
    assert missing.state is State.HINT
    assert "on first use" in str(missing.remedy)
    assert not cache.exists()
    executable = tmp_path / "tritonserver"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    found = check_server(cache)
    assert found.state is State.OK
    assert found.text == f"{executable}, on the PATH"


def test_a_server_that_was_installed_from_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = folder_to_install(tmp_path)
    folder.mkdir()
    assert check_server(tmp_path).state is State.HINT
    (folder / "server.json").write_text("{}")
    check = check_server(tmp_path)
    assert check.state is State.OK
    assert "from NVIDIA's wheel" in check.text


@pytest.fixture
def homeless(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container with an arbitrary user id: no HOME, and no entry in the list of users."""

    def no_entry(user: int) -> None:
        raise KeyError(user)

    bare.delenv("HOME")
    bare.delenv("AWS_CONFIG_FILE")
    bare.setattr(pwd, "getpwuid", no_entry)
    bare.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_folder_has_the_stores_own_servers() -> None:
    assert network()["stores"].text == "the providers' own servers"


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_folder_is_told_what_a_server_needs(tiny_repository: Path) -> None:
    check = check_server()
    assert check.state is State.HINT
    assert "set HOME" in str(check.remedy)
    config = ServerConfig(tiny_repository)
    with pytest.raises(ServerError, match="this user has no home folder: set HOME"):
        TritonServer(config).__enter__()
