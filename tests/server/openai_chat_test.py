"""OpenAI's client: chat completions, models and embeddings."""

import asyncio
import json

import openai
import pytest
import requests

from clients import (
    CALL_PARIS,
    CALL_ROME,
    OPENAI_TOOL,
    OTHER_TOOL,
    Animal,
    async_openai_client,
    openai_client,
    user,
    words,
)


@pytest.fixture
def client(scripted):
    return openai_client(scripted)


def chat(client, text, **more):
    return client.chat.completions.create(model="scripted", messages=user(text), **more)


def content_of(chunks, choice=0):
    return "".join(
        each.delta.content or ""
        for chunk in chunks
        for each in chunk.choices
        if each.index == choice
    )


def engine_options(client, **more):
    """What the engine was asked for."""
    return json.loads(chat(client, "OPTIONS", **more).choices[0].message.content)


# ---- Answers


def test_an_answer_comes_whole(client):
    answer = chat(client, "SAY Good morning.")
    choice = answer.choices[0]
    assert choice.message.content == "Good morning."
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    # Every byte is a token here, and so is the mark at the end.
    assert answer.usage.completion_tokens == len("Good morning.")
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )


def test_an_answer_comes_in_parts(client):
    chunks = list(
        chat(
            client,
            "COUNT 20",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert content_of(chunks) == words(20)
    assert len([c for c in chunks if c.choices]) > 20
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(words(20))


def test_many_answers_at_once_with_the_async_client(scripted):
    async def ask(client, number, stream):
        answer = await chat(client, f"COUNT {number}", stream=stream)
        if not stream:
            return answer.choices[0].message.content
        return content_of([chunk async for chunk in answer])

    async def ask_all():
        async with async_openai_client(scripted) as client:
            return await asyncio.gather(
                *[ask(client, n, stream=n % 2 == 0) for n in range(1, 13)]
            )

    assert asyncio.run(ask_all()) == [words(n) for n in range(1, 13)]


def test_text_of_any_language_comes_as_it_is(client):
    text = 'Grüße, 你好, 👩‍🚀 and a \\ " \t'
    assert chat(client, f"SAY {text}").choices[0].message.content == text
    assert content_of(chat(client, f"SAY {text}", stream=True)) == text


def test_reasoning_is_apart_from_the_answer(client):
    answer = chat(client, "THINK Hm, seven. | It is seven.")
    message = answer.choices[0].message
    assert message.content == "It is seven."
    assert message.reasoning_content == "Hm, seven."
    assert answer.usage.completion_tokens_details.reasoning_tokens >= 10

    chunks = list(chat(client, "THINK Hm, seven. | It is seven.", stream=True))
    reasoning = "".join(
        getattr(c.choices[0].delta, "reasoning_content", "") for c in chunks
    )
    assert (reasoning, content_of(chunks)) == ("Hm, seven.", "It is seven.")


def test_a_stop_string_ends_the_text(client):
    for stop in ("word5", ["never", "word5", "x", "y"]):
        answer = chat(client, "COUNT 20", stop=stop)
        assert answer.choices[0].message.content == words(4) + " "
        assert answer.choices[0].finish_reason == "stop"
        chunks = chat(client, "COUNT 20", stop=stop, stream=True)
        assert content_of(chunks) == words(4) + " "


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_no_more_tokens_come_than_were_asked_for(client, field):
    answer = chat(client, "COUNT 20", **{field: 7})
    assert answer.choices[0].message.content == words(20)[:7]
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 7
    chunks = list(chat(client, "COUNT 20", stream=True, **{field: 7}))
    assert content_of(chunks) == words(20)[:7]
    assert chunks[-1].choices[0].finish_reason == "length"


def test_several_choices_come_at_once(client):
    answer = chat(client, "COUNT 5", n=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert [c.message.content for c in answer.choices] == [words(5)] * 3
    assert answer.usage.completion_tokens == 3 * len(words(5))
    chunks = list(chat(client, "COUNT 5", n=3, stream=True))
    assert [content_of(chunks, i) for i in range(3)] == [words(5)] * 3
    ends = [c.choices[0] for c in chunks if c.choices[0].finish_reason]
    assert sorted(end.index for end in ends) == [0, 1, 2]


def test_log_probabilities_are_those_of_the_text(client):
    whole = chat(client, "SAY dé", logprobs=True, top_logprobs=2)
    tokens = whole.choices[0].logprobs.content
    # A token of this model is a byte, which may be a part of a letter.
    assert b"".join(bytes(t.bytes) for t in tokens) == "dé".encode()
    assert [t.token for t in tokens] == ["d", "\\xc3", "\\xa9"]
    for token in tokens:
        assert token.top_logprobs[0].token == token.token
        assert token.top_logprobs[0].logprob == token.logprob < 0
        assert len(token.top_logprobs) == 2
    chunks = chat(client, "SAY dé", logprobs=True, top_logprobs=2, stream=True)
    streamed = []
    for chunk in chunks:
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert streamed == tokens


def test_what_was_read_before_is_told_as_cached(client):
    text = "SAY yes\n" + "A beginning of which much is known. " * 5
    tokens = [
        chat(client, text).usage.prompt_tokens_details.cached_tokens for _ in range(2)
    ]
    assert tokens[0] < 32 < tokens[1]


def test_a_field_of_sampling_reaches_the_engine(client):
    wishes = {
        "temperature": 0.5,
        "top_p": 0.25,
        "presence_penalty": 1.5,
        "frequency_penalty": -0.5,
        "seed": 42,
        "logit_bias": {"65": -100, "66": 12.5},
    }
    more = {"top_k": 7, "min_p": 0.125, "repetition_penalty": 1.25}
    options = engine_options(client, max_tokens=500, extra_body=more, **wishes)
    for field, value in {**wishes, **more, "max_tokens": 500}.items():
        assert options[field] == value, field


def test_choices_have_seeds_of_their_own(client):
    answer = chat(client, "OPTIONS", n=2, seed=7)
    seeds = [json.loads(c.message.content)["seed"] for c in answer.choices]
    assert len(set(seeds)) == 2
    again = chat(client, "OPTIONS", n=2, seed=7)
    assert [json.loads(c.message.content)["seed"] for c in again.choices] == seeds


# ---- Tools


def test_a_conversation_with_tools(client):
    messages = user(f"{CALL_PARIS}\n{CALL_ROME}")
    tools = {"model": "scripted", "tools": [OPENAI_TOOL]}
    answer = client.chat.completions.create(messages=messages, **tools)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert [json.loads(c.function.arguments) for c in message.tool_calls] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]
    assert len({c.id for c in message.tool_calls}) == 2
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    answer = client.chat.completions.create(messages=messages, **tools)
    assert answer.choices[0].message.content == "The tool has answered."
    assert answer.choices[0].finish_reason == "stop"


def test_arguments_are_streamed(client):
    with client.chat.completions.stream(
        model="scripted",
        messages=user(f"TEXT Let me look.\n{CALL_PARIS}\n{CALL_ROME}"),
        tools=[OPENAI_TOOL],
    ) as stream:
        events = [event.type for event in stream]
        choice = stream.get_final_completion().choices[0]
    assert events.count("tool_calls.function.arguments.delta") > 6
    assert events.count("tool_calls.function.arguments.done") == 2
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert [json.loads(c.function.arguments) for c in choice.message.tool_calls] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]


def test_arguments_that_break_off_are_json_still(client):
    for stream in (False, True):
        answer = chat(
            client,
            CALL_PARIS,
            tools=[OPENAI_TOOL],
            max_tokens=len('<tool_call>\n{"name": "get_weather", "arguments": {"ci'),
            stream=stream,
        )
        if stream:
            calls = [
                call
                for chunk in answer
                for call in chunk.choices[0].delta.tool_calls or []
            ]
            arguments = "".join(call.function.arguments for call in calls)
        else:
            assert answer.choices[0].finish_reason == "length"
            arguments = answer.choices[0].message.tool_calls[0].function.arguments
        assert isinstance(json.loads(arguments), dict)


def test_what_looks_like_a_call_is_text_where_there_are_no_tools(client):
    answer = chat(client, CALL_PARIS)
    assert answer.choices[0].finish_reason == "stop"
    assert "<tool_call>" in answer.choices[0].message.content


def test_the_choice_of_a_tool_is_enforced_by_the_engine(client):
    def grammar(**more):
        options = engine_options(client, tools=[OPENAI_TOOL, OTHER_TOOL], **more)
        assert options["constraint"] in ("none", "lark")
        return options["constraint_source"]

    named = {"type": "function", "function": {"name": "get_time"}}
    assert grammar() == ""
    assert grammar(tool_choice="auto") == ""
    assert grammar(tool_choice="none") == ""
    required = grammar(tool_choice="required")
    assert "get_weather" in required and "get_time" in required
    one = grammar(tool_choice=named)
    assert "get_weather" not in one and "get_time" in one
    assert grammar(tool_choice="required", parallel_tool_calls=False) != required


def test_the_arguments_of_a_strict_tool_are_enforced_by_the_engine(client):
    strict = {**OPENAI_TOOL["function"], "strict": True}
    options = engine_options(client, tools=[{"type": "function", "function": strict}])
    assert options["constraint"] == "lark"
    assert '"city"' in options["constraint_source"]


def test_no_call_can_begin_where_none_is_allowed(client):
    options = engine_options(client, tools=[OPENAI_TOOL], tool_choice="none")
    assert list(options["logit_bias"].values()) == [-10000]


# ---- Structured output


def goes_on(client, *messages, **more):
    """What is answered when an answer is sent back as it came."""
    answer = client.chat.completions.create(
        model="scripted",
        messages=[*user("First"), *messages, *user("SAY Again.")],
        **more,
    )
    return answer.choices[0].message.content


def test_a_class_is_filled_from_the_answer(client):
    answer = client.chat.completions.parse(
        model="scripted",
        messages=user('SAY {"name": "Hare", "age": 3}'),
        response_format=Animal,
    )
    assert answer.choices[0].message.parsed == Animal(name="Hare", age=3)
    assert goes_on(client, answer.choices[0].message) == "Again."
    with client.chat.completions.stream(
        model="scripted",
        messages=user('SAY {"name": "Hare", "age": 3}'),
        response_format=Animal,
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Animal(name="Hare", age=3)
    assert goes_on(client, final.choices[0].message) == "Again."


def test_a_class_is_filled_from_a_call(client):
    tool = openai.pydantic_function_tool(Animal)
    answer = client.chat.completions.parse(
        model="scripted",
        messages=user('CALL Animal {"name": "Hare", "age": 3}'),
        tools=[tool],
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.parsed_arguments == Animal(name="Hare", age=3)
    result = {"role": "tool", "tool_call_id": call.id, "content": "{}"}
    message = answer.choices[0].message
    assert goes_on(client, message, result, tools=[tool]) == "Again."


@pytest.mark.parametrize(
    "fields, part",
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "animal",
                        "strict": True,
                        "schema": Animal.model_json_schema(),
                    },
                }
            },
            '"age"',
        ),
        ({"response_format": {"type": "json_object"}}, '"object"'),
        ({"extra_body": {"guided_regex": "[a-z]+"}}, "[a-z]+"),
        ({"extra_body": {"guided_grammar": 'start: "yes"'}}, 'start: "yes"'),
    ],
)
def test_the_form_of_an_answer_is_enforced_by_the_engine(client, fields, part):
    options = engine_options(client, **fields)
    assert options["constraint"] != "none"
    assert part in options["constraint_source"]


