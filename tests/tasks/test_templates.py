"""Templates: exact texts, the format of Llama-2-Chat, and the docs, which show all templates."""

import pytest

from rsd_jax.tasks import DISK_TASKS, jsonl, questions
from rsd_jax.tasks.dolly import DOLLY
from rsd_jax.tasks.prompts import QUICKSTART_PROMPTS
from rsd_jax.tasks.templates import Template, chat_turns
from rsd_jax.tasks.wmt18 import WMT18_DE_EN
from rsd_jax.tasks.xsum import XSUM
from tests import ROOT

_DOCS = ROOT / "docs/tasks.md"
_TEMPLATES = {
    "wmt18_de_en": WMT18_DE_EN.templates,
    "xsum": XSUM.templates,
    "dolly": DOLLY.templates,
    "jsonl": jsonl.TEMPLATES,
    "spec_bench": questions.TEMPLATES,
    "speed_bench": questions.TEMPLATES,
}


@pytest.mark.parametrize("system", [None, "Answer briefly."])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_chat_is_that_of_llama_2(system, count):
    """Against transformers' tags and its rendering of the published format.

    Encoded turn by turn with BOS and EOS, as in Meta's code, or as one text, the tokens are the
    same.
    """
    from transformers import AutoTokenizer
    from transformers.models.llama import tokenization_llama as llama

    turns = [f" Question {i}?\n" for i in range(count)]
    answers = [f" Answer\n{i}. " for i in range(count - 1)]
    first = "" if system is None else llama.B_SYS + system + llama.E_SYS
    parts = [
        f"{llama.B_INST} {(first * (i == 0) + turn).strip()} {llama.E_INST}"
        for i, turn in enumerate(turns)
    ]
    for i, answer in enumerate(answers):
        parts[i] += f" {answer.strip()} "
    assert chat_turns(turns, answers, system=system) == parts

    text = Template("chat", chat=True, system=system).render(turns, answers)
    messages = [{"role": "system", "content": system}] if system is not None else []
    for i, turn in enumerate(turns):
        messages.append({"role": "user", "content": first * (i == 0) + turn})
        messages += [{"role": "assistant", "content": answer} for answer in answers[i : i + 1]]
    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART_PROMPTS.with_name("target"))
    rendered = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        chat_template="{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' "
        "+ m.content.strip() + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + "
        "m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    )
    assert tokenizer.bos_token + text == rendered
    alone = [[*tokenizer(part).input_ids, tokenizer.eos_token_id] for part in parts]
    assert tokenizer(text).input_ids == [token for turn in alone for token in turn][:-1]


def test_templates_verbatim():
    system = "[INST] <<SYS>>\nYou are a translator. Answer with the translation alone."
    assert WMT18_DE_EN.templates[1].render(["{Äpfel}"]) == (
        f"{system}\n<</SYS>>\n\nTranslate this text from German to English:\n{{Äpfel}} [/INST]"
    )
    system = "[INST] <<SYS>>\nYou summarize news articles. Answer with the summary alone."
    assert XSUM.templates[1].render(["A\nB"]) == (
        f"{system}\n<</SYS>>\n\nSummarize this article in one sentence:\n\nA\nB [/INST]"
    )
    assert DOLLY.templates[1].render(["Do it."]) == "Instruction: Do it.\n\nResponse:"
    assert [template.stop for template in WMT18_DE_EN.templates] == ["\n", None]
    assert [template.stop for template in XSUM.templates] == ["\n", None]
    assert [template.stop for template in DOLLY.templates] == [None, "\nInstruction:"]


def test_the_docs_have_every_template_and_command():
    text = _DOCS.read_text(encoding="utf-8")
    assert set(_TEMPLATES) == set(DISK_TASKS)
    for name, templates in _TEMPLATES.items():
        section = text.split(f"\n## `{name}`\n", 1)[1].split("\n## ", 1)[0]
        for template in templates:
            assert f"`{template.name}`" in section
            if template.name != "plain":
                shown = template.render(["{source}"])
                assert f"```text\n{shown}\n```" in section, f"{name}, {template.name}:\n{shown}"
    for task in (WMT18_DE_EN, XSUM, DOLLY):
        command = task.data_set.prepare.partition("\n\n")[0]
        assert f"```sh\n{command}\n```" in text
