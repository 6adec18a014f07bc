package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"go.podman.io/image/v5/docker"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage"
)

// Errors that callers test with errors.Is.
var (
	ErrNoPlatform   = errors.New("no image for the platform")
	ErrNotFound     = errors.New("image not found in the registry")
	ErrUnauthorized = errors.New("access refused by the registry")
	ErrUnreachable  = errors.New("registry cannot be reached")
	ErrCorrupt      = errors.New("data is damaged")
	ErrNotArchive   = errors.New("not an image archive")
)

// Error is a failure in one line, with what the user can do about it. It is storage's.
type Error = storage.Error

// explain turns an error of the library into one line about what was being done ("pull", "save" ...) to what. Errors that are explained
// already pass.
func explain(ctx context.Context, doing, object, registry string, err error) error {
	var done *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case ctx.Err() != nil:
		return &Error{What: fmt.Sprintf("cannot %s %s: interrupted", doing, object), Err: context.Cause(ctx)}
	}
	why, hint, kind := diagnose(registry, err)
	if doing == "import" && strings.Contains(err.Error(), "invalid tar header") {
		why, hint, kind = "it is not a tar archive", "import reads the archive of a root file system, plain or compressed", ErrNotArchive
	}
	if kind == nil {
		kind = err
	}
	return &Error{What: fmt.Sprintf("cannot %s %s: %s", doing, object, why), Help: hint, Err: kind}
}

// diagnose says why, what to do, and which of this package's errors it is. The library gives few types and many sentences, so most is told
// by the sentence.
func diagnose(registry string, err error) (why, hint string, kind error) {
	text := oneLine(err)
	says := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	var unauthorized docker.ErrUnauthorizedForCredentials
	var lookup *net.DNSError
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), says("no space left on device"):
		return "the disk is full", "free some space, for instance with `skiff rmi`, or keep the data elsewhere with --root", nil
	case errors.As(err, &unauthorized), says("unauthorized", "requested access to the resource is denied", "authentication required", "403 (Forbidden)"):
		return "access refused by " + registry + " (or no such image)", "log in with `skiff login " + registry + "`", ErrUnauthorized
	case says("manifest unknown", "name unknown", "404 (Not Found)", "NAME_UNKNOWN"):
		return "no such image in " + registry, "check the name and the tag", ErrNotFound
	case says("blob unknown"):
		return "a layer of it is missing in " + registry, "push it there again", ErrNotFound
	case says(" is blocked in one of"):
		return "registries.conf blocks " + registry, "see `blocked` in containers-registries.conf(5)", nil
	case says("error getting credentials"):
		why := last(text, "error getting credentials - err: ")
		why, _, _ = strings.Cut(why, ", out: ")
		return "the credential helper for " + registry + " fails: " + why, "see credHelpers and credsStore in the credentials file", nil
	case errors.As(err, &lookup):
		return "cannot find the host " + lookup.Name, "check the name and the network", ErrUnreachable
	case says("connection refused"):
		return "nothing listens at " + registry, "check the address, and that the registry is running", ErrUnreachable
	case says("server gave HTTP response to HTTPS client"):
		return registry + " speaks plain HTTP", "mark it insecure in registries.conf, or use --tls-verify=false", ErrUnreachable
	case says("x509:", "tls: failed to verify"):
		return "the certificate of " + registry + " cannot be verified: " + certificate(text),
			"put its CA into ~/.config/containers/certs.d/" + registry + "/ca.crt, or use --tls-verify=false", ErrUnreachable
	case says("i/o timeout", "TLS handshake timeout", "no route to host", "network is unreachable", "connection reset by peer"):
		return "cannot reach " + registry + ": " + last(text, ": "), "check the network", ErrUnreachable
	case says("Digest did not match", "digest mismatch", "does not match provided manifest digest", "mismatched digest"):
		return "the data is not what its digest says: " + last(text, "Digest did not match, "), "try again; if it stays so, the image is damaged where it comes from", ErrCorrupt
	case says("gzip: invalid", "invalid checksum", "zstd:", "flate: corrupt", "invalid tar header", "magic number mismatch"):
		return "a layer is damaged: " + last(text, ": "), "try again; if it stays so, the image is damaged where it comes from", ErrCorrupt
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), says("unexpected EOF", "Size mismatch", "size mismatch"):
		return "the data ends early", "try again; if it stays so, the image is damaged where it comes from", ErrCorrupt
	case says("Source image rejected"):
		return "the signature policy refuses it: " + last(text, "Source image rejected: "), "see containers-policy.json(5)", nil
	case errors.Is(err, os.ErrPermission):
		return "permission denied: " + last(text, ": "), "", nil
	case errors.Is(err, os.ErrNotExist):
		var path *os.PathError
		if errors.As(err, &path) {
			return path.Path + " does not exist", "", os.ErrNotExist
		}
	}
	return text, "", nil
}

// last is the text after the last separator.
func last(text, separator string) string {
	if i := strings.LastIndex(text, separator); i >= 0 {
		return text[i+len(separator):]
	}
	return text
}

// certificate is what is wrong with one, without the guesses that follow.
func certificate(text string) string {
	_, why, _ := strings.Cut(text, "x509: ")
	why, _, _ = strings.Cut(why, " (possibly")
	return why
}

// oneLine flattens an error's text.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
