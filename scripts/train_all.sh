#!/usr/bin/env bash
# Trains all stages of configs/, or of --config_dir DIR, on every GPU of this machine (8xA100,
# 8xH100), a gate after each, supervised; options of `yxanul run` follow.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/launch.sh" run "$@"
