"""Compiled programs that are kept on disk from run to run, by JAX's persistent cache."""

import os
import pathlib

_FOLDER, _MOST_BYTES = "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"
_SHORTEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_UNLIMITED = "-1"
_GIB = 2**30
_PROGRAM, _LAST_USE = "-cache", "-atime"  # how JAX names a program, and the time of its last use


def keep_programs() -> None:
    """Has JAX, which is not imported yet, keep programs in the user's folder for such files.

    At most 1 GiB of them: JAX removes those that were not used for the longest time. What the user
    has set by JAX's own variables stays as it is. A folder that cannot be made or written is left
    alone, and then every run compiles.
    """
    if _FOLDER in os.environ:
        return
    try:
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = cache / "rsd_jax" / "programs"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        if os.environ.setdefault(_MOST_BYTES, str(_GIB)) != _UNLIMITED:
            _remove_without_last_use(folder)
    except (OSError, RuntimeError):  # a user without a home, or one that cannot be written
        return
    os.environ[_FOLDER] = str(folder)
    os.environ.setdefault(_SHORTEST, "0.1")


def _remove_without_last_use(folder: pathlib.Path) -> None:
    """Removes programs that were kept without a limit, or by a process that was killed meanwhile.

    JAX keeps nothing more in a folder with such a program.
    """
    for program in folder.glob(f"*{_PROGRAM}"):
        key = program.name.removesuffix(_PROGRAM)
        if not (folder / f"{key}{_LAST_USE}").exists():
            program.unlink(missing_ok=True)
