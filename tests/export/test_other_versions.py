"""A folder is read by transformers 4 as by the one that is installed, which is 5."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.export.subjects import card_and_example, subject
from yxanul.config.tokens import END_OF_TEXT
from yxanul.export.exporting import export_folder
from yxanul.export.samples import PROMPTS, STRESS

READ = """
import json, sys
import numpy as np, torch, transformers
folder, out, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = transformers.AutoModelForCausalLM.from_pretrained(folder)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(texts[0])["input_ids"]]])
with torch.no_grad():
    np.save(out, model(ids).logits[0].float().numpy())
    written = model.generate(ids, max_new_tokens=20, do_sample=False)[0].tolist()
print(json.dumps({
    "version": transformers.__version__,
    "dtype": str(model.dtype),
    "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
    "written": written,
}))
"""


def read_elsewhere(packages: Path, folder: Path, texts: list[str]) -> tuple[dict, np.ndarray]:
    """What the libraries in a folder of packages make of an export."""
    out = packages / "logits.npy"
    printed = run_elsewhere(packages, READ, str(folder), str(out), json.dumps(texts))
    return json.loads(printed.splitlines()[-1]), np.load(out)


def run_elsewhere(packages: Path, program: str, *arguments: str) -> str:
    """What a program prints with the libraries in a folder of packages."""
    environment = {**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4.50.3", "4.57.6"])
def test_transformers_4_reads_it_alike(tmp_path, version):
    packages = tmp_path / "packages"
    installed = [f"transformers=={version}", "numpy", "huggingface_hub<1"]
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(packages), *installed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0 and "No matching distribution found" in done.stderr:
        pytest.skip(f"pip finds no transformers {version} here")
    assert done.returncode == 0, done.stderr
    one = subject()
    card, example = card_and_example(one, tmp_path / "m")
    export_folder(one, tmp_path / "m", kind="f32", card=card, say=lambda _: None)
    texts = [PROMPTS[0], *STRESS]
    found, logits = read_elsewhere(packages, tmp_path / "m", texts)
    assert found["version"] == version
    assert found["ids"] == [one.tokenizer.encode(text) for text in texts]
    ids = torch.tensor([[END_OF_TEXT, *found["ids"][0]]])
    with torch.no_grad():
        ours = one.model.logits(one.model.hidden_states(ids))[0].numpy()
    assert np.abs(logits - ours).max() / np.abs(ours).max() < 1e-5
    for _ in range(20):
        with torch.no_grad():
            last = one.model.logits(one.model.hidden_states(ids)[:, -1])
        ids = torch.cat((ids, last.argmax(-1, keepdim=True)), 1)
    assert found["written"] == ids[0].tolist()
    assert run_elsewhere(packages, example).startswith("<|endoftext|>The city of")
