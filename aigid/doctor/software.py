"""Checks of Python, the required packages and the extras."""

import platform
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

from aigid.doctor.check import Check, hint, ok, problem
from aigid.extras import install_command
from aigid.version import __version__

# The packages that scans run on, and what they are imported as.
_REQUIRED = {
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "pyarrow": "pyarrow",
    "pillow": "PIL",
    "simplejpeg": "simplejpeg",
    "tokenizers": "tokenizers",
    "urllib3": "urllib3",
}
# For work on aigid itself.
_NOT_FOR_USERS = {"dev", "bench"}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([^]]*)\])?.*;.*extra == ['\"]([\w.-]+)['\"]")


def check_software() -> Iterator[Check]:
    """Yield the versions of aigid and Python, the required packages, and the extras."""
    yield ok("aigid", __version__)
    yield ok("python", f"{platform.python_version()}, {platform.platform(terse=True)}")
    for package, module in _REQUIRED.items():
        yield _check_package(package, module)
    yield from check_extras(requires_of_aigid())


def requires_of_aigid() -> list[str]:
    """Return the requirements of the installed aigid; none where it is not installed."""
    try:
        return requires("aigid") or []
    except PackageNotFoundError:
        return []


def check_extras(requirements: list[str]) -> Iterator[Check]:
    """Yield for each extra whether its packages are installed, from aigid's requirements."""
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found and found[3] not in _NOT_FOR_USERS:
            # An extra that has others in it, as in aigid[train].
            has_others = found[1].lower() == "aigid"
            packages = found[2].split(",") if has_others and found[2] else [found[1]]
            names = [f"aigid[{name.strip()}]" for name in packages] if has_others else packages
            extras.setdefault(found[3], []).extend(names)
    for extra in sorted(extras):
        yield _check_extra(extra, _packages(extra, extras))
    if not extras:
        text = "not known: this aigid is not installed, but imported from its folder"
        yield hint("extras", text, f"Install it: {install_command('serve')}")


def _packages(extra: str, extras: dict[str, list[str]]) -> Iterator[str]:
    for name in extras.get(extra, ()):
        inner = re.fullmatch(r"aigid\[(.*)\]", name)
        if inner:
            yield from _packages(inner[1], extras)
        else:
            yield name


def _check_extra(extra: str, packages: Iterator[str]) -> Check:
    name = f"extra {extra}"
    missing = [package for package in dict.fromkeys(packages) if not _version(package)]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        return hint(name, text, f"Only if you need it: {install_command(extra)}")
    return ok(name, "installed")


def _check_package(package: str, module: str) -> Check:
    try:
        import_module(module)
    except (ImportError, OSError) as error:
        # OSError: a shared library that does not load.
        text = f"cannot be imported: {error}"
        return problem(package, text, f"Install it again: pip install --force-reinstall {package}")
    return ok(package, _version(package) or "version unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
