"""The task `xsum`: articles of the BBC, each with a sentence that sums it up; the test split.

Source: Narayan et al. 2018, https://github.com/EdinburghNLP/XSum; the articles are the BBC's, and
TensorFlow Datasets names no licence. The order is that of TensorFlow Datasets, as in `wmt18`.
Templates and lengths are our choice.
"""

from rsd_jax.tasks.data_sets import DataSet
from rsd_jax.tasks.sources import SourceTask
from rsd_jax.tasks.templates import Template

_DATA_SET = DataSet(
    builders=("xsum",),
    split="test",
    fields=("document", "summary"),
    # The command needs TensorFlow; reading the files does not.
    prepare="""pip install tensorflow
tfds build xsum --file_format=array_record --manual_dir=MANUAL_DIR

where MANUAL_DIR holds xsum-extracts-from-downloads.tar.gz, which is made as described in
https://github.com/EdinburghNLP/XSum/blob/master/XSum-Dataset/README.md""",
)

XSUM = SourceTask(
    name="xsum",
    data_set=_DATA_SET,
    source="document",
    reference="summary",
    templates=(
        Template("base", "Article: {source}\n\nSummary of the article in one sentence:", stop="\n"),
        Template(
            "chat",
            "Summarize this article in one sentence:\n\n{source}",
            chat=True,
            system="You summarize news articles. Answer with the summary alone.",
        ),
    ),
    metric="rouge2",
    max_new_tokens=128,
)
