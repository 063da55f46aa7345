"""Traces over lists and tables of numbers: filtering, sorting, walking, summing."""

from decimal import Decimal
from typing import Any

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace
from yxanul.data.sources.traces.words import and_list

PLURALS = {
    "butterfly": "butterflies",
    "deer": "deer",
    "firefly": "fireflies",
    "jellyfish": "jellyfish",
    "praying mantis": "praying mantises",
    "sheep": "sheep",
    "shrimp": "shrimp",
    "starfish": "starfish",
    "woodlouse": "woodlice",
    "leech": "leeches",
}


def number_filtering(item: Item, say: Phrasing) -> Trace:
    """Decide number by number whether it stays."""
    facts = item["metadata"]
    numbers, bound = facts["original_numbers"], facts["filter_value"]
    action, size = facts["operation"].split("_")
    sign = ">" if size == "larger" else "<"
    opening = "Keep" if action == "keep" else "Remove"
    question = say.pick(
        f"{opening} all numbers {size} than {bound} in this list: {numbers}",
        f"From the list {numbers}, {action} every number that is {size} than {bound}. "
        f"What is the new list?",
    )
    lines = [f"Compare each number with {bound}."]
    result = []
    for number in numbers:
        value, limit = Decimal(number), Decimal(bound)
        holds = value > limit if size == "larger" else value < limit
        stays = holds == (action == "keep")
        lines.append(
            f"{number} {sign} {bound}: {'yes' if holds else 'no'}, {'keep' if stays else 'remove'}"
        )
        if stays:
            result.append(number)
    return Trace(question, "\n".join(lines), str(result))


def number_sorting(item: Item, say: Phrasing) -> Trace:
    """Sort numbers by taking out the smallest (or largest) of those that remain."""
    numbers, direction = item["metadata"]["original_numbers"], item["metadata"]["direction"]
    question = say.pick(
        f"Sort these numbers in {direction} order: {numbers}",
        f"Put the list {numbers} into {direction} order.",
    )
    extreme = "smallest" if direction == "ascending" else "largest"
    lines = [say.pick(f"Take the {extreme} number each time.", f"Find the {extreme}, then repeat.")]
    remaining, result = list(numbers), []
    while remaining:
        choose = min if direction == "ascending" else max
        chosen = choose(remaining, key=Decimal)
        lines.append(f"{', '.join(remaining)}: {extreme} {chosen}")
        remaining.remove(chosen)
        result.append(chosen)
    return Trace(question, "\n".join(lines), str(result))


def spiral_matrix(item: Item, say: Phrasing) -> Trace:
    """Walk a square of numbers clockwise from outside to inside, side by side."""
    rows: list[list[int]] = [list(row) for row in item["metadata"]["matrix"]]
    table = "\n".join(" ".join(map(str, row)) for row in rows)
    question = say.pick(
        f"List the elements of this matrix in clockwise spiral order, starting at the top left:\n"
        f"{table}",
        f"Read the matrix below in a spiral, clockwise from the top-left corner inward.\n{table}",
    )
    lines: list[str] = []
    result: list[int] = []
    sides = ["the top row to the right", "the right column down"]
    sides += ["the bottom row to the left", "the left column up"]
    turn = 0
    while rows:
        walked = rows.pop(0)
        lines.append(f"Walk {sides[turn % 4]}: {' '.join(map(str, walked))}")
        result.extend(walked)
        rows = [list(column) for column in zip(*rows, strict=True)][::-1]
        turn += 1
    return Trace(question, "\n".join(lines), " ".join(map(str, result)))


def leg_counting(item: Item, say: Phrasing) -> Trace:
    """Multiply the count of each animal by its legs and add up."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS  # its table of legs

    animals: dict[str, int] = item["metadata"]["animals"]
    herd = and_list([_counted(number, animal) for animal, number in animals.items()])
    question = say.pick(
        f"How many legs do {herd} have in total?",
        f"There are {herd}. How many legs is that altogether?",
        f"Count the legs of {herd}.",
    )
    if "starfish" in animals:
        question += " (Count the five arms of a starfish as legs.)"
    lines, total = [], 0
    for animal, number in animals.items():
        legs = ANIMALS[animal]
        total += number * legs
        lines.append(
            f"{_counted(number, animal)}: {number} x {legs} = {number * legs}, total {total}"
        )
    return Trace(question, "\n".join(lines), str(total))


def simple_geometry(item: Item, say: Phrasing) -> Trace:
    """Find the last interior angle of a convex polygon from the sum of all."""
    facts = item["metadata"]
    sides = facts["n_sides"]
    angles = [_plain(angle) for angle in facts["known_angles"]]
    listed = and_list([f"{angle}°" for angle in angles])
    question = say.pick(
        f"A convex polygon has {sides} sides. Its first {sides - 1} interior angles measure "
        f"{listed}. How many degrees does the last one measure?",
        f"In a convex {sides}-gon, all interior angles but one are known: {listed}. "
        f"Find the missing angle in degrees.",
    )
    total = 180 * (sides - 2)
    known = sum(Decimal(angle) for angle in angles)
    missing = total - known
    steps = (
        f"The interior angles of a polygon with {sides} sides add up to ({sides} - 2) x 180 = "
        f"{total} degrees.\n"
        f"The known angles add up to {' + '.join(angles)} = {known} degrees.\n"
        f"The missing angle is {total} - {known} = {missing} degrees."
    )
    return Trace(question, steps, str(missing))


def _counted(number: int, animal: str) -> str:
    return f"{number} {animal if number == 1 else PLURALS.get(animal, animal + 's')}"


def _plain(number: Any) -> str:
    return f"{number:g}"
