"""The diagnosis of this host and this installation: can they run scans, and what is missing."""

from aigid.doctor.check import Check, State
from aigid.doctor.diagnosis import diagnose

__all__ = ["Check", "State", "diagnose"]
