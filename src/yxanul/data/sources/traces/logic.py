"""Traces of logic: syllogisms, circuits, truth-tellers and liars.

Every answer here is proved: by a chain of inferences, by a counterexample that is written down, or
by going through all cases.
"""

import re
from collections.abc import Sequence
from itertools import product

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace
from yxanul.data.sources.traces.words import and_list

# A statement (form, subject, predicate); A: all are, E: none is, I: some are, O: some are not.
Statement = tuple[str, str, str]
# What is known of one individual: for each term, whether it belongs to it.
Known = dict[str, bool]

GATES = {"&": "AND", "↑": "NAND", "⊕": "XOR"}


def syllogism(item: Item, say: Phrasing) -> Trace | None:
    """Derive the conclusion for an individual, or show a world in which it is false."""
    facts = item["metadata"]
    premises = [_statement(facts["premise1"]), _statement(facts["premise2"])]
    conclusion = _statement(facts["conclusion"])
    question = say.pick(
        f"Consider two statements:\n1. {facts['premise1']}.\n2. {facts['premise2']}.\n"
        f'Does it follow that "{facts["conclusion"]}"? (There is at least one of each kind.)',
        f"Assume that there is at least one of each kind, and that:\n1. {facts['premise1']}.\n"
        f"2. {facts['premise2']}.\nMust it be true that {_lower(facts['conclusion'])}?",
    )
    proof = _prove(premises, conclusion)
    if proof is not None:
        steps = [*proof, f"So it follows that {_lower(facts['conclusion'])}."]
        return Trace(question, "\n".join(steps), "Yes")
    world = _counterexample(premises, conclusion)
    if world is None:
        return None
    return Trace(question, "\n".join(_describe_world(world, facts["conclusion"])), "No")


def circuit_logic(item: Item, say: Phrasing) -> Trace:
    """Work out each gate's inputs and output, then the last gate."""
    facts = item["metadata"]
    values: dict[str, int] = facts["assignments"]
    given = ", ".join(f"{name} = {value}" for name, value in values.items())
    gates, lines, outputs = [], [], []
    for number, term in enumerate(facts["term_strings"], start=1):
        sign = next((sign for sign in GATES if sign in term), "&")
        literals = term.split(sign)
        inputs = [
            1 - values[literal[:-1]] if literal.endswith("'") else values[literal]
            for literal in literals
        ]
        names = ", ".join(f"NOT {x[:-1]}" if x.endswith("'") else x for x in literals)
        output = _gate(GATES[sign], inputs)
        gates.append(f"g{number} = {GATES[sign]}({names})")
        lines.append(f"g{number} = {GATES[sign]}({', '.join(map(str, inputs))}) = {output}")
        outputs.append(output)
    last = facts["final_gate"]
    wires = ", ".join(f"g{i}" for i in range(1, len(gates) + 1))
    question = (
        f"A logic circuit has these gates:\n{chr(10).join(gates)}\nout = {last}({wires})\n"
        + say.pick(
            f"What is out for {given}?",
            f"The inputs are {given}. Find the output.",
        )
    )
    result = _gate(last, outputs)
    lines.append(f"out = {last}({', '.join(map(str, outputs))}) = {result}")
    lines.append(_gate_rule(last, outputs))
    return Trace(question, "\n".join(lines), str(result))


def knights_knaves(item: Item, say: Phrasing) -> Trace:
    """Go through all assignments of truth-tellers and liars and keep the consistent one."""
    facts = item["metadata"]
    names = [str(name) for name in facts["names"]]
    knight = str(facts["knight_knave_terms"]["a_knight"])
    knave = str(facts["knight_knave_terms"]["a_knave"])
    question = re.sub(r"\s*\(Format your answer.*", "", item["question"], flags=re.DOTALL)
    question = re.sub(r"\b(h|H)eros\b", r"\1eroes", question)
    question = question.replace(f"{', '.join(names[:-1])}, and {names[-1]}.", f"{and_list(names)}.")
    lines = [say.pick("Go through all cases.", "Try every combination.")]
    answers = []
    for case in product([True, False], repeat=len(names)):
        kinds = [knight if honest else knave for honest in case]
        world = [f"{name} is {kind}" for name, kind in zip(names, kinds, strict=True)]
        said = [_holds(statement, case) for statement in facts["statements"]]
        words = [f"{n}'s statement is {str(s).lower()}" for n, s in zip(names, said, strict=True)]
        wrong = [name for name, s, honest in zip(names, said, case, strict=True) if s != honest]
        verdict = f"That does not fit {and_list(wrong)}." if wrong else "That fits everybody."
        lines.append(f"Suppose {and_list(world)}. Then {and_list(words)}. {verdict}")
        if not wrong:
            answers.append(f"{', '.join(world[:-1])}, and {world[-1]}.")
    return Trace(question, "\n".join(lines), answers[0] if len(answers) == 1 else "")


def _statement(text: str) -> Statement:
    match = re.fullmatch(r"(All|No|Some) (\S+) are (not )?(\S+)", text)
    if match is None:
        raise ValueError(f"not a categorical statement: {text!r}")
    form = {"All": "A", "No": "E", "Some": "O" if match[3] else "I"}[match[1]]
    return form, match[2], match[4]


