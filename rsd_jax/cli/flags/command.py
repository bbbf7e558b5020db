"""What a command is before it runs."""

import argparse
import dataclasses
from collections.abc import Callable

from rsd_jax.cli.configurations import read_configuration
from rsd_jax.cli.parsing import Parser


def _nothing(args: argparse.Namespace) -> None:
    """A command whose flags go together as argparse reads them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command; its work is `run(args)` of the module of its name in `rsd_jax.cli.commands`.

    Attributes:
      summary: what it does, in the list of commands.
      about: the description in its help, below the summary.
      examples: command lines, one per line, each with two spaces in front.
      add_flags: adds the flags to a parser.
      check: raises `ConfigError` for flags that do not go together.
      configs: for a command with `--config`, the folder of its configurations in `configs/`.
      names: of these configurations.
      config: the default of `--config`.
      keeps_programs: whether compiled programs are kept on disk for the next run; not for commands
        that measure, so that a run does not depend on earlier ones.
    """

    summary: str
    about: str = ""
    examples: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], None] = _nothing
    configs: str | None = None
    names: tuple[str, ...] = ()
    config: str | None = None
    keeps_programs: bool = False

    @property
    def description(self) -> str:
        """What the help begins with."""
        return f"{self.summary}\n\n{self.about.strip()}".rstrip()

    @property
    def epilog(self) -> str:
        """What the help ends with."""
        return "examples:\n" + self.examples.strip("\n")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Adds the flags of the command, and `--config` if it has one."""
        if self.configs is not None:
            parser.add_argument(
                "--config",
                default=self.config,
                metavar="NAME[:VARIANT]",
                help=f"a configuration that ships ({', '.join(self.names)}) or the path of a file; "
                "--config.a.b=value sets a value of it",
            )
        self.add_flags(parser)

    def complete(self, parser: Parser, args: argparse.Namespace, unread: list[str]) -> None:
        """Checks the flags, and replaces `config` by the configuration itself.

        Args:
          parser: the command's.
          args: the flags that were read.
          unread: the others, such as those that set values of the configuration.

        Raises:
          ConfigError: a flag, the configuration or a value of it is unknown or malformed.
        """
        flags = [flag for flag in unread if flag.startswith("-")]
        sets_values = self.configs is not None and all(f.startswith("--config.") for f in flags)
        if unread and not sets_values:
            parser.unknown(unread)
        if self.configs is not None:
            args.config = read_configuration(args.config, unread, self.configs, self.names)
        self.check(args)
