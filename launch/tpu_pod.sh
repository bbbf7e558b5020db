#!/usr/bin/env bash
# Creates a TPU slice on Google Cloud, runs a command on all of its hosts, and collects the results.
#
# Usage: bash launch/tpu_pod.sh STEP [flags] [-- COMMAND ...]
#
# Steps, in order:
#   create    asks for the slice; with --queued as a queued resource, which waits for capacity
#   status    says whether the slice is there
#   setup     copies this checkout to every host and installs it there with the extra `tpu`
#   run       runs `rsd COMMAND --distributed` on every host at once, e.g.
#             -- evaluate --config experiment1:llama2_70b --config.out_dir=results
#   collect   copies the folder --results of host 0, which writes the rows, to --out
#   delete    gives the slice back
#
# Flags:
#   --name NAME        of the slice (default rsd-jax)
#   --zone ZONE        e.g. us-central2-b; needed
#   --project PROJECT  default: that of gcloud
#   --type TYPE        of the slice, for create, e.g. v5litepod-16
#   --version VERSION  of the runtime, for create (default v2-alpha-tpuv5-lite)
#   --queued           the slice is a queued resource: for create, status and delete
#   --spot             may be taken away at any time; `run` goes on where it stopped
#   --results DIR      on host 0, in the checkout (default runs)
#   --out DIR          here (default runs/NAME)
#   --dry-run          prints the commands and runs none
#
# Needs gcloud, which is logged in. Slices cost money from `create` to `delete`.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

usage() { sed -n '2,/^set -euo/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

[ $# -gt 0 ] || { usage >&2; exit 2; }
step="$1"
shift
case "$step" in
  -h | --help) usage; exit ;;
  create | status | setup | run | collect | delete) ;;
  *) fail "unknown step $step; the steps are create, status, setup, run, collect and delete" ;;
esac

name=rsd-jax zone="" project="" type="" version=v2-alpha-tpuv5-lite
queued="" spot="" results=runs out="" dry="" command=()
while [ $# -gt 0 ]; do
  case "$1" in
    --queued) queued=1 ;;
    --spot) spot=1 ;;
    --dry-run) dry=1 ;;
    --) shift; command=("$@"); break ;;
    --name | --zone | --project | --type | --version | --results | --out)
      [[ $# -gt 1 && "$2" != --* ]] || fail "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    *) fail "unknown flag $1; see --help" ;;
  esac
  shift
done
[ -n "$zone" ] || fail "--zone is missing, e.g. --zone us-central2-b"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
place=(--zone "$zone" ${project:+--project "$project"})

do_it() {
  if [ -n "$dry" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_hosts() {
  do_it gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$1" --command "$2"
}

case "$step" in
  create)
    [ -n "$type" ] || fail "--type is missing, e.g. --type v5litepod-16"
    if [ -n "$queued" ]; then
      do_it gcloud compute tpus queued-resources create "$name" --node-id "$name" "${place[@]}" \
        --accelerator-type "$type" --runtime-version "$version" ${spot:+--spot}
    else
      do_it gcloud compute tpus tpu-vm create "$name" "${place[@]}" \
        --accelerator-type "$type" --version "$version" ${spot:+--spot}
    fi
    ;;
  status)
    if [ -n "$queued" ]; then
      do_it gcloud compute tpus queued-resources describe "$name" "${place[@]}"
    else
      do_it gcloud compute tpus tpu-vm describe "$name" "${place[@]}"
    fi
    ;;
  setup)
    archive="$(mktemp -d)/rsd_jax.tar.gz"
    do_it git -C "$root" archive --format=tar.gz --prefix=rsd_jax/ -o "$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" "$name:rsd_jax.tar.gz" "${place[@]}" --worker=all
    install="python3 -m venv .venv && .venv/bin/pip install --quiet -e .[tpu]"
    on_hosts all "tar xzf rsd_jax.tar.gz && cd rsd_jax && $install"
    ;;
  run)
    [ ${#command[@]} -gt 0 ] || fail "the command is missing, e.g. -- evaluate --config experiment1"
    on_hosts all "cd rsd_jax && .venv/bin/rsd$(printf ' %q' "${command[@]}") --distributed"
    ;;
  collect)
    out="${out:-$root/runs/$name}"
    do_it mkdir -p "$out"
    do_it gcloud compute tpus tpu-vm scp --recurse "$name:rsd_jax/$results" "$out" "${place[@]}" \
      --worker=0
    ;;
  delete)
    if [ -n "$queued" ]; then
      do_it gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet
    else
      do_it gcloud compute tpus tpu-vm delete "$name" "${place[@]}" --quiet
    fi
    ;;
esac
