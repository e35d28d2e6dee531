"""OpenAI's client: the Responses API."""

import asyncio
import json

import openai
import pytest

from clients import (
    CALL_PARIS,
    CALL_ROME,
    RESPONSE_TOOL,
    Animal,
    async_openai_client,
    openai_client,
    user,
    words,
)


@pytest.fixture
def client(scripted):
    return openai_client(scripted)


def respond(client, given, **more):
    return client.responses.create(model="scripted", input=given, **more)


def test_a_response_comes_whole(client):
    response = respond(client, "SAY Hello, you.", metadata={"colour": "green"})
    assert response.output_text == "Hello, you."
    assert response.status == "completed"
    assert response.metadata == {"colour": "green"}
    assert response.usage.output_tokens == len("Hello, you.")


def test_a_response_is_streamed(client):
    with client.responses.stream(model="scripted", input="COUNT 10") as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text == words(10)
    assert len(deltas) > 10
    assert final.status == "completed"
    kinds = [e.type for e in events]
    kinds = [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_responses_come_to_the_async_client(scripted):
    async def ask(client, number, stream):
        answer = await respond(client, f"COUNT {number}", stream=stream)
        if not stream:
            return answer.output_text
        return "".join(
            [e.delta async for e in answer if e.type == "response.output_text.delta"]
        )

    async def ask_all():
        async with async_openai_client(scripted) as client:
            return await asyncio.gather(
                *[ask(client, n, stream=n % 2 == 0) for n in range(1, 9)]
            )

    assert asyncio.run(ask_all()) == [words(n) for n in range(1, 9)]


def test_a_response_is_gone_on_with(client):
    first = respond(client, "SAY Hello, you.", instructions="Be kind.")
    second = respond(client, "SAY Again.", previous_response_id=first.id)
    assert second.output_text == "Again."
    assert second.previous_response_id == first.id
    whole = user("SAY Hello, you.")
    whole += [{"role": "assistant", "content": "Hello, you."}, *user("SAY Again.")]
    # The instructions are the first request's alone.
    assert second.usage.input_tokens == respond(client, whole).usage.input_tokens


def test_a_response_is_there_until_it_is_deleted(client):
    first = respond(client, "SAY Hello.")
    assert client.responses.retrieve(first.id).output_text == "Hello."
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        respond(client, "SAY no", previous_response_id=first.id)


def test_a_response_that_is_not_stored_is_not_there(client):
    first = respond(client, "SAY Hello.", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_conversation_with_tools(client):
    first = respond(
        client,
        f"TEXT Let me look.\n{CALL_PARIS}\n{CALL_ROME}",
        tools=[RESPONSE_TOOL],
    )
    assert first.output_text == "Let me look."
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(c.arguments)["city"] for c in calls] == ["Paris", "Rome"]
    results = [
        {"type": "function_call_output", "call_id": c.call_id, "output": "sunny"}
        for c in calls
    ]
    second = respond(
        client, results, previous_response_id=first.id, tools=[RESPONSE_TOOL]
    )
    assert second.output_text == "The tool has answered."
    # The same without the server's memory.
    whole = user(f"TEXT Let me look.\n{CALL_PARIS}\n{CALL_ROME}")
    whole += [item.model_dump(exclude_none=True) for item in first.output] + results
    third = respond(client, whole, tools=[RESPONSE_TOOL], store=False)
    assert third.output_text == "The tool has answered."
    assert third.usage.input_tokens == second.usage.input_tokens


def test_arguments_are_streamed(client):
    with client.responses.stream(
        model="scripted", input=CALL_PARIS, tools=[RESPONSE_TOOL]
    ) as stream:
        deltas = [
            e.delta
            for e in stream
            if e.type == "response.function_call_arguments.delta"
        ]
        final = stream.get_final_response()
    assert len(deltas) > 3
    assert json.loads("".join(deltas)) == {"city": "Paris"}
    assert final.output[0].arguments == "".join(deltas)


@pytest.mark.parametrize(
    "choice",
    ["auto", "none", "required", {"type": "function", "name": "get_weather"}],
)
def test_a_choice_of_tools_is_taken(client, choice):
    response = respond(client, "OPTIONS", tools=[RESPONSE_TOOL], tool_choice=choice)
    kind = json.loads(response.output_text)["constraint"]
    assert kind == ("none" if choice in ("auto", "none") else "lark")


def test_reasoning_is_an_item_of_its_own(client):
    for stream in (False, True):
        text = "THINK Hm, seven. | It is seven."
        if stream:
            with client.responses.stream(model="scripted", input=text) as events:
                response = events.get_final_response()
        else:
            response = respond(client, text)
        reasoning, message = response.output
        assert reasoning.type == "reasoning"
        assert reasoning.content[0].text == "Hm, seven."
        assert message.content[0].text == "It is seven."
        assert response.usage.output_tokens_details.reasoning_tokens >= 10


def test_a_class_is_filled_from_the_response(client):
    response = client.responses.parse(
        model="scripted", input='SAY {"name": "Hare", "age": 3}', text_format=Animal
    )
    assert response.output_parsed == Animal(name="Hare", age=3)


def test_a_response_that_is_cut_is_incomplete(client):
    response = respond(client, "COUNT 20", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == words(20)[:16]
    events = list(respond(client, "COUNT 20", max_output_tokens=16, stream=True))
    assert events[-1].type == "response.incomplete"


def test_log_probabilities_are_those_of_the_text(client):
    response = respond(
        client, "SAY abc", include=["message.output_text.logprobs"], top_logprobs=2
    )
    tokens = response.output[0].content[0].logprobs
    assert "".join(t.token for t in tokens) == "abc"
    assert len(tokens[0].top_logprobs) == 2


@pytest.mark.parametrize(
    "field, value",
    [
        ("temperature", 3),
        ("background", True),
        ("truncation", "auto"),
        ("tools", [{"type": "web_search"}]),
        ("conversation", "conv_1"),
        ("prompt", {"id": "p"}),
        ("shoe_size", 42),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, field, value):
    with pytest.raises(openai.BadRequestError, match=field):
        respond(client, "SAY no", extra_body={field: value})


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_compiled_is_refused_by_its_field(client, stream):
    form = {"type": "json_schema", "name": "n", "schema": {"uncompilable": True}}
    with pytest.raises(openai.BadRequestError, match="keyword uncompilable") as raised:
        respond(client, "SAY no", text={"format": form}, stream=stream)
    assert raised.value.param == "text.format"


def test_an_engine_error_is_the_end_of_a_response(client):
    events = list(respond(client, "FAIL 5", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    with pytest.raises(openai.InternalServerError):
        respond(client, "FAIL 5")
