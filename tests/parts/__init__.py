"""Drafters and verifiers from outside the package, which show how to write one.

Each is one file and one line of a registry; here a test fixture adds the line.
"""

from tests.parts.block_verification import BlockVerification
from tests.parts.first_layers_drafter import FirstLayersDrafter
from tests.parts.likeliest_first import LikeliestFirstDrafter
from tests.parts.ngram_drafter import NgramDrafter

DRAFTERS = {
    "first_layers": FirstLayersDrafter,
    "likeliest_first": LikeliestFirstDrafter,
    "ngram": NgramDrafter,
}

VERIFIERS = {
    "block_verification": BlockVerification,
}
