"""Named recipes: which drafter and which verifier make up a published method."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.core.tree import MOST_NODES
from rsd_jax.core.warp import Warp, check_warp
from rsd_jax.drafters import DRAFTERS, TREE_RULES
from rsd_jax.drafters.backbone import BackboneRule
from rsd_jax.drafters.base import Drafter
from rsd_jax.drafters.growth import TreeRule
from rsd_jax.drafters.lookup import LookupDrafter
from rsd_jax.drafters.static_tree import parents_of_words
from rsd_jax.drafters.with_lookup import WithLookup
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.base import Verifier

Recipe = Callable[..., tuple[Drafter, Verifier]]
"""From the options of a method to its parts."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A drafter and a verifier that fit together.

    Attributes:
      name: of the recipe.
      drafter: proposes trees.
      verifier: decides.
      draft_temperature: temperature of q, or None for the target's.
      draft_top_k: top-k of q, or None for the target's. The verifier is given q as it was
        sampled, so both only move acceptance, never the output law.
    """

    name: str
    drafter: Drafter
    verifier: Verifier
    draft_temperature: float | None = None
    draft_top_k: int | None = None

    def __post_init__(self):
        check_fit(self.verifier, self.drafter)
        if self.draft_temperature is not None and not self.draft_temperature > 0:
            raise ConfigError(
                f"draft_temperature={self.draft_temperature} must be positive; for greedy "
                "decoding set the target's temperature to 0"
            )
        check_warp(self.draft_temperature or 1.0, self.draft_top_k)

    @property
    def verifier_name(self) -> str:
        """The verifier's name in `VERIFIERS`; that of its class for one that is not there."""
        names = [name for name, kind in VERIFIERS.items() if kind is type(self.verifier)]
        return names[0] if names else type(self.verifier).__name__

    @property
    def tree(self) -> str:
        """The tree in words, as in the papers' tables: "4", "6x5", "2-2-1"; "-" without one."""
        return self.drafter.words

    def draft_warp(self, sampling: Sampling) -> Warp:
        """The warp of q for a target's sampling; greedy drafts are ranked by the plain softmax."""
        temperature, top_k = sampling.temperature, self.draft_top_k or sampling.top_k
        if temperature > 0 and self.draft_temperature is not None:
            temperature = self.draft_temperature
        return dataclasses.replace(sampling, temperature=temperature, top_k=top_k).target_warp


def check_fit(verifier: Verifier, drafter: Drafter) -> None:
    """Raises `ConfigError` if a verifier is not lossless for the trees of a drafter."""
    if not drafter.sibling_laws & verifier.accepts:
        got = sorted(s.value for s in drafter.sibling_laws)
        expected = sorted(s.value for s in verifier.accepts)
        raise ConfigError(
            f"{type(drafter).__name__} draws siblings as {got}, but "
            f"{type(verifier).__name__} is lossless only for {expected}; choose a "
            "drafter and a verifier that have one in common"
        )
    verifier.check_shape(drafter.shape)


def fits(verifier: Verifier, drafter: Drafter) -> bool:
    """Whether a verifier is lossless for the trees of a drafter; see `check_fit`."""
    try:
        check_fit(verifier, drafter)
    except ConfigError:
        return False
    return True


def lossless_verifiers(method: Method) -> dict[str, Verifier]:
    """The verifiers of `VERIFIERS` that are lossless for a method's drafts, by name."""
    made = {name: kind() for name, kind in VERIFIERS.items()}
    return {name: one for name, one in made.items() if fits(one, method.drafter)}


def _of_rule(rule: type[TreeRule], drafter: str) -> Recipe:
    """A rule's trees, grown by a drafter of `DRAFTERS`; the options are the fields of the rule."""

    @functools.wraps(rule, updated=())
    def build(*args: Any, **options: Any) -> tuple[Drafter, Verifier]:
        return DRAFTERS[drafter](rule(*args, **options)), VERIFIERS[rule.verifier]()

    return build


def _chain(drafter: str) -> Recipe:
    """Speculative decoding: a branching of (1, ..., 1)."""

    def build(length: int) -> tuple[Drafter, Verifier]:
        of_branching = _of_rule(TREE_RULES["constant_branching"], drafter)
        return of_branching((1,) * positive_integer("length", length, most=MOST_NODES))

    return build


def _ar() -> tuple[Drafter, Verifier]:
    return DRAFTERS["no_draft"](), VERIFIERS["recursive_rejection"]()


