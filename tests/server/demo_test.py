"""The program itself with the demo model, and all three clients. Where the
scripted server can only tell what the engine was asked for, here it is done:
what was enforced holds, what has a seed repeats, company changes nothing."""

import array
import asyncio
import concurrent.futures
import json
import typing

import anthropic
import jsonschema
import ollama
import openai
import pydantic
import pytest
import requests

from clients import (
    ANTHROPIC_TOOL,
    OPENAI_TOOL,
    anthropic_client,
    async_anthropic_client,
    async_openai_client,
    ollama_client,
    openai_client,
    user,
)

STORY = "Tell me a story about a brave rabbit."
SEEDS = range(4)


class Animal(pydantic.BaseModel):
    # Bounded, so that this small model comes to an end of it.
    model_config = pydantic.ConfigDict(extra="forbid")

    name: str = pydantic.Field(max_length=12)
    age: int = pydantic.Field(ge=0, le=99)
    brave: bool


class Rabbit(pydantic.BaseModel):
    # Anthropic's client leaves out of a schema what bounds texts and numbers.
    model_config = pydantic.ConfigDict(extra="forbid")

    colour: typing.Literal["white", "brown", "grey"]
    brave: bool


# ---- The same question to each API


def chat(server, prompt, seed, stream=False, tokens=40):
    answer = openai_client(server).chat.completions.create(
        model=server.model,
        messages=user(prompt),
        max_tokens=tokens,
        temperature=1,
        seed=seed,
        stream=stream,
    )
    if not stream:
        return answer.choices[0].message.content
    return "".join(c.choices[0].delta.content or "" for c in answer if c.choices)


def complete(server, prompt, seed, stream=False, tokens=40):
    answer = openai_client(server).completions.create(
        model=server.model,
        prompt=prompt,
        max_tokens=tokens,
        temperature=1,
        seed=seed,
        stream=stream,
    )
    if not stream:
        return answer.choices[0].text
    return "".join(c.choices[0].text for c in answer if c.choices)


def respond(server, prompt, seed, stream=False, tokens=40):
    answer = openai_client(server).responses.create(
        model=server.model,
        input=prompt,
        max_output_tokens=tokens,
        temperature=1,
        extra_body={"seed": seed},
        stream=stream,
    )
    if not stream:
        return answer.output_text
    return "".join(e.delta for e in answer if e.type == "response.output_text.delta")


def message(server, prompt, seed, stream=False, tokens=40):
    # This API has no seeds: the most probable tokens, always, to what is said
    # in another way.
    name = ["Tom", "Lily", "Max", "Sue"][seed % 4]
    answer = anthropic_client(server).messages.create(
        model=server.model,
        max_tokens=tokens,
        messages=user(f"{prompt} His name is {name}."),
        extra_body={"temperature": 0},
        stream=stream,
    )
    if not stream:
        return answer.content[0].text
    return "".join(e.delta.text for e in answer if e.type == "content_block_delta")


def ollama_chat(server, prompt, seed, stream=False, tokens=40):
    answer = ollama_client(server).chat(
        model=server.model,
        messages=user(prompt),
        options={"temperature": 1, "seed": seed, "num_predict": tokens},
        stream=stream,
    )
    if not stream:
        return answer.message.content
    return "".join(part.message.content for part in answer)


ASKS = [chat, complete, respond, message, ollama_chat]


@pytest.mark.parametrize("ask", ASKS)
def test_a_seed_repeats_and_a_stream_says_the_same(demo, ask):
    texts = {seed: ask(demo, STORY, seed) for seed in (1, 2)}
    assert texts[1] and texts[1] != texts[2]
    assert ask(demo, STORY, 1) == texts[1]
    assert ask(demo, STORY, 2, stream=True) == texts[2]


def test_dialects_mean_the_same_by_a_seed(demo):
    assert chat(demo, STORY, 3) == respond(demo, STORY, 3)
    assert chat(demo, STORY, 3) == ollama_chat(demo, STORY, 3)


