"""All checks, one after the other."""

from collections.abc import Iterator
from pathlib import Path

from aigid.doctor.check import Check, State, problem
from aigid.doctor.folders import check_folders
from aigid.doctor.hardware import check_hardware
from aigid.doctor.software import check_software


def diagnose(model: Path | str | None = None) -> Iterator[Check]:
    """Yield what is found on this host, check by check. No host of a network is asked.

    `model` is a model repository, by default the demo model. It is loaded and scores one image.
    """
    software = list(check_software())
    yield from software
    yield from check_hardware()
    if any(check.state is State.PROBLEM for check in software):
        remedy = "Install the required packages first."
        yield problem("model", "not looked at, since packages are missing", remedy)
    else:
        # Their modules need the packages that were looked at.
        from aigid.doctor.model import check_model, check_server
        from aigid.doctor.network import check_network

        yield from check_model(model)
        yield check_server()
        yield from check_network()
    yield from check_folders()
