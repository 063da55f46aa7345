#!/usr/bin/env bash
# Trains stage 1 of configs/, or of --config_dir DIR, on every GPU of this machine, supervised;
# options of `yxanul train` follow.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/launch.sh" train --stage stage1_wikipedia "$@"
