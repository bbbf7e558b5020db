"""The settings of a sweep, read from its configuration."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rsd_jax.engine.methods import METHODS, Method, method_of_tree
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.sweep.settings import (
    Estimate,
    PairSource,
    TaskSettings,
    check_distinct,
    check_pair,
    check_task,
)
from rsd_jax.records.json_objects import build
from rsd_jax.records.rows import config_hash, own_verifier
from rsd_jax.tasks.base import Task

BASELINE = "ar"
MethodKey = tuple[str, str, str]
"""Name, tree in words and verifier of a method."""
BASELINE_KEY: MethodKey = (BASELINE, "-", own_verifier(BASELINE))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep; each combination of pair, task, temperature, seed, tree and verifier is a cell.

    Attributes:
      experiment: name of the experiment in the rows.
      pairs: by their names in the rows.
      tasks: by their names in the rows.
      trees: trees in words, by method; see `method_of_tree`. The baseline "ar" is always measured.
      verifiers: names from `rsd_jax.verifiers.VERIFIERS`, by method. Each tree of a method is
        measured with each of its verifiers; a method without an entry uses its own verifier.
      seeds: seeds of the draws.
      batch_size: rows decoded together; 1 gives intervals over prompts.
      batches_per_call: with rows decoded together, how many batches of prompts a timed call
        decodes. With more than one, a row that is done takes the next prompt; with one, rows that
        are done wait for the longest answer.
      cells_together: cells that take turns with one baseline; a killed run loses at most these.
      phase_repeats: how often the phases of a block are timed; 0: never.
      expected: whether the expected tokens of every lossless verifier are measured on the trees of
        each method, in a run of their own; see `rsd_jax.evaluation.expected`.
      optimum_blocks: first blocks of each prompt in which, during these runs, the children of the
        root are held against the optimum; 0: none. Cells at temperature 0 and trees without a known
        optimum are left out.
      mesh: sizes of the axes "data" and "model", or empty for one device.
      draft_temperature, draft_top_k: for all methods that draft; null for the target's values.
      estimate: expected times.
      out_dir: folder of results.jsonl.
    """

    experiment: str
    pairs: dict[str, PairSource]
    tasks: dict[str, TaskSettings]
    trees: dict[str, list[str]]
    seeds: list[int]
    estimate: Estimate
    out_dir: str
    batch_size: int = 1
    batches_per_call: int = 1
    cells_together: int = 8
    phase_repeats: int = 0
    mesh: list[int]
    draft_temperature: float | None = None
    draft_top_k: int | None = None
    verifiers: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    expected: bool = False
    optimum_blocks: int = 0

    @classmethod
    def from_config(cls, config: Any) -> "Sweep":
        """Reads and checks a configuration: a mapping, or an `ml_collections.ConfigDict`.

        Raises:
          ConfigError: a key is unknown, missing or malformed; a method, tree or task is unknown; a
            temperature or top-p is out of range.
        """
        values: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else config
        sweep: Sweep = build(cls, values)
        for name in ("batch_size", "batches_per_call", "cells_together"):
            positive_integer(name, getattr(sweep, name))
        if sweep.optimum_blocks and not sweep.expected:
            raise ConfigError(f"optimum_blocks={sweep.optimum_blocks} needs expected=True")
        if len(sweep.mesh) not in (0, 2):
            raise ConfigError(f"mesh={sweep.mesh} must be empty or the sizes of data and model")
        for name in ("pairs", "tasks", "seeds"):
            check_distinct(name, list(getattr(sweep, name)))
        if bad := [seed for seed in sweep.seeds if seed >= 2**32]:
            raise ConfigError(f"seeds={bad} must be below 2**32")
        for name, source in sweep.pairs.items():
            check_pair(f"pairs.{name}", source)
        for name, settings in sweep.tasks.items():
            check_task(name, settings)
        needy = [m.name for m in sweep.methods().values() if m.drafter.needs_draft_model]
        for name, source in sweep.pairs.items():
            if needy and source.target and not source.draft:
                raise ConfigError(
                    f"pairs.{name}: `draft`, the directory of the draft, is missing; "
                    f"{needy[0]!r} needs one"
                )
        return sweep

    @property
    def batches_in_call(self) -> int:
        """`batches_per_call`; 1 if prompts are decoded one by one."""
        return self.batches_per_call if self.batch_size > 1 else 1

    def methods(self) -> dict[MethodKey, Method]:
        """Every method by its key, in the order of measuring.

        The baseline comes first. The others follow by depth and size, so that similar trees take
        turns.
        """
        options = {"draft_temperature": self.draft_temperature, "draft_top_k": self.draft_top_k}
        known = sorted(set(METHODS) - {BASELINE})
        if unknown := [name for name in self.trees if name not in known]:
            raise ConfigError(f"trees: unknown method {unknown[0]!r}; known: {known}")
        asked = {name: listed for name, listed in self.verifiers.items() if listed}
        if unknown := [name for name in asked if name not in self.trees]:
            raise ConfigError(
                f"verifiers: method {unknown[0]!r} has no trees; methods with trees: "
                f"{list(self.trees)}"
            )
        for name, listed in asked.items():
            check_distinct(f"verifiers.{name}", listed)
        built = [
            method_of_tree(name, tree, verifier=verifier, **options)
            for name, trees in self.trees.items()
            for tree in trees
            for verifier in asked.get(name, (None,))
        ]
        built.sort(key=lambda method: (method.drafter.shape.depth, method.drafter.shape.num_nodes))
        keyed: dict[MethodKey, Method] = {}
        for method in [method_of_tree(BASELINE, "-"), *built]:
            key = (method.name, method.tree, method.verifier_name)
            if key in keyed:
                raise ConfigError(f"trees: {method.name} {method.tree} is there twice")
            keyed[key] = method
        return keyed

    def with_methods(self, methods: Sequence[Method]) -> "Sweep":
        """The sweep with the trees and verifiers of more methods; those it has are not doubled.

        A verifier that is new to a method is measured on all trees of this method.

        Raises:
          ConfigError: a method drafts with another temperature or top-k than the sweep.
        """
        trees = {name: list(listed) for name, listed in self.trees.items()}
        verifiers = {name: list(listed) for name, listed in self.verifiers.items() if listed}
        for method in methods:
            if method.name == BASELINE:
                continue
            for key in ("draft_temperature", "draft_top_k"):
                own, shared = getattr(method, key), getattr(self, key)
                if own != shared:
                    raise ConfigError(f"{method.name} {method.tree} has {key}={own}, not {shared}")
            known = [method_of_tree(method.name, tree).tree for tree in trees.get(method.name, ())]
            if method.tree not in known:
                trees.setdefault(method.name, []).append(method.tree)
            listed = verifiers.get(method.name, [own_verifier(method.name)])
            if method.verifier_name not in listed:
                verifiers[method.name] = [*listed, method.verifier_name]
        return dataclasses.replace(self, trees=trees, verifiers=verifiers)

    def hash_of(self, pair: str, task: str) -> str:
        """Hash of the settings that all rows of a pair and task share.

        Left out are method, temperature and seed; the paths of data and weights, whose hashes the
        rows hold; the verifiers, which are part of a cell; and settings that are not set, so that
        a new setting does not change the hash of earlier rows.
        """
        source = self.pairs[pair]
        settings = dataclasses.asdict(self.tasks[task])
        for name in ("temperatures", "path", "data_dir"):
            del settings[name]
        shared = {
            name: getattr(self, name)
            for name in ("batch_size", "mesh", "draft_temperature", "draft_top_k", "expected")
        }
        model = {"pair": pair, "dtype": source.dtype, "template": source.template}
        if self.batches_in_call > 1:
            shared["batches_per_call"] = self.batches_in_call
        whole = {"name": task, **settings, **shared, **model, **source.hashed()}
        return config_hash({key: value for key, value in whole.items() if value})

    def task(self, pair: str, task: str) -> Task:
        """The task with the pair's template.

        Raises:
          ConfigError: no such task, template or category.
        """
        return self.tasks[task].as_task(task, self.pairs[pair].template)