# ---- Errors


@pytest.mark.parametrize(
    "field, value",
    [
        ("temperature", 3),
        ("top_p", -1),
        ("n", 1000),
        ("max_tokens", 0),
        ("presence_penalty", 5),
        ("frequency_penalty", -5),
        ("logit_bias", {"1": 400}),
        ("seed", 1.5),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("top_logprobs", 50),
        ("tool_choice", "sometimes"),
        ("response_format", {"type": "poem"}),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("shoe_size", 42),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, field, value):
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, "SAY no", extra_body={field: value})
    assert field in raised.value.message
    assert raised.value.param.startswith(field)
    assert raised.value.type == "invalid_request_error"


def test_a_bias_for_a_token_that_there_is_not_is_refused_by_name(client):
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, "SAY no", logit_bias={"1000000": 1})
    assert raised.value.param == "logit_bias.1000000"


def test_an_answer_that_the_request_begins_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="prefill") as raised:
        client.chat.completions.create(
            model="scripted",
            messages=[*user("SAY no"), {"role": "assistant", "content": "N"}],
        )
    assert raised.value.param == "messages"


def test_a_message_that_cannot_be_is_refused_by_its_place(client):
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\]\.content\[0\]"):
        client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": [picture]}]
        )


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="other") as raised:
        client.chat.completions.create(model="other", messages=user("SAY no"))
    assert raised.value.code == "model_not_found"


