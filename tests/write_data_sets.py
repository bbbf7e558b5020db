"""Small data sets as TensorFlow Datasets itself writes them: `python -m tests.write_data_sets`.

TensorFlow Datasets' builders write the data sets, so that names, features and files are as users
have them; only downloads are replaced. WMT18 and Dolly are prepared by the commands that the tasks
name. The data sets go to TFDS_DATA_DIR.
"""

import json
import os
import pathlib
from unittest import mock

from rsd_jax.tasks.data_sets import DataSet
from rsd_jax.tasks.dolly import DOLLY
from rsd_jax.tasks.wmt18 import WMT18_DE_EN

WMT = [(f"Es sind {i} Äpfel {{}}.", f"There are {i} apples {{}}.") for i in range(9)]
XSUM = [
    *[(f"Line one of {i}.\nLine two.", f"Summary of {i}.") for i in range(5)],
    ("", "A summary without an article."),
    ("An article without a summary.", ""),
    ("y" * 9000, "However long."),
]
DOLLY_LINES = [
    {
        "instruction": f"Explain {i}.",
        "context": "It is a number.\n" if i % 2 else "",
        "response": f"{i} is a number.",
        "category": "closed_qa" if i % 2 else "open_qa",
    }
    for i in range(6)
]


def command(data_set: DataSet) -> str:
    """The Python of a command that begins with `python -c`."""
    before, code, after = data_set.prepare.split('"')
    assert (before, after) == ("python -c ", "")
    return code


def without_tensorflow() -> None:
    """Hides TensorFlow; `None` in `sys.modules` would look as if TensorFlow were imported."""
    import sys

    class Finder:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "tensorflow":
                return None
            return self.finder.find_spec(name, path, target)

    assert "tensorflow" not in sys.modules
    sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]


def main() -> None:
    without_tensorflow()
    import tensorflow_datasets as tfds
    from tensorflow_datasets.summarization.xsum import Xsum
    from tensorflow_datasets.translate.wmt18 import Wmt18Translate

    data_dir = pathlib.Path(os.environ["TFDS_DATA_DIR"])
    downloads = data_dir.with_name("downloads")
    downloads.mkdir(parents=True)
    for column, (side, language) in enumerate((("src", "de"), ("ref", "en"))):
        lines = [f'<seg id="{i}">{pair[column]}</seg>\n' for i, pair in enumerate(WMT, start=1)]
        path = downloads / f"dev/newstest2018-deen-{side}.{language}.sgm"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")
    dolly = downloads / "dolly.jsonl"
    dolly.write_text("".join(json.dumps(line) + "\n" for line in DOLLY_LINES))
    extracted = {"newstest2018": [tfds.core.Path(downloads)]}
    manager = tfds.download.DownloadManager
    with (
        mock.patch.object(manager, "download_and_extract", return_value=extracted),
        mock.patch.object(manager, "download", return_value={"train": str(dolly)}),
    ):
        exec(command(WMT18_DE_EN.data_set), {})
        exec(command(DOLLY.data_set), {})
    xsum = [(str(i), {"document": d, "summary": s}) for i, (d, s) in enumerate(XSUM)]
    with mock.patch.object(Xsum, "_split_generators", return_value={"test": xsum}):
        Xsum().download_and_prepare(file_format="array_record")
    wmt = {
        "train": [("0", {"de": "Zum Üben.", "en": "To train."})],
        "test": [(str(i), {"de": de, "en": en}) for i, (de, en) in enumerate(WMT)],
    }
    with mock.patch.object(Wmt18Translate, "_split_generators", return_value=wmt):
        Wmt18Translate(config="de-en").download_and_prepare(file_format="array_record")


if __name__ == "__main__":
    main()
