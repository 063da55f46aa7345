"""Traces about how numbers are written, divided and counted: bases, divisors, primes, chances."""

from fractions import Fraction
from math import comb, gcd

from yxanul.data.sources.traces.trace import Item, Phrasing, Trace

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
BASE_NAMES = {2: "binary", 8: "octal", 10: "decimal", 16: "hexadecimal"}


def base_conversion(item: Item, say: Phrasing) -> Trace | None:
    """Go over the decimal value: digit by digit first, repeated division then."""
    facts = item["metadata"]
    source, target, written = facts["source_base"], facts["target_base"], facts["source_repr"]
    if not written:  # the library writes 0 as no digit at all in some bases
        return None
    question = say.pick(
        f"Convert the {_base_name(source)} number {written} to {_base_name(target)}.",
        f"Write {written} ({_base_name(source)}) in {_base_name(target)}.",
        f"What is the {_base_name(source)} number {written} in {_base_name(target)}?",
    )
    lines, value = [], 0
    if source == 10:
        value = int(written)
    else:
        lines.append(f"First find the decimal value, digit by digit, in base {source}.")
        for digit in written:
            grown = value * source + DIGITS.index(digit)
            lines.append(f"{value} x {source} + {_digit_value(digit)} = {grown}")
            value = grown
    if target == 10:
        return Trace(question, "\n".join(lines), str(value))
    lines.append(
        f"Divide {value} by {target} until nothing is left; the remainders are the digits."
    )
    digits, rest = "", value
    while rest or not digits:
        quotient, remainder = divmod(rest, target)
        digit = DIGITS[remainder]
        shown = str(remainder) if remainder < 10 else f"{remainder} = {digit}"
        lines.append(f"{rest} = {quotient} x {target} + {remainder}, digit {shown}")
        digits, rest = digit + digits, quotient
    lines.append(f"Read the digits from the last to the first: {digits}.")
    return Trace(question, "\n".join(lines), digits)


def count_bits(item: Item, say: Phrasing) -> Trace:
    """Halve a number and count the odd ones."""
    number = item["metadata"]["number"]
    question = say.pick(
        f"How many 1 bits are in the binary representation of {number}?",
        f"Write {number} in binary. How many ones does it have?",
    )
    lines, rest, ones = ["Halve again and again; every odd number gives a 1 bit."], number, 0
    while rest:
        ones += rest % 2
        kind = "odd" if rest % 2 else "even"
        lines.append(f"{rest} is {kind}, bit {rest % 2}, ones so far {ones}")
        rest //= 2
    return Trace(question, "\n".join(lines), str(ones))


def coin_flip(item: Item, say: Phrasing) -> Trace:
    """Count the favourable sequences of heads and tails."""
    facts = item["metadata"]
    flips, heads, kind = facts["num_trials"], facts["k_heads"], facts["problem_type"]
    bound = "exactly" if kind == "exact" else "at least"
    wanted = f"{bound} {heads} head{'' if heads == 1 else 's'}"
    question = say.pick(
        f"A fair coin is flipped {flips} times. What is the probability of {wanted}?",
        f"What is the probability of getting {wanted} in {flips} fair coin flips?",
    )
    total = 2**flips
    lines = [f"{flips} flips have 2^{flips} = {total} equally likely outcomes."]
    counts = range(heads, heads + 1) if kind == "exact" else range(heads, flips + 1)
    for k in counts:
        lines.append(f"Outcomes with {k} head{'' if k == 1 else 's'}: {_choose(flips, k)}")
    favourable = sum(comb(flips, k) for k in counts)
    if len(counts) > 1:
        added = " + ".join(str(comb(flips, k)) for k in counts)
        lines.append(f"Together: {added} = {favourable}")
    chance = Fraction(favourable, total)
    shown = f"{favourable}/{total}"
    lines.append(f"The probability is {shown}" + (f" = {chance}." if str(chance) != shown else "."))
    return Trace(question, "\n".join(lines), str(chance))


