"""The arrows of docs/architecture.md: which room imports what."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from flmm.constants import IMAGE_TOKEN_INDEX

ROOT = Path(__file__).parent.parent
PACKAGES = ("segment_anything", "llava", "mgm", "deepseek_vl", "hpt")
PURE = ("functional", "losses")
METRICS = ("boxes", "gcg", "keywords", "masks", "png", "reason_seg", "res")
LMMS = ("llava", "mgm", "deepseek", "hpt", "qwen")


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


def importing(files, *forbidden: str) -> list[str]:
    """'file: module' for each import of a forbidden module or of something below it."""
    return [
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in sorted(imports(path))
        if any(module == name or module.startswith(f"{name}.") for name in forbidden)
    ]


def python_files(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, folder
    return files


@pytest.mark.parametrize("package", PACKAGES)
def test_model_packages_import_of_flmm_only_how_weights_are_loaded(package):
    found = importing(python_files(package), "flmm")
    assert [line for line in found if not line.endswith(": flmm.models.loading")] == []


def test_mathematics_knows_torch_and_numpy_only():
    files = [ROOT / f"flmm/models/{name}.py" for name in PURE]
    files += [ROOT / f"flmm/evaluation/{name}.py" for name in METRICS]
    assert importing(files, "mmengine", "mmdet", "mmseg", "xtuner", "transformers", "json", "pathlib", "PIL") == []


def test_contract_and_pipeline_name_no_lmm():
    files = [
        ROOT / f"flmm/models/{name}.py" for name in ("backbone", "capture", "packing", "reader", "frozen_lmm", *PURE)
    ]
    files += python_files("flmm/models/mask_head")
    for path in files:
        code = "\n".join(ast.unparse(node) for node in without_docstrings(path))
        assert not re.search("|".join(LMMS), code, re.IGNORECASE), path


def without_docstrings(path: Path) -> list[ast.stmt]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return tree.body


def test_an_adapter_knows_the_contract_and_its_own_lmm():
    for path in sorted((ROOT / "flmm/models").glob("frozen_*.py")):
        if path.stem == "frozen_lmm":
            continue
        others = [
            f"flmm.models.{p.stem}"
            for p in path.parent.glob("frozen_*.py")
            if p not in (path, path.parent / "frozen_lmm.py")
        ]
        assert importing([path], *others, "flmm.models.mask_head", "flmm.models.losses", "segment_anything") == []


def test_data_sets_know_no_model():
    assert importing(python_files("flmm/datasets"), "flmm.models", "accelerate", "deepspeed") == []


def test_the_page_holds_no_model_code_and_nothing_imports_it():
    files = python_files("flmm/web")
    assert importing(files, "flmm.models", "flmm.datasets", "transformers", "segment_anything") == []
    others = [path for path in python_files("flmm") if path not in files and path.name != "web.py"]
    assert importing(others, "flmm.web", "gradio") == []


def test_scripts_share_nothing_among_themselves():
    names = [p.stem for p in (ROOT / "scripts").glob("*.py")]
    assert importing(sorted((ROOT / "scripts").glob("*.py")), *names, "scripts") == []


def test_only_compat_patches():
    """Nothing else assigns to an attribute of an imported upstream module."""
    for path in python_files("flmm"):
        if "compat" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        modules = {a.asname or a.name for a in aliases if a.name.split(".")[0] not in sys.stdlib_module_names}
        assigned = {
            ast.unparse(target)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Attribute) and ast.unparse(target).split(".")[0] in modules
        }
        assert assigned == set(), path


def test_the_image_token_is_the_same_number_in_mgm_and_in_the_data():
    """mgm stands alone, so it cannot import flmm's constants."""
    assert f"IMAGE_TOKEN_INDEX = {IMAGE_TOKEN_INDEX} " in (ROOT / "mgm/constants.py").read_text()


def first_imports(path: Path) -> set[str]:
    """Full names that a file imports while it is imported: neither in functions nor for types alone."""
    found, statements = set(), list(ast.parse(path.read_text()).body)
    while statements:
        node = statements.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            statements += node.orelse
        elif not isinstance(node, ast.FunctionDef):
            statements += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def test_no_circles():
    """So every module can be the first that a process imports, whatever came before (tests/compat for the patches)."""
    files = {name(path): path for path in ROOT.glob("flmm/**/*.py") if "stand_ins" not in path.parts}
    needs = {module: first_imports(path) & (set(files) - {module, "flmm"}) for module, path in files.items()}
    # a package's face and its modules: the face is imported first, so what it takes of them is no circle
    needs = {module: {one for one in ones if not module.startswith(f"{one}.")} for module, ones in needs.items()}
    assert len(list(TopologicalSorter(needs).static_order())) == len(files)


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
