"""Simulated image-prompt pairs with labels, for demos and tests: no torch is needed.

A camera takes the real images; five families of decoders make the images of the generators.
"""

from aigid.simulation.config import SimulationConfig, Split
from aigid.simulation.manifest_writer import simulate
from aigid.simulation.rows import SHORTER_SIDES, SimulatedRow, make_row

__all__ = ["SHORTER_SIDES", "SimulatedRow", "SimulationConfig", "Split", "make_row", "simulate"]
