"""Clients that wait, and clients that go away."""

import anthropic
import openai
import pytest
import requests

from clients import anthropic_client, ollama_client, openai_client, user

WAITING = "WAIT 300\nSAY At last."
ENDLESS = "CLOCK 100000 5"


def chat(server, text, **more):
    return openai_client(server, **more).chat.completions.create(
        model="scripted", messages=user(text), stream=True
    )


def complete(server, text):
    return openai_client(server).completions.create(
        model="scripted", prompt=text, max_tokens=100000, stream=True
    )


def respond(server, text):
    return openai_client(server).responses.create(
        model="scripted", input=text, stream=True
    )


def message(server, text):
    return anthropic_client(server).messages.create(
        model="scripted", max_tokens=100000, messages=user(text), stream=True
    )


def ollama_chat(server, text):
    return ollama_client(server).chat(
        model="scripted", messages=user(text), stream=True
    )


def ollama_generate(server, text):
    return ollama_client(server).generate(model="scripted", prompt=text, stream=True)


# ---- Signs of life, in the form that each client takes


@pytest.mark.parametrize("ask", [chat, complete])
def test_comments_come_while_a_client_of_openai_waits(impatient, ask):
    chunks = [c for c in ask(impatient, WAITING) if c.choices]
    texts = [
        (
            getattr(c.choices[0], "text", None) or c.choices[0].delta.content or ""
            if ask is chat
            else c.choices[0].text
        )
        for c in chunks
    ]
    assert "".join(texts) == "At last."
    assert len(impatient.traffic.last.comments) >= 3


def test_events_come_while_a_response_is_waited_for(impatient):
    events = list(respond(impatient, WAITING))
    assert events[0].type == "response.created"
    kinds = [event.type for event in events]
    waiting = kinds.count("response.queued") + kinds.count("response.in_progress")
    assert waiting >= 3
    assert events[-1].response.output_text == "At last."


def test_pings_come_while_a_message_is_waited_for(impatient):
    events = list(message(impatient, WAITING))
    texts = [e.delta.text for e in events if e.type == "content_block_delta"]
    assert "".join(texts) == "At last."
    # The client does not show them.
    pings = [name for name, _ in impatient.traffic.last.events if name == "ping"]
    assert len(pings) >= 3


@pytest.mark.parametrize("ask", [ollama_chat, ollama_generate])
def test_empty_lines_come_while_a_client_of_ollama_waits(impatient, ask):
    parts = list(ask(impatient, WAITING))
    texts = [
        part.message.content if ask is ollama_chat else part.response for part in parts
    ]
    assert "".join(texts) == "At last."
    assert len([text for text in texts if text == ""]) >= 3


def test_progress_is_told_to_who_asks_for_it(impatient):
    stream = openai_client(impatient).chat.completions.create(
        model="scripted",
        messages=user("SAY yes"),
        stream=True,
        extra_body={"return_progress": True},
    )
    told = [c.prompt_progress for c in stream if hasattr(c, "prompt_progress")]
    assert told[-1]["processed"] == told[-1]["total"] > 0


# ---- Clients that go away


@pytest.mark.parametrize(
    "ask", [chat, complete, respond, message, ollama_chat, ollama_generate]
)
def test_nothing_is_made_for_a_client_that_went_away(scripted, ask):
    answer = ask(scripted, ENDLESS)
    stream = iter(answer)
    for _ in range(10):
        next(stream)
    assert len(scripted.status()["running"]) == 1
    answer.close()
    scripted.wait_until_idle()


def test_nothing_is_made_for_a_client_that_waits_no_longer(scripted):
    with pytest.raises(openai.APITimeoutError):
        openai_client(scripted, timeout=0.2).chat.completions.create(
            model="scripted", messages=user(ENDLESS)
        )
    with pytest.raises(anthropic.APITimeoutError):
        anthropic_client(scripted, timeout=0.2).messages.create(
            model="scripted", max_tokens=1000, messages=user(ENDLESS)
        )
    with pytest.raises(Exception, match="timed out"):
        ollama_client(scripted, timeout=0.2).chat(
            model="scripted", messages=user(ENDLESS)
        )
    scripted.wait_until_idle()


def test_the_server_can_be_asked_while_it_answers(scripted):
    stream = chat(scripted, ENDLESS)
    next(iter(stream))
    for path in ("/health", "/ready", "/status", "/v1/config", "/cache/stats"):
        assert requests.get(scripted.url + path, timeout=60).status_code == 200
    metrics = requests.get(scripted.url + "/metrics", timeout=60).text
    assert "\n# TYPE " in metrics
    running = scripted.status()["running"]
    assert len(running) == 1
    stream.close()
    scripted.wait_until_idle()


def test_clients_of_all_kinds_are_answered_at_once(scripted):
    streams = {
        ask: iter(ask(scripted, "CLOCK 50 1"))
        for ask in (chat, complete, respond, message, ollama_chat, ollama_generate)
    }
    counts = dict.fromkeys(streams, 0)
    while streams:
        for ask, stream in list(streams.items()):
            if next(stream, None) is None:
                del streams[ask]
            else:
                counts[ask] += 1
    assert all(count >= 50 for count in counts.values()), counts
