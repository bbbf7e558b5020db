"""Every configuration of an experiment can be built, and runs on the tiny pair when shrunk."""

import dataclasses
import importlib.util
import json

import pytest

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.methods import lossless_verifiers
from rsd_jax.evaluation.root_acceptance import has_optimum
from rsd_jax.evaluation.stream.session import Session
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.evaluation.sweep.cells import all_cells
from rsd_jax.evaluation.sweep.definition import BASELINE_KEY, Sweep
from rsd_jax.evaluation.sweep.run import results_path, run_sweep
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.pairs import shipped_pair_directory
from rsd_jax.records.files import read_rows
from rsd_jax.records.rows import own_verifier
from rsd_jax.tasks import TASKS
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import ROOT, sweeping

_FOLDER = ROOT / "configs/evaluate"
_SLOTS = 30


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MODULES = {path.stem: _module(path) for path in sorted(_FOLDER.glob("*.py"))}
_VARIANTS = _MODULES["pairs"].VARIANTS
_CONFIGS = ("experiment1", "experiment2")


def test_there_are_configurations():
    with_config = {name for name, module in _MODULES.items() if hasattr(module, "get_config")}
    assert with_config == {*_CONFIGS, "arena", "smollm2", "swift_stream"}, (
        "a new one needs a test that runs it"
    )
    assert _MODULES["experiment1"].get_config().out_dir == "runs/experiment1-quickstart"
    with pytest.raises(ValueError, match="unknown variant 'llama3'"):
        _MODULES["experiment1"].get_config("llama3")


@pytest.mark.parametrize("variant", _VARIANTS)
@pytest.mark.parametrize("name", _CONFIGS)
def test_it_builds_and_runs_shrunk(name, variant, tmp_path):
    config = _MODULES[name].get_config(variant)
    whole = Sweep.from_config(config)
    assert whole.experiment == name
    assert len(all_cells(whole)) == len(whole.methods()) * len(whole.tasks)
    with pytest.raises(AttributeError, match="locked"):
        config.out_folder = "misspelled"
    texts = tmp_path / "prompts.jsonl"
    line = {"prompt": "drei Tage", "reference": "three days"}
    texts.write_text("".join(json.dumps(line) + "\n" for _ in range(2)))
    with config.unlocked():
        config.out_dir, config.phase_repeats = str(tmp_path), 0
        for pair in config.pairs.values():
            pair.shipped, pair.target, pair.draft = "tiny", "", ""
        for task, settings in config.tasks.items():
            settings.num_prompts, settings.max_new_tokens = 2, 3
            settings.path = None if task in TASKS else str(texts)
        config.trees = {"sd": ("2",)}
    sweep = Sweep.from_config(config)
    assert run_sweep(sweep, sweeping.load, sweeping.Watcher()) == {"ok": 2 * len(sweep.tasks)}
    for row in read_rows(results_path(sweep)):
        assert row.decoding.num_prompts == 2
        assert (row.scores is None) == (row.task in ("completion", "dolly"))


def test_smollm2_builds_and_runs_shrunk(tmp_path):
    module = _MODULES["smollm2"]
    for variant in module.VARIANTS:
        assert Sweep.from_config(module.get_config(variant)).experiment == "smollm2"
    with pytest.raises(ValueError, match="unknown variant 'x'"):
        module.get_config("x")
    config = module.get_config().unlock()
    categories = [[kinds] if isinstance(kinds, str) else kinds for kinds in module.KINDS.values()]
    questions = tmp_path / "question.jsonl"
    lines = [
        {"question_id": index, "category": name, "turns": ["drei tage"], "reference": ["three"]}
        for index, name in enumerate(name for kind in categories for name in kind for _ in "ab")
    ]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config.out_dir, config.pairs.smollm2 = str(tmp_path), {"shipped": "tiny"}
    assert {"lookup", "sd", "spectr", "rsd_c", "rsd_s", "dynamic"} == set(config.trees)
    config.trees, config.verifiers = {"lookup": ("4",), "dynamic": ("6@0.4+4",)}, {}
    for settings in config.tasks.values():
        settings.update(path=str(questions), num_prompts=2, max_new_tokens=3, temperatures=(0.0,))
    sweep = Sweep.from_config(config)
    assert run_sweep(sweep, sweeping.load, sweeping.Watcher()) == {"ok": 3 * len(module.KINDS)}
    rows = read_rows(results_path(sweep))
    assert {row.method for row in rows} == {"ar", "lookup", "dynamic"}
    named = {row.task: row.categories.category_prompts.keys() for row in rows}
    assert set(named["conversation"]) == {"writing", "coding"}  # spread over the eight


