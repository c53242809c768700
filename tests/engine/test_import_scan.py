"""Whatever Python would import from a source, the scan of its text finds, too."""

from __future__ import annotations

import ast
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.plugins.code.import_scan import ImportScan

SKIPPED = {"os", "xml", "importlib", "nodegraph", "pickle", "shelve"}


def scanned(source: bytes, package: str | None = "pack.part") -> set[str]:
    scan = ImportScan(SKIPPED)
    scan.add(source, package=package)
    return set(scan.names)


def imported(source: bytes) -> set[str]:
    """The modules that `ast` finds in a module of the package `pack.part`, without those that are skipped."""
    names = set()
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            above = ["pack", "part"][: 3 - statement.level] if statement.level else []
            base = ".".join([*above, *([statement.module] if statement.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in statement.names if alias.name != "*")}
    return {name for name in names if name.partition(".")[0] not in SKIPPED}


SPELLINGS = [
    "import os.path, helper",
    "import xml.etree.ElementTree as ET, helper",
    "import nodegraph.errors, helper",
    "import os \\\n , helper",
    "import os, \\\n helper",
    "import os . path, helper . part",
    "from helper . part import x",
    "from helper import (  # the tables (of 2026)\n    zz,\n)",
    "from helper import (  # one )\n    zz, # two )\n    yy)",
    "from os import (path); import helper",
    "from os import (\n path,\n); import helper",
    "import\thelper",
    "from\thelper\timport\tx",
    "from\\\n helper import x",
    "import\\\n helper",
    "import\\\nhelper",
    "from helper \\\n import os",
    "from helper\\\n.os import (\\\n x)",
    "from \\\r\n helper import x\r\n",
    "\fimport helper",
    "x = 1\n\f\nimport helper",
    "x = 1\rimport helper\rfrom helper import part\r",
    "import ｈｅｌｐｅｒ",
    "from ｈｅｌｐｅｒ import ﬁeld",
    "\ufeffimport helper",
    "# -*- coding: utf-16-be -*-\n".replace("utf-16-be", "latin-1") + "import helper  # é",
    "from helper import(x)",
    "from.helper import x",
    "from . import(x)",
    "from..helper import x",
    "from helper import*",
    "from from_helper import x",
    "from xfrom import y",
    "from helper_import import x",
    "from important import x",
    "from . import import_helper",
    "import important, os",
    "import helper_import.import_x",
    "# a comment \\\nimport helper",
    "# from os \\\nimport helper",
    "if True:import helper",
    "if True: pass; import os; from helper import x",
    '"""\nimport os\n"""; import helper',
    'x = """\n from here """; from helper import x',
    "def f(): from helper import x",
    "class A:\n\timport helper",
    "try: import os, helper\nexcept ImportError: from helper.part import x as y, z\n",
]


@pytest.mark.parametrize("source", SPELLINGS)
def test_scan_finds_what_python_imports(source):
    content = source.encode("latin-1" if "latin-1" in source else "utf-8")
    expected = imported(content)
    assert expected
    assert expected <= scanned(content)


def test_long_lists_are_read_to_their_end():
    names = [f"name_{index}" for index in range(5000)]
    assert f"helper.{names[-1]}" in scanned(b"from helper import (\n" + ",\n".join(names).encode() + b")")


def test_spaces_and_ends_of_lines_in_every_place():
    spaces = [" ", "\t", "\f ", " \\\n", " \\\r\n", "\\\n  "]
    for before, between, after, end in itertools.product(
        ["", "x = 1; ", "if x: "], spaces, spaces, ["\n", "\r", "\r\n", " # a, b\n", ""]
    ):
        for statement in ("import{b}helper{a}as{a}h,{a}os{e}", "from{b}helper{a}import{b}part{a}as{b}os{a},{b}x{e}"):
            source = (before + statement.format(b=between, a=after, e=end)).encode()
            assert imported(source) <= scanned(source), source


NAME = st.sampled_from(["os", "helper", "import_x", "from_x", "important", "xfrom", "os_helper", "nodegraph", "ｈ", "été", "x"])
GAP = st.sampled_from([" ", "  ", "\t", " \\\n ", "\\\r\n", "\f"])
TIGHT = st.sampled_from(["", "", "", " ", "\t", "\\\n"])
INSIDE = st.sampled_from(["", " ", "\n", " # a ) or (, from os import x; import y\n", "\r\n", "\\\n"])


@st.composite
def statements(draw: st.DrawFn) -> str:
    dotted = [draw(NAME) + "".join(draw(TIGHT) + "." + draw(TIGHT) + draw(NAME) for _ in range(draw(st.integers(0, 2))))]
    aliases = [draw(st.sampled_from(["", f"{draw(GAP)}as{draw(GAP)}{draw(NAME)}"])) for _ in range(draw(st.integers(1, 3)))]
    kind = draw(st.sampled_from(["import", "from", "brackets", "star"]))
    if kind == "import":
        names = [*dotted, *(draw(NAME) for _ in aliases[1:])]
        parts = f"{draw(TIGHT)},{draw(TIGHT)}".join(name + alias for name, alias in zip(names, aliases, strict=True))
        return f"import{draw(GAP)}{parts}"
    dots = draw(st.sampled_from(["", ".", ". .", ".."]))
    source = f"{draw(TIGHT)}{dots}{draw(TIGHT)}{dotted[0]}{draw(GAP)}" if dots else f"{draw(GAP)}{dotted[0]}{draw(GAP)}"
    if kind == "star":
        return f"from{source}import{draw(TIGHT)}*"
    if kind == "from":
        return f"from{source}import{draw(GAP)}" + f",{draw(TIGHT)}".join(draw(NAME) + alias for alias in aliases)
    names = [draw(INSIDE) + draw(NAME) + alias + draw(INSIDE) for alias in aliases]
    return f"from{source}import{draw(TIGHT)}({','.join(names)}{draw(st.sampled_from(['', ',']))}{draw(INSIDE)})"


@given(
    st.lists(statements(), min_size=1, max_size=4),
    st.sampled_from(["; ", "\n", "\r", "\r\n", "\n\f\n", " # import y\n", "\n'''\nfrom here\n''';", "\nif x: "]),
)
@settings(max_examples=100, deadline=None)
def test_scan_finds_whatever_the_parser_finds(parts, separator):
    source = separator.join(parts).encode()
    try:
        expected = imported(source)
    except SyntaxError:
        return
    assert expected <= scanned(source)


def test_modules_of_python_and_of_the_engine_are_skipped():
    source = (
        b"import os\nimport os.path as p\nfrom nodegraph.errors import X\nfrom os import path, sep\nimport importlib.metadata\n"
    )
    assert not scanned(source, None) - {"importlib.metadata"}


@pytest.mark.parametrize(
    ("source", "dynamic"),
    [
        ("import importlib\nx = importlib.import_module(y)", True),
        ("from importlib import import_module\nx = [import_module(y)]", True),
        ("from importlib import import_module as load\nload(x)", True),
        ("x = __import__(y)", True),
        ("load = importlib.import_module", True),
        ("from importlib import import_module\nfrom_lib = import_module(x)", True),
        ("from importlib import import_module; x = import_module(y)", True),
        ("import importlib.util\nx = importlib.util.find_spec(y).loader.load_module(y)", True),
        ("from importlib import metadata, util\nspec = util.spec_from_file_location(x, y)", True),
        ("import importlib.util as u\nspec = u.spec_from_file_location(x, y)", True),
        ("import importlib.util\nhas_it = importlib.util.find_spec('numpy') is not None", False),
        ("from importlib import import_module", False),
        ('from importlib import import_module\nx = import_module(f"{__name__}.part")', False),
        ("import pickle\nx = pickle.loads(y)", True),
        ("from pickle import loads", True),
        ("import os, shelve", True),
        ("import dill as pickles", True),
        ("from importlib.metadata import entry_points", True),
        ("import importlib.metadata\nx = importlib.metadata.entry_points()", True),
        ("from importlib import metadata\nx = metadata.entry_points()", True),
        ("from importlib.metadata import version", False),
        ("import pickletools", False),
        ("from pack.pickle_file import read", False),
        ("import importlib.metadata", False),
        ("import os", False),
    ],
)
def test_computed_names_are_noticed(source, dynamic):
    scan = ImportScan(SKIPPED)
    scan.add(source.encode(), package=None)
    assert scan.is_dynamic == dynamic
