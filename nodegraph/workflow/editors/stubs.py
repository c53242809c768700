"""Types of the installed nodes for editors and type checkers: stub files in which `Workflow.add` knows each node type.

mypy and pyright find them in a folder such as `typings`, before the package itself. So they know the inputs of a node, what each
takes, and its outputs. They complete names, and report a wrong input, a wrong output, and a link between ports that do not fit.
"""

from __future__ import annotations

import ast
import importlib.machinery
import keyword
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from nodegraph.node_types.port_types import AnyType, Choices, Class, List, Mapping, PortType, Tuple, Union, is_written, parse
from nodegraph.node_types.spec import NodeSpec, Port
from nodegraph.plugins.manager import Plugins
from nodegraph.workflow import workflow as workflow_module

_PACKAGE: Final = Path(__file__).parents[2]

_HANDLES: Final = '''\
"""Handles of nodes and outputs, which know the type of their value."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from nodegraph.workflow.definitions import Document, Link, OutputDef, ParamDef, ParamRef

T_co = TypeVar("T_co", covariant=True)

class PortHandle(Generic[T_co]): ...
class NodeHandle(PortHandle[T_co]): ...

class AnyNodeHandle(NodeHandle[Any]):
    def __getattr__(self, port: str) -> PortHandle[Any]: ...

Handle = PortHandle[Any]

class CheckedHandle(AnyNodeHandle): ...

class Params(dict[str, ParamDef]):
    def __getattr__(self, name: str) -> ParamRef: ...

class Outputs(dict[str, OutputDef]):
    def __getattr__(self, name: str) -> AnyNodeHandle: ...

def link_of(handle: Handle) -> Link: ...
'''

_HEAD: Final = '''\
from collections.abc import Mapping as _Mapping, Sequence as _Sequence
from pathlib import Path as _Path
from typing import Any, Literal as _Literal, Protocol as _Protocol, TypeAlias as _TypeAlias, TypeVar as _TypeVar, Union as _Union
from typing import overload as _overload

from nodegraph.workflow.handles import AnyNodeHandle, PortHandle

_T = _TypeVar("_T")
_In: _TypeAlias = _Union[_T, PortHandle[_T], ParamRef]
_Many: _TypeAlias = _Union[_Sequence[_In[_T]], PortHandle[list[_T]], ParamRef]

class _Array(_Protocol):
    """An array, or something like it, of another library."""

    @property
    def __array_interface__(self) -> Any: ...

class _SeveralOutputs:
    """Stands for a node with several outputs: link one of them."""

class _NodeTypeWithTheseInputs:
    """What messages call the node type if no node type has inputs of these names and kinds."""
'''

# For mypy, text is somewhat like a sequence of something else. So it reports a wrong input of the node type that fits best, and not
# only, with all hundred signatures, that none fits. Nothing has these types, so they allow nothing.
_TYPE: Final = "type: _Literal[{name}] | _Sequence[{handle}]"
_NONE_FITS: Final = """\
    @_overload
    def add(self, type: _Sequence[_NodeTypeWithTheseInputs], /, *, name: str | None = None, **inputs: Any) -> AnyNodeHandle: ...
"""


def stub_files(plugins: Plugins) -> dict[Path, str]:
    """The stub files, by their paths below a folder of stubs."""
    nodes = [entry.value for entry in plugins.nodes.entries()]
    return {
        Path("nodegraph/__init__.pyi"): (_PACKAGE / "__init__.py").read_text(encoding="utf-8"),
        Path("nodegraph/workflow/__init__.pyi"): "",
        Path("nodegraph/workflow/handles.pyi"): _HANDLES,
        Path("nodegraph/workflow/workflow.pyi"): _workflow_stub(nodes),
    }


def _workflow_stub(nodes: Iterable[NodeSpec]) -> str:
    """The module of `Workflow` without the bodies of its functions, and with an `add` for each node type."""
    tree = ast.parse(Path(workflow_module.__file__).read_text(encoding="utf-8"))
    for_types = (part for block in tree.body if isinstance(block, ast.If) for part in block.body)  # if TYPE_CHECKING
    imports = [part for part in (*tree.body, *for_types) if isinstance(part, ast.Import | ast.ImportFrom)]
    (defined,) = (part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == "Workflow")
    modules = dict[str, None]()
    handles, adds = [], []
    for spec in nodes:
        handles.append(_handle(spec, modules))
        adds += _adds(spec, modules)
    members: list[str] = []
    for member in defined.body:
        if isinstance(member, ast.FunctionDef) and member.name == "add":
            members += [*adds, _NONE_FITS] if adds else [_ANY_ADD]
        elif (isinstance(member, ast.FunctionDef) and not member.name.startswith("_")) or (
            isinstance(member, ast.FunctionDef) and member.name in ("__init__", "__getitem__")
        ):
            members.append(_signature(member))
    return "\n".join(
        [
            '"""Workflows, with the installed node types. Made by `nodegraph stubs`."""\n',
            *(ast.unparse(part) for part in imports if getattr(part, "module", "") != "__future__"),
            *(f"import {module}" for module in sorted(modules)),
            _HEAD,
            *handles,
            "class Workflow(Document):",
            "    params: Params",
            "    outputs: Outputs",
            "    base: Path",
            *members,
            "",
        ]
    )


_ANY_ADD: Final = "    def add(self, type: str, /, *, name: str | None = None, **inputs: Any) -> AnyNodeHandle: ..."


