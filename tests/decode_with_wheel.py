"""Decodes a few tokens with the installed package; run away from the checkout, where CI does.

Asserts that the package is an installed one and whole: the pair, its adapter and py.typed.
"""

import pathlib
import sys

import rsd_jax

package = pathlib.Path(rsd_jax.__file__).parent
assert package.is_relative_to(sys.prefix), f"{package} is not installed in {sys.prefix}"
assert (package / "py.typed").is_file(), "py.typed is missing"

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
