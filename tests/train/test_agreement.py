"""What all ranks must have in common."""

from yxanul.train.processes.agreement import source_sha256


def test_another_checkout_has_another_hash_whatever_python_writes_beside_it(
    tmp_path,
):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "one.py").write_text("x = 1\n")
    (tmp_path / "two.py").write_text("y = 2\n")
    whole = source_sha256(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "two.cpython-311.pyc").write_bytes(b"compiled")
    (tmp_path / ".#two.py").symlink_to("ada@host.77")  # Emacs': two.py is being edited
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "two-checkpoint.py").write_text("y = 1\n")
    assert source_sha256(tmp_path) == whole
    (tmp_path / "two.py").write_text("y = 3\n")
    edited = source_sha256(tmp_path)
    (tmp_path / "two.py").write_text("y = 2\n")
    (tmp_path / "two.py").rename(tmp_path / "room" / "two.py")
    assert len({whole, edited, source_sha256(tmp_path)}) == 3
