"""The best acceptance at one node: a maximum flow from sets of drafts to tokens of the target.

A verifier moves the probability of every drawn set S to tokens in S, and to a token y no more than
p(y). By the minimum cut the most that it can move is

    1 + min over sets H of tokens of p(H) - F(H),  F(H) = Pr[S lies in H],

the empty set included. A token that the draft cannot draw only adds to p(H), so H needs none. Sort
the other tokens by p / q. Then some best H is a prefix, the first tokens up to some place:

I.i.d., F(H) = q(H)^k is convex in q(H). Put its tangent at a best H in its place: no cut falls, and
that of H stays. The least cut is now at a prefix, the tokens with p / q below the slope. It is at
most the cut of H, and the cut that the prefix had before is no larger.

Without replacement, for y in H, x outside of H and G = H - y,

    (F(H + x) - F(H)) / q(x) >= (F(H) - F(G)) / q(y).                                (*)

If H is best, then p(x) >= F(H + x) - F(H) and p(y) <= F(H) - F(G), so p(x) / q(x) >= p(y) / q(y),
and if these are equal, H + x is best too. So a best H that no other contains is a prefix.

For (*) give every token u an alarm at an exponential time of rate q(u); the first k tokens to ring
are S. Fix all alarms but those of x and y. Let a be the time of alarm k - 1 of G and b that of
alarm k of G or of the first alarm outside of H + x, whichever is earlier. F(H + x) - F(H) is the
probability that x is drawn and nothing outside of H + x, F(H) - F(G) that y is and nothing outside
of H. With I = integral from a to b of e^(-(q(x) + q(y)) t) dt and a < b, the probabilities are

    x without y:    (1 - e^(-q(x) a)) e^(-q(y) a) + q(x) I,
    y without x:    (1 - e^(-q(y) a)) e^(-q(x) a) + q(y) I,
    both, at least: (1 - e^(-q(x) a)) (1 - e^(-q(y) a)),

and if a >= b, the first two are 0. So the left side of (*) less the right is at least

    (1 - e^(-q(x) a)) / q(x) - e^(-q(x) a) (1 - e^(-q(y) a)) / q(y),

where the first term is at least a e^(-q(x) a) and the second at most that.
"""

import numpy as np

from rsd_jax.errors import ConfigError, positive_integer

_STEP = 0.2  # of the quadrature, in log time; errors up to 4e-15 were seen, 1e-9 at .4
_NEGLIGIBLE = 35.0  # e^-35 = 6e-16 is left out at either end of the quadrature


def one_node_optimum_iid(p: np.ndarray, q: np.ndarray, k: int) -> float:
    """The largest probability of accepting one of k i.i.d. drafts without loss. Exact.

    Tries all prefixes, see the head of this module. O(V log V).

    Args:
      p: the target's law, f[V]; computed in float64.
      q: the draft's law, f[V].
      k: drafts, at least 1.

    Raises:
      ConfigError: p or q is not a law, their sizes differ, or k is no positive integer.
    """
    p, q = _laws(p, q)
    k = positive_integer("k", k)
    cut = np.cumsum(p) - _inside(q) ** k
    return float(1.0 + min(0.0, cut.min()))


def one_node_optimum_without_replacement(p: np.ndarray, q: np.ndarray, k: int) -> float:
    """The largest probability of accepting one of k drafts without replacement. Exact.

    Where fewer than k tokens can be drawn, all of them are. Tries all prefixes, see the head of
    this module for why that suffices. A sample lies in H iff k alarms of H ring before the first
    alarm outside, which rings at rate r = 1 - q(H):

        Pr[S lies in H] = integral over t of r e^(-r t) Pr[k alarms of H or more ring by t] dt,

    by the trapezoid rule in log t, whose error falls exponentially with the step. All prefixes
    share one recursion, which adds token by token to the law of the number of alarms. It ends at
    the last prefix that can matter: Pr[S lies in H] is at most q(H)^k, so a prefix with
    p(H) >= q(H)^k is no better than the empty set. O(V k G) with G points, G about 150.

    Args:
      p: the target's law, f[V]; computed in float64, the error is below 1e-10.
      q: the draft's law, f[V].
      k: drafts, at least 1.

    Raises:
      ConfigError: p or q is not a law, their sizes differ, or k is no positive integer.
    """
    p, q = _laws(p, q)
    k = min(positive_integer("k", k), len(q))
    inside, mass = _inside(q), np.cumsum(p)
    matters = mass - inside**k < 0.0
    matters[: k - 1] = False  # fewer than k tokens
    cut = np.where(matters, mass - _drawn_inside(q, k, matters), 0.0)
    return float(1.0 + min(0.0, cut.min()))


def _laws(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both laws on the tokens that the draft can draw, f64, by ascending p / q."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    for name, law in (("p", p), ("q", q)):
        if law.ndim != 1 or not (law >= 0.0).all() or not abs(law.sum() - 1.0) < 1e-4:
            raise ConfigError(f"{name} must be one law f[V]: not negative, with the sum 1")
    if p.shape != q.shape:
        raise ConfigError(f"p has {p.size} tokens and q has {q.size}; both need the same tokens")
    p, q = p / p.sum(), q / q.sum()
    p, q = p[q > 0.0], q[q > 0.0]
    with np.errstate(divide="ignore"):
        ratio = np.log(p) - np.log(q)
    order = np.argsort(ratio, kind="stable")
    return p[order], q[order]


def _inside(q: np.ndarray) -> np.ndarray:
    """q of every prefix, f64[n]; that of the last is 1."""
    inside = np.cumsum(q)
    inside[-1] = 1.0
    return np.minimum(inside, 1.0)


def _drawn_inside(q: np.ndarray, k: int, wanted: np.ndarray) -> np.ndarray:
    """Pr[k tokens without replacement lie in a prefix], f64[n], 0 for those not wanted.

    Args:
      q: f64[n], positive; a law.
      k: at most n.
      wanted: bool[n], of the prefixes.
    """
    # Sums from the end: 1 - q(H) would lose the digits of a small rest.
    outside = np.append(np.cumsum(q[::-1])[::-1][1:], 0.0)
    out = np.zeros(len(q))
    if wanted[-1]:
        out[-1] = 1.0
    by_time = np.flatnonzero(wanted[:-1])
    if not len(by_time):
        return out
    # Before the start k alarms and one more have rung with a probability of at most t^(k+1).
    start = -_NEGLIGIBLE / (k + 1)
    end = np.log(_NEGLIGIBLE / outside[by_time[-1]])
    time = np.exp(np.arange(start, end + _STEP, _STEP))
    rung = np.zeros((k, len(time)))  # Pr[j alarms of the prefix by then], j < k
    rung[0] = 1.0
    enough = np.zeros(len(time))  # Pr[k alarms or more]
    for i in range(by_time[-1] + 1):
        rings = -np.expm1(-q[i] * time)
        silent = 1.0 - rings
        enough += rung[-1] * rings
        rung[1:] = rung[1:] * silent + rung[:-1] * rings
        rung[0] *= silent
        if wanted[i]:
            rate = outside[i] * time
            out[i] = _STEP * (rate * np.exp(-rate)) @ enough
    return out
