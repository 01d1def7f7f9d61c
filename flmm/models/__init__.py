"""Backbones, the capture of their attention, and the head that is trained."""
