"""OpenAI's client: text completions, as tools for evaluation use them."""

import asyncio

import openai
import pytest

from clients import async_openai_client, openai_client, words


@pytest.fixture
def client(scripted):
    return openai_client(scripted)


def complete(client, prompt, **more):
    return client.completions.create(model="scripted", prompt=prompt, **more)


def test_a_text_is_gone_on_with(client):
    answer = complete(client, "SAY On it goes.", max_tokens=100)
    assert answer.choices[0].text == "On it goes."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == len("SAY On it goes.")


def test_a_text_comes_in_parts(client):
    chunks = list(
        complete(
            client,
            "COUNT 12",
            max_tokens=100,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].text for c in chunks if c.choices)
    assert text == words(12)
    assert chunks[-1].usage.completion_tokens == len(words(12))


def test_texts_come_to_the_async_client(scripted):
    async def ask(client, number):
        stream = await complete(client, f"COUNT {number}", max_tokens=200, stream=True)
        return "".join([c.choices[0].text async for c in stream if c.choices])

    async def ask_all():
        async with async_openai_client(scripted) as client:
            return await asyncio.gather(*[ask(client, n) for n in range(1, 6)])

    assert asyncio.run(ask_all()) == [words(n) for n in range(1, 6)]


def test_sixteen_tokens_come_unless_more_are_asked_for(client):
    answer = complete(client, "COUNT 20")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 16


def test_a_prompt_may_be_token_ids(client):
    ids = list(b"SAY By number.")
    assert complete(client, ids, max_tokens=50).choices[0].text == "By number."
    answer = complete(client, [ids, list(b"SAY Two.")], max_tokens=50)
    assert [c.text for c in answer.choices] == ["By number.", "Two."]


def test_prompts_and_choices_come_in_order(client):
    answer = complete(client, ["SAY a", "SAY b"], n=2, max_tokens=10)
    assert [c.text for c in answer.choices] == ["a", "a", "b", "b"]
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    chunks = complete(client, ["SAY a", "SAY b"], n=2, max_tokens=10, stream=True)
    texts = [""] * 4
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == ["a", "a", "b", "b"]


def test_echo_gives_the_prompt_and_its_log_probabilities(client):
    answer = complete(client, "SAY abc", echo=True, logprobs=2, max_tokens=10)
    choice = answer.choices[0]
    assert choice.text == "SAY abcabc"
    assert choice.logprobs.tokens == list("SAY abcabc")
    assert choice.logprobs.text_offset == list(range(10))
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])
    assert len(choice.logprobs.top_logprobs[3]) == 2


def test_a_prompt_can_be_scored_without_an_answer(client):
    answer = complete(client, "SAY abc", echo=True, logprobs=0, max_tokens=0)
    assert answer.choices[0].text == "SAY abc"
    assert len(answer.choices[0].logprobs.token_logprobs) == 7


def test_streamed_log_probabilities_are_those_of_the_whole(client):
    whole = complete(client, "SAY abc", echo=True, logprobs=1, max_tokens=10)
    pieces = complete(
        client, "SAY abc", echo=True, logprobs=1, max_tokens=10, stream=True
    )
    streamed = {"tokens": [], "token_logprobs": [], "text_offset": []}
    for piece in pieces:
        for field, values in streamed.items():
            if piece.choices and piece.choices[0].logprobs:
                values += getattr(piece.choices[0].logprobs, field)
    for field, values in streamed.items():
        assert values == getattr(whole.choices[0].logprobs, field), field


@pytest.mark.parametrize(
    "field, value",
    [
        ("suffix", "and so on"),
        ("best_of", 3),
        ("logprobs", 100),
        ("echo", "yes"),
        ("shoe_size", 42),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, field, value):
    with pytest.raises(openai.BadRequestError, match=field):
        complete(client, "SAY no", extra_body={field: value})


def test_a_token_that_does_not_exist_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="prompt"):
        complete(client, [1, 2, 100000])
