"""The search for a skip set during decoding (Xia et al. 2025, SWIFT, section 4).

The last line of this example decodes with the set that the search has found:

    from rsd_jax.search import SearchConfig, SearchState, generate_with_search

    state = SearchState.new(target, SearchConfig(ratio=0.45))
    run = generate_with_search(method, target, prompts, state, max_new_tokens=256)
    run.state.save("found.json")
    rsd_jax.generate(method, target, None, prompts, max_new_tokens=256, skips=run.state.skips)
"""

from rsd_jax.search.config import SearchConfig
from rsd_jax.search.driver import SearchRun, generate_with_search
from rsd_jax.search.state import Candidate, SearchState
from rsd_jax.search.trace import InstanceTrace, Iteration

__all__ = [
    "Candidate",
    "InstanceTrace",
    "Iteration",
    "SearchConfig",
    "SearchRun",
    "SearchState",
    "generate_with_search",
]
