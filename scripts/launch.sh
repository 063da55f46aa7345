#!/usr/bin/env bash
# Trains one stage on every GPU of this machine: scripts/launch.sh STAGE [options of src/trainer.py]
# NPROC=n sets the number of processes; without a GPU it is one.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage=${1:?usage: scripts/launch.sh STAGE [options of src/trainer.py]}
shift

python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
gpus=0
if command -v nvidia-smi >/dev/null; then
    # A driver that does not answer counts as no GPU: what is wrong is said by torch, if it matters.
    gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ' || true)
fi
nproc=${NPROC:-$((gpus > 0 ? gpus : 1))}

# torchrun turns every exit code into 1, so a single process goes without it.
launcher=("$python")
if [ "$nproc" -gt 1 ]; then
    launcher=("$python" -m torch.distributed.run --standalone --nproc_per_node "$nproc")
fi
exec "${launcher[@]}" "$root/src/trainer.py" --config_dir "$root/configs" --stage "$stage" "$@"
