#!/usr/bin/env bash
# Trains with N processes on this machine: launch/local_multiprocess.sh N <flags of launch.train>
# On one machine with several GPUs a single process drives them all: this is for trying out several processes.
set -euo pipefail
n=$1; shift
address=localhost:$((20000 + RANDOM % 20000))
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for ((i = 1; i < n; i++)); do
    python -m launch.train --coordinator="$address" --processes="$n" --process="$i" "$@" &
done
python -m launch.train --coordinator="$address" --processes="$n" --process=0 "$@"
wait
