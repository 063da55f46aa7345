"""Traces of arithmetic: sums, products, nested expressions, powers, equations in one unknown.

Numbers are exact (int, Fraction, Decimal); only powers are rounded, and say so.
"""

import ast
from decimal import Decimal, localcontext
from fractions import Fraction

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace

SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def chain_sum(item: Item, say: Phrasing) -> Trace:
    """Add from left to right; large numbers are added place by place."""
    expression = item["metadata"]["expression"]
    parts = expression.split(" ")
    lines, total = [], int(parts[0])
    for sign, number in zip(parts[1::2], parts[2::2], strict=True):
        value = int(number)
        after = total + value if sign == "+" else total - value
        lines.append(f"{total} {sign} {value} = {_by_places(total, value, sign=sign)}{after}")
        total = after
    return Trace(_ask(expression, say), "\n".join(lines), str(total))


def decimal_chain_sum(item: Item, say: Phrasing) -> Trace:
    """Add decimals from left to right, written to the same number of places."""
    expression = item["metadata"]["expression"]
    parts = expression.split(" ")
    numbers = [Decimal(number) for number in parts[0::2]]
    places = max(-int(number.as_tuple().exponent) for number in numbers)
    unit = Decimal(1).scaleb(-places)
    padded = [number.quantize(unit) for number in numbers]
    lines = []
    if any(str(a) != str(b) for a, b in zip(numbers, padded, strict=True)):
        aligned = ", ".join(str(number) for number in padded)
        lines.append(f"Write all numbers with {places} decimal places: {aligned}.")
    total = padded[0]
    for sign, number in zip(parts[1::2], padded[1:], strict=True):
        after = total + number if sign == "+" else total - number
        lines.append(f"{total} {sign} {number} = {after}")
        total = after
    return Trace(_ask(expression, say), "\n".join(lines), str(total))


def products(item: Item, say: Phrasing) -> Trace:
    """Multiply by the places of the second factor and add the partial products."""
    expression = item["metadata"]["expression"]
    factors = [int(number) for number in expression.split(" * ")]
    lines, result = [], factors[0]
    for factor in factors[1:]:
        lines.extend(_multiply(result, factor))
        result *= factor
    return Trace(_ask(expression, say), "\n".join(lines), str(result))


def basic_arithmetic(item: Item, say: Phrasing) -> Trace | None:
    """Work an expression out, one operation per line, innermost first."""
    expression = item["metadata"]["expression"]
    lines: list[str] = []
    value = _evaluate(ast.parse(expression, mode="eval").body, lines)
    if value is None or value.denominator != 1:
        return None
    return Trace(_ask(expression, say), "\n".join(lines), str(value))


def power_function(item: Item, say: Phrasing) -> Trace:
    """Multiply step by step, each step rounded to six significant digits."""
    base, exponent = Decimal(str(item["metadata"]["base"])), item["metadata"]["exponent"]
    shown = f"({base})" if base < 0 else str(base)
    question = say.pick(
        f"Compute {shown}^{exponent} to 3 significant figures, in scientific notation.",
        f"What is {shown} to the power of {exponent}? Give 3 significant figures in the form "
        f"1.23e+4.",
    )
    lines, power, size = [], base, abs(exponent)
    with localcontext() as context:
        context.prec = 6
        if size == 0:
            lines.append("Any number other than 0 to the power of 0 is 1.")
            power = Decimal(1)
        if size == 1:
            lines.append(f"The power of 1 is the number itself: {base}.")
        for k in range(2, size + 1):
            after = power * base
            lines.append(f"{shown}^{k}: {_bracket(power)} * {shown} ≈ {after:f}")
            power = after
        if exponent < 0:
            inverse = 1 / power
            lines.append(f"{shown}^{exponent} = 1 / {_bracket(power)} ≈ {inverse:f}")
            power = inverse
    answer = f"{power:.2e}"
    lines.append(f"Rounded to 3 significant figures: {answer}")
    return Trace(question, "\n".join(lines), answer)


def simple_equations(item: Item, say: Phrasing) -> Trace | None:
    """Collect the constants, move them to the right, divide by the coefficient."""
    equation, name = item["metadata"]["equation"], item["metadata"]["variable"]
    left, right = equation.split(" = ")
    line = _linear(ast.parse(left, mode="eval").body)
    if line is None or line[0] == 0:
        return None
    slope, constant = line
    moved = Fraction(int(right)) - constant
    solution = moved / slope
    if solution.denominator != 1:
        return None
    question = say.pick(
        f"Solve for {name}: {equation}",
        f"Find the value of {name} in the equation {equation}.",
        f"Which number {name} satisfies {equation}?",
    )
    lines = []
    collected = _line_text(slope, constant, name=name)
    if collected != left:
        lines.append(f"Collect the terms: {collected} = {right}")
    if constant:
        verb = "Subtract" if constant > 0 else "Add"
        where = "from" if constant > 0 else "to"
        scaled = _line_text(slope, Fraction(0), name=name)
        lines.append(
            f"{verb} {abs(constant)} {where} both sides: {scaled} = "
            f"{right} {'-' if constant > 0 else '+'} {abs(constant)} = {moved}"
        )
    if slope != 1:
        lines.append(f"Divide both sides by {slope}: {name} = {moved} / {slope} = {solution}")
    checked = slope * solution + constant
    lines.append(f"Check: {_product_text(slope, solution)}{_signed(constant)} = {checked}")
    return Trace(question, "\n".join(lines), str(solution))


