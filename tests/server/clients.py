"""The official clients, as their users make them, and what tests send."""

import anthropic
import ollama
import openai
import pydantic

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
# The same tool as each API has it.
OPENAI_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": WEATHER,
    },
}
RESPONSE_TOOL = {"type": "function", "strict": False, **OPENAI_TOOL["function"]}
ANTHROPIC_TOOL = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": WEATHER,
}
OTHER_TOOL = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object"}},
}

CALL_PARIS = 'CALL get_weather {"city": "Paris"}'
CALL_ROME = 'CALL get_weather {"city": "Rome"}'


class Animal(pydantic.BaseModel):
    name: str
    age: int


def openai_client(server, **more):
    more = {"api_key": "none", "max_retries": 0, **more}
    return openai.OpenAI(base_url=server.url + "/v1", **more)


def async_openai_client(server):
    return openai.AsyncOpenAI(
        base_url=server.url + "/v1", api_key="none", max_retries=0
    )


def anthropic_client(server, **more):
    more = {"api_key": "none", "max_retries": 0, **more}
    return anthropic.Anthropic(base_url=server.url, **more)


def async_anthropic_client(server):
    return anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0)


def ollama_client(server, **more):
    return ollama.Client(host=server.url, **more)


def user(text):
    return [{"role": "user", "content": text}]


def words(count):
    """What the scripted server says to COUNT."""
    return " ".join(f"word{i}" for i in range(1, count + 1))