def _lookup(length: int = 8, longest: int = 8, shortest: int = 2) -> tuple[Drafter, Verifier]:
    drafter = DRAFTERS["lookup"](length, longest, shortest)
    return drafter, VERIFIERS["recursive_rejection"]()


def _dynamic(length: int, stop_below: float = 0.4) -> tuple[Drafter, Verifier]:
    drafter = DRAFTERS["dynamic_chain"](length, stop_below)
    return drafter, VERIFIERS["recursive_rejection"]()


def _swift(
    length: int = 25,
    stop_below: float = 0.8,
    confidences: Sequence[float] = (0.95, 0.8, 0.5),
    counts: Sequence[int] = (1, 3, 5, 10),
    greedy_counts: Sequence[int] = (3, 5, 8, 10),
    widths: Sequence[int] = (8, 16, 32, 64, 136),
) -> tuple[Drafter, Verifier]:
    rule = BackboneRule(
        positive_integer("length", length),
        stop_below,
        tuple(confidences),
        tuple(counts),
        tuple(greedy_counts),
    )
    return DRAFTERS["swift"](rule, tuple(widths)), VERIFIERS["recursive_rejection"]()


_DECIMAL = re.compile(r"[01]|[01]?\.[0-9]{1,20}")

_DRAFTED_BY = {"": "model", "self_": "self"}
"""Prefix of a method's name: the drafter that grows its trees."""

METHODS: dict[str, Recipe] = {
    "ar": _ar,
    "dynamic": _dynamic,
    "lookup": _lookup,
    "swift": _swift,
    **{f"{prefix}sd": _chain(drafter) for prefix, drafter in _DRAFTED_BY.items()},
    **{
        f"{prefix}{rule.method}": _of_rule(rule, drafter)
        for prefix, drafter in _DRAFTED_BY.items()
        for rule in TREE_RULES.values()
        if rule.method
    },
}

_DRAFT_OPTIONS = ("draft_temperature", "draft_top_k")
_SHARED_OPTIONS = ("verifier", *_DRAFT_OPTIONS, "lookup")
"""Of every method that drafts with a model."""


def _shared_options(name: str) -> tuple[str, ...]:
    if name == "ar":
        return ()
    return tuple(option for option in _SHARED_OPTIONS if option != name)


