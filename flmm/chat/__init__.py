"""Talking with the LMM and choosing what to ground."""
