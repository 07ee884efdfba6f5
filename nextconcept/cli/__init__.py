"""The command line: one front door, a file per command."""
