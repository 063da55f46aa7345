"""Traces in small worlds: a maze, a cube, a timetable of courses, a workshop, people."""

import re
from collections.abc import Sequence

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace
from yxanul.data.sources.traces.words import and_list

SIDES = ("top", "right", "front", "left", "back", "bottom")
# Where the face on each side comes from when the named side is brought to the top.
TURNS = {
    "front": {"top": "front", "front": "bottom", "bottom": "back", "back": "top"},
    "right": {"top": "right", "right": "bottom", "bottom": "left", "left": "top"},
    "back": {"top": "back", "back": "bottom", "bottom": "front", "front": "top"},
    "left": {"top": "left", "left": "bottom", "bottom": "right", "right": "top"},
    "bottom": {"top": "bottom", "bottom": "top", "front": "back", "back": "front"},
}
RULES = (
    "1. A gives two X and one Y.",
    "2. Two B give one X.",
    "3. Two C give one Y.",
    "4. B and C together give one A.",
    "5. X and Y together give one Z.",
)
CHANGES = (
    (-1, 0, 0, 2, 1, 0),
    (0, -2, 0, 1, 0, 0),
    (0, 0, -2, 0, 1, 0),
    (1, -1, -1, 0, 0, 0),
    (0, 0, 0, -1, -1, 1),
)


