"""Data sets and processors: from files on disk to the samples that every backbone reads."""
