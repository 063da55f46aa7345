#!/usr/bin/env bash
# Trains on a rented machine, from nothing to the end: set-up, preflight, run, mirror and, where you
# ask for it, shut-down. Starting it again goes on where the run stands; it needs no sudo.
#
#   scripts/cloud/rented.sh [--data SOURCE] [--bench_dir DIR] [--model NAME] [--set key=value ...]
#
# Options go to `yxanul preflight` and to `yxanul run`; folders are relative to the checkout.
#   RUN=promised             the run's name: it lies in runs/$RUN
#   CONFIG_DIR=configs       the settings to train
#   MIRROR=s3://bucket/promised   where checkpoints and rows are copied, and a run comes back from
#   USD_PER_HOUR=12.80       price of the whole machine, all its cards
#   BUDGET_USD=200           dollars for the whole run; needs USD_PER_HOUR
#   NPROC=8                  processes; default: one per card
#   SETUP="make setup"       how the dependencies come here; SETUP=: where they are installed
#   SHUTDOWN="vastai stop instance 1234"
#                            run at the end, however it ended, so that nothing is paid for any longer;
#                            where it fails, five times in four minutes. Not after Ctrl-C or SIGTERM
#                            to this script, nor to the supervisor unless the run was done by then,
#                            and never where it is not set. Take a command that keeps the disk.
#
# It leaves with the exit code of the set-up, of the preflight or of the run (README.md), and with 30
# where another one is at work in this checkout, or flock or the program of SHUTDOWN is not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
out=runs/${RUN:-promised}

# Where nobody reads it, as after a dropped ssh, or a full disk takes no more: it goes on all the same.
say() { echo "rented: $*" >&2 || true; }

# A second one would find the cards taken, and shut down the machine on which the first one trains.
# The run's supervisor holds the lock as well, in case this script is killed before the run ends;
# nothing else that is started here does, since it may leave a daemon behind.
if ! command -v flock >/dev/null; then
    say "flock is not on PATH (util-linux has it); nothing was started"
    exit 30
fi
exec 9>.rented.lock
if ! flock -n 9; then
    say "another one is at work in $root; nothing was started, and nothing is shut down"
    exit 30
fi

asked="" woken="" child=""
# Called by a trap.
# shellcheck disable=SC2317
finish() {
    code=$?
    trap - EXIT
    # The supervisor leaves so where a person has asked it to stop, and the run was not done.
    case "$code" in 10 | 130 | 143) asked=${asked:-$code} ;; esac
    if [ -n "$asked" ]; then
        say "ended with $code, asked to stop; the machine is left on"
    elif [ -z "${SHUTDOWN:-}" ]; then
        say "ended with $code; the machine is left on (SHUTDOWN is not set)"
    else
        say "ended with $code; shutting down: $SHUTDOWN"
        shut_down
    fi
    exit "$code"
}
# A host that does not answer once must not be paid for all night.
# shellcheck disable=SC2317
shut_down() {
    local pause
    # One that prints before it acts would fail at that where nothing takes its words any more.
    echo || exec >/dev/null
    echo >&2 || exec 2>/dev/null
    for pause in 0 15 30 60 120; do
        if [ "$pause" != 0 ]; then
            say "SHUTDOWN failed; tried again in $pause s"
            sleep "$pause" || true
        fi
        [ -z "$asked" ] || break # Ctrl-C meanwhile
        bash -c "$SHUTDOWN" 9>&- && return
    done
    say "SHUTDOWN FAILED: the machine is on, and is still paid for"
}
# Called by a trap.
# shellcheck disable=SC2317
stop() { asked=$1 woken=yes; }
trap finish EXIT
# A Ctrl-C reaches the run by itself, and a second signal would end it unsaved.
trap 'stop 130' INT
trap 'stop 143; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM
# A dropped ssh ends nothing, as it ends no run; nor does a reader of the log that is gone.
trap '' HUP PIPE
go_on() { [ -z "$asked" ] || exit "$asked"; }

# fsspec reaches these with a package of their own, of the very version of fsspec. An address may
# stand behind an option's name: --data=s3://..., checkpoint.mirror=s3://...
add_storage() {
    local package
    case "$1" in
        s3://* | *=s3://*) package=s3fs ;;
        gs://* | gcs://* | *=gs://* | *=gcs://*) package=gcsfs ;;
        *) return 0 ;;
    esac
    "$python" -c "import $package" 2>/dev/null && return 0
    say "installing $package for $1"
    "$python" -m pip install --quiet "$package" \
        "fsspec==$("$python" -c 'import fsspec; print(fsspec.__version__)')" 9>&-
}

bash -c "${SETUP:-make setup}" 9>&-
go_on
# Found out at the end, it would have the rent run on. The set-up may have brought the program. Plain
# words alone are looked at: what else the shell makes of others is its own matter.
key='[A-Za-z_][A-Za-z0-9_]*=[A-Za-z0-9_./:-]*'
plain="^[[:space:]]*($key[[:space:]]+)*([A-Za-z0-9_./-]+)([[:space:];&|]|\$)"
if [[ "${SHUTDOWN:-}" =~ $plain ]] && ! command -v "${BASH_REMATCH[2]}" >/dev/null; then
    say "SHUTDOWN begins with '${BASH_REMATCH[2]}', which is not on PATH; no run was started"
    exit 30
fi
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"

settings=(--config_dir "${CONFIG_DIR:-configs}" --out "$out" "$@")
[ -z "${MIRROR:-}" ] || settings+=(--set "checkpoint.mirror=$MIRROR")
[ -z "${USD_PER_HOUR:-}" ] || settings+=(--set "budget.usd_per_hour=$USD_PER_HOUR")
[ -z "${BUDGET_USD:-}" ] || settings+=(--set "budget.usd=$BUDGET_USD")
for word in "${MIRROR:-}" "$@"; do
    add_storage "$word"
done
go_on

say "preflight"
"$python" -m yxanul preflight "${settings[@]}" ${NPROC:+--nproc "$NPROC"} 9>&-
go_on

say "run into $out"
# Beside this shell, so that a SIGTERM reaches it while it works. What a shell starts so ignores
# Ctrl-C until it says otherwise, which Python does only when it has loaded.
(trap - INT && exec scripts/train_all.sh "${settings[@]}") &
child=$!
# Asked before it had a name. What has only just been forked may lose a signal; those that come within
# a second are one wish.
while [ -n "$asked" ] && kill -TERM "$child" 2>/dev/null && [ "${told:=0}" -lt 3 ]; do
    told=$((told + 1))
    sleep 0.3 || true
done
# A signal wakes `wait` before the run has ended.
while
    woken="" code=0
    wait "$child" || code=$?
    [ -n "$woken" ]
do :; done
if [ "$code" = -1 ]; then # after a Ctrl-C bash may not know how it ended
    while kill -0 "$child" 2>/dev/null; do sleep 1 || true; done
    code=${asked:-1}
fi
child=""
exit "$code"
