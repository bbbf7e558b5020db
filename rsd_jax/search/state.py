"""The state of a search: the set in use, its score, and all candidates with their scores."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from rsd_jax.core.identity import check_identity, search_identity
from rsd_jax.core.processes import on_writer
from rsd_jax.core.skips import from_switches, num_switches, start_set, to_switches
from rsd_jax.core.types import LoadedModel
from rsd_jax.errors import is_integer, is_number
from rsd_jax.search import files
from rsd_jax.search.config import SearchConfig

STOP_SCORE = "score"
STOP_TOLERANCE = "tolerance"
STOP_ITERATIONS = "iterations"
AT_REST = "at rest"


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A skip set that is to be scored.

    Attributes:
      switches: bool[2 (n - 2)], true where a sub-layer is skipped.
      point: f64[2 (n - 2)], the point that is registered with the Gaussian process: the switches as
        0 and 1 or, for a suggestion, the suggested point, whose largest coordinates are the
        switches that are on.
      suggested: whether the candidate is a Bayesian suggestion.
    """

    switches: np.ndarray
    point: np.ndarray
    suggested: bool

    @property
    def skips(self) -> np.ndarray:
        """bool[n, 2]."""
        return from_switches(self.switches)


@dataclasses.dataclass(frozen=True, eq=False)
class SearchState:
    """A search between two candidates. The state determines everything that comes next.

    Attributes:
      config: the settings of the search.
      identity: of the model, see `search_identity`.
      switches: bool[2 (n - 2)], the set in use.
      best_score: score of the set in use; 0 for the start set, which is never scored.
      iterations: number of candidates that were scored.
      since_adopted: number of candidates that were scored since the set in use was adopted.
      points: f64[iterations, 2 (n - 2)], the `point` of every candidate.
      scores: f64[iterations], the score of every candidate.
      resting: whether the search is off; the set stays in use.
    """

    config: SearchConfig
    identity: dict[str, Any]
    switches: np.ndarray
    best_score: float
    iterations: int
    since_adopted: int
    points: np.ndarray
    scores: np.ndarray
    resting: bool = False

    @classmethod
    def new(cls, target: LoadedModel, config: SearchConfig | None = None) -> "SearchState":
        """Starts from skipping every second layer, with score 0.

        Raises:
          ConfigError: the target has fewer than 3 layers.
        """
        layers = target.model.num_layers
        size = num_switches(layers)
        return cls(
            config=config or SearchConfig(),
            identity=search_identity(target),
            switches=to_switches(start_set(layers)),
            best_score=0.0,
            iterations=0,
            since_adopted=0,
            points=np.zeros((0, size)),
            scores=np.zeros((0,)),
        )

    @property
    def skips(self) -> np.ndarray:
        """bool[n, 2], the set in use: what `generate` takes as `skips`."""
        return from_switches(self.switches)

    @property
    def stopped(self) -> str | None:
        """Why the search is over: "score", "tolerance", "iterations" or "at rest"; None if not."""
        config = self.config
        if self.resting:
            return AT_REST
        if self.best_score > config.max_score:
            return STOP_SCORE
        if self.since_adopted > config.max_tolerance:
            return STOP_TOLERANCE
        return STOP_ITERATIONS if self.iterations > config.max_iterations else None

    def update(self, candidate: Candidate, score: float) -> "SearchState":
        """Registers a score; a candidate strictly better than the best so far is adopted."""
        better = score > self.best_score
        return dataclasses.replace(
            self,
            switches=candidate.switches if better else self.switches,
            best_score=float(score) if better else self.best_score,
            iterations=self.iterations + 1,
            since_adopted=0 if better else self.since_adopted + 1,
            points=np.concatenate([self.points, candidate.point[None]]),
            scores=np.append(self.scores, float(score)),
        )

    def at_rest(self) -> "SearchState":
        """The same set, with the search off."""
        return dataclasses.replace(self, resting=True)

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the state to a file; an interrupted write leaves the old file."""
        fields: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["config"] = dataclasses.asdict(self.config)
        for name in ("switches", "points", "scores"):
            fields[name] = fields[name].astype(float).tolist()
        files.write(path, fields)

    @classmethod
    def load(cls, path: str | pathlib.Path, target: LoadedModel) -> "SearchState":
        """Reads what `save` wrote.

        Raises:
          ConfigError: the file is missing, corrupt, or of another model.
        """
        fields = on_writer(files.read, path)
        check_identity(f"the search {path}", fields.get("identity"), search_identity(target))
        size = num_switches(target.model.num_layers)
        try:
            state = cls(
                config=SearchConfig(**fields.pop("config")),
                switches=np.asarray(fields.pop("switches")) == 1.0,
                points=np.asarray(fields.pop("points"), float).reshape(-1, size),
                scores=np.asarray(fields.pop("scores"), float),
                **fields,
            )
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise files.corrupt(path, error) from None
        counts = is_integer(state.iterations) and is_integer(state.since_adopted)
        if not (counts and is_number(state.best_score) and isinstance(state.resting, bool)):
            raise files.corrupt(path, "a count or its score is no number")
        if (
            state.switches.shape != (size,)
            or state.scores.shape != (state.iterations,)
            or len(state.points) != state.iterations
        ):
            raise files.corrupt(path, "the lengths of its arrays do not match")
        if not (np.isfinite(state.points).all() and np.isfinite(state.scores).all()):
            raise files.corrupt(path, "a score is not finite")
        return state
