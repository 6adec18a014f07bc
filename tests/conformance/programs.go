//go:build tools

// Package conformance pins what the programs of opencontainers/runtime-tools are built from that check a runtime against the runtime spec. They are a module of their own, so that
// nothing of theirs becomes a requirement of skiff's. tests/suite.sh builds them, tests/conformance_test.go runs them.
package conformance

import (
	_ "github.com/opencontainers/runtime-tools/validation/util" // what the programs have in common
)
