package userns

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Forbidden says what keeps this user from having a user namespace, and what to do about it.
type Forbidden struct {
	Reason string
	Hint   string
	Err    error // the kernel's answer, when there was one
}

func (f *Forbidden) Error() string {
	text := "cannot make a user namespace: " + f.Reason
	if f.Err != nil {
		text += ": " + f.Err.Error()
	}
	return text
}

// Unwrap gives the kernel's answer.
func (f *Forbidden) Unwrap() error { return f.Err }

// HintText is what the user can do; commands print it on a line of its own.
func (f *Forbidden) HintText() string { return f.Hint }

// explain turns the kernel's refusal into one that says who refused. It looks at files only after a failure.
func explain(err error) error {
	var f *Forbidden
	if errors.As(err, &f) {
		return err
	}
	f = &Forbidden{Err: err}
	apparmor := fileSays("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
	switch {
	case errors.Is(err, unix.ENOSPC) && fileSays("/proc/sys/user/max_user_namespaces", "0"):
		f.Reason = "they are switched off (user.max_user_namespaces is 0)"
		f.Hint = "an administrator can allow them: `sudo sysctl user.max_user_namespaces=15000`"
	case errors.Is(err, unix.ENOSPC):
		f.Reason = "the limit user.max_user_namespaces is reached"
		f.Hint = "end some containers, or raise it: `sudo sysctl user.max_user_namespaces=15000`"
	case errors.Is(err, unix.EUSERS):
		f.Reason = "they are nested too deeply (the kernel allows 32 levels)"
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && fileSays("/proc/sys/kernel/unprivileged_userns_clone", "0"):
		f.Reason = "the kernel forbids them to unprivileged users (kernel.unprivileged_userns_clone is 0)"
		f.Hint = "an administrator can allow them: `sudo sysctl kernel.unprivileged_userns_clone=1`"
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && apparmor:
		f.Reason = "AppArmor forbids them to programs without a profile (Ubuntu 23.10 and later)"
		f.Hint = "an administrator can allow them: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give skiff an AppArmor profile with `userns,`"
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)) && seccompActive():
		f.Reason = "a seccomp filter forbids them, probably that of an outer container"
		f.Hint = "start the outer container with a profile that allows them (docker: `--security-opt seccomp=unconfined`, and for mounts `--security-opt systempaths=unconfined`)"
	case errors.Is(err, unix.EPERM) && chrooted():
		f.Reason = "the process is in a chroot, where the kernel forbids them"
	case errors.Is(err, unix.EINVAL):
		f.Reason = "this kernel is built without them (CONFIG_USER_NS)"
	default:
		return err
	}
	return f
}

func fileSays(path, value string) bool {
	data, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(data)) == value
}

func seccompActive() bool {
	data, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(data), "\nSeccomp:\t2")
}

// chrooted compares our root with our mount namespace's root, as far as the mount table shows it.
func chrooted() bool {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return false
		}
	}
	return true
}
