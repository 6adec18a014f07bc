package monitor

// This file has the engine find the devices that a container asks for by the names of the Container Device Interface.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
)

// deviceEdits asks an engine: the specs of devices are YAML, whose reader would be in every monitor.
func (m *monitor) deviceEdits(ctx context.Context, names []string) (e config.DeviceEdits, err error) {
	if len(names) == 0 {
		return e, nil
	}
	cmd := exec.CommandContext(ctx, m.engine, names...)
	cmd.Args[0] = stage.Devices
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		return e, fmt.Errorf("cannot find device %s: %w %s", strings.Join(names, ", "), err, strings.TrimSpace(said.String()))
	}
	var answer stage.DevicesAnswer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return e, fmt.Errorf("cannot find device %s: the engine's answer: %w", strings.Join(names, ", "), err)
	}
	if answer.Error != "" && answer.Hint != "" {
		return e, &plug.Refusal{Text: answer.Error, Hint: answer.Hint}
	}
	if answer.Error != "" {
		return e, errors.New(answer.Error)
	}
	return answer.Edits, nil
}
