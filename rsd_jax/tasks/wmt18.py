"""The task `wmt18_de_en`: newstest2018, the test set of WMT18 news translation, German to English.

Source: Bojar et al. 2018, http://www.statmt.org/wmt18/translation-task.html; TensorFlow Datasets
names no licence. The prompts are in the order of the records on disk. TensorFlow Datasets has
shuffled the records, in an order that depends only on their names. Templates and lengths are our
choice.
"""

from rsd_jax.tasks.data_sets import DataSet
from rsd_jax.tasks.sources import SourceTask
from rsd_jax.tasks.templates import Template

_DATA_SET = DataSet(
    # The first builder has the test set alone, the second one also downloads all training data.
    builders=("wmt_translate/de-en.newstest2018", "wmt18_translate/de-en"),
    split="test",
    fields=("de", "en"),
    prepare="""python -c "
from tensorflow_datasets.translate import wmt
wmt.WmtTranslate(
    config=wmt.WmtConfig(
        language_pair=('de', 'en'), name='newstest2018', description='newstest2018 alone',
        version='1.0.0', subsets={'test': ['newstest2018']},
    ),
).download_and_prepare(file_format='array_record')
\"""",
)

WMT18_DE_EN = SourceTask(
    name="wmt18_de_en",
    data_set=_DATA_SET,
    source="de",
    reference="en",
    templates=(
        Template("base", "German: {source}\nEnglish:", stop="\n"),
        Template(
            "chat",
            "Translate this text from German to English:\n{source}",
            chat=True,
            system="You are a translator. Answer with the translation alone.",
        ),
    ),
    metric="bleu",
    max_new_tokens=128,
)
