"""The task `dolly`: Databricks-Dolly-15k, instructions of several kinds with answers by people.

Source: https://github.com/databrickslabs/dolly, CC BY-SA 3.0. The prompts are from the split
`train`, because there is no other; fine-tuned models may have seen them. The task has no metric,
because a good answer need not share a word with the reference. The order is that of TensorFlow
Datasets, as in `wmt18`. Templates and lengths are our choice.
"""

from rsd_jax.tasks.data_sets import DataSet
from rsd_jax.tasks.sources import SourceTask
from rsd_jax.tasks.templates import Template

_DATA_SET = DataSet(
    builders=("databricks_dolly",),
    split="train",
    fields=("instruction", "context", "response"),
    prepare="""python -c "
import tensorflow_datasets as tfds
tfds.builder('databricks_dolly').download_and_prepare(file_format='array_record')
\"""",
)

DOLLY = SourceTask(
    name="dolly",
    data_set=_DATA_SET,
    source="instruction",
    reference="response",
    context="context",
    templates=(
        Template("chat", chat=True),
        Template("base", "Instruction: {source}\n\nResponse:", stop="\nInstruction:"),
    ),
    metric=None,
    max_new_tokens=256,
)
