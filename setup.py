"""Puts `configs/` into the wheel; everything else is in pyproject.toml.

The folder stays at the top of the repository, where people edit it. In the wheel it lies in the
assets of the package, where `rsd_jax.cli.configurations` finds it.
"""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

_ROOT = pathlib.Path(__file__).parent
_CONFIGS = sorted(path.relative_to(_ROOT) for path in (_ROOT / "configs").rglob("*.py"))


class BuildWithConfigs(build_py):
    """Also copies the configurations; an editable installation reads those of the checkout."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for source, target in self._copies().items():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_source_files(self):
        return [*super().get_source_files(), *map(str, _CONFIGS)]  # of a source distribution

    def get_outputs(self, include_bytecode=1):
        return [*super().get_outputs(include_bytecode), *map(str, self._copies().values())]

    def _copies(self):
        assets = pathlib.Path(self.build_lib, "rsd_jax", "assets")
        return {path: assets / path for path in _CONFIGS}


setup(cmdclass={"build_py": BuildWithConfigs})
