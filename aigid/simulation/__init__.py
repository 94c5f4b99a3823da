"""Simulated image-prompt pairs: a camera and five families of generators. Needs no torch."""
