"""What a model answers to a task's test prompts, for `Task.score`."""

from tokenizers import Tokenizer

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.data.tokenizer import as_text
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Request, Sampling
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
    sampling: Sampling,
    *,
    method: Method | None = None,
    draft: LoadedModel | None = None,
    batch_size: int | None = None,
) -> list[str]:
    """What the target answers to the task's first test prompts, as `Task.score` takes it.

    Args:
      target: whose answers they are, whatever the method.
      tokenizer: of the target.
      task: its `stop` ends an answer. Only once it is decoded: a token may hold it amid other text.
      count: how many prompts.
      sampling: its end tokens are no part of an answer; to prompt and answer, the model's
        positions must do.
      method: `ar` by default. At temperature 0 all methods give the same answers, up to rounding.
      draft: for methods that need one.
      batch_size: as in `generate`.

    Returns:
      `count` texts, without special tokens, what follows an answer cut off.

    Raises:
      ConfigError: see `Task.test_prompts` and `generate`.
      NonFiniteLogitsError: see `generate`.
    """
    prompts = encode_prompts(tokenizer, task, count)
    request = Request(prompts=prompts, sampling=sampling, batch_size=batch_size)
    result = decode(prepare(method or build_method("ar"), target, draft, request))
    # EOS by its id, as it need not be a special token to the tokenizer.
    ends = sampling.eos_ids
    kept = [[token for token in tokens if token not in ends] for tokens in result.tokens]
    return [task.answer(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in kept]
