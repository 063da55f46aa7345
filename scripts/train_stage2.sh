#!/usr/bin/env bash
# Trains stage 2 of configs/; the options of src/trainer.py may follow.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/launch.sh" stage2_reasoning "$@"
