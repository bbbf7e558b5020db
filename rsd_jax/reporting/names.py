"""Names of pairs and tasks as in papers."""

import re

_TASK_NAMES = {
    "wmt18_de_en": "WMT",
    "xsum": "XSum",
    "dolly": "Dolly",
    "number_words": "number words",
}


def pretty(name: str) -> str:
    """A pair's or task's name as papers write it, if it is known; else the name itself."""

    def llama(match: re.Match[str]) -> str:
        return f"Llama-2-{'Chat-' if match[1] else ''}{match[2]}B"

    def opt(match: re.Match[str]) -> str:
        return f"OPT-{match[1]}B with OPT-{match[2]}M"

    name = re.sub(r"opt[-_](\d+)b[-_](\d+)m", opt, name)
    renamed = re.sub(r"llama[-_]?2[-_](chat[-_])?(\d+)b", llama, name, flags=re.IGNORECASE)
    return _TASK_NAMES.get(renamed.lower(), renamed)