def maze(item: Item, say: Phrasing) -> Trace | None:
    """Spread from the start, one step at a time, until the goal is reached."""
    facts = item["metadata"]
    signs = {facts["wall"]: "#", facts["path"]: ".", facts["start"]: "S", facts["goal"]: "G"}
    rows = ["".join(signs[cell] for cell in row) for row in facts["grid"]]
    cells = {(r, c): sign for r, row in enumerate(rows, 1) for c, sign in enumerate(row, 1)}
    start = next(cell for cell, sign in cells.items() if sign == "S")
    goal = next(cell for cell, sign in cells.items() if sign == "G")
    picture = "\n".join(rows)
    question = say.pick(
        f"What is the smallest number of steps from S to G in this maze? (# is a wall; a step goes "
        f"up, down, left or right.)\n{picture}",
        f"In the maze below, # marks a wall and . a free cell. How many steps does the shortest "
        f"way from S to G take, going up, down, left or right?\n{picture}",
    )
    lines = [
        f"Write (row, column), counted from 1. S is at {_cell(start)}, G at {_cell(goal)}.",
        "Find the cells reached after each number of steps.",
    ]
    seen, front, distance = {start}, [start], 0
    while goal not in front:
        around = [
            (r + dr, c + dc) for r, c in front for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        front = sorted({cell for cell in around if cells.get(cell, "#") != "#"} - seen)
        if not front:
            return None
        seen.update(front)
        distance += 1
        lines.append(f"{distance}: {' '.join(map(_cell, front))}")
    lines.append(f"G is reached after {distance} steps.")
    return Trace(question, "\n".join(lines), str(distance))


def color_cube_rotation(item: Item, say: Phrasing) -> Trace:
    """Write down all six sides after every turn."""
    facts = item["metadata"]
    cube: dict[str, str] = dict(facts["initial_state"])
    sides = and_list([f"{_an(cube[side])} {side}" for side in SIDES])
    moves = [
        f"the {side} side is brought to the top"
        + (" (left and right keep their places)" if side == "bottom" else "")
        for side in facts["rotations"]
    ]
    target = facts["target_side"]
    asked = say.pick(
        f"Which color is the {target} side now?", f"What is the color of the {target} side?"
    )
    question = f"A cube has {sides}. Then {', then '.join(moves)}. {asked}"
    lines = []
    for side in facts["rotations"]:
        cube = {place: cube[TURNS[side].get(place, place)] for place in SIDES}
        still = [place for place in SIDES if place not in TURNS[side]]
        state = ", ".join(f"{place} {cube[place]}" for place in SIDES)
        lines.append(f"The {side} side goes to the top; {and_list(still)} stay. Now {state}.")
    return Trace(question, "\n".join(lines), cube[target])


def course_schedule(item: Item, say: Phrasing) -> Trace:
    """Take the courses that wait for nothing, again and again."""
    needs: dict[int, set[int]] = {course: set() for course in sorted(item["metadata"]["courses"])}
    for course, before in item["metadata"]["prerequisites"]:
        needs[course].add(before)
    rules = "\n".join(
        f"Course {course} needs {and_list([str(b) for b in sorted(before)])}."
        for course, before in needs.items()
        if before
    )
    count = len(needs)
    question = say.pick(
        f"There are {count} courses, 0 to {count - 1}.\n{rules}\nCan all of them be finished? "
        f"Answer True or False.",
        f"A course can be taken once the courses that it needs are done. Of {count} courses "
        f"(0 to {count - 1}):\n{rules}\nIs it possible to take all of them? (True or False)",
    )
    lines, done = [], set[int]()
    while True:
        free = [c for c, before in needs.items() if c not in done and before <= done]
        if not free:
            break
        done.update(free)
        lines.append(
            f"Everything is done for {and_list([str(c) for c in free])}: take {_them(free)}."
        )
    left = [course for course in needs if course not in done]
    for course in left:
        waits = and_list([str(b) for b in sorted(needs[course] - done)])
        lines.append(f"Course {course} still waits for {waits}.")
    lines.append(
        "The courses that are left wait for one another, so they can never be taken."
        if left
        else "No course is left."
    )
    return Trace(question, "\n".join(lines), str(not left))


def string_splitting(item: Item, say: Phrasing) -> Trace | None:
    """Apply the first rule that fits, and show the counts after each use."""
    counts = [*item["metadata"]["initial_machines"], 0, 0, 0]
    question = (
        "A workshop takes machines A, B and C apart into parts X, Y and Z by these rules:\n"
        + "\n".join(RULES)
        + f"\nThere are {counts[0]} A, {counts[1]} B and {counts[2]} C. "
        + say.pick(
            "Always use the first rule that can be used, until none can. What is left?",
            "The first rule that fits is used, again and again, until no rule fits. Find the end.",
        )
        + " Give the counts in the order A B C X Y Z."
    )
    lines: list[str] = [f"Start: {_stock(counts)}"]
    while True:
        fits = [
            number
            for number, change in enumerate(CHANGES)
            if all(have + delta >= 0 for have, delta in zip(counts, change, strict=True))
        ]
        if not fits:
            break
        counts = [have + d for have, d in zip(counts, CHANGES[fits[0]], strict=True)]
        lines.append(f"Rule {fits[0] + 1}: {_stock(counts)}")
    lines.append("No rule can be used any more.")
    return Trace(question, "\n".join(lines), " ".join(map(str, counts)))


def aiw(item: Item, say: Phrasing) -> Trace | None:
    """Count people, not forgetting the person that the question starts from."""
    question = " ".join(item["question"].split())
    question = re.sub(r"\b1 (brother|sister|male friend|female friend)s\b", r"1 \1", question)
    question = question.replace(
        "They all are friends with each other and have no other friends aside.",
        say.pick(
            "All of them are friends with each other, and none has any other friends.",
            "They are all friends with one another and have no friends outside this circle.",
        ),
    )
    first = re.match(r"(\w+) has", question)
    numbers = re.search(r"(\d+) (?:female friend|sister)", question)
    if first is None or numbers is None:
        return None
    she, women = first[1], int(numbers[1])
    total = women + 1
    if "brother" in question:
        if f"{she}'s brother" not in question:  # asks about a stranger's brother: no answer
            return None
        steps = (
            f"{she} is a girl with {_some(women, 'sister')}, so the family has {women} + 1 = "
            f"{total} girls.\nA brother of {she} has all of these girls as sisters."
        )
    elif "friend" in question:
        steps = (
            f"The circle is {she} and her friends, who are all friends with each other.\n"
            f"The women in it are {she} and her {_some(women, 'female friend')}: {women} + 1 = "
            f"{total}.\nA man in the circle is friends with all of them."
        )
    else:
        return None
    closing = say.pick(f"So the answer is {total}.", f"That makes {total}.")
    return Trace(question, f"{steps}\n{closing}", str(total))


def family_relationships(item: Item, say: Phrasing) -> Trace | None:
    """Write down who is whose parent and spouse, and name the link."""
    facts = item["metadata"]
    story = item["question"].split("\n\n")[0]
    spouse: dict[str, str] = {}
    parents: dict[str, list[str]] = {}
    pattern = r"(\w+) is married to (\w+)\.(?: They have (?:a child|children) called ([^.]+)\.)?"
    for husband, wife, children in re.findall(pattern, story):
        spouse[husband], spouse[wife] = wife, husband
        for child in re.split(r", | and ", children) if children else []:
            parents[child] = [husband, wife]
    one, two = facts["person1"], facts["person2"]
    link = _link(one, two, spouse=spouse, parents=parents)
    if link is None or facts["relationship"] not in link[1]:
        return None
    question = f"{story} " + say.pick(
        f"What is {one} to {two}?", f"How is {one} related to {two}?", f"Who is {one} to {two}?"
    )
    steps = f"{link[0]}\nSo {one} is the {facts['relationship']} of {two}."
    return Trace(question, steps, facts["relationship"])


def _link(
    one: str, two: str, *, spouse: dict[str, str], parents: dict[str, list[str]]
) -> tuple[str, Sequence[str]] | None:
    """Return the sentence that links two people, and the words that fit it for either sex."""
    if one in parents.get(two, []):
        return f"{two} is a child of {and_list(parents[two])}.", ("mother", "father")
    if two in parents.get(one, []):
        return f"{one} is a child of {and_list(parents[one])}.", ("daughter", "son")
    if spouse.get(one) == two:
        return f"{one} and {two} are married to each other.", ("wife", "husband")
    if one in parents and parents.get(two) == parents[one]:
        both = and_list(parents[one])
        return f"{one} and {two} are both children of {both}.", ("sister", "brother")
    for parent in parents.get(two, []):
        if one in parents.get(parent, []):
            text = (
                f"{two} is a child of {and_list(parents[two])}.\n"
                f"{parent} is a child of {and_list(parents[parent])}."
            )
            return text, ("grandmother", "grandfather")
    return None


def _cell(cell: tuple[int, int]) -> str:
    return f"({cell[0]},{cell[1]})"


def _stock(counts: Sequence[int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in zip("ABCXYZ", counts, strict=True))


def _them(courses: Sequence[int]) -> str:
    return "it" if len(courses) == 1 else "them"


def _an(color: str) -> str:
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color}"


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
