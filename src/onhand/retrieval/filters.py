"""Filters: what a request says of the items that may be on its page.

    category = home/kitchen and price < 20 and not (brand in (Acme, "Bolt & Co") or tags = fragile)

    expression   and, or, not, brackets; `not` binds closest, then `and`
    category     = or != a path: the items at it and under it
    brand        = or != a name
    price        = != < <= > >= a number, in the shop's currency; an item without a price is in
                 none of these
    tags         = or != a tag that the item has
    other names  = or != an attribute's value: text, a number, true or false
    in (a, b)    any of several values, of everything but price

Values are words or are quoted, with ' or ". A filter becomes a short program of integers, which
one kernel runs for the candidates of a page: nothing is computed for the whole catalogue, kept, or
has to be kept up to date.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Refused
from onhand.kernel import Array, inner_kernel
from onhand.state.catalogue import term
from onhand.state.operations import cents
from onhand.state.state import State

__all__ = ["NO_FILTER", "Filter", "compile_filter", "parse_filter", "passes"]

AND: Final = 0
OR: Final = 1
NOT: Final = 2
CATEGORY: Final = 3
BRAND: Final = 4
PRICE: Final = 5
TERM: Final = 6

_DEPTH: Final = 32
"""Brackets in brackets, and values that wait for `and` and `or` at once (the bits of an integer),
at most."""
_TESTS: Final = 64
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<sign><=|>=|!=|[()=<>,])|(?P<word>[^\s()=<>!,"']+))"""
)
_WORDS: Final = ("and", "or", "not", "in")
_DEAREST: Final = 2**62


class Comparison(NamedTuple):
    """One comparison of a parsed filter."""

    name: str
    sign: str
    value: str


Step = Comparison | int
"""A step of a parsed filter, in postfix order: a test, or `AND`, `OR`, `NOT`."""


class Filter(NamedTuple):
    """`program` is (steps, 3) int64: what to do and two numbers; `rows` int32 are the lists of
    rows that steps point into."""

    program: NDArray[np.int64]
    rows: NDArray[np.int32]


NO_FILTER: Final = Filter(np.zeros((0, 3), np.int64), np.zeros(0, np.int32))


@lru_cache(1024)
def parse_filter(text: str) -> tuple[Step, ...]:
    """Return the steps of a filter. Raises `Refused` that says what is wrong, and where."""
    parser = _Parser(text)
    parser.read_or()
    if parser.at < len(parser.tokens):
        raise parser.wrong("`and`, `or` or the end")
    if parser.tests > _TESTS or _depth(parser.steps) > _DEPTH:
        raise _too_much()
    return tuple(parser.steps)


def compile_filter(state: State, text: str) -> Filter:
    """Return a filter with the rows of `state`. Raises `Refused`."""
    program: list[tuple[int, int, int]] = []
    rows: list[int] = []
    for step in parse_filter(text):
        if isinstance(step, int):
            program.append((step, 0, 0))
        elif step.name == "category":
            below = state.categories.below.get(step.value.strip("/"), [])
            program.append((CATEGORY, len(rows), len(rows) + len(below)))
            rows += below
        elif step.name == "brand":
            program.append((BRAND, state.brands.rows.get(step.value, -1), 0))
        elif step.name == "price":
            program.append((PRICE, *_price_range(step)))
        else:
            name = "tags" if step.name == "tags" else step.name.removeprefix("attributes.")
            program.append((TERM, _term_row(state, name, step.value), 0))
        if not isinstance(step, int) and step.sign == "!=" and step.name != "price":
            program.append((NOT, 0, 0))
    return Filter(np.array(program, np.int64).reshape(-1, 3), np.array(rows, np.int32))


def _term_row(state: State, name: str, value: str) -> int:
    row = state.terms.rows.get(term(name, value))
    if row is None and name != "tags" and _is_number(value):
        row = state.terms.rows.get(term(name, float(value)))
    return -1 if row is None else row


def _price_range(test: Comparison) -> tuple[int, int]:
    price = cents(float(test.value))
    return {
        "=": (price, price),
        "<": (0, price - 1),
        "<=": (0, price),
        ">": (price + 1, _DEAREST),
        ">=": (price, _DEAREST),
    }[test.sign]


def _depth(steps: list[Step]) -> int:
    depth = most = 0
    for step in steps:
        depth += 1 if isinstance(step, Comparison) else 0 if step == NOT else -1
        most = max(most, depth)
    return most