def test_an_alias_is_a_name_of_the_model(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=user("SAY yes"))
    assert answer.choices[0].message.content == "yes"


def test_a_prompt_that_can_never_fit_is_refused(client):
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, "SAY no" + " and no" * 40000)
    assert raised.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_compiled_is_refused_by_its_field(client, stream):
    named = {"name": "n", "schema": {"uncompilable": True}}
    with pytest.raises(openai.BadRequestError, match="keyword uncompilable") as raised:
        chat(
            client,
            "SAY no",
            response_format={"type": "json_schema", "json_schema": named},
            stream=stream,
        )
    assert raised.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("stream", [False, True])
def test_a_strict_tool_that_cannot_be_compiled_is_refused(client, stream):
    function = {"name": "f", "parameters": {"uncompilable": True}, "strict": True}
    with pytest.raises(openai.BadRequestError, match="keyword uncompilable") as raised:
        chat(
            client,
            "SAY no",
            tools=[{"type": "function", "function": function}],
            stream=stream,
        )
    assert raised.value.param == "tools"


def test_an_engine_error_ends_its_answer_and_nothing_else(client):
    with pytest.raises(openai.APIError):
        list(chat(client, "FAIL 5", stream=True))
    with pytest.raises(openai.InternalServerError):
        chat(client, "FAIL 5")
    assert chat(client, "SAY still here").choices[0].message.content == "still here"


