"""What a model answers to a task's test prompts, for `Task.score`."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.data.tokenizer import as_text
from rsd_jax.engine.generation import generate
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.tasks.base import Task


def encode_prompts(tokenizer: Tokenizer, task: Task, count: int) -> list[list[int]]:
    """Token ids of the task's first `count` test prompts, after what the tokenizer puts in front.

    A special token's name in a text is text.

    Raises:
      ConfigError: see `Task.test_prompts`.
    """
    as_text(tokenizer)
    return [tokenizer.encode(prompt.text).ids for prompt in task.test_prompts(count)]


def task_answers(
    target: LoadedModel,
    tokenizer: Tokenizer,
    task: Task,
    count: int,
    *,
    method: Method | None = None,
    draft: LoadedModel | None = None,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
    eos_ids: Sequence[int] = (),
) -> list[str]:
    """What the target answers to the task's first test prompts, as `Task.score` takes it.

    Args:
      target: whose answers they are, whatever the method.
      tokenizer: of the target.
      task: its `stop` ends an answer. Only once it is decoded: a token may hold it amid other text.
      count: how many prompts.
      method: `ar` by default. At temperature 0 all methods give the same answers, up to rounding.
      draft: for methods that need one.
      max_new_tokens: the task's by default; to prompt and answer, the model's positions must do.
      temperature, seed, batch_size: as in `generate`.
      eos_ids: ids that end an answer; they are no part of it.

    Returns:
      `count` texts, without special tokens, what follows an answer cut off.

    Raises:
      ConfigError: see `Task.test_prompts` and `generate`.
      NonFiniteLogitsError: see `generate`.
    """
    result = generate(
        method or build_method("ar"),
        target,
        draft,
        encode_prompts(tokenizer, task, count),
        max_new_tokens=task.max_new_tokens if max_new_tokens is None else max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        eos_id=tuple(eos_ids) or None,
    )
    # EOS by its id, as it need not be a special token to the tokenizer.
    kept = [[token for token in tokens if token not in eos_ids] for tokens in result.tokens]
    return [task.answer(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in kept]
