package bundle

import (
	"errors"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-containers/skiff/run/hook"
	"github.com/skiff-containers/skiff/run/stage"
)

// runtimeHooks runs the hooks that go between the making of the namespaces and the change of the root, in our own.
func (c *Container) runtimeHooks() error {
	h := c.Spec.Hooks
	state := c.stateAs(specs.StateCreated)                          // what it is after the environment has been created (runtime-spec, runtime.md, "Lifecycle")
	if err := hook.Run("prestart", h.Prestart, state); err != nil { //nolint:staticcheck // prestart is deprecated and still used
		return err
	}
	return hook.Run("createRuntime", h.CreateRuntime, state)
}

// insideHooks runs the startContainer hooks.
func insideHooks(conn *stage.Conn, req request, files []*os.File) error {
	spec := &specs.Spec{}
	if len(files) != 1 {
		return errors.New("a configuration is needed")
	}
	if err := decode(files[0], spec); err != nil {
		return err
	}
	if err := hook.Inside(req.Pid, "startContainer", spec.Hooks.StartContainer, req.State); err != nil {
		return err
	}
	return talk(conn, reply{Kind: replyReady})
}
