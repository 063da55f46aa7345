"""OpenAI's own client against our server: what it asks for is what it gets."""

import pytest


def test_a_text_is_what_generate_writes(client, alone):
    for prompt in ("The city of", "", "Kraków 🙂\n"):
        found = client.completions.create(
            model="tales", prompt=prompt, max_tokens=20, temperature=0
        )
        assert found.choices[0].text == alone(prompt, temperature=0, max_new_tokens=20).text
