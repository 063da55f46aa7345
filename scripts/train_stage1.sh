#!/usr/bin/env bash
# Trains stage 1 of configs/; the options of src/trainer.py may follow.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/launch.sh" stage1_wikipedia "$@"
