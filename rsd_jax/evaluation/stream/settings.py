"""The settings of a stream, read from its configuration."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from rsd_jax.engine.methods import Method, build_method
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.settings import PairSource, TaskSettings, check_pair, check_task
from rsd_jax.models.hub import hub_name
from rsd_jax.records.json_objects import build
from rsd_jax.records.rows import config_hash
from rsd_jax.search import SearchConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """One target, one task, one method that drafts with the target.

    Attributes:
      pair_name: name of the pair in the rows; "" for the name of the pair that ships, of the
        target's folder, or of the model on the Hub.
      pair: where the target is; a draft is not used.
      task_name: name of the task in the rows.
      task: the instances; only the first temperature is used.
      method: options of `build_method`, its name included.
      search: settings of the search.
      use_search: file of an earlier search; its set is used, and nothing is searched. "" to
        search.
      seed: seed of the draws.
      phases: whether the stream is decoded a second time to time its phases.
      mesh: sizes of the axes "data" and "model", or empty for one device. An instance is one row.
      out_dir: folder of results.jsonl and of the search (search-N.json after N instances).
    """

    pair_name: str = ""
    pair: PairSource
    task_name: str
    task: TaskSettings
    method: dict[str, Any]
    search: SearchConfig
    use_search: str = ""
    seed: int = 0
    phases: bool = True
    mesh: list[int] = dataclasses.field(default_factory=list)
    out_dir: str

    @classmethod
    def from_config(cls, config: Any) -> "StreamSettings":
        """Reads and checks a configuration: a mapping, or an `ml_collections.ConfigDict`.

        Raises:
          ConfigError: a key is unknown, missing or malformed, or a value out of range.
        """
        values: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else config
        settings: StreamSettings = build(cls, values)
        check_pair("pair", settings.pair)
        check_task(settings.task_name, settings.task)
        if not settings.built_method().drafter.needs_skips:
            raise ConfigError(
                f"method {settings.method['name']!r} does not draft with its target, so there is "
                "nothing to search for; use swift or one of the self_ methods"
            )
        least = settings.search.context + 2
        if settings.task.max_new_tokens <= least and not settings.use_search:
            raise ConfigError(
                f"task.max_new_tokens={settings.task.max_new_tokens} must be above {least}: a set "
                f"is scored on unfinished answers of more than context + 1 = {least - 1} tokens"
            )
        return settings

    @property
    def name(self) -> str:
        """The name of the pair in the rows."""
        on_hub = hub_name(self.pair.target)
        folder = pathlib.Path(os.path.abspath(on_hub[0] if on_hub else self.pair.target)).name
        return self.pair_name or self.pair.shipped or folder

    def built_method(self) -> Method:
        """The method; see `build_method` for its errors."""
        if "name" not in self.method:
            raise ConfigError("method: `name`, the name of the method, is missing")
        return build_method(**self.method)

    def hash(self) -> str:
        """Hash of all settings that the rows depend on, without paths of weights, data, results."""
        values = dataclasses.asdict(self) | {"pair_name": self.name}
        if self.use_search:
            values["use_search"] = hashlib.sha256(
                pathlib.Path(self.use_search).read_bytes()
            ).hexdigest()
        for name in ("out_dir", "pair"):
            del values[name]
        for name in ("path", "data_dir"):
            del values["task"][name]
        if not self.mesh:  # a setting that earlier streams did not have
            del values["mesh"]
        for name in ("parse_special", "spread"):  # settings that earlier streams did not have
            if not values["task"][name]:
                del values["task"][name]
        return config_hash(values | {"dtype": self.pair.dtype} | self.pair.hashed())
