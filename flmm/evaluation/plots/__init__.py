"""Figures of how well phrases are grounded: functions here, commands in `flmm plot` (docs/plots.md)."""