def _too_much() -> Refused:
    return Refused("filter", f"The filter has more than {_TESTS} tests, or is nested too deep.")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", text) is not None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        self.at = self.tests = self.nested = 0
        self.steps: list[Step] = []
        end = len(text.rstrip())
        place = 0
        while place < end:
            match = _TOKEN.match(text, place)
            if match is None or match.lastgroup is None:
                rest = text[place:].lstrip()
                at = len(text) - len(rest) + 1
                raise Refused("filter", f"The filter has {rest[:20]!r} at {at}: no word or sign.")
            token = match[match.lastgroup]
            kind = match.lastgroup
            value = token[1:-1] if kind == "quoted" else token
            self.tokens.append((kind, value, match.start(kind)))
            place = match.end()

    def wrong(self, wanted: str) -> Refused:
        if self.at < len(self.tokens):
            _, token, place = self.tokens[self.at]
            found = f"{token[:40]!r} at {place + 1}"
        else:
            found = "its end"
        return Refused("filter", f"The filter has {found} where {wanted} should be.")

    def take(self, *signs: str) -> str | None:
        if self.at < len(self.tokens):
            kind, token, _ = self.tokens[self.at]
            if kind != "quoted" and token in signs:
                self.at += 1
                return token
        return None

    def read_or(self) -> None:
        self.read_and()
        while self.take("or"):
            self.read_and()
            self.steps.append(OR)

    def read_and(self) -> None:
        self.read_not()
        while self.take("and"):
            self.read_not()
            self.steps.append(AND)

    def read_not(self) -> None:
        self.nested += 1
        if self.nested > _DEPTH:
            raise _too_much()
        if self.take("not"):
            self.read_not()
            self.steps.append(NOT)
        elif self.take("("):
            self.read_or()
            if not self.take(")"):
                raise self.wrong("`)`")
        else:
            self.read_test()
        self.nested -= 1

    def read_test(self) -> None:
        name = self.read_value("a name", quoted=False)
        if self.take("in"):
            self.read_any(name)
            return
        sign = self.take("=", "!=", "<", "<=", ">", ">=")
        if sign is None:
            raise self.wrong("`=`, `!=`, `in` or, for a price, `<` or `>`")
        if sign not in ("=", "!=") and name != "price":
            self.at -= 1
            raise self.wrong(f"`=` or `!=` (`{name[:40]}` is no price)")
        self.add_test(name, sign, self.read_value("a value"))

    def read_any(self, name: str) -> None:
        if not self.take("("):
            raise self.wrong("`(`")
        self.add_test(name, "=", self.read_value("a value"))
        while self.take(","):
            self.add_test(name, "=", self.read_value("a value"))
            self.steps.append(OR)
        if not self.take(")"):
            raise self.wrong("`,` or `)`")

    def read_value(self, wanted: str, *, quoted: bool = True) -> str:
        if self.at == len(self.tokens):
            raise self.wrong(wanted)
        kind, token, _ = self.tokens[self.at]
        if (
            kind == "sign"
            or (kind == "word" and token in _WORDS)
            or (kind == "quoted" and not quoted)
        ):
            raise self.wrong(wanted)
        self.at += 1
        return token

    def add_test(self, name: str, sign: str, value: str) -> None:
        self.tests += 1
        if name != "price":
            self.steps.append(Comparison(name, sign, value))
            return
        if not _is_number(value):
            self.at -= 1
            raise self.wrong("a number")
        if sign == "!=":
            self.steps += [Comparison(name, "<", value), Comparison(name, ">", value), OR]
        else:
            self.steps.append(Comparison(name, sign, value))


@inner_kernel
def passes(
    program: Array, rows: Array, item: int, category: Array, brand: Array, price_cents: Array,
    terms: Array,
) -> bool:  # fmt: skip
    """Return whether an item is one that a filter lets through; without a program, all are."""
    stack = 1
    for at in range(program.shape[0]):
        step, first, second = program[at, 0], program[at, 1], program[at, 2]
        if step == NOT:
            stack ^= 1
            continue
        if step <= OR:
            top = stack & 1
            stack >>= 1
            if step == OR:
                stack |= top
            elif top == 0:
                stack &= -2
            continue
        holds = False
        if step == CATEGORY:
            for place in range(first, second):
                holds = holds or rows[place] == category[item]
        elif step == BRAND:
            holds = brand[item] == first
        elif step == PRICE:
            holds = first <= price_cents[item] <= second and price_cents[item] >= 0
        else:
            for place in range(terms.shape[1]):
                if terms[item, place] == 0:
                    break
                holds = holds or terms[item, place] == first
        stack = (stack << 1) | np.int64(holds)
    return (stack & 1) == 1
