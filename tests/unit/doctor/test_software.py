"""Checks of packages and extras."""

import pytest

from aigid.doctor import State, software
from aigid.doctor.software import check_extras, check_software


def test_the_packages_that_are_installed_here() -> None:
    found = {check.name: check for check in check_software()}
    for name in ("aigid", "python", "onnxruntime", "pyarrow", "pillow", "simplejpeg"):
        assert found[name].state is State.OK
        assert found[name].text[0].isdigit()


@pytest.mark.parametrize("error", ["no_such_module_of_ours", "ctypes.no_such"])
def test_a_required_package_that_cannot_be_imported_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(software, "_REQUIRED", {"numpy": "numpy", "simplejpeg": error})
    found = {check.name: check for check in check_software()}
    assert found["numpy"].state is State.OK
    assert found["simplejpeg"].state is State.PROBLEM
    assert "pip install --force-reinstall simplejpeg" in str(found["simplejpeg"].remedy)


def test_an_extra_has_its_packages_and_those_of_the_extras_in_it() -> None:
    requirements = [
        "numpy>=1",
        "pyarrow; extra == 'one'",
        "no-such-thing>=1 ; extra == 'two'",
        "aigid[one,two]; extra == 'both'",
        'aigid[one]; extra == "outer"',
        "tritonclient[grpc]>=2.50; extra == 'three'",
        "ruff; extra == 'dev'",
    ]
    found = {check.name: check for check in check_extras(requirements)}
    states = {name: check.state for name, check in found.items()}
    assert states == {
        "extra one": State.OK,
        "extra two": State.HINT,
        "extra both": State.HINT,
        "extra outer": State.OK,
        "extra three": State.OK,
    }
    assert found["extra both"].text == "not installed: no-such-thing"
    assert "pip install" in str(found["extra two"].remedy)
    assert "[two]" in str(found["extra two"].remedy)


def test_an_aigid_that_is_not_installed_is_a_hint() -> None:
    (check,) = check_extras([])
    assert check.state is State.HINT
    assert "not installed" in check.text
