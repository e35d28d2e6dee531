"""Anthropic's client: messages and their tokens."""

import asyncio
import json

import anthropic
import pytest

from clients import (
    ANTHROPIC_TOOL,
    CALL_PARIS,
    CALL_ROME,
    Animal,
    anthropic_client,
    async_anthropic_client,
    user,
    words,
)

THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
def client(scripted):
    return anthropic_client(scripted)


def ask(client, text, **more):
    more = {"max_tokens": 2000, **more}
    return client.messages.create(model="scripted", messages=user(text), **more)


def engine_options(client, **more):
    """What the engine was asked for."""
    return json.loads(ask(client, "OPTIONS", **more).content[0].text)


# ---- Answers


def test_an_answer_comes_whole(client):
    message = ask(client, "SAY Good morning.", system="Be kind.")
    assert message.content[0].text == "Good morning."
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens == len("Good morning.")


def test_an_answer_comes_in_events_of_this_order(client):
    kinds = [event.type for event in ask(client, "COUNT 10", stream=True)]
    kinds = [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k]
    assert [k for k in kinds if k != "ping"] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_stream_adds_up_to_the_message(client):
    with client.messages.stream(
        model="scripted", max_tokens=300, messages=user("COUNT 10")
    ) as stream:
        parts = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(parts) > 10
    assert "".join(parts) == message.content[0].text == words(10)
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == len(words(10))


def test_many_answers_at_once_with_the_async_client(scripted):
    async def ask_one(client, number, streamed):
        if not streamed:
            return (await ask(client, f"COUNT {number}")).content[0].text
        async with client.messages.stream(
            model="scripted", max_tokens=300, messages=user(f"COUNT {number}")
        ) as stream:
            return await stream.get_final_text()

    async def ask_all():
        async with async_anthropic_client(scripted) as client:
            return await asyncio.gather(
                *[ask_one(client, n, streamed=n % 2 == 0) for n in range(1, 13)]
            )

    assert asyncio.run(ask_all()) == [words(n) for n in range(1, 13)]


def test_a_conversation_goes_on(client):
    messages = user("SAY One.")
    first = ask(client, "SAY One.")
    messages += [{"role": "assistant", "content": first.content}]
    messages += user([{"type": "text", "text": "SAY Two."}])
    second = client.messages.create(model="scripted", max_tokens=50, messages=messages)
    assert second.content[0].text == "Two."
    assert second.usage.input_tokens + second.usage.cache_read_input_tokens > (
        first.usage.input_tokens
    )


