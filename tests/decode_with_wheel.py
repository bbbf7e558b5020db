"""Decodes a few tokens with the installed package; run away from the checkout, where CI does.

Asserts that the package is an installed one and whole: the pair, its adapter, py.typed and the
configurations that have a name.
"""

import pathlib
import sys

import rsd_jax
from rsd_jax.cli.configurations import home, read_configuration
from rsd_jax.cli.flags import COMMANDS

package = pathlib.Path(rsd_jax.__file__).parent
assert package.is_relative_to(sys.prefix), f"{package} is not installed in {sys.prefix}"
assert (package / "py.typed").is_file(), "py.typed is missing"

assert home().is_relative_to(package), f"configurations are read from {home()}"
for command in COMMANDS.values():
    for name in command.names:
        source = f"{name}:hub" if name == "smollm2" else name  # else it needs another package
        read_configuration(source, [], command.configs, command.names)

rsd_jax.load_pair("quickstart_skipping")
pair = rsd_jax.load_pair("quickstart")
prompts = [pair.tokenizer("import os\n").input_ids]
by_ar, by_rsd = (
    rsd_jax.generate(
        rsd_jax.build_method(name, **options),
        pair.target,
        pair.draft,
        prompts,
        max_new_tokens=8,
        temperature=0.0,
    ).tokens[0]
    for name, options in (("ar", {}), ("rsd_s", {"width": 2, "length": 2}))
)
assert by_rsd == by_ar, (by_rsd, by_ar)
assert len(by_ar) == 8, by_ar
print(f"rsd_jax {rsd_jax.__version__} decodes {pair.tokenizer.decode(by_ar)!r}")
