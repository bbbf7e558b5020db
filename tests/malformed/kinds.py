"""What a malformed file is: how it is made, changed, read, and held against what was read."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from tests.malformed.mutants import Mutants

Check = Callable[[bytes, Any], None]


@dataclasses.dataclass(frozen=True)
class Malformed:
    """A file that is malformed in many ways.

    Attributes:
      make: writes valid files into a folder, and returns the one that is changed.
      read: what the package reads from the folder.
      mutants: of the bytes of the file.
      needed: whether the file has to be there.
      check: raises AssertionError if what was read is not what the changed bytes say.
    """

    make: Callable[[pathlib.Path], pathlib.Path]
    read: Callable[[pathlib.Path], Any]
    mutants: Mutants
    check: Check
    needed: bool = True
