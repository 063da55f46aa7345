"""What the gates have said so far, on the branch that the run stands on."""

from yxanul.errors import CorruptDataError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch
from yxanul.runfolder.rows import Row, read_rows

_SCORES = (dict, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "stage": (str,),
    "attempt": (int,),
    "step": (int,),
    "verdict": (str,),
    "why": (str,),
    "bpb_before": _SCORES,
    "bpb_after": _SCORES,
}


def read_verdicts(folder: RunFolder) -> dict[str, Row]:
    """Return {stage: its row of gates.jsonl}; a row without its keys is a `CorruptDataError`.

    What an abandoned attempt was told does not count.
    """
    branch = current_branch(folder.lineage)
    verdicts: dict[str, Row] = {}
    for number, row in enumerate(read_rows(folder.gates), start=1):
        for key, types in _TYPES.items():
            if not isinstance(row.get(key, ...), types):
                raise CorruptDataError(
                    f"{folder.gates}, line {number}: {key} is missing or not what it should be; "
                    "bring a good copy back, or delete that line and the gate is asked again"
                )
        if row["step"] <= branch.get(row["attempt"], -1):
            verdicts[row["stage"]] = row
    return verdicts
