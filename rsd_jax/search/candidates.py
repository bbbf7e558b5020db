"""Candidates: the next skip set to score is random or, at regular intervals, a suggestion."""

import contextlib
import io

import numpy as np

from rsd_jax.core.skips import num_skipped
from rsd_jax.errors import ConfigError
from rsd_jax.search.state import Candidate, SearchState


def propose(state: SearchState) -> Candidate:
    """The candidate that follows those in `state`; a function of the state alone.

    Candidates are numbered from 1. A candidate is a uniform random subset of the required size, but
    every `bayes_every`-th candidate is a suggestion of Bayesian optimisation.

    Raises:
      ConfigError: a suggestion is due and bayesian-optimization is not installed.
    """
    number, size = state.iterations + 1, state.switches.size
    count = num_skipped(size // 2 + 2, state.config.ratio)
    if number % state.config.bayes_every == 0:
        point = _suggestion(state, number)
        # The largest coordinates; ties go to the earlier switch.
        chosen = np.argsort(-point, kind="stable")[:count]
    else:
        rng = np.random.default_rng((state.config.seed, number))
        point, chosen = None, rng.choice(size, count, replace=False)
    switches = np.zeros(size, bool)
    switches[chosen] = True
    if point is None:
        return Candidate(switches, switches.astype(float), suggested=False)
    return Candidate(switches, point, suggested=True)


def _suggestion(state: SearchState, number: int) -> np.ndarray:
    """f64[2 (n - 2)] in [0, 1]: where the upper confidence bound of a Gaussian process is largest.

    The process is fitted anew for every suggestion, so that a search that was saved and loaded goes
    on exactly as one that was not interrupted.
    """
    try:
        from bayes_opt import BayesianOptimization
        from bayes_opt.acquisition import UpperConfidenceBound
    except ImportError as error:
        raise ConfigError(
            f"Bayesian suggestions need the package bayesian-optimization ({error}): install it, "
            "or set bayes_every above max_iterations for random candidates only"
        ) from None
    size = state.switches.size
    seeds = np.random.SeedSequence((state.config.seed, number)).generate_state(1)
    optimizer = BayesianOptimization(
        f=None,
        pbounds={f"switch_{i}": (0.0, 1.0) for i in range(size)},
        acquisition_function=UpperConfidenceBound(kappa=state.config.kappa),
        random_state=int(seeds[0]),
        verbose=0,
        allow_duplicate_points=True,
    )
    # The package prints a line for each repeated point.
    with contextlib.redirect_stdout(io.StringIO()):
        for point, score in zip(state.points, state.scores, strict=True):
            optimizer.register(params=point, target=float(score))
    suggested = optimizer.suggest()
    return np.asarray([suggested[f"switch_{i}"] for i in range(size)], float)
