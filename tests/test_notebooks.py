"""The notebooks run from top to bottom, one after the other in one kernel that forgets in between."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FEWER = {"READ = 20": "READ = 2", "COUNTED = 100": "COUNTED = 3"}


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs_and_on_one_line_of_data(path):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(path))
    source = "".join("".join(cell["source"]) for cell in cells(path))
    assert source.count("DATA = ") == 1
    assert 'DATA = "data/shapes"  # or "data/coco"' in source


@pytest.mark.slow
def test_notebooks_run(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    from flmm.datasets.shapes import make_shapes

    data = make_shapes(tmp_path / "data/shapes", train=1, val=4, workers=1)
    changes = {'DATA = "data/shapes"': f'DATA = "{data}"', **FEWER}
    together, owners = nbformat.v4.new_notebook(), []
    for path in NOTEBOOKS:
        sources = ["%reset -f", *("".join(cell["source"]) for cell in cells(path))]
        for old, new in changes.items():
            sources = [source.replace(old, new) for source in sources]
        together.cells += [nbformat.v4.new_code_cell(source) for source in sources]
        owners += [path.stem] * len(sources)
    NotebookClient(together, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    found = {
        name: [out for owner, cell in zip(owners, together.cells, strict=True) if owner == name for out in cell.outputs]
        for name in owners
    }
    pictures = {name: sum("image/png" in out.get("data", {}) for out in outs) for name, outs in found.items()}
    assert pictures == {"attention_tour": 3, "data_overview": 6, "explain": 4, "quick_start": 3}
    said = {name: "".join(out.get("text", "") for out in outs) for name, outs in found.items()}
    assert said["attention_tour"].count("mean IoU") == 5
    assert "segments [" in said["data_overview"]
    assert "largest lift" in said["explain"]
