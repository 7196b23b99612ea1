"""Implements the subcommands, one file each."""
