#!/bin/sh
# Install the real registries and clients that this machine lacks. The first argument is the
# folder for what is built here; the tests look there too.
set -eu

cache=$1
registry=github.com/distribution/distribution/v3/cmd/registry@v3.1.1

missing=""
command -v docker-registry >/dev/null 2>&1 || missing="$missing docker-registry"
command -v skopeo >/dev/null 2>&1 || missing="$missing skopeo"
if [ -n "$missing" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing$missing"
        apt-get update -qq
        # shellcheck disable=SC2086  # two words are two packages
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    else
        echo "not installed:$missing (as root, on Debian: apt-get install$missing)" >&2
    fi
fi

if [ ! -x "$cache/registry" ]; then
    if [ -n "${DOCKHAND_LIVE_DISTRIBUTION_3:-}" ]; then
        echo "Distribution 3.1: $DOCKHAND_LIVE_DISTRIBUTION_3"
    elif command -v go >/dev/null 2>&1; then
        echo "building Distribution 3.1 (some minutes)"
        mkdir -p "$cache"
        GOBIN=$cache CGO_ENABLED=0 go install "$registry"
    else
        echo "not installed: Distribution 3.1 (install Go, then run this again)" >&2
    fi
fi