def test_a_key_is_asked_for_where_there_is_one(locked):
    for key in ("wrong", "sesam", "sesame2"):
        with pytest.raises(openai.AuthenticationError):
            openai_client(locked, api_key=key).models.list()
    client = openai_client(locked, api_key="sesame")
    assert chat(client, "SAY open").choices[0].message.content == "open"


# ---- Models and embeddings


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").id == "scripted"
    assert client.models.retrieve("gpt-4o").id == "scripted"
    with pytest.raises(openai.NotFoundError, match="other"):
        client.models.retrieve("other")


def test_routes_that_are_not_served_are_not_found_in_the_same_form(scripted, client):
    with pytest.raises(openai.NotFoundError):
        client.files.list()
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="scripted", prompt="a hare")
    answer = requests.get(scripted.url + "/v1/chat/completions", timeout=60)
    assert answer.status_code == 405


HARE = [4, ord("h"), ord("e"), 0.5]


def test_texts_and_tokens_are_embedded(client):
    # The client asks for base64 and decodes it.
    answer = client.embeddings.create(model="scripted", input=["hare", "fox"])
    assert [each.index for each in answer.data] == [0, 1]
    assert answer.data[0].embedding == HARE
    assert answer.model == "scripted"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 7
    for more in (
        {"input": "hare", "encoding_format": "float"},
        {"input": [ord(letter) for letter in "hare"]},
        {"input": [[ord(letter) for letter in "hare"]], "dimensions": 4},
    ):
        answer = client.embeddings.create(model="scripted", **more)
        assert answer.data[0].embedding == HARE


def test_embeddings_that_cannot_be_are_refused_by_name(client):
    for field, more in (
        ("dimensions", {"dimensions": 2}),
        ("input[1]", {"input": ["hare", ""]}),
        ("input[0]", {"input": [1 << 20]}),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            client.embeddings.create(**{"model": "scripted", "input": "hare", **more})
        assert raised.value.param == field


def test_an_engine_error_fails_its_embeddings_alone(client):
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model="scripted", input=["hare", "FAIL 0"])
    answer = client.embeddings.create(model="scripted", input="hare")
    assert answer.data[0].embedding == HARE
