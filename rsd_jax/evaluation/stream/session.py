"""Runs a stream from its settings to its rows, and resumes it where it stopped."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.core.identity import row_digest
from rsd_jax.core.processes import on_writer, writer_holds
from rsd_jax.core.types import LoadedModel, sizes_of
from rsd_jax.engine.decoding import required_capacity
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.empty_answers import EmptyAnswers
from rsd_jax.evaluation.measured_rows import header
from rsd_jax.evaluation.prompts import Encoded, encode
from rsd_jax.evaluation.stream.rows import instance_rows, whole_row
from rsd_jax.evaluation.stream.run import phase_seconds, run_stream
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.models.loading import ends_of
from rsd_jax.records.files import append_row, known_rows
from rsd_jax.records.lock import sole_writer
from rsd_jax.records.rows import Row
from rsd_jax.search import SearchState

# Fields that must not change when a stream is resumed. Rates of two machines cannot be averaged.
_FIXED = ("experiment", "config_hash", "prompts_sha256", "weights_sha256", "hardware", "eos_ids")


class Session:
    """One stream in its folder: results.jsonl, and the search after the last finished instance.

    The search is written before the rows of its instance. A stream that was killed therefore
    resumes with the search after the last instance that has rows.
    """

    def __init__(self, settings: StreamSettings, target: LoadedModel, tokenizer: Any):
        """Reads the prompts and the rows of an earlier run.

        Raises:
          ConfigError: the task cannot be read, no prompt fits, the target has no sizes or
            fewer than 3 layers, or the folder holds a stream with other settings, prompts or
            weights.
        """
        sizes_of(target.model)
        self.settings, self.target, self.method = settings, target, settings.built_method()
        self._first = self._first_state()
        self.ends = ends_of(target, tokenizer)
        self.task = settings.task.as_task(settings.task_name, settings.pair.template)
        self.tokenizer, self.encoded = tokenizer, self._prompts(tokenizer)
        self.folder = pathlib.Path(settings.out_dir)
        self.path = self.folder / "results.jsonl"
        self._weights = row_digest(target)
        rows = on_writer(known_rows, self.path)
        self._check(rows)
        own, base = (
            {row.value("instance"): row for row in rows if row.method == name}
            for name in (self.method.name, "ar")
        )
        self.whole = own.pop(None, None)
        self.done = [(base[i], own[i]) for i in range(len(own)) if i in base and i in own]

    def run(self, watch: Callable[[str, Row | None], None] = lambda what, row: None) -> list[Row]:
        """Decodes the missing instances; returns all rows.

        Args:
          watch: called with ("decoded", row) or, for an instance timed by phase, ("timed", None).

        Raises:
          ConfigError, NonFiniteLogitsError: see `generate_with_search`. ConfigError also if another
            process writes to the folder.
        """
        with writer_holds(lambda: sole_writer(self.folder)):
            return self._run(watch)

    def _run(self, watch: Callable[[str, Row | None], None]) -> list[Row]:
        if len(self.done) < len(self.encoded.tokens):
            self._decode(watch)
        if self.whole is None:
            phases = None
            if self.settings.phases:
                phases = phase_seconds(
                    self.method,
                    self.target,
                    self.encoded.tokens,
                    self._sampling(),
                    self._state(0),
                    lambda index: watch("timed", None),
                    capacity=self._capacity(),
                )
            own = [row for _, row in self.done]
            self.whole = whole_row(own, phases, self._header(self.method))
            on_writer(append_row, self.path, self.whole)
        return [row for pair in self.done for row in pair] + [self.whole]

    def _decode(self, watch: Callable[[str, Row | None], None]) -> None:
        tokens, first = self.encoded.tokens, len(self.done)
        answers: list[list[int]] = []
        for instance in run_stream(
            self.method,
            self.target,
            tokens,
            self._sampling(),
            self._state(first),
            capacity=self._capacity(),
            first=first,
        ):
            index = len(self.done)
            on_writer(instance.state.save, self._search_file(index + 1))
            pair = instance_rows(
                instance,
                index,
                self.done,
                self.method,
                self.target.model,
                len(tokens[index]),
                self._header,
                self._first.config.ratio,
            )
            for row in pair:
                on_writer(append_row, self.path, row)
            self.done.append(pair)
            on_writer(self._search_file(index).unlink, missing_ok=True)
            watch("decoded", pair[1])
            answers += instance.result.tokens
        EmptyAnswers().check(
            self.settings.task_name,
            answers=len(answers),
            tokens=sum(map(len, answers)),
            max_new_tokens=self.settings.task.max_new_tokens,
            template=self.task.template,
            tokenizer=self.tokenizer,
        )

    def _state(self, instances: int) -> SearchState:
        """The state of the search after `instances` instances."""
        if instances:
            return SearchState.load(self._search_file(instances), self.target)
        return self._first

    def _first_state(self) -> SearchState:
        """The state of a new search, or of a finished search whose set is used."""
        if not self.settings.use_search:
            return SearchState.new(self.target, self.settings.search)
        return SearchState.load(self.settings.use_search, self.target).at_rest()

    def _search_file(self, instances: int) -> pathlib.Path:
        return self.folder / f"search-{instances}.json"

    def _prompts(self, tokenizer: Any) -> Encoded:
        given = self.settings.task
        encoded = encode(
            self.task.test_prompts(given.num_prompts),
            tokenizer,
            self.target,
            None,
            max_new_tokens=given.max_new_tokens,
            parse_special=given.parse_special,
            chat=self.settings.pair.chat,
        )
        if not encoded.tokens:
            raise ConfigError(
                f"all {encoded.num_skipped} prompts are too long for the target with "
                f"max_new_tokens={given.max_new_tokens}; lower it"
            )
        return encoded

    def _sampling(self) -> Sampling:
        task, seed = self.settings.task, self.settings.seed
        return task.at(task.temperatures[0], seed=seed, eos_ids=self.ends)

    def _capacity(self) -> int:
        longest = max(map(len, self.encoded.tokens))
        return required_capacity(self.method.drafter, longest, self.settings.task.max_new_tokens)

    def _header(self, method: Method, **others: Any) -> dict[str, Any]:
        settings = self.settings
        return header(
            self.target,
            method,
            sampling=self._sampling(),
            source="stream",
            kind="stream",
            experiment="stream",
            pair=settings.name,
            task=settings.task_name,
            template=settings.pair.template,
            chat_date=self.encoded.chat_date,
            batch_size=1,
            num_skipped=self.encoded.num_skipped,
            eos_ids=list(self.ends),
            prompts_sha256=self.encoded.sha256,
            weights_sha256=self._weights,
            config_hash=settings.hash(),
            **others,
        )

    def _check(self, rows: Sequence[Row]) -> None:
        expected = self._header(self.method)
        for row in rows:
            for name in _FIXED:
                if getattr(row, name) != expected[name]:
                    raise ConfigError(
                        f"{self.path} holds a stream whose {name} is {getattr(row, name)}, not "
                        f"{expected[name]}; set --config.out_dir to a new folder"
                    )