def build_method(name: str, **options: Any) -> Method:
    """Builds a method by name.

    - `ar`: autoregressive decoding of the target.
    - `sd(length)`: speculative decoding (Leviathan et al. 2023; Chen et al. 2023).
    - `spectr(num_drafts, length)`: i.i.d. drafts with K-SEQ (Sun et al. 2023).
    - `rsd_c(branching)`: recursive speculative decoding, constant branching (Jeon et al. 2024).
    - `rsd_s(width, length)`: the same with stochastic beam search.
    - `dyspec(width, length, threshold=0.0)`: the same with the slots of a level where the draft
      expects acceptance (Xiong et al. 2024); see `DySpecTree`.
    - `beam(width, length, threshold=0.0)`: the likeliest paths of each level; none is drawn (as
      in EAGLE-2, Li et al. 2024); see `Beam`.
    - `mixed_beam(width, length, threshold=0.0)`: the same with one drawn child at each node; see
      `MixedBeam`.
    - `static(parents)`: recursive speculative decoding with any tree, such as those of
      `rsd_jax.planning` (Chen et al. 2024, Sequoia); `parents` as in `TreeShape.from_parents`.
    - `lookup(length=8, longest=8, shortest=2)`: what followed the last tokens when they last
      occurred in prompt or output (Saxena 2023); see `LookupDrafter`.
    - `dynamic(length, stop_below=0.4)`: speculative decoding that drafts as long as the draft is
      confident (Mamou et al. 2024); see `DynamicChain`.
    - `swift(length=25, ...)`: the target drafts for itself, skipping sub-layers, as long as it is
      confident (Xia et al. 2025); further options as in `BackboneRule` and `SwiftDrafter`.
    - `self_sd`, `self_spectr`, `self_rsd_c`, `self_rsd_s`, `self_dyspec`, `self_beam`,
      `self_mixed_beam`, `self_static`: the trees of those eight, drafted by the target itself like
      `swift`'s.

    All but `ar` also take `verifier`, a name in `rsd_jax.verifiers.VERIFIERS` in place of the
    method's own, and `draft_temperature` and `draft_top_k`, see `Method`. All but `ar` and `lookup`
    take `lookup`, the length of a chain of `LookupDrafter` that is merged into their trees, see
    `WithLookup`.

    >>> build_method("rsd_c", branching=(2, 2, 1, 1), verifier="coupling", lookup=8).tree
    '2-2-1-1+8'

    Raises:
      ConfigError: unknown method, verifier or option, missing option, a value out of range, or a
        verifier that is not lossless for the method's drafts.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; known methods: {sorted(METHODS)}")
    names = _shared_options(name)
    shared = {key: options.pop(key) for key in names if key in options}
    parameters = inspect.signature(METHODS[name]).parameters
    unknown = sorted(set(options) - set(parameters))
    needed = {name for name, p in parameters.items() if p.default is inspect.Parameter.empty}
    missing = sorted(needed - set(options))
    if unknown or missing:
        problem = f"unknown options {unknown}" if unknown else f"missing options {missing}"
        raise ConfigError(f"method {name!r}: {problem}; its options: {[*parameters, *names]}")
    try:
        drafter, verifier = METHODS[name](**options)
        if (chosen := shared.pop("verifier", None)) is not None:
            verifier = _verifier(chosen)
        if (length := shared.pop("lookup", None)) is not None:
            drafter = WithLookup(drafter, LookupDrafter(length))
        return Method(name, drafter, verifier, **shared)
    except TypeError as error:  # a text where numbers belong, one number where several do
        raise ConfigError(f"method {name!r}: an option is of a wrong type ({error})") from None


def _verifier(name: str) -> Verifier:
    if name not in VERIFIERS:
        raise ConfigError(f"unknown verifier {name!r}; known verifiers: {sorted(VERIFIERS)}")
    return VERIFIERS[name]()


def method_of_tree(name: str, tree: str, **shared_options: Any) -> Method:
    """Builds a method from its tree in words, the inverse of `Method.tree`.

    Args:
      name: of the method.
      tree: "4" where the method's option is a length, "6x5" for a number and a length, "2-2-1" for
        a branching, "3-2.1.0" for a static tree, "8@0.4" for `dynamic`, "6x5@0.05" for a
        method with a threshold, "-" without options; then "+8" with `lookup=8`.
      shared_options: `verifier`, `draft_temperature` and `draft_top_k`, where not None.

    >>> method_of_tree("rsd_s", "6x5").drafter.rule
    StochasticBeam(width=6, length=5)

    Raises:
      ConfigError: unknown method, a tree in other words than the method's, or one out of range.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; known methods: {sorted(METHODS)}")
    every = inspect.signature(METHODS[name]).parameters
    # If all options of a method have defaults, its tree is written by its length.
    needed = [key for key, p in every.items() if p.default is inspect.Parameter.empty]
    parameters = needed or [key for key in every if key == "length"]
    if name == "dynamic":
        parameters = ["length", "stop_below"]
    elif "threshold" in every and "@" in tree:
        parameters.append("threshold")
    given = {key: value for key, value in shared_options.items() if value is not None}
    if not parameters and tree == "-":
        return build_method(name)
    drawn, plus, chain = tree.partition("+")
    if plus and re.fullmatch("[0-9]{1,9}", chain):
        tree, given["lookup"] = drawn, int(chain)
    values, example = _values_of_words(tree, [every[key] for key in parameters])
    if values is None:
        raise ConfigError(
            f"tree {tree!r} of method {name!r} is not understood; write it like {example!r}"
        )
    return build_method(name, **dict(zip(parameters, values, strict=True)), **given)


def _values_of_words(
    tree: str, parameters: Sequence[inspect.Parameter]
) -> tuple[list[Any] | None, str]:
    """The values of a method's parameters, None for a tree in other words; and an example."""
    if [p.name for p in parameters] == ["parents"]:
        parents = parents_of_words(tree)
        return None if parents is None else [parents], "3-2.1.0"
    if parameters and parameters[-1].annotation is float:
        tree, at, bound = tree.partition("@")
        numbers, example = _values_of_words(tree, parameters[:-1])
        understood = numbers is not None and at and _DECIMAL.fullmatch(bound)
        return [*numbers, float(bound)] if numbers and understood else None, f"{example}@0.4"
    is_branching = len(parameters) == 1 and parameters[0].annotation is not int
    example = "2-2-1" if is_branching else "x".join("654321"[: len(parameters)]) or "-"
    parts = tree.split("-" if is_branching else "x")
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts) or not (
        is_branching or len(parts) == len(parameters)
    ):
        return None, example
    numbers = [int(part) for part in parts]
    return [numbers] if is_branching else numbers, example
