"""Configurations of long runs: by name or by file, and values of them that the user sets.

Names are those of the files in the repository's folder `configs/`, which a wheel holds in the
package's assets (setup.py).
"""

import contextlib
import pathlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rsd_jax.errors import ConfigError

FOLDER = "configs"
_PACKAGE = pathlib.Path(__file__).parents[1]
# Where the folder may be: in the assets of an installed package, else at the top of a checkout.
_HOMES = (_PACKAGE / "assets", _PACKAGE.parent)


def home() -> pathlib.Path:
    """The folder that holds `configs/`.

    Raises:
      ConfigError: there is none; the package was neither installed nor run from a checkout.
    """
    for folder in _HOMES:
        if (folder / FOLDER).is_dir():
            return folder
    raise ConfigError(
        "this copy of rsd_jax has no configurations; install its wheel, or give --config=FILE.py"
    )


def read_configuration(
    source: str, overrides: Sequence[str], folder: str, names: Sequence[str]
) -> Any:
    """A configuration, a `ConfigDict`.

    Args:
      source: the name of a configuration that ships or the path of a file, each with or without
        ":VARIANT".
      overrides: `--config.a.b=value` for each value to be set.
      folder: in `configs/`, of the configurations that ship.
      names: of those of them that are asked for.

    Raises:
      ConfigError: there is no such configuration or variant, or a value is unknown or malformed.
    """
    name, _, variant = source.partition(":")
    path = _path(name, folder, names)
    try:
        with _imports_of(path):
            get_config = runpy.run_path(str(path)).get("get_config")
            if get_config is None:
                raise ConfigError("the file has no `get_config`")
            config = get_config(variant) if variant else get_config()
    except (OSError, SyntaxError, ImportError, ValueError) as error:
        raise _refused(f"--config={source}: {error}") from None
    except Exception as error:  # a mistake in the file; --traceback shows where
        reason = f"{type(error).__name__}: {error}"
        if variant and isinstance(error, TypeError):
            reason = f"the configuration has no variants ({error})"
        raise _refused(f"--config={source}: {reason}") from error
    from ml_collections import ConfigDict

    if not isinstance(config, ConfigDict):
        raise _refused(f"--config={source}: `get_config` must return a ConfigDict")
    return _with_values(config, list(overrides))


def _path(name: str, folder: str, names: Sequence[str]) -> pathlib.Path:
    """The file of a name, or the file itself."""
    path = pathlib.Path(name)
    if path.is_file():
        return path
    if name in names:
        return home() / FOLDER / folder / f"{name}.py"
    advice = f"give one of those that ship, {', '.join(names)}, or the path of a file"
    if path.stem in names:
        advice = f"the configuration of this name that ships is --config={path.stem}"
    raise _refused(f"--config={name}: there is no such file; {advice}")


@contextlib.contextmanager
def _imports_of(path: pathlib.Path) -> Iterator[None]:
    """Lets a file import `configs.evaluate.pairs`: of its own `configs/`, else the one shipped."""
    own = [str(each.parent) for each in path.resolve().parents if each.name == FOLDER]
    before = list(sys.path)
    # In front, since other projects may have a folder or package of this name too.
    sys.path[:0] = [*own[:1], str(home())]
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if _of_configs(name)}
    try:
        yield
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if _of_configs(name)]:
            del sys.modules[name]
        sys.modules.update(loaded)


def _of_configs(module: str) -> bool:
    return module.partition(".")[0] == FOLDER


def _with_values(config: Any, overrides: list[str]) -> Any:
    """The configuration with the values that the flags set."""
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=overrides)
        unread = values(["rsd", *overrides])[1:]
    except flags.Error as error:
        raise _refused(str(error)) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # ml_collections quotes the key twice and suggests keys on a new line.
        reason = str(error).replace("\\n", " ").replace("\\", "")
        raise _refused(
            f"{' '.join(overrides)}: the configuration has no such value ({reason})"
        ) from None
    if unread:
        raise _refused(f"unrecognized arguments: {' '.join(unread)}")
    return values["config"].value


def _refused(message: str) -> ConfigError:
    return ConfigError(f"{message}; --help lists the flags")
