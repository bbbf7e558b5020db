"""Methods that are named on the command line, with thresholds from measured costs."""

import numpy as np
import pytest

from rsd_jax.cli.measured import methods_of
from rsd_jax.errors import ConfigError
from rsd_jax.planning import BlockCosts

# A token of autoregressive decoding takes 1 s, and each node of a pass 0.1 s more.
COSTS = BlockCosts(np.asarray([1, 11]), np.asarray([0.05, 0.05]), np.asarray([1.0, 2.0]))


def test_thresholds_come_from_costs_that_are_measured_once():
    measured = []

    def measure(nodes):
        measured.append(nodes)
        return COSTS

    named = ["sd:2", "dyspec:1x6@costs", "beam:2x4@costs:coupling", "dyspec:1x6@costs+4"]
    found = [(method.name, method.tree) for method in methods_of(named, measure)]
    assert found == [
        ("ar", "-"),
        ("sd", "2"),
        ("dyspec", "1x6@0.15"),  # a draft pass for one node, and 0.1 s of the target's pass
        ("beam", "2x4@0.12"),  # half a draft pass
        ("dyspec", "1x6@0.15+4"),
    ]
    assert measured == [9]  # the root and 2 x 4 nodes
    methods_of(["sd:2"], measure)
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("factor", "tree"), [(20, "1x6@0.99"), (0.04, "1x6@0.006"), (1e-9, "1x6@0.0001")]
)
def test_thresholds_have_two_digits_and_are_never_0(factor, tree):
    costs = BlockCosts(COSTS.nodes, np.full(2, 0.15 * factor), np.ones(2))
    assert methods_of(["dyspec:1x6@costs"], lambda nodes: costs)[1].tree == tree


@pytest.mark.parametrize(
    ("named", "measure", "message"),
    [
        ("dyspec:1x6@costs", None, "@costs is for rsd calibrate, with a draft model"),
        ("dynamic:6@costs", lambda nodes: COSTS, "@costs follows WIDTHxLENGTH"),
        ("dyspec:0x6@costs", lambda nodes: COSTS, "@costs follows WIDTHxLENGTH"),
        ("rsd_s:2x2@costs", lambda nodes: COSTS, "rsd_s"),
        ("dyspec", None, "METHOD:TREE"),
    ],
)
def test_bad_names(named, measure, message):
    with pytest.raises(ConfigError, match=message):
        methods_of([named], measure)
