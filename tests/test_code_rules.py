"""The package runs no code that hides in files: rules read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from lq_utils.source_code import trees

SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "_NoDates"}
UNPICKLERS = {"load", "loads", "Unpickler"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# (module, what is used there): why it may be.
ALLOWED = {
    ("safe_pickle", "pickle.Unpickler"): (
        "its own Unpickler, which refuses every global but a few"
    ),
    ("sharing", "pickle.loads"): (
        "files that this process wrote for its own workers"
    ),
}


def _name(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.expr) else ""


def _keyword(call: ast.Call, name: str) -> str:
    found = [_name(k.value) for k in call.keywords if k.arg == name]
    return found[0] if found else ""


def _call_problem(call: ast.Call) -> str:
    name = _name(call.func)
    owner, _, last = name.rpartition(".")
    if name in ("eval", "exec", "compile", "__import__", "os.system"):
        return name
    if owner == "yaml" and last in ("load", "load_all"):
        loader = _keyword(call, "Loader")
        return "" if loader in SAFE_LOADERS else name
    if owner == "yaml" and last in ("unsafe_load", "full_load"):
        return name
    if name == "torch.load":
        safe = _keyword(call, "weights_only") == "True"
        return "" if safe else name
    if name in ("np.load", "numpy.load"):
        allowed = _keyword(call, "allow_pickle") in ("", "False")
        return "" if allowed else name
    if _keyword(call, "shell") not in ("", "False"):
        return f"{name}(shell=...)"
    if last == "extractall" and not _keyword(call, "filter"):
        return f"{last} without filter"
    return ""


def problems(tree: ast.Module) -> Iterator[str]:
    """What in a module could run code that hides in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _call_problem(node):
            yield _call_problem(node)
        elif isinstance(node, ast.Attribute):
            if _name(node.value) in PICKLES and node.attr in UNPICKLERS:
                yield _name(node)
        elif isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            names = {alias.name for alias in node.names} & UNPICKLERS
            yield from (f"{node.module}.{name}" for name in sorted(names))


def test_nothing_that_could_run_hidden_code_is_used() -> None:
    found = {
        (module, problem)
        for module, tree in trees().items()
        for problem in problems(tree)
    }
    assert found == set(ALLOWED), "look at it; if it is right, say why here"
    assert all(len(why) > 20 for why in ALLOWED.values())


def test_the_loader_of_parameters_is_a_safe_one() -> None:
    import yaml

    from lq_utils.text_files import _NoDates

    assert issubclass(_NoDates, yaml.SafeLoader)


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)",
        "exec(x)",
        "os.system(x)",
        "yaml.load(x)",
        "yaml.load(x, Loader=yaml.Loader)",
        "yaml.unsafe_load(x)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "pickle.load(file)",
        "read = pickle.loads",
        "from pickle import loads as read",
        "joblib.load(x)",
        "subprocess.run(x, shell=True)",
        "archive.extractall(x)",
    ],
)
def test_the_rules_see_it(code: str) -> None:
    assert list(problems(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "ast.literal_eval(x)",
        "re.compile(x)",
        "yaml.safe_load(x)",
        "yaml.load(x, Loader=yaml.SafeLoader)",
        "torch.load(x, weights_only=True)",
        "np.load(x)",
        "pickle.dumps(x)",
        "subprocess.run(x)",
        "archive.extractall(x, filter='data')",
    ],
)
def test_the_rules_let_it_pass(code: str) -> None:
    assert not list(problems(ast.parse(code)))
