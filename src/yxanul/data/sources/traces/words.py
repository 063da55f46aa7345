"""Traces over words and letters: counting, sorting, reversing, deciphering."""

from collections.abc import Sequence

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter_counting(item: Item, say: Phrasing) -> Trace:
    """Count a letter word by word, keeping a running total."""
    letter, words = item["metadata"]["target_letter"], item["metadata"]["span"]
    text = " ".join(words)
    question = say.pick(
        f'How many times does the letter "{letter}" appear in the text "{text}"?',
        f'Count the letter "{letter}" in "{text}". How often does it occur?',
        f'How often does "{letter}" occur in the following text?\n{text}',
    )
    lines = [say.pick("Go through the words one at a time.", "Spell out each word and count.")]
    total = 0
    for word in words:
        found = word.lower().count(letter)
        total += found
        lines.append(f"{word}: {' '.join(word.lower())} - {found}, total {total}")
    return Trace(question, "\n".join(lines), str(total))


def word_sorting(item: Item, say: Phrasing) -> Trace:
    """Sort words by taking out the first (or last) of those that remain."""
    words, direction = item["metadata"]["transformed_words"], item["metadata"]["direction"]
    listed = ", ".join(words)
    question = say.pick(
        f"Sort these words in {direction} order, upper-case letters before lower-case ones: "
        f"{listed}",
        f"Put the following words into {direction} ASCII order: {listed}",
        f"Arrange in {direction} order (A to Z comes before a to z): {listed}",
    )
    picked = "first" if direction == "ascending" else "last"
    lines = [f"In each step, take the word that comes {picked} in ASCII order."]
    remaining, result = list(words), []
    while remaining:
        chosen = min(remaining) if direction == "ascending" else max(remaining)
        lines.append(f"From {', '.join(remaining)}: take {chosen}.")
        remaining.remove(chosen)
        result.append(chosen)
    return Trace(question, "\n".join(lines), ", ".join(result))


def spell_backward(item: Item, say: Phrasing) -> Trace:
    """Number the letters of a word, then read them from the last one."""
    word = item["metadata"]["word"]
    question = say.pick(
        f"Spell the word {word} backward.",
        f"What is {word} spelled backward?",
        f'Write "{word}" with its letters in reverse order.',
    )
    letters = ", ".join(f"{i} {letter}" for i, letter in enumerate(word, start=1))
    backward = ", ".join(f"{i} {word[i - 1]}" for i in range(len(word), 0, -1))
    steps = (
        f"The word has {len(word)} letters: {letters}.\n"
        f"Read from {say.pick('the last', 'the end')}: {backward}."
    )
    return Trace(question, steps, word[::-1])


def word_sequence_reversal(item: Item, say: Phrasing) -> Trace:
    """Move words from the end of one list to the end of another."""
    words = item["metadata"]["words"]
    listed = ", ".join(words)
    question = say.pick(
        f"Reverse this list of words: {listed}",
        f"Write these words in the opposite order: {listed}",
        f"Here is a list: {listed}. What is it read from the last word to the first?",
    )
    lines = [f"There are {len(words)} words."]
    for i in range(len(words), 0, -1):
        lines.append(f"Word {i} is {words[i - 1]}.")
    return Trace(question, "\n".join(lines), ", ".join(reversed(words)))


def caesar_cipher(item: Item, say: Phrasing) -> Trace:
    """Shift every letter back; the shift is told, since finding it would be guessing."""
    cipher, shift = item["metadata"]["cipher_text"], item["metadata"]["rotation"]
    question = say.pick(
        f"Each letter of a text was moved {shift} places forward in the alphabet. The result is: "
        f"{cipher}\nWhat was the text?",
        f"Decrypt this Caesar cipher with a shift of {shift}: {cipher}",
        f"A Caesar cipher with rotation {shift} gave {cipher}. Find the clear text.",
    )
    lines = [f"Move every letter {shift} places back; before A comes Z."]
    clear = []
    for word in cipher.split(" "):
        plain = "".join(_shift_back(letter, shift) for letter in word)
        pairs = ", ".join(f"{a} -> {b}" for a, b in zip(word, plain, strict=True))
        lines.append(f"{word}: {pairs}. This is {plain}.")
        clear.append(plain)
    return Trace(question, "\n".join(lines), " ".join(clear))


def _shift_back(letter: str, shift: int) -> str:
    if letter not in ALPHABET:
        return letter
    return ALPHABET[(ALPHABET.index(letter) - shift) % 26]


def and_list(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
