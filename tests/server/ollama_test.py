"""Ollama's client."""

import asyncio
import json

import ollama
import pytest
import requests

from clients import (
    CALL_PARIS,
    CALL_ROME,
    OPENAI_TOOL,
    Animal,
    ollama_client,
    user,
    words,
)


@pytest.fixture
def client(scripted):
    return ollama_client(scripted)


def chat(client, text, **more):
    return client.chat(model="scripted", messages=user(text), **more)


def engine_options(client, **more):
    """What the engine was asked for."""
    return json.loads(chat(client, "OPTIONS", **more).message.content)


# ---- Answers


def test_an_answer_comes_whole(client):
    answer = chat(client, "SAY Good morning.")
    assert answer.message.content == "Good morning."
    assert answer.done and answer.done_reason == "stop"
    assert answer.eval_count == len("Good morning.")
    assert answer.prompt_eval_count > 0
    assert answer.total_duration >= answer.eval_duration > 0


def test_an_answer_comes_in_parts(client):
    parts = list(
        client.chat(model="scripted:latest", messages=user("COUNT 10"), stream=True)
    )
    assert "".join(part.message.content for part in parts) == words(10)
    assert [part.done for part in parts[:-1]] == [False] * (len(parts) - 1)
    assert parts[-1].done and parts[-1].done_reason == "stop"
    assert parts[-1].eval_count == len(words(10))


def test_a_prompt_is_answered(client):
    assert client.generate(model="scripted", prompt="SAY Yes.").response == "Yes."
    parts = client.generate(model="scripted", prompt="COUNT 10", stream=True)
    assert "".join(part.response for part in parts) == words(10)


def test_a_raw_prompt_is_gone_on_with(client):
    answer = client.generate(model="scripted", prompt="SAY On it goes.", raw=True)
    assert answer.response == "On it goes."
    assert answer.prompt_eval_count == len("SAY On it goes.")


def test_many_answers_at_once_with_the_async_client(scripted):
    async def ask(number, stream):
        client = ollama.AsyncClient(host=scripted.url)
        answer = await chat(client, f"COUNT {number}", stream=stream)
        if not stream:
            return answer.message.content
        return "".join([part.message.content async for part in answer])

    async def ask_all():
        return await asyncio.gather(*[ask(n, stream=n % 2 == 0) for n in range(1, 13)])

    assert asyncio.run(ask_all()) == [words(n) for n in range(1, 13)]


def test_a_stop_string_and_a_length_end_the_text(client):
    answer = chat(client, "COUNT 20", options={"stop": ["never", "word5"]})
    assert answer.message.content == words(4) + " "
    assert answer.done_reason == "stop"
    answer = chat(client, "COUNT 20", options={"num_predict": 7})
    assert answer.message.content == words(20)[:7]
    assert answer.done_reason == "length"
    assert answer.eval_count == 7


def test_an_option_reaches_the_engine(client):
    wishes = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.25,
        "min_p": 0.125,
        "presence_penalty": 1.5,
        "frequency_penalty": -0.5,
        "seed": 42,
    }
    more = {"repeat_penalty": 1.25, "num_predict": 500}
    options = engine_options(client, options={**wishes, **more})
    for field, value in wishes.items():
        assert options[field] == value, field
    assert options["repetition_penalty"] == 1.25
    assert options["max_tokens"] == 500


def test_log_probabilities_are_those_of_the_text(client):
    answer = chat(client, "SAY abc", logprobs=True, top_logprobs=2)
    assert "".join(each.token for each in answer.logprobs) == "abc"
    assert len(answer.logprobs[0].top_logprobs) == 2


# ---- Thinking, tools, structured output


def test_thinking_is_apart_from_the_answer(client):
    answer = chat(client, "THINK Hm, seven. | It is seven.", think=True)
    assert answer.message.thinking == "Hm, seven."
    assert answer.message.content == "It is seven."
    parts = list(
        chat(client, "THINK Hm, seven. | It is seven.", think=True, stream=True)
    )
    thinking = "".join(part.message.thinking or "" for part in parts)
    content = "".join(part.message.content for part in parts)
    assert (thinking, content) == ("Hm, seven.", "It is seven.")


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_with_tools(client, stream):
    messages = user(f"TEXT I look.\n{CALL_PARIS}\n{CALL_ROME}")
    answer = client.chat(
        model="scripted", messages=messages, tools=[OPENAI_TOOL], stream=stream
    )
    parts = list(answer) if stream else [answer]
    assert "".join(part.message.content for part in parts) == "I look."
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert [call.function.name for call in calls] == ["get_weather"] * 2
    assert [call.function.arguments for call in calls] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]
    messages.append({"role": "assistant", "content": "I look.", "tool_calls": calls})
    for _ in calls:
        messages.append(
            {"role": "tool", "tool_name": "get_weather", "content": "sunny"}
        )
    answer = client.chat(model="scripted", messages=messages, tools=[OPENAI_TOOL])
    assert answer.message.content == "The tool has answered."


