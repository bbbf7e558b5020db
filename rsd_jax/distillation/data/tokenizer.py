"""The byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2) of a trained pair."""

import json
import pathlib
import shutil
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models import loading
from rsd_jax.models.ends import GENERATION_CONFIG
from rsd_jax.models.gguf_files import is_gguf
from rsd_jax.text.encoding import as_text

BOS, EOS = "<s>", "</s>"
BOS_ID, EOS_ID = 0, 1
_NUM_BYTES = 256
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# Other files that the tokenizers of published models have; chat templates have files of their own.
_MORE_FILES = (
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_TEMPLATES = "additional_chat_templates"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learns a byte-level BPE of `vocab_size` tokens; any text can be encoded and decoded back.

    Encoding with special tokens puts `<s>` in front, as Llama's tokenizers do.

    Raises:
      ConfigError: `vocab_size` leaves no room for the bytes and the two special tokens, or is
        beyond what 16-bit token files hold.
    """
    if not _NUM_BYTES + 2 <= vocab_size <= 1 << 16:
        raise ConfigError(
            f"vocab_size={vocab_size} must lie between {_NUM_BYTES + 2} (every byte and two "
            f"special tokens) and {1 << 16}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: str | pathlib.Path, *, max_length: int) -> None:
    """Writes the files that `transformers.AutoTokenizer.from_pretrained(directory)` reads."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    specials = {"bos_token": BOS, "eos_token": EOS}
    config = specials | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
    }
    tokenizer.save(str(directory / FILES[0]))
    for name, content in ((FILES[1], config), (FILES[2], specials)):
        (directory / name).write_text(json.dumps(content, indent=2) + "\n")


def copy_tokenizer(
    source: pathlib.Path, directory: pathlib.Path, *, model: pathlib.Path | None = None
) -> None:
    """Copies the files of a tokenizer, chat template and generation_config.json, where found.

    Args:
      source: folder of the tokenizer, or a GGUF file, whose tokenizer is written.
      directory: receives the files.
      model: folder of generation_config.json; None for `source`.
    """
    if is_gguf(source):
        loading.load_tokenizer(source).save_pretrained(directory)
    for name in (*FILES, *_MORE_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    ends = (model or source) / GENERATION_CONFIG
    if ends.is_file():
        shutil.copyfile(ends, directory / GENERATION_CONFIG)
    if (source / _TEMPLATES).is_dir():
        shutil.copytree(source / _TEMPLATES, directory / _TEMPLATES, dirs_exist_ok=True)


def load_tokenizer(directory: str | pathlib.Path) -> Tokenizer:
    """Reads the files of `save_tokenizer`, the tokenizer.json of a published model, or a GGUF file.

    The tokenizer is set to encode whole texts, see `as_text`.

    Raises:
      ConfigError: there is no tokenizer.json, or the GGUF file's tokenizer is of an unknown kind.
      CheckpointError: the file is damaged.
    """
    if is_gguf(directory):
        return as_text(loading.load_tokenizer(directory).backend_tokenizer)
    path = pathlib.Path(directory) / FILES[0]
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist; run the text stage first, let transformers write it "
            "(AutoTokenizer.from_pretrained(directory).save_pretrained(directory)), or name "
            "another directory that has one as `tokenizer`"
        )
    try:
        return as_text(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"{path} cannot be read ({error}); copy it again") from None