def _ask(expression: str, say: Phrasing) -> str:
    return say.pick(
        f"Calculate {expression}.",
        f"What is {expression}?",
        f"Compute {expression} step by step.",
        f"Find the value of {expression}.",
    )


def _by_places(total: int, value: int, *, sign: str) -> str:
    """Return "(800 + 300) + (10 + 40) = 1100 + 50 = " when both numbers have several digits."""
    if total < 10 or value < 10:
        return ""
    width = max(len(str(total)), len(str(value)))
    places = [10**i for i in range(width - 1, -1, -1)]
    digits = [(total // p % 10 * p, value // p % 10 * p) for p in places]
    pairs = " + ".join(f"({a} {sign} {b})" for a, b in digits)
    sums = [a + b if sign == "+" else a - b for a, b in digits]
    joined = str(sums[0]) + "".join(f" + {s}" if s >= 0 else f" - {-s}" for s in sums[1:])
    return f"{pairs} = {joined} = "


def _multiply(first: int, second: int) -> list[str]:
    places = [10**i for i in range(len(str(second)) - 1, -1, -1)]
    parts = [second // p % 10 * p for p in places]
    parts = [part for part in parts if part]
    if len(parts) < 2 or first < 10:
        return [f"{first} * {second} = {first * second}"]
    lines = [f"Split {second} into {' + '.join(map(str, parts))}."]
    lines += [f"{first} * {part} = {first * part}" for part in parts]
    lines.append(f"{' + '.join(str(first * part) for part in parts)} = {first * second}")
    return lines


def _evaluate(node: ast.expr, lines: list[str]) -> Fraction | None:
    """Return the exact value and write one line per operation; None for a division by zero."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _evaluate(node.operand, lines)
        if inner is None:
            return None
        if not isinstance(node.operand, ast.Constant):
            lines.append(f"-({inner}) = {-inner}")
        return -inner
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _evaluate(node.left, lines), _evaluate(node.right, lines)
    if left is None or right is None:
        return None
    value = _apply(left, right, operator=node.op)
    if value is None or value.denominator != 1:
        return None
    lines.append(f"{left} {SIGNS[type(node.op)]} {_bracket(right)} = {value}")
    return value


def _apply(left: Fraction, right: Fraction, *, operator: ast.operator) -> Fraction | None:
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    return left / right if right else None


def _linear(node: ast.expr) -> tuple[Fraction, Fraction] | None:
    """Return (a, b) of a*x + b, or None when the expression is not of that form."""
    if isinstance(node, ast.Name):
        return Fraction(1), Fraction(0)
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(0), Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _linear(node.operand)
        return None if inner is None else (-inner[0], -inner[1])
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _linear(node.left), _linear(node.right)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Add):
        return left[0] + right[0], left[1] + right[1]
    if isinstance(node.op, ast.Sub):
        return left[0] - right[0], left[1] - right[1]
    if isinstance(node.op, ast.Mult) and left[0] * right[0] == 0:
        return left[0] * right[1] + right[0] * left[1], left[1] * right[1]
    return None


def _line_text(slope: Fraction, constant: Fraction, *, name: str) -> str:
    head = name if slope == 1 else f"-{name}" if slope == -1 else f"{slope}*{name}"
    return head + _signed(constant)


def _product_text(slope: Fraction, value: Fraction) -> str:
    return str(value) if slope == 1 else f"{slope} * {_bracket(value)}"


def _signed(number: Fraction) -> str:
    if number == 0:
        return ""
    return f" + {number}" if number > 0 else f" - {-number}"


def _bracket(number: Fraction | Decimal) -> str:
    shown = f"{number:f}" if isinstance(number, Decimal) else str(number)
    return f"({shown})" if number < 0 else shown


def exact_value(expression: str) -> Fraction | None:
    """Return the exact value of + - * / over plain numbers; None for anything else."""
    try:
        return _exact(ast.parse(expression, mode="eval").body)
    except SyntaxError:
        return None


def _exact(node: ast.expr) -> Fraction | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _exact(node.operand)
        return None if inner is None else -inner
    if not isinstance(node, ast.BinOp) or type(node.op) not in SIGNS:
        return None
    left, right = _exact(node.left), _exact(node.right)
    return None if left is None or right is None else _apply(left, right, operator=node.op)
