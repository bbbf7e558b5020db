"""Shared by tests: a sweep over the tiny pair, with a tokenizer of letters."""

import types

from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.tasks import get_task
from tests import tiny

LETTERS = "abcdefghijklmnopqrstuvwxyz ,:\n"


class Letters:
    """A tokenizer: `LETTERS` have the ids from 2 on, other characters id 0; id 1 is EOS."""

    eos_token_id = 1
    # A conversation is its texts, line after line.
    chat_template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"

    def __call__(self, text, **options):
        ids = [2 + LETTERS.index(c) if c in LETTERS else 0 for c in text.lower()]
        return types.SimpleNamespace(input_ids=ids)

    def decode(self, ids, **options):
        return "".join(LETTERS[i - 2] for i in ids if i >= 2)

    def apply_chat_template(self, messages, **options):
        return "".join(message["content"] + "\n" for message in messages)


def load(source):
    target, draft = tiny.pair()
    return types.SimpleNamespace(target=target, draft=draft, tokenizer=Letters())


TASK = {"num_prompts": 3, "max_new_tokens": 6, "temperatures": (0.7,)}


def prompts(count):
    return get_task("number_words").test_prompts(count)


def config(out_dir, **changes):
    values = {
        "experiment": "test",
        "pairs": {"tiny": {"shipped": "tiny"}},
        "tasks": {"number_words": TASK},
        "trees": {"sd": ("3",), "rsd_c": ("2-2",), "rsd_s": ("3x2",), "spectr": ("2x2",)},
        "seeds": (0,),
        "estimate": {"compile_seconds": 2.0, "tokens_per_second": 3.0},
        "out_dir": str(out_dir),
        "cells_together": 2,
        "mesh": (),
    }
    return values | changes


def sweep(out_dir, **changes) -> Sweep:
    return Sweep.from_config(config(out_dir, **changes))


class Watcher:
    """Records the progress of a sweep; can raise `Killed` at a step or after a row.

    Args:
      kill_at: index of the step or row at which `Killed` is raised; None: never.
      at_row: whether `kill_at` counts rows instead of steps.
    """

    class Killed(BaseException):
        pass

    def __init__(self, kill_at=None, at_row=False):
        self.turns, self.steps, self.rows = [], [], []
        self._kill_at, self._at_row = kill_at, at_row

    def turn(self, turn, steps, seconds_left):
        self.turns.append((turn, steps, seconds_left))

    def step(self, done):
        if len(self.steps) == self._kill_at and not self._at_row:
            raise self.Killed
        self.steps.append(done)

    def row(self, row):
        self.rows.append(row)
        if len(self.rows) - 1 == self._kill_at and self._at_row:
            raise self.Killed
