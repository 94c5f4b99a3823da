import subprocess
import sys

import pytest

import aigid.training

WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None
import aigid.training

try:
    aigid.training.RunConfig
except Exception as error:
    print(type(error).__name__, error)
"""


def test_every_name_of_the_package_loads() -> None:
    for name in aigid.training.__all__:
        assert getattr(aigid.training, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        aigid.training.Nothing  # noqa: B018 - the access itself is tested


def test_without_the_extra_the_error_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("MissingExtraError training needs torch: pip install '")
    assert done.stdout.rstrip().endswith("[train]'")