def test_the_async_clients_are_answered(demo):
    async def ask_all():
        async with async_openai_client(demo) as one, async_anthropic_client(
            demo
        ) as two:
            return await asyncio.gather(
                one.chat.completions.create(
                    model=demo.model, messages=user(STORY), max_tokens=20
                ),
                one.responses.create(
                    model=demo.model, input=STORY, max_output_tokens=20
                ),
                two.messages.create(
                    model=demo.model, messages=user(STORY), max_tokens=20
                ),
                ollama.AsyncClient(host=demo.url).chat(
                    model=demo.model,
                    messages=user(STORY),
                    options={"num_predict": 20},
                ),
            )

    first, second, third, fourth = asyncio.run(ask_all())
    assert first.choices[0].finish_reason == "length"
    assert first.usage.completion_tokens == 20
    assert second.status == "incomplete"
    assert third.stop_reason == "max_tokens"
    assert third.usage.output_tokens == 20
    assert fourth.done_reason == "length" and fourth.eval_count == 20


def test_an_answer_in_company_is_the_answer_alone(demo):
    tasks = [
        (ask, f"A story about a {animal}, please.", seed, stream)
        for seed, (ask, animal, stream) in enumerate(
            zip(ASKS * 2, ["cat", "dog", "hare", "owl", "fox"] * 2, [True, False] * 5)
        )
    ]
    alone = [ask(demo, text, seed, stream) for ask, text, seed, stream in tasks]
    with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
        together = pool.map(
            lambda task: task[0](demo, *task[1:]),
            tasks,
        )
        assert list(together) == alone


# ---- Structured output, sampled


@pytest.mark.parametrize("seed", SEEDS)
def test_a_class_is_filled_by_each_client(demo, seed):
    one = openai_client(demo).chat.completions.parse(
        model=demo.model,
        messages=user("A rabbit, please."),
        max_tokens=200,
        temperature=1,
        seed=seed,
        response_format=Animal,
    )
    assert isinstance(one.choices[0].message.parsed, Animal)
    assert one.choices[0].finish_reason == "stop"
    two = openai_client(demo).responses.parse(
        model=demo.model,
        input="A rabbit, please.",
        max_output_tokens=200,
        temperature=1,
        extra_body={"seed": seed},
        text_format=Animal,
    )
    assert isinstance(two.output_parsed, Animal)
    three = anthropic_client(demo).messages.parse(
        model=demo.model,
        max_tokens=200,
        messages=user("A rabbit, please."),
        extra_body={"temperature": 1},
        output_format=Rabbit,
    )
    assert isinstance(three.parsed_output, Rabbit)
    four = ollama_client(demo).chat(
        model=demo.model,
        messages=user("A rabbit, please."),
        format=Animal.model_json_schema(),
        options={"temperature": 1, "seed": seed, "num_predict": 200},
    )
    assert Animal.model_validate_json(four.message.content)


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["yes", "no", 7]},
        {
            "type": "array",
            "items": {"type": "integer", "minimum": -20, "maximum": 300},
            "minItems": 2,
            "maxItems": 3,
        },
        {"anyOf": [{"type": "null"}, {"type": "number", "minimum": 0, "maximum": 1}]},
        {
            "type": "object",
            "properties": {
                "kind": {"const": "rabbit"},
                "colour": {"type": "string", "pattern": "^(red|blue)$"},
                "friends": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/friend"},
                    "maxItems": 2,
                },
            },
            "required": ["kind", "colour"],
            "additionalProperties": False,
            "$defs": {"friend": {"type": "string", "maxLength": 6}},
        },
    ],
)
def test_what_a_schema_says_holds(demo, schema):
    finished = 0
    for seed in SEEDS:
        answer = openai_client(demo).chat.completions.create(
            model=demo.model,
            messages=user("Answer, please."),
            max_tokens=150,
            temperature=1,
            seed=seed,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "it", "strict": True, "schema": schema},
            },
        )
        # One that is cut is no JSON yet.
        if answer.choices[0].finish_reason == "stop":
            jsonschema.validate(json.loads(answer.choices[0].message.content), schema)
            finished += 1
    assert finished > 0