def _prove(premises: Sequence[Statement], conclusion: Statement) -> list[str] | None:
    """Return the sentences of a proof, or None when there is no chain of inferences."""
    form, subject, predicate = conclusion
    goal = {predicate: form in "AI"}
    if form in "AE":
        opening = f"Take anything that is one of the {subject}."
        return _chain(premises, {subject: True}, goal=goal, opening=opening)
    goal = {subject: True, **goal}
    for number, (kind, first, second) in enumerate(premises, start=1):
        if kind in "IO":
            known = {first: True, second: kind == "I"}
            not_ = "" if kind == "I" else "not "
            opening = (
                f"By statement {number}, something is one of the {first} and {not_}one of the "
                f"{second}."
            )
            proof = _chain(premises, known, goal=goal, opening=opening)
            if proof is not None:
                return proof
    for term in dict.fromkeys(term for _, a, b in premises for term in (a, b)):
        opening = f"There is at least one of the {term}; take one."
        proof = _chain(premises, {term: True}, goal=goal, opening=opening)
        if proof is not None:
            return proof
    return None


def _chain(
    premises: Sequence[Statement], known: Known, *, goal: Known, opening: str
) -> list[str] | None:
    """Apply the universal premises to one individual until the goal is reached."""
    known = dict(known)
    lines = [opening]
    for _ in range(len(premises) + 1):
        if all(known.get(term) == value for term, value in goal.items()):
            return lines
        for number, (form, first, second) in enumerate(premises, start=1):
            if form not in "AE":
                continue
            inferences = [(first, True, second, form == "A"), (second, form == "E", first, False)]
            for term, needed, other, value in inferences:
                if known.get(term) == needed and other not in known:
                    known[other] = value
                    not_ = "" if value else "not "
                    lines.append(f"By statement {number}, it is {not_}one of the {other}.")
    return None


def _counterexample(
    premises: Sequence[Statement], conclusion: Statement
) -> list[tuple[str, ...]] | None:
    """Return the smallest set of individuals that makes the premises true, the conclusion false."""
    terms = list(dict.fromkeys(term for _, a, b in [*premises, conclusion] for term in (a, b)))
    kinds = [
        tuple(term for term, inside in zip(terms, bits, strict=True) if inside)
        for bits in product([True, False], repeat=len(terms))
    ]
    worlds = (
        [kind for kind, chosen in zip(kinds, picks, strict=True) if chosen]
        for picks in product([False, True], repeat=len(kinds))
    )
    for world in sorted(worlds, key=len):
        populated = all(any(term in kind for kind in world) for term in terms)
        if (
            populated
            and all(_true_in(premise, world) for premise in premises)
            and not _true_in(conclusion, world)
        ):
            return world
    return None


def _true_in(statement: Statement, world: Sequence[tuple[str, ...]]) -> bool:
    form, subject, predicate = statement
    both = any(subject in kind and predicate in kind for kind in world)
    apart = any(subject in kind and predicate not in kind for kind in world)
    return {"A": not apart, "E": not both, "I": both, "O": apart}[form]


def _describe_world(world: Sequence[tuple[str, ...]], conclusion: str) -> list[str]:
    lines = ["Look for a case in which both statements are true and the conclusion is false."]
    terms = sorted({term for kind in world for term in kind})
    for name, kind in zip(["x", "y", "z", "w", "v"], world, strict=False):
        outside = [term for term in terms if term not in kind]
        inside = f"one of the {and_list(kind)}" if kind else "something else"
        missing = f", but not of the {and_list(outside)}" if outside and kind else ""
        lines.append(f"Let {name} be {inside}{missing}.")
    lines.append("If there is nothing else, both statements are true.")
    lines.append(f"But it is false that {_lower(conclusion)}. So it does not follow.")
    return lines


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _gate(name: str, inputs: Sequence[int]) -> int:
    if name == "XOR":
        return sum(inputs) % 2
    value = int(all(inputs)) if name in ("AND", "NAND") else int(any(inputs))
    return 1 - value if name in ("NAND", "NOR") else value


def _gate_rule(name: str, inputs: Sequence[int]) -> str:
    if name == "XOR":
        return f"XOR counts the ones: {sum(inputs)} is {'odd' if sum(inputs) % 2 else 'even'}."
    if name == "AND":
        return "All inputs are 1." if all(inputs) else "One of the inputs is 0."
    return "One of the inputs is 1." if any(inputs) else "No input is 1."


def _holds(statement: Sequence[object], case: Sequence[bool]) -> bool:
    """Return whether a statement of the puzzle is true when `case[i]` says that i is honest."""
    operator, *parts = statement
    if operator in ("telling-truth", "lying"):
        honest = case[int(str(parts[0]))]
        return honest if operator == "telling-truth" else not honest
    values = [_holds(part, case) for part in parts if isinstance(part, tuple | list)]
    if operator == "not":
        return not values[0]
    if operator == "and":
        return all(values)
    if operator == "or":
        return any(values)
    if operator == "->":
        return not values[0] or values[1]
    if operator == "<=>":
        return values[0] == values[1]
    raise ValueError(f"unknown statement of a puzzle: {operator!r}")
