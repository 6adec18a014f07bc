package monitor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/fork"
)

// refused is what a flag asks for and the kernel does not let this user have.
type refused struct {
	flag, reason, hint string
	err                error
}

func (e *refused) Error() string { return fmt.Sprintf("cannot apply %s: %s", e.flag, e.reason) }

// Unwrap gives the kernel's word.
func (e *refused) Unwrap() error { return e.err }

// HintText is what the user can do; commands print it on a line of its own.
func (e *refused) HintText() string { return e.hint }

// named tells which flag a step was for that the kernel refused to the container's first process.
func named(err error, c config.Config) error {
	var step *fork.Error
	if !errors.As(err, &step) || !errors.Is(step.Errno, unix.EPERM) && !errors.Is(step.Errno, unix.EACCES) {
		return err
	}
	if step.What == "set the OOM score" && c.Limits.OOMScoreAdj != nil {
		have, _ := os.ReadFile("/proc/self/oom_score_adj") // our own, which the container would start from; without it the sentence is the same
		return &refused{
			fmt.Sprintf("--oom-score-adj %d", *c.Limits.OOMScoreAdj), "only root can go below the score that this session has, " + strings.TrimSpace(string(have)),
			"take a higher one, or leave --oom-score-adj out", err,
		}
	}
	for _, u := range c.Ulimits {
		if !strings.HasPrefix(step.What, "set the limit RLIMIT_"+strings.ToUpper(u.Name)+" ") {
			continue
		}
		return &refused{
			fmt.Sprintf("--ulimit %s=%s:%s", u.Name, limitText(u.Soft), limitText(u.Hard)), "it is above the hard limit that this session has, which only root can raise",
			fmt.Sprintf("see that limit with `prlimit --%s`; have the administrator raise it (/etc/security/limits.conf, or LimitNOFILE= and the like of user@.service), or ask for less", u.Name), err,
		}
	}
	return err
}

func limitText(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}
