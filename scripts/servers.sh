#!/bin/sh
# Install the missing registries, clients, broker and shells for the live tests. The first argument
# is the folder for the programs that are built; the tests look there too.
set -eu

cache=$1
registry=github.com/distribution/distribution/v3/cmd/registry@v3.1.1
conformance=github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111

missing=""
for package in docker-registry skopeo podman buildah umoci redis-server tmux zsh fish; do # named like programs
    command -v "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing$missing"
        apt-get update -qq
        # shellcheck disable=SC2086  # each word is a package
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            $missing >/dev/null
    else
        echo "not installed:$missing (as root, on Debian: apt-get install$missing)" >&2
    fi
fi

build() { # name, Go module, description
    if [ -x "$cache/$1" ] || command -v "$1" >/dev/null 2>&1; then
        return
    fi
    if command -v go >/dev/null 2>&1; then
        echo "building $3 (some minutes)"
        mkdir -p "$cache"
        GOBIN=$cache CGO_ENABLED=0 go install "$2"
    else
        echo "not installed: $3 (install Go, then run this again)" >&2
    fi
}

build registry "$registry" "Distribution 3.1"
build conformance "$conformance" "the specification's conformance program"
build crane github.com/google/go-containerregistry/cmd/crane@latest crane
build regctl github.com/regclient/regclient/cmd/regctl@latest regctl
build oras oras.land/oras/cmd/oras@v1.3.6 oras
build helm helm.sh/helm/v3/cmd/helm@v3.22.0 helm
build cosign github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5 cosign