def test_every_variant_of_the_stream_builds():
    for variant, (pair, _, tree) in _MODULES["swift_stream"].VARIANTS.items():
        config = _MODULES["swift_stream"].get_config(variant)
        drafter = StreamSettings.from_config(config).built_method().drafter
        assert drafter.shape.depth == tree["length"]
        assert config.pair.shipped == pair
        if pair == "smollm2":
            assert (config.task_name, config.task.path) == (
                "spec_bench",
                _MODULES["smollm2"].QUESTIONS,
            )
        else:
            assert shipped_pair_directory(pair).is_dir()
            assert config.task_name == "number_words"


# With random weights hardly a token is accepted.
@pytest.mark.filterwarnings("ignore:swift .* cannot pay here")
@pytest.mark.parametrize("variant", ["published", "adapted"])
def test_the_stream_runs_shrunk(variant, tmp_path):
    config = _MODULES["swift_stream"].get_config(variant)
    with config.unlocked():
        config.out_dir, config.phases, config.pair.shipped = str(tmp_path), False, "tiny"
        config.task.num_prompts, config.task.max_new_tokens, config.search.context = 2, 8, 3
        config.method.length = 2
    layers = dataclasses.replace(TINY_CONFIG, num_layers=4)
    target = LoadedModel(LlamaModel(layers), tiny_params(3, layers))
    rows = Session(StreamSettings.from_config(config), target, sweeping.Letters()).run()
    assert [row.status for row in rows] == ["ok"] * 5


def test_what_is_not_set_can_be_set():
    config = _MODULES["experiment1"].get_config("llama2_chat_7b")
    task = config.tasks.dolly
    task.path, task.data_dir, task.category, task.metric = "a", "b", "c", "bleu"
    task.top_k, task.follow_ups = 3, True
    config.draft_temperature, config.draft_top_k = 0.5, 4
    config.pairs.llama2_chat_7b.template = "base"
    offline = _MODULES["experiment2"].get_config("quick")
    offline.tasks.completion.path = "prompts.jsonl"
    with pytest.raises(TypeError):
        offline.tasks.completion.top_k = "many"


def test_experiment_1_has_all_branchings_that_do_not_widen():
    def below(length, most, nodes, used):
        if length == 0:
            yield ()
            return
        for children in range(1, most + 1):
            if used + nodes * children * length <= _SLOTS:
                for rest in below(length - 1, children, nodes * children, used + nodes * children):
                    yield (children, *rest)

    for length, trees in _MODULES["experiment1"].BRANCHINGS.items():
        expected = {"-".join(map(str, b)) for b in below(length, _SLOTS, 1, 0)}
        assert set(trees) == expected - {"-".join("1" * length)}
        assert len(set(trees)) == len(trees)
    for method in Sweep.from_config(_MODULES["experiment1"].get_config()).methods().values():
        assert method.drafter.shape.num_nodes - 1 <= _SLOTS


@pytest.mark.parametrize("variant", _VARIANTS)
def test_experiment_2_spends_exactly_the_budget(variant):
    config = _MODULES["experiment2"].get_config(variant)
    budgets = {int(length) for length in config.trees.sd}
    for method in Sweep.from_config(config).methods().values():
        assert method.drafter.shape.num_nodes - 1 in {0, *budgets}


@pytest.mark.parametrize("variant", _MODULES["arena"].VARIANTS[:-1])
def test_the_arena_spends_the_budgets_and_names_every_lossless_verifier(variant):
    module = _MODULES["arena"]
    sweep = Sweep.from_config(module.get_config(variant))
    assert sweep.expected
    drivers = {}
    for key, method in sweep.methods().items():
        if key != BASELINE_KEY:
            drivers.setdefault(method.name, set()).add(method.verifier_name)
            spent = method.drafter.shape.num_nodes - 1
            if variant.startswith("budgets"):
                assert spent in {*module.BUDGETS, 14}
                assert drivers[method.name] <= {own_verifier(method.name), "coupling"}
            else:
                assert spent in module.BUDGETS
                # For a single draft K-SEQ is recursive rejection, so it is no cell of its own.
                lossless = set(lossless_verifiers(method))
                lossless -= {"k_seq"} if method.name == "sd" else set()
                assert lossless == set(sweep.verifiers[method.name])
    assert set(drivers) == {"sd", "spectr", "rsd_c", "rsd_s"}
    assert all({own_verifier(name), "coupling"} <= found for name, found in drivers.items())
    with pytest.raises(ValueError, match="unknown variant"):
        module.get_config("slow")


def test_the_arena_of_one_node_has_an_optimum():
    sweep = Sweep.from_config(_MODULES["arena"].get_config("one_node"))
    assert sweep.expected
    assert sweep.optimum_blocks
    for key, method in sweep.methods().items():
        assert key == BASELINE_KEY or has_optimum(method.drafter)
