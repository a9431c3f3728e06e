"""Texts that a user can meet are short and in American English; `python tests/tools/texts.py` prints all of them."""

from __future__ import annotations

import re

import pytest
from texts import Text, texts

TEXTS = list(texts())
MOST_IN_AN_ERROR = 260
BRITISH = re.compile(
    r"\b\w*(?:colour|grey|behaviour|centre[ds]?|neighbour|favour|analys(?:e[ds]?|ing)|licence|defence|cancelled|labelled|"
    r"modelling|travell|catalogues|(?:normal|real|initial|optim|summar|recogn|organ|general|minim|maxim|quant|serial|special)"
    r"is(?:e[ds]?|ing|ation))\w*",
    re.IGNORECASE,
)
# Names of files, recipe keys and their values stay as they are.
NAMES = re.compile(r"renormalised|realised_\w+|mix\.law|`[^`]*`|\b[\w.-]+_[\w.-]*")
NOT_OURS = re.compile(
    r"contradiction|\bdoubts?\b|\blaws?\b|\bgauges?\b|\bmend\b|way back|take back|fire back|finite number|no more \(|"
    r"speaks? against|\bplease\b|\bsorry\b|\boops\b|\bsimply\b|\bwhilst\b|\bamongst\b|"
    r"\be\.g\.|\bi\.e\.|\betc\b|\(s\)|n't\b|!(?!=)|\b(the|a|an|of|to|is|in) \1\b|[\u201c\u201d\u2018\u2019]",
    re.IGNORECASE,
)


def told(found: list[Text]) -> list[str]:
    return [f"{one.place}: {one.text}" for one in found]


def test_the_texts_are_found() -> None:
    assert len(TEXTS) > 1500
    found = {one.text for one in TEXTS}
    assert {
        "Print errors only, no progress.",
        "List the available recipes by system: dataset and network.",
        "Time bins of a recording, T: the time steps of the network.",
        "{}: not finished, expected a result; resume it with: {}",
        "Learning curves",
        "Weight of CKA alignment.",
        "Events alone on N-MNIST recordings and MNIST images",
    } <= found


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Initialisation of colours", BRITISH),
        ("analysed in gray, centred", BRITISH),
        ("Kaiming's law", NOT_OURS),
        ("2 file(s)", NOT_OURS),
        ("don't", NOT_OURS),
    ],
)
def test_what_is_looked_for_would_be_found(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)
    assert not pattern.search(
        "analyze the color of a license; the promise, the exercise and 3 samples: otherwise, revise"
    )


def test_spelling_is_american() -> None:
    assert told([one for one in TEXTS if BRITISH.search(NAMES.sub("", one.text))]) == []


def test_words_are_those_of_the_house() -> None:
    assert told([one for one in TEXTS if NOT_OURS.search(NAMES.sub("", one.text))]) == []


def test_an_error_is_one_short_line_without_a_period() -> None:
    errors = [one for one in TEXTS if one.is_error]
    assert len(errors) > 400
    assert told([one for one in errors if "\n" in one.text or len(one.text) > MOST_IN_AN_ERROR]) == []
    assert told([one for one in errors if one.text.rstrip().endswith(".")]) == []