def test_regular_expressions_and_grammars_hold(demo):
    def tell(**fields):
        return (
            openai_client(demo)
            .chat.completions.create(
                model=demo.model,
                messages=user("Which?"),
                max_tokens=20,
                temperature=1,
                seed=5,
                extra_body=fields,
            )
            .choices[0]
            .message.content
        )

    assert tell(guided_regex="[0-9]{3}-[0-9]{2}")[3] == "-"
    assert tell(guided_choice=["left", "right"]) in ("left", "right")
    assert tell(guided_grammar='start: "a" ("b" | "c")') in ("ab", "ac")


def test_a_schema_that_cannot_be_enforced_is_refused_by_its_keyword(demo):
    schema = {"type": "array", "uniqueItems": True}
    with pytest.raises(openai.BadRequestError, match="uniqueItems"):
        openai_client(demo).chat.completions.create(
            model=demo.model,
            messages=user("no"),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "it", "schema": schema},
            },
        )


# ---- Tools, sampled


CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
CITY_TOOL = {"name": "get_weather", "parameters": CITY, "strict": True}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_call_that_must_be_made_is_made_as_its_schema_says(demo_with_tools, seed):
    model = demo_with_tools.model
    question = "The weather, please."
    answer = openai_client(demo_with_tools).chat.completions.create(
        model=model,
        messages=user(question),
        max_tokens=200,
        temperature=1,
        seed=seed,
        tools=[{"type": "function", "function": CITY_TOOL}],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="none",
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    jsonschema.validate(json.loads(call.function.arguments), CITY)

    response = openai_client(demo_with_tools).responses.create(
        model=model,
        input=question,
        max_output_tokens=200,
        temperature=1,
        extra_body={"seed": seed},
        tools=[{"type": "function", **CITY_TOOL}],
        tool_choice={"type": "function", "name": "get_weather"},
        reasoning={"effort": "none"},
    )
    assert response.status == "completed"
    (call,) = response.output
    jsonschema.validate(json.loads(call.arguments), CITY)

    message_with_call = anthropic_client(demo_with_tools).messages.create(
        model=model,
        max_tokens=200,
        messages=user(question),
        extra_body={"temperature": 1},
        tools=[{"name": "get_weather", "input_schema": CITY, "strict": True}],
        tool_choice={"type": "tool", "name": "get_weather"},
    )
    assert message_with_call.stop_reason == "tool_use"
    (use,) = message_with_call.content
    jsonschema.validate(use.input, CITY)


def test_calls_can_be_made_in_parallel_and_are_all_right(demo_with_tools):
    answer = openai_client(demo_with_tools).chat.completions.create(
        model=demo_with_tools.model,
        messages=user("The weather everywhere, please."),
        max_tokens=400,
        temperature=1,
        seed=3,
        tools=[{"type": "function", "function": CITY_TOOL}],
        tool_choice="required",
        reasoning_effort="none",
    )
    calls = answer.choices[0].message.tool_calls
    assert len({call.id for call in calls}) == len(calls) >= 1
    for call in calls[:-1]:
        jsonschema.validate(json.loads(call.function.arguments), CITY)
    assert isinstance(json.loads(calls[-1].function.arguments), dict)


def test_a_streamed_call_is_the_whole_one(demo_with_tools):
    def call(stream):
        answer = openai_client(demo_with_tools).chat.completions.create(
            model=demo_with_tools.model,
            messages=user("The weather, please."),
            max_tokens=200,
            temperature=1,
            seed=11,
            tools=[{"type": "function", "function": CITY_TOOL}],
            tool_choice="required",
            parallel_tool_calls=False,
            reasoning_effort="none",
            stream=stream,
        )
        if not stream:
            return answer.choices[0].message.tool_calls[0].function.arguments
        parts = [
            part.function.arguments
            for chunk in answer
            for part in chunk.choices[0].delta.tool_calls or []
        ]
        assert len(parts) > 3
        return "".join(parts)

    assert call(stream=True) == call(stream=False)


def test_no_call_is_made_where_none_is_allowed(demo_with_tools):
    client = openai_client(demo_with_tools)
    (mark,) = client.post(
        demo_with_tools.url + "/tokenize",
        body={"content": "<tool_call>"},
        cast_to=object,
    )["tokens"]

    def tell(tool_choice):
        message = (
            client.chat.completions.create(
                model=demo_with_tools.model,
                messages=user("The weather, please."),
                max_tokens=8,
                temperature=0,
                logit_bias={str(mark): 100},
                tools=[OPENAI_TOOL],
                tool_choice=tool_choice,
                reasoning_effort="none",
            )
            .choices[0]
            .message
        )
        assert message.tool_calls is None
        return message.content

    # The model wants nothing else than to begin a call.
    assert tell("auto") == "<tool_call>" * 8
    assert tell("none") and "<tool_call>" not in tell("none")


def test_tools_are_refused_by_name_where_the_model_knows_none(demo):
    with pytest.raises(openai.BadRequestError, match="tools"):
        openai_client(demo).chat.completions.create(
            model=demo.model, messages=user("no"), tools=[OPENAI_TOOL]
        )
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        anthropic_client(demo).messages.create(
            model=demo.model, messages=user("no"), tools=[ANTHROPIC_TOOL], max_tokens=5
        )
    with pytest.raises(ollama.ResponseError, match="tools"):
        ollama_client(demo).chat(
            model=demo.model, messages=user("no"), tools=[OPENAI_TOOL]
        )


# ---- Sampling, probabilities, cache


def test_log_probabilities_are_those_of_the_text(demo):
    answer = openai_client(demo).chat.completions.create(
        model=demo.model,
        messages=user(STORY),
        max_tokens=10,
        temperature=0,
        logprobs=True,
        top_logprobs=20,
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == 10
    text = "".join(t.token for t in tokens)
    assert text.strip() == answer.choices[0].message.content.strip()
    for token in tokens:
        assert len(token.top_logprobs) == 20
        assert token.top_logprobs[0].token == token.token  # greedy
        logprobs = [each.logprob for each in token.top_logprobs]
        assert logprobs == sorted(logprobs, reverse=True) and logprobs[0] <= 0


def test_a_text_is_scored_as_it_was_generated(demo):
    client = openai_client(demo)
    prompt = "Once upon a time"
    made = client.completions.create(
        model=demo.model, prompt=prompt, max_tokens=12, temperature=0, logprobs=1
    ).choices[0]
    scored = client.completions.create(
        model=demo.model,
        prompt=prompt + made.text,
        max_tokens=0,
        echo=True,
        logprobs=1,
    ).choices[0]
    assert scored.logprobs.tokens[-12:] == made.logprobs.tokens
    assert "".join(scored.logprobs.tokens) == scored.text == prompt + made.text
    for one, two in zip(
        scored.logprobs.token_logprobs[-12:], made.logprobs.token_logprobs
    ):
        assert abs(one - two) < 0.05


def test_a_bias_keeps_a_token_out(demo):
    client = openai_client(demo)

    def begin(**more):
        return (
            client.completions.create(
                model=demo.model,
                prompt="Once upon a",
                max_tokens=1,
                temperature=0,
                **more,
            )
            .choices[0]
            .text
        )

    usual = begin()
    tokens = openai_client(demo).post(
        demo.url + "/tokenize", body={"content": "Once upon a" + usual}, cast_to=object
    )["tokens"]
    assert begin(logit_bias={str(tokens[-1]): -100}) != usual


def test_a_stop_string_ends_the_text(demo):
    client = openai_client(demo)

    def tell(**more):
        return client.chat.completions.create(
            model=demo.model, messages=user(STORY), max_tokens=60, temperature=0, **more
        ).choices[0]

    whole = tell().message.content
    word = whole.split()[8]
    cut = tell(stop=[word])
    assert cut.finish_reason == "stop"
    assert cut.message.content == whole[: whole.index(word)]


def test_choices_differ_and_a_second_request_finds_the_first_ones_pages(demo):
    story = "Once upon a time there was a little rabbit. " * 15
    for cached in (False, True):
        answer = openai_client(demo).chat.completions.create(
            model=demo.model,
            messages=user(story),
            max_tokens=30,
            temperature=1,
            n=2,
            seed=3,
        )
        assert len({c.message.content for c in answer.choices}) == 2
        tokens = answer.usage.prompt_tokens_details.cached_tokens
        assert (tokens >= 64) == cached


def test_tokens_are_counted_as_they_are_read(demo):
    client = anthropic_client(demo)
    count = client.messages.count_tokens(model=demo.model, messages=user(STORY))
    usage = client.messages.create(
        model=demo.model, max_tokens=1, messages=user(STORY)
    ).usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_a_response_is_gone_on_with(demo):
    client = openai_client(demo)
    first = client.responses.create(
        model=demo.model, input=STORY * 12, max_output_tokens=16
    )
    second = client.responses.create(
        model=demo.model,
        input="And then?",
        previous_response_id=first.id,
        max_output_tokens=16,
    )
    assert second.usage.input_tokens > first.usage.input_tokens + 16
    # What was read is there still, but for a page that is not full.
    cached = second.usage.input_tokens_details.cached_tokens
    assert cached > first.usage.input_tokens - 64


# ---- Models, embeddings, errors


def test_models_are_listed_by_each_client(demo):
    assert [model.id for model in openai_client(demo).models.list()] == [demo.model]
    assert [model.id for model in anthropic_client(demo).models.list()] == [demo.model]
    client = ollama_client(demo)
    assert [model.model for model in client.list().models] == [demo.model + ":latest"]
    shown = client.show(demo.model)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["general.architecture"] == "qwen3_moe"


def test_embeddings_are_refused_by_name(demo):
    with pytest.raises(openai.BadRequestError, match=demo.model):
        openai_client(demo).embeddings.create(model=demo.model, input="hare")
    with pytest.raises(ollama.ResponseError, match=demo.model):
        ollama_client(demo).embed(model=demo.model, input="hare")


def test_texts_are_embedded_as_the_checkpoint_states(demo_with_tools):
    server = demo_with_tools
    texts = ["A rabbit ran home.", "The rabbit runs to its home.", "Two apples."]
    client = openai_client(server)
    answer = client.embeddings.create(model=server.model, input=texts)
    vectors = [each.embedding for each in answer.data]
    for vector in vectors:
        assert len(vector) == 256
        assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-5)
    ids = requests.post(
        server.url + "/tokenize",
        json={"content": texts[0], "add_special": True},
        timeout=60,
    ).json()["tokens"]

    def floats(numbers):
        return array.array("f", numbers)

    def alike(i, j):
        return sum(a * b for a, b in zip(vectors[i], vectors[j]))

    assert alike(0, 1) > alike(0, 2)
    # The same bits one by one, as tokens, from the other API and in company.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        story = pool.submit(chat, server, STORY, 1)
        again = client.embeddings.create(
            model=server.model, input=ids, encoding_format="float"
        )
        shown = ollama_client(server).embed(model=server.model, input=texts)
        story.result()
    assert floats(again.data[0].embedding) == floats(vectors[0])
    assert [*map(floats, shown.embeddings)] == [*map(floats, vectors)]


def test_an_embedding_of_what_does_not_fit_is_refused_or_cut(demo_with_tools):
    server = demo_with_tools
    long = "hare " * 5000
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client(server).embeddings.create(model=server.model, input=["a", long])
    assert raised.value.param == "input[1]"
    assert raised.value.code == "context_length_exceeded"
    client = ollama_client(server)
    cut = client.embed(model=server.model, input=long)
    assert cut.prompt_eval_count == 1024  # the model's own limit
    with pytest.raises(ollama.ResponseError, match="tokens"):
        client.embed(model=server.model, input=long, truncate=False)


def test_nothing_is_made_for_a_client_that_went_away(demo):
    stream = openai_client(demo).chat.completions.create(
        model=demo.model,
        messages=user(STORY),
        max_tokens=900,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.close()
    demo.wait_until_idle()
    assert chat(demo, STORY, 1)
