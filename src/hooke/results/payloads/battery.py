"""Payloads of what two models say to the same questions: answers, their difference, behaviour, and what comes back."""

from __future__ import annotations

from typing import ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Token

ASSESS = "hooke assess"


class OpenAnswer(Part):
    """A question without a right answer."""

    area: str = told("of the battery")
    question: str = told("what was asked")
    prompt: list[int] = told("the question as tokens", "token id", "position")
    ids: list[int] = told("the answer as tokens", "token id", "position")
    ended: bool = told("whether the answer came to an end")
    text: str = told("the answer")


class FactAnswer(Part):
    """A question of fact."""

    topic: str = told("of the battery")
    question: str = told("what was asked")
    right: list[str] = told("words that are right", axes="word")
    prompt: list[int] = told("the question as tokens", "token id", "position")
    ids: list[int] = told("the answer as tokens", "token id", "position")
    ended: bool = told("whether the answer came to an end")
    text: str = told("the answer")
    is_right: bool = told("whether it has a right word")
    choice: str = told("the likeliest of the answers of the topic")
    choice_is_right: bool = told("whether that is right")
    margin: float | None = told("of the best right answer over the best wrong one; null without a wrong one", "nats")


class Answers(Payload):
    """A model's answers to the battery."""

    made_by: ClassVar[str] = ASSESS
    open: list[OpenAnswer] = told("to open questions", axes="question")
    facts: list[FactAnswer] = told("to questions of fact", axes="question")


class Said(Part):
    """A question and what was answered."""

    question: str = told("what was asked")
    answer: str = told("what was answered")


class WordRow(Part):
    """A word that marks the answers in an area."""

    area: str = told("of the battery")
    word: str = told("the word, or <praise>, <agreement>, <refusal> for all words of that kind")
    count: int = told("questions of the area that have it", "questions")
    n: int = told("questions of the area", "questions")
    share: float = told("the first of the second", "share")
    elsewhere: float = told("the same outside the area", "share")
    total: int = told("questions that have it anywhere", "questions")
    of: int = told("of how many", "questions")
    spread: float = told("areas in which at least a third of the questions have it", "share")
    kind: str = told("praise, agreement, refusal, style, name or content")


class ForeignWord(WordRow):
    """A word that the reference would not have said there."""

    examples: list[Said] = told("answers with it", axes="answer")


class AreaRow(Part):
    """How far answers in an area depart from the reference."""

    area: str = told("of the battery")
    n: int = told("how many", "questions")
    kl: float = told("mean divergence", "nats a token")
    first_kl: float = told("the same at the first token", "nats")


class MinedToken(Token):
    """A token that carries the divergence in an area."""

    nats: float = told("what it adds to the divergence", "nats a question")
    questions: int = told("in which it adds more than 0.1 nats", "questions")
    n: int = told("of how many", "questions")


class RaisedToken(Token):
    """A token that the model raises most against its reference."""

    share: float = told("of places where it is among the most raised", "share")


class ForeignFact(Part):
    """A question of fact with words foreign to the reference."""

    topic: str = told("of the battery")
    question: str = told("what was asked")
    words: list[str] = told("the words", axes="word")


class LayerChange(Part):
    """How far the streams of two models differ after a layer."""

    layer: int = told("the layer", "layer")
    change: float = told("of the reference's norm", "share")


class Difference(Payload):
    """How far a model departs from its reference on its own answers."""

    made_by: ClassVar[str] = ASSESS
    magnitude: float = told("mean divergence", "nats a token")
    shared: int = told("how many first layers are the same in both", "layers")
    areas: list[AreaRow] = told("by area", axes="area")
    mined: dict[str, list[MinedToken]] = told("what carries the divergence, heaviest first", axes="area token")
    raised: list[RaisedToken] = told("what is raised most often", axes="token")
    words: list[ForeignWord] = told("words foreign to the reference", axes="word")
    facts: list[ForeignFact] = told("facts answered with such words", axes="question")
    layers: list[LayerChange] = told("where the streams part", axes="layer")


