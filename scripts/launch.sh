#!/usr/bin/env bash
# Trains on every GPU of this machine, supervised: scripts/launch.sh run|train [options of that verb]
#   NPROC=n          number of processes; default: one per GPU that CUDA_VISIBLE_DEVICES lets it use
#   TORCHRUN_ARGS=   torchrun's own words in place of --standalone, for several machines that see one
#                    run folder: "--nnodes 2 --node_rank 0 --rdzv_backend c10d --rdzv_endpoint HOST:29500"
#                    Stop it on each of them: the others would start a run again that was stopped on one.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
verb=${1:?usage: scripts/launch.sh run|train [options of that verb]}
shift

python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3

# ask WHOM COMMAND...: what the command prints, in $said.
ask() {
    # What stands in a driver that hangs takes no signal, so none is sent and its end is not awaited;
    # nor does it hold the lock of rented.sh.
    local ended=0
    read -r -d '' -t 60 said < <(exec "${@:2}" 2>/dev/null 9>&-) || ended=$?
    if [ "$ended" -gt 128 ]; then
        echo "scripts/launch.sh: $1 has not answered in a minute, so nobody knows how many GPUs" \
            "there are; say it (NPROC=8), restart this machine or take another one" >&2
        exit 11
    fi
}

gpus=0
if command -v nvidia-smi >/dev/null; then
    ask nvidia-smi nvidia-smi --list-gpus
    gpus=$(grep -c '^GPU ' <<<"$said" || true)
    # Of MIG's parts of cards CUDA gives a process one, whatever more are named.
    if grep -q '^ *MIG ' <<<"$said"; then gpus=1; fi
fi
# nvidia-smi counts cards that are hidden from programs too. CUDA takes the list up to the first
# number that is no card, and nothing of one that names a card twice; cards may also be named by
# their UUIDs.
if [ "$gpus" -gt 0 ] && [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    visible=0 seen=' '
    IFS=', ' read -r -a names <<<"$CUDA_VISIBLE_DEVICES" || true
    for name in "${names[@]+"${names[@]}"}"; do
        case "$name" in
            MIG-*) visible=1 && break ;;
            GPU-*) ;;
            '' | *[!0-9]*) break ;;
            *) name=$((10#$name)) && [ "$name" -lt "$gpus" ] || break ;;
        esac
        case "$seen" in *" $name "*) visible=0 && break ;; esac
        seen+="$name "
        visible=$((visible + 1))
    done
    gpus=$visible
elif [ "$gpus" -eq 0 ] && [ -z "${NPROC:-}" ] &&
    { compgen -G '/dev/nvidia[0-9]*' || [ -e /dev/kfd ] || [ -e /dev/dxg ]; } >/dev/null; then
    # It is not there for AMD's cards, nor in containers that are given a driver for computing alone.
    # torch, which takes its time to load, leaves out what is hidden.
    ask torch "$python" -c 'import torch; print(torch.cuda.device_count())'
    if [[ "$said" =~ ^[0-9]+$ ]]; then gpus=$said; fi
fi
nproc=${NPROC:-$((gpus > 0 ? gpus : 1))}
# With words of its own torchrun judges this one, too, and knows more than numbers (gpu, auto).
if [ -z "${TORCHRUN_ARGS:-}" ] && [[ ! "$nproc" =~ ^0*[1-9][0-9]*$ ]]; then
    echo "scripts/launch.sh: NPROC is a number of processes from 1 on, not '$nproc'" >&2
    exit 30
fi

launcher=("$python")
if [ -n "${TORCHRUN_ARGS:-}" ] || [ "$nproc" -gt 1 ]; then
    # shellcheck disable=SC2206  (words, not one argument)
    launcher=("$python" -m torch.distributed.run ${TORCHRUN_ARGS:---standalone} --nproc_per_node "$nproc")
fi
# torchrun kills what has not ended so many seconds after it was asked to: a last save and its copy
# to the mirror may take longer than its 30. Releases that do not know the variable keep those.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-900}"
# A checkout works without being installed.
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m yxanul supervise -- \
    "${launcher[@]}" -m yxanul "$verb" --config_dir "$root/configs" "$@"