def _signature(function: ast.FunctionDef) -> str:
    """A function with `...` as its body; handles of unknown nodes have any output."""
    function.body = [ast.Expr(ast.Constant(...))]
    text = ast.unparse(function).replace("-> Handle", "-> AnyNodeHandle").replace("-> NodeHandle", "-> AnyNodeHandle")
    return "\n".join(f"    {line}" for line in text.replace(": NodeHandle", ": NodeHandle[Any]").splitlines())


def _handle(spec: NodeSpec, modules: dict[str, None]) -> str:
    """The class of a node's handle: its outputs are its attributes, and the only one is also the node itself."""
    value = _text(parse(spec.outputs[0].type), modules) if len(spec.outputs) == 1 else "_SeveralOutputs"
    ports = [f"    {port.name}: PortHandle[{_text(parse(port.type), modules)}]" for port in spec.outputs if _is_name(port.name)]
    return "\n".join([f"class _{_class_name(spec)}(NodeHandle[{value}]):", *(ports or ["    ..."])])


def _adds(spec: NodeSpec, modules: dict[str, None]) -> list[str]:
    """`add` for a node type: with its inputs, and with lists that it is mapped over instead of some of them."""
    type = _TYPE.format(name=_quoted(spec.name), handle=f"_{_class_name(spec)}")
    if not all(_is_name(port.name) for port in spec.inputs):
        return [f"    @_overload\n{_ANY_ADD.replace('type: str', type)}"]
    required = [port for port in spec.inputs if port.required]
    optional = [port for port in spec.inputs if not port.required]
    types = {port.name: _input_text(port, modules) for port in spec.inputs}
    name = f"self, {type}, /, *, name: str | None = None"
    inputs = [
        *(f"{port.name}: {types[port.name]}" for port in required),
        *(f"{port.name}: {types[port.name]} = ..." for port in optional),
    ]
    mapped = ["each: _Mapping[str, Any]", *(f"{port.name}: {types[port.name]} = ..." for port in spec.inputs)]
    result = f"_{_class_name(spec)}"
    doc = next(iter(spec.doc.strip().splitlines()), "").replace('"""', "'''").replace("\\", "\\\\")
    return [
        f'    @_overload\n    def add({", ".join([name, *inputs])}) -> {result}:\n        """{doc}"""',
        f"    @_overload\n    def add({', '.join([name, *mapped])}) -> AnyNodeHandle: ...",
    ]


def _input_text(port: Port, modules: dict[str, None]) -> str:
    """What an input takes: a value, a link, or a param; for a list, also a list of these."""
    port_type = parse(port.type)
    parts = [_one_input(port, part, modules) for part in port_type.required_alternatives]
    return " | ".join(dict.fromkeys([*parts, *(["None"] if port_type.optional else [])]))


def _one_input(port: Port, part: PortType, modules: dict[str, None]) -> str:
    if port.seed:
        return '_In[int] | _Literal["random"]'
    if port.reads is not None:
        return " | ".join(["_In[str]", "_In[_Path]", *([] if is_written(part) else [f"_In[{_text(part, modules)}]"])])
    if isinstance(part, List):
        return f"_Many[{_text(part.item, modules)}]"
    text = _text(part, modules)
    if isinstance(part, Mapping) or port.options_of is not None:
        return "_In[_Mapping[str, Any]]"
    return f"_In[{text}]" if is_written(part) else f"_In[{text}] | _Array"


def _text(port_type: PortType, modules: dict[str, None]) -> str:
    """A type as Python writes it; `modules` receives those that it needs."""
    if isinstance(port_type, Union):
        return f"_Union[{', '.join(dict.fromkeys(_text(part, modules) for part in port_type.parts))}]"
    if isinstance(port_type, Choices):
        return f"_Literal[{', '.join(map(_quoted, port_type.values))}]"
    if isinstance(port_type, AnyType) or not isinstance(port_type, Class):
        return "Any"
    if isinstance(port_type, List):
        return f"list[{_text(port_type.item, modules)}]"
    if isinstance(port_type, Mapping):
        return f"dict[str, {_text(port_type.value, modules)}]"
    if isinstance(port_type, Tuple):
        items = [_text(item, modules) for item in port_type.arguments]
        return f"tuple[{', '.join([*items, *(['...'] if port_type.repeated else [])])}]" if items else "tuple[Any, ...]"
    return _class_text(port_type.cls, modules)


def _class_text(cls: Any, modules: dict[str, None]) -> str:
    """A class by its full name; Any for one that cannot be imported by it, such as one of a plugin in a single file."""
    if cls is type(None):
        return "None"
    module, name = getattr(cls, "__module__", ""), getattr(cls, "__qualname__", "<")
    if module == "builtins":
        return str(name)
    if cls is Path:
        return "_Path"
    if "<" in name or importlib.machinery.PathFinder.find_spec(module.partition(".")[0]) is None:
        return "Any"
    modules[module] = None
    return f"{module}.{name}"


def _quoted(value: Any) -> str:
    """A value as Python writes it."""
    return repr(value)


def _class_name(spec: NodeSpec) -> str:
    return "".join(character if character.isalnum() else "_" for character in spec.name) + "Node"


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def changed_files(files: dict[Path, str], folder: Path) -> Iterator[Path]:
    """Those of `files` that differ from what is in `folder`, or are not there."""
    for path, text in files.items():
        if not (folder / path).is_file() or (folder / path).read_text(encoding="utf-8") != text:
            yield path