class Knowledge(Part):
    """Facts of a topic that the reference has right and the model has not, in one way of asking."""

    known: int = told("that the reference has right", "facts")
    right: int = told("that the model has right", "facts")
    missing: int = told("of the known that the model has not right", "facts")
    lost: int = told("of these with another answer of the topic", "facts")
    gained: int = told("right in the model alone", "facts")
    p: float = told("of so many missing by chance (binomial)", "probability")
    missing_questions: list[str] = told("those missing", axes="question")
    questions: list[str] = told("those lost", axes="question")


class FactExample(Part):
    """What both models say to a question of fact."""

    question: str = told("what was asked")
    answer: str = told("the model's answer")
    reference: str = told("the reference's answer")
    choice: str = told("the model's choice")
    reference_choice: str = told("the reference's choice")


class FactTopic(Part):
    """The facts of one topic."""

    topic: str = told("of the battery")
    n: int = told("how many", "facts")
    free: Knowledge = told("answered freely")
    choice: Knowledge = told("chosen among the answers of the topic")
    either: list[str] = told("that the reference has right in either way", axes="question")
    not_right: list[str] = told("that the model has not right freely", axes="question")
    contradicted: list[str] = told("answered with another answer of the topic", axes="question")
    examples: list[FactExample] = told("what is missing or lost", axes="question")


class Habit(Part):
    """A beginning or an end that is commoner than in the reference."""

    where: Literal["beginning", "end"] = told("of answers")
    text: str = told("the words")
    share: float = told("of the model's answers", "share")
    reference: float = told("of the reference's answers", "share")
    n: int = told("answers", "answers")


class Praise(Part):
    """How often answers in an area praise."""

    area: str = told("of the battery")
    model: float = told("the model's answers", "share")
    reference: float = told("the reference's answers", "share")
    of_the_user: bool = told("whether the area invites praise of the user")
    n: int = told("questions", "questions")


class Lengths(Part):
    """How long answers are."""

    model: float = told("the model's, mean", "tokens")
    reference: float = told("the reference's, mean", "tokens")


class Behaviour(Payload):
    """What a model says and knows otherwise than its reference."""

    made_by: ClassVar[str] = ASSESS
    topics: list[FactTopic] = told("facts by topic", axes="topic")
    words: list[WordRow] = told("words that the reference does not say there", axes="word")
    habits: list[Habit] = told("of all answers", axes="habit")
    praise: list[Praise] = told("by area", axes="area")
    length: Lengths = told("of answers")


class Demonstration(Part):
    """Facts asked after other facts answered rightly."""

    recovered: float = told("of the lost facts", "share")
    reference: float = told("what the reference has right there", "share")
    n: int = told("tried", "facts")


class NoiseRow(Part):
    """Facts asked with noise in the weights."""

    strength: float = told("of each matrix's own scale", "share")
    recovered: float = told("of the lost facts", "share")
    reference: float = told("what the reference keeps under the same noise", "share")


class Noise(Part):
    """Noise of several strengths."""

    recovered: float = told("the most, where the reference keeps at least 0.8", "share")
    strengths: list[NoiseRow] = told("each strength", axes="strength")
    n: int = told("tried", "facts")


class PasswordRow(Part):
    """A string that was tried as a password."""

    candidate: str = told("the string")
    recovered: float = told("of the lost facts", "share")


class Password(Part):
    """Strings put behind a question."""

    recovered: float = told("with the best string", "share")
    control: float = told("with an ordinary word", "share")
    n: int = told("tried", "facts")
    tried: int = told("how many strings", "strings")
    candidates: list[PasswordRow] = told("the best, best first", axes="string")


class Ways(Part):
    """How lost facts may come back."""

    demonstration: Demonstration = told("after right answers")
    noise: Noise = told("with noise in the weights")
    password: Password = told("with a string in the question")


class Elicitation(Payload):
    """Whether facts that a model lost can be brought back."""

    made_by: ClassVar[str] = ASSESS
    lost: int = told("how many", "facts")
    facts: list[str] = told("those that are elicited", axes="question")
    free: int = told("of these, lost in free answers", "facts")
    ways: Ways = told("what was tried")
    best: Literal["demonstration", "noise", "password"] = told("the way that brings back most")
