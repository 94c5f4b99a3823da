import subprocess
import sys
from pathlib import Path

# The imports of torch and its like raise ModuleNotFoundError, in the workers too.
SCRIPT = """
import sys
from pathlib import Path

for name in ("torch", "transformers", "sklearn"):
    sys.modules[name] = None

from aigid.simulation import SimulationConfig, Split, simulate

if __name__ == "__main__":
    config = SimulationConfig(12, Split.TEST, shorter_side=32, workers=2, rows_per_group=6)
    print(*simulate(config, Path(sys.argv[1])))
"""


def test_a_simulation_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "out" / "test-00000-of-00001.parquet")]
