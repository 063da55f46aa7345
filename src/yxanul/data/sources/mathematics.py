"""Mathematics (stage 3): word problems with worked solutions, and arithmetic step by step.

`gsm_symbolic` comes from templates that were made from GSM8K's test questions; so it is held out by
template (the split key), and every GSM8K score of a model trained on it has to say so.
"""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from yxanul.data.document import Document
from yxanul.data.sources.traces import numerals, sums
from yxanul.data.sources.traces.trace import (
    Family,
    Item,
    Trace,
    is_verified,
    open_family,
    trace_documents,
)

PACKAGE = "reasoning-gym"
LICENCE = "Apache-2.0"
DOMAIN = "math"
GSM_NAME = "gsm_symbolic"
GSM_ATTRIBUTION = "reasoning-gym contributors, after the templates of GSM-Symbolic and GSM8K"
GSM_INSTRUCTION = " Give the result as your final answer. Do not include units."
ARITHMETIC_NAME = "arithmetic"
ARITHMETIC_ATTRIBUTION = "reasoning-gym contributors (problems), yxanul (worked steps)"
DEFAULT_DOCUMENTS = 20_000

# 36.0 as the library prints some whole numbers, and 14.999999999999998 as it prints some others.
_NEEDLESS_ZERO = re.compile(r"(?<=\d)\.0(?!\d)")
_FLOAT_NOISE = re.compile(r"\.\d{7,}")
_NUMBER = r"\$?-?\d+(?:\.\d+)?"
_EQUATION = re.compile(
    rf"(?<![\w.,])({_NUMBER}(?:\s*[-+*/x]\s*{_NUMBER})+)\s*=\s*({_NUMBER})"
    r"(?![\w.,]*\d|\s*%|\s*[-+*/x÷×]\s*\$?\d)"
)
# What stands before an expression that goes on to the left, as in "120 questions x 35/100".
_GOES_ON = re.compile(r"[-+*/÷×=^%(€£]\s*$|\bx\s*$")

FAMILIES: dict[str, Family] = {
    "chain_sum": Family(sums.chain_sum),
    "products": Family(sums.products, {"max_digits": 4, "max_terms": 3}),
    "basic_arithmetic": Family(sums.basic_arithmetic, {"max_terms": 5, "max_digits": 3}),
    "gcd": Family(numerals.greatest_common_divisor),
    "simple_equations": Family(sums.simple_equations),
    "decimal_chain_sum": Family(sums.decimal_chain_sum, {"max_terms": 5, "max_digits": 3}),
    "lcm": Family(numerals.least_common_multiple),
    "prime_factorization": Family(numerals.prime_factorization, {"max_value": 5000}),
    "fraction_simplification": Family(numerals.fraction_simplification, {"styles": ("plain",)}),
    "power_function": Family(
        sums.power_function, {"min_base": -100.0, "max_base": 100.0, "max_exponent": 4}
    ),
}


def read_arithmetic(*, seed: int, count: int, dropped: Counter[str]) -> Iterator[Document]:
    """Yield about `count` worked calculations, the families in turn."""
    return trace_documents(
        FAMILIES, source=ARITHMETIC_NAME, seed=seed, count=count, dropped=dropped
    )


def read_gsm_symbolic(*, seed: int, count: int, dropped: Counter[str]) -> Iterator[Document]:
    """Yield about `count` word problems; ids are gsm_symbolic/template/index, split by template.

    Dropped: items whose final number is not the library's answer, or in whose solution an
    equation between numbers is wrong (the library rounds down in places), or that prints the
    noise of binary fractions.
    """
    dataset = open_family(GSM_NAME, seed=seed, size=count, settings={})
    for index in range(count):
        template = gsm_template(dataset.task_indices[index])
        trace = sound_gsm_trace(dataset[index], dataset=dataset)
        if isinstance(trace, str):
            dropped[trace] += 1
            continue
        yield Document(
            text=trace.text(), source=GSM_NAME, id=f"{template}/{index}", split_key=template
        )


def gsm_template(number: int) -> str:
    """Return the name of a template, by which problems are held out."""
    return f"{GSM_NAME}/{number:02d}"


def sound_gsm_trace(item: Item, *, dataset: Any) -> Trace | str:
    """Return the trace of a generated problem, or why it is dropped."""
    trace = gsm_trace(item["question"], item["metadata"]["answer_cot"])
    if trace is None or not is_verified(trace, item, dataset=dataset):
        return "not verified"
    if wrong_equations(trace.steps):
        return "wrong equation in the solution"
    if _FLOAT_NOISE.search(trace.text()):
        return "floating-point noise"
    return trace


def gsm_trace(question: str, solution: str) -> Trace | None:
    """Return the trace of a solution that ends in "#### number"; None when it does not."""
    steps, mark, number = solution.rpartition("####")
    answer = normal_number(number.strip())
    if not mark or answer is None:
        return None
    lines = [line.strip() for line in steps.split("\n")]
    worked = "\n".join(line for line in lines if line)
    asked = question.removesuffix(GSM_INSTRUCTION)
    return Trace(_NEEDLESS_ZERO.sub("", asked), _NEEDLESS_ZERO.sub("", worked), answer)


def normal_number(text: str) -> str | None:
    """Return a number without a needless fraction part (36.0 becomes 36); None for other text."""
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    whole = number.to_integral_value()
    return str(whole) if number == whole else f"{number.normalize():f}"


def wrong_equations(steps: str) -> list[str]:
    """Return the equations "number op number ... = number" in a text that do not hold.

    Quotients are compared to the places that the text shows.
    """
    wrong = []
    for match in _EQUATION.finditer(steps):
        if _GOES_ON.search(steps[: match.start()]):
            continue
        left = match[1].replace("$", "").replace("x", "*")
        shown = match[2].replace("$", "")
        places = len(shown.partition(".")[2])
        value = sums.exact_value(left)
        if value is None or abs(value - Fraction(shown)) * 10**places > Fraction(1, 2):
            wrong.append(match[0].strip())
    return wrong