def greatest_common_divisor(item: Item, say: Phrasing) -> Trace:
    """Euclid's algorithm."""
    first, second = item["metadata"]["numbers"]
    question = say.pick(
        f"Find the greatest common divisor of {first} and {second}.",
        f"What is gcd({first}, {second})?",
        f"What is the largest number that divides both {first} and {second}?",
    )
    lines = _euclid(first, second)
    return Trace(question, "\n".join(lines), str(gcd(first, second)))


def least_common_multiple(item: Item, say: Phrasing) -> Trace:
    """The product divided by the greatest common divisor."""
    first, second = item["metadata"]["numbers"]
    question = say.pick(
        f"Find the least common multiple of {first} and {second}.",
        f"What is lcm({first}, {second})?",
        f"What is the smallest number that both {first} and {second} divide?",
    )
    divisor = gcd(first, second)
    multiple = first * second // divisor
    lines = ["First the greatest common divisor.", *_euclid(first, second)]
    lines.append(
        f"lcm = {first} x {second} / {divisor} = {first} x {second // divisor} = {multiple}"
    )
    return Trace(question, "\n".join(lines), str(multiple))


def prime_factorization(item: Item, say: Phrasing) -> Trace:
    """Divide by the smallest prime that fits until 1 or a prime is left."""
    number = item["metadata"]["number"]
    question = say.pick(
        f"Find the prime factorization of {number}.",
        f"Write {number} as a product of primes.",
        f"Into which prime factors does {number} split?",
    )
    lines: list[str] = []
    factors: list[int] = []
    rest, prime = number, 2
    while prime * prime <= rest:
        if rest % prime == 0:
            lines.append(f"{rest} / {prime} = {rest // prime}")
            factors.append(prime)
            rest //= prime
        else:
            prime += 1
    if rest > 1:
        factors.append(rest)
        lines.append(f"{rest} has no divisor from 2 up to its square root, so {rest} is prime.")
    return Trace(question, "\n".join(lines), " × ".join(map(str, factors)))


def fraction_simplification(item: Item, say: Phrasing) -> Trace:
    """Divide both parts by their greatest common divisor."""
    top, bottom = item["metadata"]["numerator"], item["metadata"]["denominator"]
    question = say.pick(
        f"Simplify the fraction {top}/{bottom} to its lowest terms.",
        f"Reduce {top}/{bottom} as far as possible.",
        f"Write {top}/{bottom} in lowest terms.",
    )
    divisor = gcd(top, bottom)
    lines = [f"Find the greatest common divisor of {top} and {bottom}.", *_euclid(top, bottom)]
    lines.append(f"{top} / {divisor} = {top // divisor}")
    lines.append(f"{bottom} / {divisor} = {bottom // divisor}")
    return Trace(question, "\n".join(lines), f"{top // divisor}/{bottom // divisor}")


def _euclid(first: int, second: int) -> list[str]:
    larger, smaller = max(first, second), min(first, second)
    lines = []
    while smaller:
        quotient, remainder = divmod(larger, smaller)
        lines.append(f"{larger} = {quotient} x {smaller} + {remainder}")
        larger, smaller = smaller, remainder
    lines.append(f"The remainder is 0, so gcd({first}, {second}) = {larger}.")
    return lines


def _choose(n: int, k: int) -> str:
    small = min(k, n - k)
    if small == 0:
        return f"C({n}, {k}) = 1"
    over = " x ".join(str(n - i) for i in range(small))
    under = " x ".join(str(i) for i in range(1, small + 1))
    same = "" if small == k else f"C({n}, {small}) = "
    if small == 1:
        return f"C({n}, {k}) = {same}{n}"
    return f"C({n}, {k}) = {same}({over}) / ({under}) = {comb(n, k)}"


def _base_name(base: int) -> str:
    return BASE_NAMES.get(base, f"base-{base}")


def _digit_value(digit: str) -> str:
    value = DIGITS.index(digit)
    return str(value) if value < 10 else f"{value} (digit {digit})"
