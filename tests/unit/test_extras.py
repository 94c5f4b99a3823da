"""The hint for a missing extra: it installs from where this aigid came from."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
from support.manifests import REPOSITORY

from aigid.errors import MissingExtraError, UsageError
from aigid.extras import install_command, missing_extra


class Installed:
    """A distribution with a direct_url.json, or with none."""

    def __init__(self, origin: object) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._origin is None else json.dumps(self._origin)


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "'aigid[ray]'"),
        ({"url": "file:///src/aigid", "dir_info": {"editable": True}}, "'/src/aigid[ray]'"),
        ({"url": "file:///my%20files/aigid"}, "'/my files/aigid[ray]'"),
        ({"url": "file:///it%27s/aigid"}, "'/it'\"'\"'s/aigid[ray]'"),
        (
            {"url": "file:///dist/aigid-1.0-py3-none-any.whl", "archive_info": {}},
            "'/dist/aigid-1.0-py3-none-any.whl[ray]'",
        ),
        (
            {"url": "https://example.org/aigid-1.0-py3-none-any.whl", "archive_info": {}},
            "'aigid[ray] @ https://example.org/aigid-1.0-py3-none-any.whl'",
        ),
        (
            {
                "url": "https://example.org/aigid.git",
                "vcs_info": {"vcs": "git", "commit_id": "ab12"},
            },
            "'aigid[ray] @ git+https://example.org/aigid.git@ab12'",
        ),
    ],
    ids=["index", "editable", "a space", "a quote", "local wheel", "wheel's URL", "repository"],
)
def test_the_command_names_where_this_aigid_came_from(
    origin: object, requirement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.extras.distribution", lambda name: Installed(origin))
    assert install_command("ray") == f"pip install {requirement}"


def test_a_clone_that_is_not_installed_is_named_by_its_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> Installed:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("aigid.extras.distribution", missing)
    assert install_command("serve") == f"pip install '{REPOSITORY.parent}[serve]'"


def test_the_error_names_the_purpose_the_package_and_the_command() -> None:
    error = missing_extra("scanning on a Ray cluster", ModuleNotFoundError(name="ray"), "ray")
    assert isinstance(error, MissingExtraError)
    assert isinstance(error, UsageError)
    assert str(error) == f"scanning on a Ray cluster needs ray: {install_command('ray')}"
