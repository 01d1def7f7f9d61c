"""The `flmm` command, one file for each subcommand."""
