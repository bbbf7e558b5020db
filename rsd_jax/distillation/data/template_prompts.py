"""Messages of a user, filled into templates of our own: common requests on common topics.

They widen what a chat model asks itself (`responses/self_prompts.py`). No template is taken from a
data set, least of all from one that drafts are measured on.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from rsd_jax.errors import ConfigError, positive_integer


def listed(text: str) -> tuple[str, ...]:
    """The entries of a text that separates them by commas."""
    return tuple(text.split(", "))


_TOPICS = listed(
    "the water cycle, photosynthesis, black holes, volcanoes, vaccines, the human heart, bread, "
    "coffee, chess, the Roman Empire, the French Revolution, the printing press, electric cars, "
    "solar panels, recycling, honey bees, whales, penguins, coral reefs, rain forests, deserts, "
    "glaciers, earthquakes, the moon, satellites, the stock market, inflation, saving money, "
    "credit cards, a healthy breakfast, sleep, stress, yoga, running a marathon, football, "
    "learning to swim, learning a language, playing the guitar, jazz, classical music, poetry, "
    "Shakespeare, photography, watercolours, architecture, bridges, trains, airplanes, the "
    "internet, search engines, programming, databases, machine learning, robots, encryption, "
    "social media, remote work, job interviews, time management, public speaking, teamwork, "
    "gardening, house plants, cats, dogs, travelling alone, camping, museums, libraries, public "
    "transport, city planning, democracy, human rights, school uniforms, homework, climate change, "
    "plastic waste, clean water, the Olympic Games, marriage customs, tea, chocolate, fermentation"
)
_ROLES = listed(
    "a kind teacher, a ship's captain, a detective, a grandmother, a travel guide, a scientist, a "
    "chef, a news reporter, a lawyer, a doctor, a poet, a football coach, a medieval knight, a "
    "museum guide, a robot"
)
_KINDS = listed(
    "a short story, a poem, a blog post, a news article, an email to a friend, a formal letter, a "
    "speech, an advertisement, a product review, a dialogue between two friends, an outline for an "
    "essay, a song, a diary entry, a quiz with answers, a list of ten facts"
)
_REQUESTS = (
    "Write {kind} about {topic}.",
    "Write {kind} about {topic} and {other}.",
    "Explain {topic} to a child of ten years.",
    "Explain the main ideas behind {topic} in a few sentences.",
    "What should everyone know about {topic}?",
    "What are the advantages and disadvantages of {topic}?",
    "How did {topic} change over the last hundred years?",
    "Compare {topic} with {other}.",
    "Give me five tips about {topic}.",
    "Imagine that you are {role}. Talk about {topic}.",
    "You are {role}. A visitor asks you about {topic}. Answer the visitor.",
    "Name three good questions about {topic}, and answer each of them.",
    "Is it true that {topic} and {other} have something in common? Explain your answer.",
    "Describe a day in the life of {role}.",
    "Plan a lesson about {topic}, step by step.",
)
_THINGS = listed("apples, pencils, tickets, stamps, marbles, books, cookies, flowers")
_NAMES = listed("Anna, Ben, Clara, David, Emma, Felix, Grace, Henry")
_SUMS = (
    "{name} has {a} {things} and buys {b} more every day for {c} days. How many {things} does "
    "{name} have then?",
    "A box holds {a} {things}. {name} fills {b} boxes and gives {c} {things} away. How many "
    "{things} are left?",
    "{name} buys {b} {things} for {c} dollars each and pays with {a} dollars more than the price. "
    "How much does {name} pay?",
    "{name} shares {a} {things} among {c} friends. How many does each friend get, and how many are "
    "left over?",
    "A train travels {a} miles every hour for {c} hours. {name} then walks {b} miles. How far does "
    "{name} travel in all?",
)
_FUNCTIONS = listed(
    "reverses a string, counts the vowels in a text, finds the largest number in a list, sorts a "
    "list without the built-in sort, checks whether a word is a palindrome, computes the factorial "
    "of a number, merges two sorted lists, removes the duplicates from a list, reads a file and "
    "counts its lines, converts Celsius to Fahrenheit, finds all prime numbers below a limit, "
    "counts how often each word occurs, adds two matrices, searches a sorted list"
)
_LANGUAGES = listed("Python, JavaScript, Java, C++")
_CODE = (
    "Write a {language} function that {function}.",
    "Write a {language} function that {function}, and explain how it works.",
)


def template_prompts(count: int, *, seed: int = 0) -> list[str]:
    """`count` different messages: three requests, then a sum to work out or a function to write.

    Args:
      count: how many.
      seed: of the choice; the messages for a smaller `count` open those for a larger one.

    Raises:
      ConfigError: `count` is no positive integer, or the templates give fewer different messages.
    """
    positive_integer("count", count)
    rng = np.random.default_rng(seed)
    chosen: dict[str, None] = {}
    # Repeats are skipped, so more messages are drawn than are asked for.
    for message in itertools.islice(_messages(rng), 20 * count):
        chosen[message] = None
        if len(chosen) == count:
            return list(chosen)
    raise ConfigError(
        f"the templates give {len(chosen)} different messages in {20 * count} draws, not {count}; "
        "ask for fewer"
    )


def _messages(rng: np.random.Generator) -> Iterator[str]:
    for index in itertools.count():
        topic, other = (str(each) for each in rng.choice(_TOPICS, 2, replace=False))
        yield pick(rng, _REQUESTS).format(
            topic=topic, other=other, kind=pick(rng, _KINDS), role=pick(rng, _ROLES)
        )
        if index % 6 == 2:
            a, b, c = (int(rng.integers(low, high)) for low, high in ((20, 200), (2, 20), (2, 10)))
            yield pick(rng, _SUMS).format(
                name=pick(rng, _NAMES), things=pick(rng, _THINGS), a=a, b=b, c=c
            )
        if index % 6 == 5:
            yield pick(rng, _CODE).format(
                language=pick(rng, _LANGUAGES), function=pick(rng, _FUNCTIONS)
            )


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of the texts, each with the same probability."""
    return str(choices[int(rng.integers(len(choices)))])
