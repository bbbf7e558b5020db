"""The command line `rsd`: its flags, and the work of each command.

Flags are in `flags/`, which imports nothing that takes long, so that `--help` and wrong flags are
answered at once. The work is in `commands/`, a module per command, which is
imported when the command runs.
"""