def test_what_was_read_before_is_told_apart(client):
    text = "SAY yes\n" + "A beginning of which much is known, or is it? " * 5
    usages = [ask(client, text).usage for _ in range(2)]
    cached = [usage.cache_read_input_tokens for usage in usages]
    assert cached[0] < 32 < cached[1]
    totals = [u.input_tokens + u.cache_read_input_tokens for u in usages]
    assert totals[0] == totals[1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_is_told(client, stream):
    if stream:
        with client.messages.stream(
            model="scripted",
            max_tokens=300,
            messages=user("COUNT 20"),
            stop_sequences=["never", "word5"],
        ) as events:
            message = events.get_final_message()
    else:
        message = ask(client, "COUNT 20", stop_sequences=["never", "word5"])
    assert message.stop_reason == "stop_sequence"
    assert message.stop_sequence == "word5"
    assert message.content[0].text == words(4) + " "


def test_an_answer_that_is_cut_says_so(client):
    message = ask(client, "COUNT 20", max_tokens=7)
    assert message.stop_reason == "max_tokens"
    assert message.content[0].text == words(20)[:7]
    assert message.usage.output_tokens == 7


def test_a_field_of_sampling_reaches_the_engine(client):
    # The newest clients no longer know them, the older ones do.
    wishes = {"temperature": 0.5, "top_p": 0.25, "top_k": 7}
    options = engine_options(client, extra_body=wishes, max_tokens=500)
    for field, value in {**wishes, "max_tokens": 500}.items():
        assert options[field] == value, field


# ---- Thinking


def test_thinking_is_a_block_of_its_own(client):
    message = ask(client, "THINK Hm, seven. | It is seven.", thinking=THINKING)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == "Hm, seven."
    assert message.content[1].text == "It is seven."


def test_thinking_is_streamed_and_can_be_sent_back(client):
    with client.messages.stream(
        model="scripted",
        max_tokens=2000,
        messages=user("THINK Hm, seven. | It is seven."),
        thinking=THINKING,
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_message()
    assert {"thinking", "signature", "text"} <= kinds
    assert message.content[0].thinking == "Hm, seven."
    answer = client.messages.create(
        model="scripted",
        max_tokens=2000,
        thinking=THINKING,
        messages=[
            *user("THINK Hm, seven. | It is seven."),
            {"role": "assistant", "content": message.content},
            *user("SAY Thank you."),
        ],
    )
    assert answer.content[-1].text == "Thank you."


# ---- Tools


def test_a_conversation_with_tools(client):
    question = user(f"TEXT I look.\n{CALL_PARIS}\n{CALL_ROME}")
    with client.messages.stream(
        model="scripted", max_tokens=300, messages=question, tools=[ANTHROPIC_TOOL]
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    text, *uses = message.content
    assert text.text == "I look."
    assert [use.name for use in uses] == ["get_weather"] * 2
    assert [use.input for use in uses] == [{"city": "Paris"}, {"city": "Rome"}]
    results = [
        {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
        for use in uses
    ]
    answer = client.messages.create(
        model="scripted",
        max_tokens=300,
        tools=[ANTHROPIC_TOOL],
        messages=[
            *question,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": results},
        ],
    )
    assert answer.content[0].text == "The tool has answered."
    assert answer.stop_reason == "end_turn"


def test_a_call_comes_whole(client):
    message = ask(client, CALL_PARIS, tools=[ANTHROPIC_TOOL])
    assert [block.type for block in message.content] == ["tool_use"]
    assert message.content[0].input == {"city": "Paris"}


def test_the_input_of_a_tool_is_streamed(client):
    parts = [
        event.delta.partial_json
        for event in ask(client, CALL_PARIS, tools=[ANTHROPIC_TOOL], stream=True)
        if event.type == "content_block_delta"
    ]
    assert len(parts) > 3
    assert json.loads("".join(parts)) == {"city": "Paris"}


@pytest.mark.parametrize(
    "choice, constraint",
    [
        ({"type": "auto"}, "none"),
        ({"type": "none"}, "none"),
        ({"type": "any"}, "lark"),
        ({"type": "any", "disable_parallel_tool_use": True}, "lark"),
        ({"type": "tool", "name": "get_weather"}, "lark"),
    ],
)
def test_the_choice_of_a_tool_is_enforced_by_the_engine(client, choice, constraint):
    options = engine_options(client, tools=[ANTHROPIC_TOOL], tool_choice=choice)
    assert options["constraint"] == constraint


def test_the_input_of_a_strict_tool_is_enforced_by_the_engine(client):
    options = engine_options(client, tools=[{**ANTHROPIC_TOOL, "strict": True}])
    assert '"city"' in options["constraint_source"]


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_texts_and_calls_come_in_their_order(client, stream):
    question = user(f"THINK Hm, Paris. | I look.\n{CALL_PARIS}\nSAY Done.")
    fields = {
        "model": "scripted",
        "max_tokens": 2000,
        "tools": [ANTHROPIC_TOOL],
        "thinking": THINKING,
    }
    if stream:
        with client.messages.stream(messages=question, **fields) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(messages=question, **fields)
    assert message.stop_reason == "tool_use"
    thinking, text, use, more = message.content
    assert (thinking.type, thinking.thinking) == ("thinking", "Hm, Paris.")
    assert (text.type, text.text) == ("text", "I look.")
    assert (use.type, use.input) == ("tool_use", {"city": "Paris"})
    # What is before the call still separates it from what is behind.
    assert (more.type, more.text) == ("text", "\nDone.")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    conversation = [
        *question,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    answer = client.messages.create(messages=conversation, **fields)
    assert answer.content[-1].text == "The tool has answered."
    fields.pop("max_tokens")
    count = client.messages.count_tokens(messages=conversation, **fields)
    usage = answer.usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    # What was thought was read again, as it was sampled.
    read_before = message.usage.input_tokens + message.usage.cache_read_input_tokens
    assert usage.cache_read_input_tokens > read_before


# ---- Structured output


def test_a_class_is_filled_from_the_answer(client):
    message = client.messages.parse(
        model="scripted",
        max_tokens=100,
        messages=user('SAY {"name": "Hare", "age": 3}'),
        output_format=Animal,
    )
    assert message.parsed_output == Animal(name="Hare", age=3)


def test_the_form_of_an_answer_is_enforced_by_the_engine(client):
    form = {
        "type": "json_schema",
        "schema": {**Animal.model_json_schema(), "additionalProperties": False},
    }
    options = engine_options(client, output_config={"format": form})
    assert options["constraint"] != "none"
    assert '"age"' in options["constraint_source"]


# ---- Tokens, models, errors


def test_tokens_are_counted_without_an_answer(client):
    def count(**more):
        return client.messages.count_tokens(
            model="scripted", messages=user("SAY yes"), **more
        ).input_tokens

    assert count() == ask(client, "SAY yes").usage.input_tokens
    assert count(tools=[ANTHROPIC_TOOL]) > count()
    assert count(system="Be kind.") > count()


def test_models_are_listed(client):
    page = client.models.list()
    assert [model.id for model in page] == ["scripted"]
    assert (page.has_more, page.first_id, page.last_id) == (False, "scripted", "scripted")
    model = client.models.retrieve("scripted")
    assert model == page.data[0]
    # The client takes anything; its models do not.
    assert anthropic.types.ModelInfo.model_validate(model.to_dict(mode="json")) == model
    assert model.created_at.year >= 2026


def test_the_beta_part_of_the_client_is_answered_too(client):
    message = client.beta.messages.create(
        model="scripted",
        max_tokens=50,
        messages=user("SAY yes"),
        betas=["interleaved-thinking-2025-05-14"],
    )
    assert message.content[0].text == "yes"


@pytest.mark.parametrize(
    "field, value",
    [
        ("temperature", 2),
        ("top_p", -1),
        ("max_tokens", 0),
        ("thinking", {"type": "between_tools"}),
        ("stop_sequences", [""]),
        ("tool_choice", {"type": "any"}),
        ("mcp_servers", [{"type": "url", "url": "https://example.org"}]),
        ("container", "c"),
        ("shoe_size", 42),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, field, value):
    with pytest.raises(anthropic.BadRequestError, match=field):
        ask(client, "SAY no", extra_body={field: value})


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_compiled_is_refused_by_its_field(client, stream):
    form = {"type": "json_schema", "schema": {"uncompilable": True}}
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(client, "SAY no", output_config={"format": form}, stream=stream)
    assert "output_config.format" in str(raised.value)
    assert "keyword uncompilable" in str(raised.value)


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError, match="other"):
        client.messages.create(model="other", max_tokens=5, messages=user("SAY no"))


def test_a_prompt_that_can_never_fit_is_refused_as_the_client_expects(client):
    # Claude Code looks for these words.
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        ask(client, "SAY no" + " and no" * 40000)


def test_an_engine_error_ends_its_answer_and_nothing_else(client):
    with pytest.raises(anthropic.APIError):
        list(ask(client, "FAIL 5", stream=True))
    with pytest.raises(anthropic.InternalServerError):
        ask(client, "FAIL 5")
    assert ask(client, "SAY still here").content[0].text == "still here"


def test_a_key_is_asked_for_where_there_is_one(locked):
    with pytest.raises(anthropic.AuthenticationError):
        ask(anthropic_client(locked, api_key="wrong"), "SAY no")
    for key in ({"api_key": "sesame"}, {"api_key": None, "auth_token": "sesame"}):
        message = ask(anthropic_client(locked, **key), "SAY open")
        assert message.content[0].text == "open"