def test_a_function_is_a_tool(client):
    def get_weather(city: str) -> str:
        """
        The weather of a city.

        Args:
          city: Its name.
        """
        return f"sunny in {city}"

    answer = chat(client, CALL_PARIS, tools=[get_weather])
    call = answer.message.tool_calls[0]
    assert get_weather(**call.function.arguments) == "sunny in Paris"


def test_the_form_of_an_answer_is_enforced_by_the_engine(client):
    options = engine_options(client, format=Animal.model_json_schema())
    assert options["constraint"] != "none"
    assert '"age"' in options["constraint_source"]
    assert engine_options(client, format="json")["constraint"] != "none"
    assert engine_options(client)["constraint"] == "none"


# ---- Models and errors


def test_models_are_listed_and_described(client, scripted):
    names = [model.model for model in client.list().models]
    assert names == ["scripted:latest", "gpt-4o:latest"]  # and its alias
    shown = client.show("scripted")
    assert {"completion", "tools", "thinking"} <= set(shown.capabilities)
    chat(client, "SAY yes")
    assert [model.model for model in client.ps().models] == ["scripted:latest"]
    version = requests.get(scripted.url + "/api/version", timeout=60).json()
    assert version["version"]


def test_an_empty_prompt_loads_the_model(client):
    answer = client.generate(model="scripted", keep_alive="5m")
    assert answer.done and answer.done_reason == "load"


@pytest.mark.parametrize(
    "field, more",
    [
        ("mirostat", {"options": {"mirostat": 2}}),
        ("temperature", {"options": {"temperature": -1}}),
        ("num_predict", {"options": {"num_predict": -7}}),
        ("keep_alive", {"keep_alive": "soon"}),
        ("images", {"images": ["aGFyZQ=="]}),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, field, more):
    with pytest.raises(ollama.ResponseError, match=field) as raised:
        client.generate(model="scripted", prompt="SAY no", **more)
    assert raised.value.status_code == 400


def test_an_answer_that_the_request_begins_is_refused(client):
    messages = [*user("SAY no"), {"role": "assistant", "content": "N"}]
    with pytest.raises(ollama.ResponseError, match="prefill") as raised:
        client.chat(model="scripted", messages=messages)
    assert raised.value.status_code == 400


def test_a_field_that_is_not_known_is_refused_by_name(scripted):
    answer = requests.post(
        scripted.url + "/api/chat",
        json={"model": "scripted", "messages": user("SAY no"), "shoe_size": 42},
        timeout=60,
    )
    assert answer.status_code == 400 and "shoe_size" in answer.json()["error"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_compiled_is_refused_by_its_field(client, stream):
    with pytest.raises(ollama.ResponseError, match="format: .*uncompilable") as raised:
        answer = chat(client, "SAY no", format={"uncompilable": True}, stream=stream)
        list(answer if stream else [])
    assert raised.value.status_code == 400


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(ollama.ResponseError, match="other") as raised:
        client.chat(model="other", messages=user("SAY no"))
    assert raised.value.status_code == 404


def test_models_cannot_be_changed(client):
    for change in (
        lambda: client.pull("scripted"),
        lambda: client.push("scripted"),
        lambda: client.copy("scripted", "mine"),
        lambda: client.create("mine", from_="scripted"),
        lambda: client.delete("scripted"),
    ):
        with pytest.raises(ollama.ResponseError) as raised:
            change()
        assert raised.value.status_code == 403


def test_texts_are_embedded(client):
    answer = client.embed(model="scripted:latest", input=["hare", "fox"])
    assert [list(each) for each in answer.embeddings] == [
        [4, ord("h"), ord("e"), 0.5],
        [3, ord("f"), ord("x"), 0.5],
    ]
    assert answer.model == "scripted:latest"
    assert answer.prompt_eval_count == 7
    assert answer.total_duration >= answer.load_duration
    assert len(client.embed(model="scripted", input="hare").embeddings) == 1
    old = client.embeddings(model="scripted", prompt="hare")
    assert list(old.embedding) == [4, ord("h"), ord("e"), 0.5]
    assert list(client.embed(model="scripted", input="").embeddings) == []
    assert "embedding" in client.show("scripted").capabilities


def test_embeddings_that_cannot_be_are_refused_by_name(client):
    for field, more in (("dimensions", {"dimensions": 2}), ("input", {"input": [""]})):
        with pytest.raises(ollama.ResponseError, match=field) as raised:
            client.embed(**{"model": "scripted", "input": "hare", **more})
        assert raised.value.status_code == 400


def test_an_engine_error_ends_its_answer_and_nothing_else(client):
    with pytest.raises(ollama.ResponseError):
        list(chat(client, "FAIL 5", stream=True))
    with pytest.raises(ollama.ResponseError) as raised:
        chat(client, "FAIL 5")
    assert raised.value.status_code == 500
    assert chat(client, "SAY still here").message.content == "still here"


def test_a_key_is_asked_for_where_there_is_one(locked):
    with pytest.raises(ollama.ResponseError) as raised:
        chat(ollama_client(locked), "SAY no")
    assert raised.value.status_code == 401
    headers = {"Authorization": "Bearer sesame"}
    answer = chat(ollama_client(locked, headers=headers), "SAY open")
    assert answer.message.content == "open"
