#!/bin/bash
# gofmt and go vet always; golangci-lint from PATH, or built at the pinned version where it can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
find_go || die "Go is missing: install it from https://go.dev/dl/"
: "${TAGS:=$(sed -n 's/^TAGS *:= *//p' Makefile)}"
pinned=v2.6.2
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || die "not gofmt'ed: $unformatted"
go vet -tags "$TAGS" ./...
go vet -tags "$TAGS,front" . ./commands
CGO_ENABLED=0 GOARCH=arm64 go vet -tags "$TAGS" ./... # it is to build there, too
if command -v golangci-lint >/dev/null 2>&1; then
	golangci-lint run
elif go run "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$pinned" version >/dev/null 2>&1; then
	go run "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$pinned" run
else
	say "golangci-lint $pinned is neither installed nor to be fetched: only gofmt and go vet were run"
fi
