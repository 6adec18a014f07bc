// Package tests drives the built program from outside: scripts by verb in e2e/, as an unprivileged user and in both shapes of the
// build, and the rules about imports. Unit tests live beside the code they test.
package tests
