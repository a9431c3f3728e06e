"""Small changes of a module, each of which its tests have to notice."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}


_Step = tuple[str, int | None]


class Mutant(NamedTuple):
    """A changed module.

    Attributes:
        name: The function that is changed, what it was and what it is: `function: before -> after`. Where one function
            has several that read so, the second ends in ` #2`.
        line: Line of the change in the file.
        tree: The module as it was.
        path: Way from its root to what is changed.
        replacement: What comes in its place.
    """

    name: str
    line: int
    tree: ast.Module
    path: list[_Step]
    replacement: ast.AST

    def text(self) -> str:
        """Return the changed module."""
        tree = copy.deepcopy(self.tree)
        *way, (name, number) = self.path
        parent = _at(tree, way)
        if number is None:
            setattr(parent, name, self.replacement)
        else:
            getattr(parent, name)[number] = self.replacement
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants(text: str) -> Iterator[Mutant]:
    """Yield each mutant of a module once.

    Changed are comparisons, operators, numbers and truth values, conditions, returned values and statements. Left alone
    are strings and the texts of errors, annotations, and what only type checkers read.
    """
    tree = ast.parse(text)
    names: Counter[str] = Counter()
    for function, path in _places(tree, "", []):
        node = _at(tree, path)
        for replacement in _changes(node):
            before, after = (" ".join(ast.unparse(getattr(part, "test", part)).split()) for part in (node, replacement))
            name = f"{function or 'module'}: {before} -> {after}"
            names[name] += 1
            name = name if names[name] == 1 else f"{name} #{names[name]}"
            yield Mutant(name, node.lineno, tree, path, replacement)


def _places(node: ast.AST, function: str, path: list[_Step]) -> Iterator[tuple[str, list[_Step]]]:
    """Yield the nodes that may be changed: in which function, and the way from the root."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "exc", "type_comment"):
            continue
        for number, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_for_readers(child):
                continue
            way = [*path, (name, number if isinstance(value, list) else None)]
            inner = child.name if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else ""
            within = ".".join(filter(None, (function, inner)))
            if hasattr(child, "lineno"):
                yield within, way
            yield from _places(child, within, way)


def _is_for_readers(node: ast.AST) -> bool:
    """Return whether a part is read by people or type checkers only."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom))


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                for other in _COMPARISONS[type(operator)]:
                    ops = [*node.ops[:number], other(), *node.ops[number + 1 :]]
                    yield ast.Compare(node.left, ops, node.comparators)
        case ast.BinOp() if type(node.op) in _OPERATORS and not _is_type(node):
            yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
        case ast.AugAssign() if type(node.op) in _OPERATORS:
            yield ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value)
            yield ast.Pass()
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp():
            yield node.operand
        case ast.If() | ast.IfExp() | ast.While() if not isinstance(node.test, (ast.Compare, ast.UnaryOp)):
            yield _with_test(node, ast.UnaryOp(ast.Not(), node.test))
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=float() as value):
            yield ast.Constant(value * 2 if value else 1.0)
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Expr() | ast.Raise() | ast.Break() | ast.Continue() | ast.Delete():
            if not isinstance(getattr(node, "value", None), (ast.Yield, ast.YieldFrom)):
                yield ast.Pass()


def _with_test(node: ast.If | ast.IfExp | ast.While, test: ast.expr) -> ast.AST:
    changed = copy.copy(node)
    changed.test = test
    return changed


def _is_type(node: ast.BinOp) -> bool:
    """Return whether `a | b` is a union of types."""
    return isinstance(node.op, ast.BitOr) and "None" in (ast.unparse(node.left), ast.unparse(node.right))


def _at(node: ast.AST, path: list[_Step]) -> ast.AST:
    for name, number in path:
        found = getattr(node, name)
        node = found if number is None else found[number]
    return node
